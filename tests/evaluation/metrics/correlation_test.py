"""Correlations against SciPy, and numbers in texts."""

import warnings

from flan_jax.evaluation.metrics import correlation
from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest
from scipy import stats

_PAIRS = st.lists(
    st.tuples(
        st.integers(0, 10).map(lambda n: n / 2),
        st.floats(-1, 6, allow_nan=False).map(lambda x: round(x, 2)),
    ),
    min_size=2,
    max_size=40,
)


@given(_PAIRS)
def test_correlations_are_scipys(pairs):
  x, y = zip(*pairs, strict=True)
  for function, reference, name in (
      (correlation.pearson, stats.pearsonr, 'pearson'),
      (correlation.spearman, stats.spearmanr, 'spearman'),
  ):
    got = function(x, y).once()[name]
    if len(set(x)) == 1 or len(set(y)) == 1:
      assert got == 0.0
      continue
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')
      expected = 100 * reference(x, y).statistic
    assert got == pytest.approx(expected, abs=1e-6)


@given(_PAIRS, st.randoms(use_true_random=False))
def test_weights_are_repetitions(pairs, random):
  x, y = map(np.array, zip(*pairs, strict=True))
  drawn = [random.randrange(len(pairs)) for _ in pairs]
  weights = np.bincount(drawn, minlength=len(pairs))[None].astype(float)
  for function in (correlation.pearson, correlation.spearman):
    (weighted,) = function(x, y).values(weights).values()
    (repeated,) = function(x[drawn], y[drawn]).once().values()
    assert weighted[0] == pytest.approx(repeated, abs=1e-5)


def test_by_hand():
  # Ranks 1 2.5 2.5 4 against 1 2 3 4: 4.5 / sqrt(4.5 * 5).
  got = correlation.spearman([0, 3, 3, 5], [1, 2, 3, 10]).once()
  assert got == pytest.approx({'spearman': 100 * 0.9**0.5})
  assert correlation.pearson([1, 2], [5, 3]).once()['pearson'] == -100


@pytest.mark.parametrize('huge', [1e6, 1e200, 1.7e308])
def test_a_huge_number_is_no_trouble(huge):
  for function in (correlation.pearson, correlation.spearman):
    (value,) = function([1, 2, 3, 4], [1, huge, -huge, 2]).once().values()
    assert -100 <= value <= 100


@pytest.mark.parametrize(
    ('text', 'number'),
    [
        ('3', 3.0),
        ('3.0', 3.0),
        (' 4.\n', 4.0),
        ('.5', 0.5),
        ('-1', -1.0),
        ('+2', 2.0),
        ('three', None),
        ('', None),
        ('.', None),
        ('3 4', None),
        ('nan', None),
        ('inf', None),
        ('1e5', None),
        ('9' * 400, None),
    ],
)
def test_a_number_is_read(text, number):
  assert correlation.number(text) == number


@pytest.mark.parametrize(
    ('text', 'number'),
    [
        ('It is 3.', 3.0),
        ('It is 3.5', 3.5),
        ('Score: 4.0 points', 4.0),
        ('(2)', 2.0),
        ('3 out of 5', None),
        ('B2', None),
        ('no number', None),
        ('-1', -1.0),
    ],
)
def test_the_only_number_is_found(text, number):
  assert correlation.only_number(text) == number
