"""The protocol as a whole, recomputed from the files that it writes."""

import collections
import dataclasses
import importlib.util
import json
import re
import statistics

from flan_jax import errors
from flan_jax.data import tasks
from flan_jax.evaluation import plan
from flan_jax.evaluation import protocol
from flan_jax.evaluation import results as results_lib
from flan_jax.evaluation import scoring
from flan_jax.evaluation import summary
from flan_jax.evaluation import table
import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics


def test_templates_share_their_rows(evaluated):
  rows = collections.defaultdict(set)
  for work in evaluated.work:
    ids = tuple(example.row_id for example in work.examples)
    rows[work.item.dataset.name].add(ids)
  assert {name: len(sets) for name, sets in rows.items()} == {
      'mood': 1,
      'echo': 1,
      'pick': 1,
  }
  assert {len(next(iter(sets))) for sets in rows.values()} == {20, 4, 6}


def test_majorities_come_from_the_training_split(evaluated):
  said = {
      work.item.task.name: {answer.text for answer in answers}
      for work, answers in zip(
          evaluated.work, evaluated.answers['majority'], strict=True
      )
  }
  # One in four training rows of mood is good, so 'bad'; most of pick's have
  # the second option right.
  assert said['mood:template_plain'] == {'bad'}
  assert said['mood:template_wrapped'] == {'It is bad.'}
  assert said['echo:template_say'] == {'often'}
  assert all(text.startswith('q') for text in said['pick:template_which'])


def test_exemplars_come_from_the_training_split(small):
  task = tasks.create(small.datasets['echo'], tasks.Setting(shots=1))
  planned = plan.items([task], small.trained)
  work = protocol.read(planned, small.store, protocol.Rendering())
  inputs = [example.inputs for each in work for example in each.examples]
  assert len(inputs) == 12
  assert inputs[0] in (
      'Say: often\noften\n\nSay: often',
      'Say: once\nonce\n\nSay: often',
  )
  assert {each.majority.text for each in work} == {'often'}


def test_answers_go_back_to_their_examples(small):
  work = protocol.read(
      plan.items(small.tasks, small.trained), small.store, protocol.Rendering()
  )
  calls = []

  def parrot(examples, ranked, progress):
    calls.append((ranked, len(examples)))
    progress(len(examples))
    return [scoring.Answer(e.task + e.row_id) for e in examples]

  done = []
  answers = protocol.answer(work, parrot, done.append)
  for each, said in zip(work, answers, strict=True):
    assert [a.text for a in said] == [
        each.item.task.name + e.row_id for e in each.examples
    ]
  # All that is ranked goes together, whatever the dataset.
  assert calls == [(True, 30 + 30 + 6), (False, 4 * 3)]
  assert sum(done) == sum(len(each.examples) for each in work)


def _recomputed(lines, tasks):
  """Scores by task and system from the predictions file alone."""
  found = {}
  by_task = collections.defaultdict(list)
  for line in lines:
    by_task[line['task']].append(line)
  for task in tasks:
    mine = by_task[task['task']]
    found[task['task']] = scores = {}
    for system in mine[0]['answers']:
      said = [line['answers'][system] for line in mine]
      if task['how'] == 'generate':
        right = [
            ' '.join(a['text'].split())
            in [' '.join(r.split()) for r in line['references']]
            for a, line in zip(said, mine, strict=True)
        ]
        scores[system] = {'exact_match': 100 * statistics.mean(right)}
        continue
      chosen = [a['option_index'] for a in said]
      target = [line['answer_index'] for line in mine]
      scores[system] = {
          'accuracy': 100 * sklearn_metrics.accuracy_score(target, chosen)
      }
      if system == 'random':  # The expected share, whatever was drawn.
        shares = [1 / len(line['options']) for line in mine]
        scores[system] = {'accuracy': 100 * statistics.mean(shares)}
      if 'f1' in task['metrics']:
        scores[system]['f1'] = 100 * sklearn_metrics.f1_score(target, chosen)
  return found


