"""Class metrics against scikit-learn and by hand."""

from flan_jax.evaluation.metrics import classification
from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics


def _pairs(classes: int, lowest: int = 0):
  pair = st.tuples(
      st.integers(0, classes - 1), st.integers(lowest, classes - 1)
  )
  return st.lists(pair, min_size=1, max_size=40)


@given(_pairs(4))
def test_accuracy_is_scikit_learns(pairs):
  targets, predictions = zip(*pairs, strict=True)
  expected = 100 * sklearn_metrics.accuracy_score(targets, predictions)
  got = classification.accuracy(targets, predictions)
  np.testing.assert_allclose(got['accuracy'], expected)


@given(_pairs(2))
def test_f1_is_scikit_learns(pairs):
  targets, predictions = zip(*pairs, strict=True)
  got = classification.f1(targets, predictions)
  expected = 100 * sklearn_metrics.f1_score(
      targets, predictions, zero_division=0
  )
  np.testing.assert_allclose(got['f1'], expected)
  expected = 100 * sklearn_metrics.accuracy_score(targets, predictions)
  np.testing.assert_allclose(got['accuracy'], expected)


def test_f1_by_hand():
  # TP 2, FP 1, FN 1: precision 2/3, recall 2/3.
  got = classification.f1([1, 1, 1, 0, 0], [1, 1, 0, 1, 0])
  assert got == pytest.approx({'f1': 200 / 3, 'accuracy': 60.0})


@given(_pairs(2, lowest=-1))
def test_no_answer_counts_as_the_wrong_one(pairs):
  targets, predictions = zip(*pairs, strict=True)
  wrong = [
      1 - target if prediction == -1 else prediction
      for target, prediction in pairs
  ]
  assert classification.f1(targets, predictions) == pytest.approx(
      classification.f1(targets, wrong)
  )


@given(_pairs(3, lowest=-1), st.randoms(use_true_random=False))
def test_order_does_not_matter(pairs, random):
  shuffled = list(pairs)
  random.shuffle(shuffled)
  for function in (classification.accuracy, classification.f1):
    before = function(*zip(*pairs, strict=True))
    after = function(*zip(*shuffled, strict=True))
    assert before == pytest.approx(after)


@pytest.mark.parametrize(
    'function', [classification.accuracy, classification.f1]
)
def test_lists_that_do_not_fit(function):
  with pytest.raises(ValueError, match='2 targets but 1 predictions'):
    function([1, 0], [1])
  with pytest.raises(ValueError, match='nothing to score'):
    function([], [])
