"""Means by hand."""

from flan_jax.evaluation import summary
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
  )


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
  assert held['scores']['tuned'] == pytest.approx(
      {'mean': 70.0, 'std': 200**0.5}
  )
  assert held['templates'] == 2 and held['examples'] == 20
  assert rows['a', 'seen']['scores']['tuned'] == {'mean': 100.0, 'std': None}
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
  }
  assert parts['rank']['scores']['tuned'] == 70.0
  assert parts['generate']['scores']['tuned'] == 15.0
  assert list(headline['held_out_dataset']) == ['all', 'generate']