def test_the_files_hold_all_that_scores_need(evaluated, tmp_path):
  report = results_lib.write(
      tmp_path,
      evaluated.results,
      protocol.lines(evaluated.work, evaluated.answers),
      protocol.lines(evaluated.validation, evaluated.validated),
  )
  assert sorted(path.name for path in tmp_path.iterdir()) == [
      'predictions.jsonl',
      'report.html',
      'results.json',
      'validation.jsonl',
  ]
  results = json.loads((report.parent / 'results.json').read_text())
  with (report.parent / results['predictions']).open() as file:
    lines = [json.loads(line) for line in file]
  expected = _recomputed(lines, results['tasks'])
  for task in results['tasks']:
    for system, scores in expected[task['task']].items():
      assert task['scores'][system] == pytest.approx(scores)
  # Means, from the recomputed scores: templates, then datasets.
  for group in summary.GROUPS:
    by_dataset = collections.defaultdict(list)
    for task in results['tasks']:
      if task['group'] == group:
        value = 'accuracy' if task['how'] == 'rank' else 'exact_match'
        by_dataset[task['dataset']].append(
            expected[task['task']]['tuned'][value]
        )
    mean = statistics.mean(map(statistics.mean, by_dataset.values()))
    got = results['headline'][group]['all']
    assert got['scores']['tuned'] == pytest.approx(mean)
    assert got['datasets'] == len(by_dataset)


def test_equal_runs_write_equal_bytes(evaluated, tmp_path):
  folders = [tmp_path / 'a', tmp_path / 'b']
  for folder in folders:
    lines = protocol.lines(evaluated.work, evaluated.answers)
    results_lib.write(folder, evaluated.results, lines)
  for name in ('results.json', 'predictions.jsonl', 'report.html'):
    first, second = ((folder / name).read_bytes() for folder in folders)
    assert first == second


def test_a_score_that_is_no_number_is_counted_and_named(evaluated, tmp_path):
  nan = float('nan')
  answers = dict(evaluated.answers)
  answers['tuned'] = [
      [
          scoring.Answer.of(
              'x',
              0,
              nan,
              (nan, -2.0) if example.options else None,
              example.options or (),
          )
          for example in each.examples
      ]
      for each in evaluated.work
  ]
  scored = protocol.score(evaluated.work, answers)
  counts = {task.task: task.no_number for task in scored}
  assert counts['mood:template_plain'] == {'tuned': 20}
  assert counts['echo:template_say'] == {'tuned': 4}
  # The other option is the answer, never the one without a number.
  for each, said in zip(evaluated.work, answers['tuned'], strict=True):
    for example, answer in zip(each.examples, said, strict=True):
      if example.options:
        assert answer.option_index == 1 and answer.score == -2.0
        assert answer.text == example.options[1]
  results = {
      **evaluated.results,
      'tasks': [task.as_json() for task in scored],
  }
  results_lib.write(tmp_path, results, protocol.lines(evaluated.work, answers))
  lines = (tmp_path / 'predictions.jsonl').read_text()
  assert 'NaN' not in lines and '"option_scores": [null, -2.0]' in lines
  (warning,) = table.warnings(results)
  total = sum(len(each.examples) for each in evaluated.work)
  assert f'tuned: {total} answers have a score that is not a number' in warning
  assert 'mood:template_plain' in warning
  assert warning in (tmp_path / 'report.html').read_text()


def test_table_fits_and_ends_with_the_headline(evaluated):
  text = table.render(evaluated.results)
  assert max(map(len, text.splitlines())) <= 80
  blocks = text.split('\n\n')
  assert [block.splitlines()[0] for block in blocks] == [
      'Trained templates of trained datasets',
      'Held-out datasets',
      'Held-out templates of trained datasets',
  ]
  last = blocks[-1].splitlines()
  (mood,) = [line.split() for line in last if line.startswith('mood')]
  assert mood[:3] == ['mood,', 'f1', '66.7']
  (row,) = [
      r
      for r in evaluated.results['datasets']
      if (r['dataset'], r['group']) == ('mood', 'held_out_template')
  ]
  low, high = row['scores']['tuned']['interval']
  assert low < 66.7 < high
  assert mood[3:5] == [f'[{low:.1f},', f'{high:.1f}]']
  headline = evaluated.results['headline']['held_out_template']['all']['scores']
  mean = next(line for line in last if line.startswith('mean of 2, accuracy'))
  tuned, best, *others = re.sub(r' \[.*?\]', '', mean).split()[-5:]
  assert [tuned, *others] == [f'{value:.1f}' for value in headline.values()]
  parts = evaluated.results['headline']['held_out_template']['all']
  assert best == f'{parts["best"]["tuned"]:.1f}'


