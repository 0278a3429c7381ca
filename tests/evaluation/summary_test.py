"""Means by hand."""

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
      'leads': {'majority': pytest.approx([70 / 3 - 9.5, 70 / 3 + 9.5])},
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
  assert headline['leads'] == {'majority': pytest.approx([10.0, 10.0])}
  assert headline['intervals']['majority'] == pytest.approx([40.5, 59.5])
