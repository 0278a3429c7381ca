"""Means by hand."""

import dataclasses

from flan_jax.evaluation import summary
import numpy as np
import pytest


def _task(dataset, template, group, how, tuned, cluster='c', main=None):
  headline = {'rank': 'accuracy', 'generate': 'exact_match'}[how]
  scores = {headline: tuned}
  if main is not None:
    scores['rougeL'] = main
  return summary.TaskScores(
      task=f'{dataset}:template_{template}',
      dataset=dataset,
      cluster=cluster,
      collection='x',
      template=template,
      group=group,
      how=how,
      metric=headline if main is None else 'rougeL',
      headline=headline,
      examples=10,
      classes=(),
      metrics=(),
      scores={'tuned': scores, 'majority': dict.fromkeys(scores, 10.0)},
      replicates={
          # Resample r gives r more or less than the value.
          'tuned': {name: value + _AROUND for name, value in scores.items()},
          'majority': {name: np.full(401, 10.0) for name in scores},
      },
  )


_AROUND = np.arange(-200.0, 201.0) / 20


def test_templates_then_datasets_then_clusters():
  got = summary.summarize([
      _task('a', 't1', 'held_out_template', 'rank', 60.0),
      _task('a', 't2', 'held_out_template', 'rank', 80.0),
      _task('a', 't0', 'seen', 'rank', 100.0),
      _task('b', 't1', 'held_out_template', 'generate', 30.0),
      _task('d', 't1', 'held_out_template', 'generate', 0.0, 'e', main=45.0),
      _task('h', 't1', 'held_out_dataset', 'generate', 5.0, 'e'),
  ])
  rows = {(r['dataset'], r['group']): r for r in got['datasets']}
  held = rows['a', 'held_out_template']
  # Sample standard deviation of 60 and 80: sqrt(200).
  interval = held['scores']['tuned'].pop('interval')
  assert held['scores']['tuned'] == pytest.approx(
      {'mean': 70.0, 'std': 200**0.5}
  )
  # The middle 95% of -10 to 10, around the mean: templates go together.
  assert interval == pytest.approx([60.5, 79.5])
  assert held['scores']['majority']['interval'] == [10.0, 10.0]
  assert held['templates'] == 2 and held['examples'] == 20
  seen = rows['a', 'seen']['scores']['tuned']
  assert seen['mean'] == 100.0 and seen['std'] is None
  clusters = {(r['cluster'], r['group']): r for r in got['clusters']}
  # The cluster takes main metrics, the headline accuracy and exact match.
  assert clusters['c', 'held_out_template']['scores']['tuned'] == 50.0
  assert clusters['e', 'held_out_template']['scores']['tuned'] == 45.0
  headline = got['headline']
  assert list(headline) == ['held_out_template', 'held_out_dataset', 'seen']
  parts = headline['held_out_template']
  assert parts['all'] == {
      'datasets': 3,
      'scores': {
          'tuned': pytest.approx((70 + 30 + 0) / 3),
          'majority': pytest.approx(10),
      },
      'intervals': {
          'tuned': pytest.approx([100 / 3 - 9.5, 100 / 3 + 9.5]),
          'majority': pytest.approx([10, 10]),
      },
      'leads': {
          'tuned': {'majority': pytest.approx([70 / 3 - 9.5, 70 / 3 + 9.5])}
      },
      'best': {},
  }
  assert parts['rank']['scores']['tuned'] == 70.0
  assert parts['generate']['scores']['tuned'] == 15.0
  assert list(headline['held_out_dataset']) == ['all', 'generate']


def test_independent_datasets_make_a_narrower_mean():
  """The interval of a mean of two is about 1 / sqrt(2) as wide as of one."""
  random = np.random.default_rng(0)
  tasks = []
  for name in 'ab':
    task = _task(name, 't', 'seen', 'rank', 50.0)
    task.replicates['tuned']['accuracy'] = random.normal(50, 3, 4000)
    task.replicates['majority']['accuracy'] = np.full(4000, 10.0)
    tasks.append(task)
  got = summary.summarize(tasks)
  low, high = got['headline']['seen']['all']['intervals']['tuned']
  assert high - low == pytest.approx(2 * 1.96 * 3 / 2**0.5, rel=0.08)
  cluster = got['clusters'][0]
  assert cluster['datasets'] == 2
  assert cluster['intervals']['tuned'] == [low, high]


