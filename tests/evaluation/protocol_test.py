"""The protocol as a whole, recomputed from the files that it writes."""

import collections
import json
import statistics

from flan_jax import errors
from flan_jax.data import tasks
from flan_jax.evaluation import plan
from flan_jax.evaluation import protocol
from flan_jax.evaluation import results as results_lib
from flan_jax.evaluation import scoring
from flan_jax.evaluation import summary
from flan_jax.evaluation import table
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
      if 'f1' in task['metrics']:
        scores[system]['f1'] = 100 * sklearn_metrics.f1_score(target, chosen)
  return found


def test_the_files_hold_all_that_scores_need(evaluated, tmp_path):
  report = results_lib.write(
      tmp_path,
      evaluated.results,
      protocol.lines(evaluated.work, evaluated.answers),
  )
  assert sorted(path.name for path in tmp_path.iterdir()) == [
      'predictions.jsonl',
      'report.html',
      'results.json',
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


def test_a_score_that_is_no_number_leaves_no_files(evaluated, tmp_path):
  broken = [[scoring.Answer('x', None, float('nan'))] * 20] * 6
  answers = {**evaluated.answers, 'tuned': broken}
  with pytest.raises(errors.UserError, match='not a number'):
    results_lib.write(
        tmp_path, evaluated.results, protocol.lines(evaluated.work, answers)
    )
  assert list(tmp_path.iterdir()) == []


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
  assert any(line.split()[:3] == ['mood', 'f1', '66.7'] for line in last)
  headline = evaluated.results['headline']['held_out_template']['all']['scores']
  mean = next(line for line in last if line.startswith('mean of 2 datasets'))
  assert mean.split()[-3:] == [f'{value:.1f}' for value in headline.values()]


def test_many_datasets_are_shown_by_cluster(evaluated):
  scores = {'tuned': {'exact_match': 50.0}}
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
      )
      for i in range(41)
  ]
  text = table.render({'systems': {'tuned': {}}, **summary.summarize(tasks)})
  assert 'cluster_2' in text and '13 datasets' in text and 'd40' not in text
  few = table.render({'systems': {'tuned': {}}, **summary.summarize(tasks[:3])})
  assert 'd2_' in few and max(map(len, few.splitlines())) <= 80


def test_samples_show_what_training_never_saw_first(evaluated):
  text = table.samples(evaluated.work, evaluated.answers, 3)
  heads = [block.splitlines()[0] for block in text.split('\n\n')]
  assert [head.split(',')[0] for head in heads] == ['mood', 'echo', 'pick']
  assert max(map(len, text.splitlines())) <= 80
  assert 'majority' not in text
