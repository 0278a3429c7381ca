"""Intervals against SciPy's bootstrap, by simulation, and for their cost."""

import time

from flan_jax.evaluation import metrics
from flan_jax.evaluation.metrics import bootstrap
from flan_jax.evaluation.metrics import classification
from flan_jax.evaluation.metrics import correlation
from flan_jax.evaluation.metrics import text
import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn_metrics


def _drawn(seed, size, right=0.7):
  random = np.random.default_rng(seed)
  targets = random.integers(0, 2, size)
  predictions = np.where(random.random(size) < right, targets, 1 - targets)
  return targets, predictions


def _interval(tally, value, seed=0, count=bootstrap.RESAMPLES):
  return bootstrap.interval(
      bootstrap.replicates(tally, seed, 'data', count)[value]
  )


@pytest.mark.parametrize(
    ('function', 'reference'),
    [
        (classification.accuracy, lambda x, y: np.mean(x == y)),
        (classification.f1, sklearn_metrics.f1_score),
        (classification.matthews, lambda x, y: np.corrcoef(x, y)[0, 1]),
        (correlation.pearson, lambda x, y: stats.pearsonr(x, y).statistic),
        (correlation.spearman, lambda x, y: stats.spearmanr(x, y).statistic),
    ],
)
def test_intervals_are_scipys(function, reference):
  """The same method on other draws: ends differ by Monte Carlo error alone."""
  pairs = _drawn(0, 150)
  tally = function(*pairs)
  value = next(iter(tally.once()))
  got = _interval(tally, value, count=4000)
  expected = stats.bootstrap(
      pairs,
      reference,
      paired=True,
      vectorized=False,
      n_resamples=1000,
      method='percentile',
      rng=np.random.default_rng(1),
  ).confidence_interval
  width = expected.high - expected.low
  np.testing.assert_allclose(
      got, [100 * expected.low, 100 * expected.high], atol=100 * 0.12 * width
  )


def test_the_interval_of_accuracy_covers_it():
  """Of 95% intervals of test sets with accuracy 70%, 95% hold 70."""
  covered = []
  for seed in range(400):
    low, high = _interval(
        classification.accuracy(*_drawn(seed, 200)), 'accuracy', seed, 400
    )
    covered.append(low <= 70 <= high)
  # Four standard errors of a share of 95% among 400 are 4.4%.
  assert 0.906 <= np.mean(covered) <= 0.994


def test_groups_are_drawn_whole():
  """Equal candidates of a question tell as much as one, not as four."""
  targets, predictions = _drawn(3, 60)
  once = classification.multirc(targets, predictions, range(60))
  four = classification.multirc(
      np.repeat(targets, 4), np.repeat(predictions, 4), np.repeat(range(60), 4)
  )
  for value in ('multirc_f1a', 'multirc_em'):
    assert _interval(four, value) == pytest.approx(_interval(once, value))
    assert once.once()[value] == pytest.approx(four.once()[value])


def test_resamples_depend_on_seed_and_name_alone():
  tally = classification.accuracy(*_drawn(1, 50))

  def draw(*key):
    return bootstrap.replicates(tally, *key, 30)['accuracy']

  np.testing.assert_array_equal(draw(0, 'a'), draw(0, 'a'))
  assert not np.array_equal(draw(0, 'a'), draw(1, 'a'))
  assert not np.array_equal(draw(0, 'a'), draw(0, 'b'))
  # Systems that answer alike have equal replicates, so they can be compared.
  other = text.exact_match([['x']] * 50, ['x'] * 50)
  assert set(bootstrap.replicates(other, 0, 'a')['exact_match']) == {100.0}


def test_parts_are_the_whole(monkeypatch):
  tally = classification.accuracy(*_drawn(1, 50))
  whole = bootstrap.replicates(tally, 0, 'parts', 90)['accuracy']
  monkeypatch.setattr(bootstrap, '_MOST_AT_ONCE', 700)
  monkeypatch.setattr(bootstrap, '_MOST_KEPT', 0)
  parts = bootstrap.replicates(tally, 0, 'parts', 90)['accuracy']
  np.testing.assert_array_equal(whole, parts)


@pytest.mark.parametrize('name', ['f1', 'spearman', 'squad', 'bleu'])
def test_a_thousand_resamples_of_many_examples_take_seconds(name):
  random = np.random.default_rng(0)
  words = np.array('the cat sat on a mat and ran far away today'.split())
  columns = {
      'classes': random.integers(0, 2, (2, 10_000)),
      'numbers': random.integers(0, 6, (2, 10_000)).astype(float),
      'texts': (
          [[' '.join(random.choice(words, 8))] for _ in range(2_000)],
          [' '.join(random.choice(words, 8)) for _ in range(2_000)],
      ),
  }[metrics.METRICS[name].over]
  tally = metrics.METRICS[name].function(*columns)
  started = time.process_time()
  found = bootstrap.replicates(tally, 0, name)
  assert time.process_time() - started < 15
  assert {len(values) for values in found.values()} == {1000}