def test_many_datasets_are_shown_by_cluster(evaluated):
  scores = {'tuned': {'exact_match': 50.0}}
  replicates = {'tuned': {'exact_match': np.array([40.0, 60.0])}}
  tasks = [
      summary.TaskScores(
          task=f'd{i}:template_a',
          dataset=f'd{i}_{"long" * 12}',
          cluster=f'cluster_{i % 3}',
          collection='many',
          template='a',
          group='seen',
          how='generate',
          metric='exact_match',
          headline='exact_match',
          examples=1,
          classes=(),
          metrics=('exact_match',),
          scores=scores,
          replicates=replicates,
      )
      for i in range(41)
  ]
  rest = {
      'systems': {'tuned': {'kind': 'tuned'}},
      'settings': {},
      'published': [],
  }
  text = table.render({**rest, **summary.summarize(tasks)})
  assert 'cluster_2 (13)' in text and 'd40' not in text
  few = table.render({**rest, **summary.summarize(tasks[:3])})
  assert 'd2_' in few and max(map(len, few.splitlines())) <= 80


def test_samples_show_what_training_never_saw_first(evaluated):
  text = table.samples(evaluated.work, evaluated.answers, 3)
  heads = [block.splitlines()[0] for block in text.split('\n\n')]
  assert [head.split(',')[0] for head in heads] == ['mood', 'echo', 'pick']
  assert max(map(len, text.splitlines())) <= 80
  assert 'majority' not in text


def test_results_have_an_interval_for_every_value(evaluated):
  results = evaluated.results
  assert results['bootstrap'] == {
      'method': 'percentile',
      'level': 0.95,
      'resamples': 1000,
      'seed': 1,
  }
  for task in results['tasks']:
    for system, values in task['scores'].items():
      assert set(task['intervals'][system]) == set(values)
      for name, value in values.items():
        low, high = task['intervals'][system][name]
        assert 0 <= low <= value <= high <= 100
        assert results['values'][name] == {
            'unit': '%',
            'higher_is_better': True,
        }
  # 16 of 20 right: the binomial interval is about 80 +- 18.
  (task,) = [t for t in results['tasks'] if t['task'] == 'mood:template_plain']
  low, high = task['intervals']['tuned']['accuracy']
  assert 55 <= low <= 66 and 90 <= high <= 100


def _group_of(work):
  return [example.group for example in work.examples]


def test_questions_stay_whole_and_every_template_is_scored(questions):
  planned = plan.items([questions.task], [])
  rendering = protocol.Rendering(split='test', limit=20)
  work = protocol.read(planned, questions.store, rendering)
  assert len(work) == 2
  for each in work:
    # Six questions of three candidates; a seventh would be above the limit.
    counts = collections.Counter(_group_of(each))
    assert len(each.examples) == 18 and set(counts.values()) == {3}
  assert _group_of(work[0]) == _group_of(work[1])

  def sometimes(examples, ranked, progress):
    # Right under one template, and under the other but for one candidate.
    wrong = work[1].examples[7]
    return [
        scoring.Answer(
            '', (e.answer_index + (e == wrong)) % 2, None, (0.0, 0.0)
        )
        for e in examples
    ]

  answers = {'tuned': protocol.answer(work, sometimes, lambda count: None)}
  scored = protocol.score(work, answers)
  first, second = (task.scores['tuned'] for task in scored)
  assert first['multirc_em'] == first['multirc_f1a'] == 100.0
  assert second['multirc_em'] == pytest.approx(500 / 6)
  (row,) = summary.summarize(scored)['datasets']
  assert row['metric'] == 'multirc_f1a' and row['templates'] == 2
  low, high = scored[1].as_json()['intervals']['tuned']['multirc_em']
  # Shares of six questions, not of eighteen candidates.
  assert low * 6 / 100 == pytest.approx(round(low * 6 / 100)) and high == 100
  # The lines have what is needed to compute this anew.
  lines = protocol.lines(work, answers)
  assert {line['example_group'] for line in lines} == set(_group_of(work[0]))


def test_a_metric_that_cannot_be_computed_is_told_first(questions, monkeypatch):
  lacking = dataclasses.replace(questions.dataset, group_by='')
  planned = plan.items([tasks.create(lacking)], [])
  with pytest.raises(errors.UserError, match="'which_hold': group_by: metric"):
    protocol.read(planned, None, protocol.Rendering())
  other = dataclasses.replace(lacking, metrics=('rouge',))
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(errors.UserError, match='pip install rouge-score'):
    protocol.read(
        plan.items([tasks.create(other)], []), None, protocol.Rendering()
    )