def test_a_task_as_json_has_intervals_for_replicates():
  found = _task('a', 't', 'seen', 'rank', 60.0, main=45.0).as_json()
  assert 'replicates' not in found and found['scores']['tuned'] == {
      'accuracy': 60.0,
      'rougeL': 45.0,
  }
  assert found['intervals']['tuned'] == {
      'accuracy': pytest.approx([50.5, 69.5]),
      'rougeL': pytest.approx([35.5, 54.5]),
  }


def test_a_lead_is_that_of_paired_resamples():
  """What is hard for both makes the lead no less certain."""
  task = _task('a', 't', 'seen', 'rank', 60.0)
  task.scores['majority']['accuracy'] = 50.0
  task.replicates['majority']['accuracy'] = 50.0 + _AROUND
  headline = summary.summarize([task])['headline']['seen']['all']
  assert headline['leads'] == {
      'tuned': {'majority': pytest.approx([10.0, 10.0])}
  }
  assert headline['intervals']['majority'] == pytest.approx([40.5, 59.5])


def _judged(dataset, template, tuned, validation, group='seen', main=None):
  return dataclasses.replace(
      _task(dataset, template, group, 'generate', tuned, main=main),
      validation=None if validation is None else {'tuned': validation},
  )


def test_the_best_template_is_chosen_on_validation():
  roles = summary.Roles(judged=('tuned',))
  got = summary.summarize(
      [
          # t1 is best on validation, though not on test; t2 has as much.
          _judged('a', 't0', 90.0, 40.0),
          _judged('a', 't1', 60.0, 55.0),
          _judged('a', 't2', 30.0, 55.0),
          # Alone, a template is the best one without being asked.
          _judged('b', 't0', 20.0, None),
      ],
      roles,
  )
  first, second = (row['best']['tuned'] for row in got['datasets'])
  assert first == {
      'template': 't1',
      'validation': 55.0,
      'score': 60.0,
      'interval': pytest.approx([50.5, 69.5]),
  }
  assert second['template'] == 't0' and second['validation'] is None
  assert got['headline']['seen']['all']['best'] == {'tuned': 40.0}
  assert got['clusters'][0]['best'] == {'tuned': 40.0}


def test_without_validation_there_is_no_best_template():
  roles = summary.Roles(judged=('tuned',))
  tasks = [_judged('a', 't0', 90.0, 40.0), _judged('a', 't1', 60.0, None)]
  got = summary.summarize(tasks, roles)
  assert got['datasets'][0]['best'] == {}
  assert got['headline']['seen']['all']['best'] == {}
  # Nobody asked for it.
  got = summary.summarize([_judged('a', 't0', 90.0, 40.0)])
  assert got['datasets'][0]['best'] == {}


def test_less_may_be_better():
  roles = summary.Roles(judged=('tuned',))
  tasks = []
  for template, score, validation in (('t0', 5.0, 9.0), ('t1', 7.0, 3.0)):
    task = _judged('a', template, 0.0, validation)
    task.scores['tuned']['edit_distance'] = score
    task.scores['majority']['edit_distance'] = 50.0
    for system in ('tuned', 'majority'):
      task.replicates[system]['edit_distance'] = np.full(3, score)
    tasks.append(dataclasses.replace(task, metric='edit_distance'))
  (row,) = summary.summarize(tasks, roles)['datasets']
  assert row['best']['tuned']['template'] == 't1'


def test_every_model_leads_over_every_other():
  task = _task('a', 't', 'seen', 'rank', 60.0)
  task.scores['other'] = {'accuracy': 45.0}
  task.replicates['other'] = {'accuracy': 45.0 + _AROUND}
  roles = summary.Roles(models=('tuned', 'other'))
  leads = summary.summarize([task], roles)['headline']['seen']['all']['leads']
  assert leads['tuned']['other'] == pytest.approx([15.0, 15.0])
  assert leads['other']['tuned'] == pytest.approx([-15.0, -15.0])
  assert leads['other']['majority'] == pytest.approx([25.5, 44.5])