def test_the_headline_is_the_lead(evaluated):
  lines = table.headline(evaluated.results).splitlines()
  assert max(map(len, lines)) <= 80
  group, tuned, untuned, majority, chance = lines[:5]
  assert group == 'Held-out templates of trained datasets:'
  parts = evaluated.results['headline']['held_out_template']['all']
  assert tuned.split()[:2] == ['tuned', f'{parts["scores"]["tuned"]:.1f}']
  for line, system in (
      (untuned, 'untuned'),
      (majority, 'majority'),
      (chance, 'random'),
  ):
    lead = parts['scores']['tuned'] - parts['scores'][system]
    low, high = parts['leads']['tuned'][system]
    assert low <= lead <= high
    assert line.endswith(f'{lead:+.1f} [{low:.1f}, {high:.1f}] for tuned')


def test_the_table_of_several_models(evaluated_several):
  results = evaluated_several.results
  text = table.render(results)
  assert max(map(len, text.splitlines())) <= 80
  settings, papers, *groups = text.split('\n\n')
  assert len(groups) == 3
  scores = results['headline']['held_out_template']['all']['scores']
  mean = next(line for line in groups[-1].splitlines() if 'mean of 2,' in line)
  # One untuned model would be a column; there are two.
  columns = ('small', 'large <b>one</b>', 'majority', 'random')
  assert mean.split()[-4:] == [f'{scores[name]:.1f}' for name in columns]
  # k-shot and the baseline, where there is one.
  lines = settings.splitlines()
  assert [line.split(' (')[0] for line in lines if ' (' in line] == [
      *('zero-shot', '2-shot'),
      *('zero-shot', '2-shot'),
      *('zero-shot', '2-shot', 'no template'),
  ]
  other = results['settings']['2_shot']['headline']['seen']['all']
  (row,) = [line for line in lines[:5] if line.startswith('2-shot')]
  assert f'({other["datasets"]})' in row
  assert row.split()[-4] == f'{other["scores"]["small"]:.1f}'
  assert papers.splitlines()[0].startswith('Printed by papers (not run here)')
  last = papers.splitlines()[-1]
  # Six rows, of which four and all are right: 0 to 5 are below 6 and 9.
  assert last.split() == [
      *('pick,', 'accuracy', 'Large', '&', 'Co,', 'arXiv', '1', '61.5'),
      *('100.0', '100.0'),
  ]


def test_the_headline_of_several_models(evaluated_several):
  results = evaluated_several.results
  lines = table.headline(results).splitlines()
  means = results['headline']['held_out_template']['all']
  group, small, untuned, majority, chance, large, its_own = lines[:7]
  assert group == 'Held-out templates of trained datasets:'
  for line, name in ((small, 'small'), (large, 'large <b>one</b>')):
    low, high = means['intervals'][name]
    shown = f'{means["scores"][name]:.1f} [{low:.1f}, {high:.1f}]'
    assert line.strip().startswith(name) and shown in line
  assert [line.split('  ')[1] for line in (untuned, majority, chance)] == [
      'small untuned',
      'majority',
      'random',
  ]
  # The second one against its own start alone.
  lead = means['scores']['large <b>one</b>'] - means['scores']['large untuned']
  assert its_own.strip().startswith('large untuned')
  assert f'{lead:+.1f} [' in its_own and 'for large' in its_own
  assert lines[7].startswith('Held-out datasets')


def test_settings_do_not_mix_with_the_main_table(evaluated_several, small):
  results = evaluated_several.results
  assert {task['setting'] for task in results['tasks']} == {
      '',
      '2_shot',
      'no_template',
  }
  alone = {
      row['dataset'] for row in results['settings']['no_template']['datasets']
  }
  assert alone == {'mood'}
  # As if the settings had not been asked for.
  planned = plan.items(small.tasks, small.trained)
  main = [t['task'] for t in results['tasks'] if not t['setting']]
  assert main == [item.task.name for item in planned]
  assert all(row['templates'] <= 2 for row in results['datasets'])


def test_prompts_of_settings(evaluated_several):
  inputs = {
      each.item.task.name: each.examples[0].inputs
      for each in evaluated_several.work
  }
  text = 'row 1 <b>bold</b> & "quoted" </script>'
  assert inputs['mood:no_template'] == text
  shots = inputs['mood:template_plain:2_shot']
  *exemplars, query = shots.split('row ')[1:]
  assert len(exemplars) == 2 and query.startswith('1 <b>')
