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
  got = classification.accuracy(targets, predictions).once()
  np.testing.assert_allclose(got['accuracy'], expected)


@given(_pairs(2))
def test_f1_is_scikit_learns(pairs):
  targets, predictions = zip(*pairs, strict=True)
  got = classification.f1(targets, predictions).once()
  expected = 100 * sklearn_metrics.f1_score(
      targets, predictions, zero_division=0
  )
  np.testing.assert_allclose(got['f1'], expected)
  expected = 100 * sklearn_metrics.accuracy_score(targets, predictions)
  np.testing.assert_allclose(got['accuracy'], expected)


def test_f1_by_hand():
  # TP 2, FP 1, FN 1: precision 2/3, recall 2/3.
  got = classification.f1([1, 1, 1, 0, 0], [1, 1, 0, 1, 0]).once()
  assert got == pytest.approx({'f1': 200 / 3, 'accuracy': 60.0})


@given(_pairs(2, lowest=-1))
def test_no_answer_counts_as_the_wrong_one(pairs):
  targets, predictions = zip(*pairs, strict=True)
  wrong = [
      1 - target if prediction == -1 else prediction
      for target, prediction in pairs
  ]
  assert classification.f1(targets, predictions).once() == pytest.approx(
      classification.f1(targets, wrong).once()
  )
  if any(target == 1 for target in targets):
    # Without a positive nothing says that there are two classes.
    assert classification.matthews(targets, predictions).once() == (
        pytest.approx(classification.matthews(targets, wrong).once())
    )


@given(_pairs(4, lowest=-1))
def test_macro_f1_is_scikit_learns(pairs):
  targets, predictions = zip(*pairs, strict=True)
  got = classification.macro_f1(targets, predictions).once()
  # Of the classes that occur; -1 is not one.
  expected = 100 * sklearn_metrics.f1_score(
      targets,
      predictions,
      average='macro',
      labels=sorted({*targets, *predictions} - {-1}),
      zero_division=0,
  )
  np.testing.assert_allclose(got['macro_f1'], expected)
  expected = 100 * sklearn_metrics.accuracy_score(targets, predictions)
  np.testing.assert_allclose(got['accuracy'], expected)


def test_macro_f1_by_hand():
  # F1: class 0 2/3 (TP 1, FP 1), class 1 0 (FN 1), class 2 1.
  got = classification.macro_f1([0, 1, 2], [0, 0, 2]).once()
  assert got == pytest.approx({'macro_f1': 500 / 9, 'accuracy': 200 / 3})


@given(_pairs(4))
def test_matthews_is_scikit_learns(pairs):
  targets, predictions = zip(*pairs, strict=True)
  got = classification.matthews(targets, predictions).once()['matthews']
  expected = 100 * sklearn_metrics.matthews_corrcoef(targets, predictions)
  assert got == pytest.approx(expected, abs=1e-9)


@given(_pairs(4, lowest=-1))
def test_matthews_of_no_answer_among_many_classes(pairs):
  targets, predictions = zip(*[*pairs, (2, 2)], strict=True)
  got = classification.matthews(targets, predictions).once()['matthews']
  expected = 100 * sklearn_metrics.matthews_corrcoef(targets, predictions)
  assert got == pytest.approx(expected, abs=1e-9)


def test_matthews_by_hand():
  # TP 2, TN 1, FP 1, FN 1: (2 - 1) / sqrt(3 * 3 * 2 * 2).
  got = classification.matthews([1, 1, 1, 0, 0], [1, 1, 0, 1, 0]).once()
  assert got == pytest.approx({'matthews': 100 / 6})


# Two questions: of three candidates (right, wrong, right) and of two (wrong,
# right); the second is answered wholly rightly.
_JUDGED = ([1, 0, 1, 0, 1], [1, 1, 0, 0, 1], [0, 0, 0, 1, 1])


def test_multirc_by_hand():
  # Over all answers: 2 agreed on, 3 said, 3 right: P = R = 2/3.
  got = classification.multirc(*_JUDGED).once()
  assert got == pytest.approx({'multirc_f1a': 200 / 3, 'multirc_em': 50.0})
  # Without an answer: the opposite of the target.
  silent = classification.multirc([1, 0], [-1, -1], [0, 0]).once()
  assert silent == {'multirc_f1a': 0.0, 'multirc_em': 0.0}
  # The official script's precision and recall of nothing are 1.
  nothing = classification.multirc([0, 0], [0, 0], [0, 1]).once()
  assert nothing == {'multirc_f1a': 100.0, 'multirc_em': 100.0}


@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 1), st.integers(0, 5)),
        min_size=1,
        max_size=30,
    ),
    st.randoms(use_true_random=False),
)
def test_multirc_against_the_paper(judged, random):
  """Sets of right and chosen answers, as the paper defines the metrics."""
  random.shuffle(judged)
  right = {i for i, (target, _, _) in enumerate(judged) if target}
  said = {i for i, (_, prediction, _) in enumerate(judged) if prediction}
  precision = len(right & said) / len(said) if said else 1
  recall = len(right & said) / len(right) if right else 1
  both = precision + recall
  groups = {unit for _, _, unit in judged}
  exact = [
      all(t == p for t, p, unit in judged if unit == group) for group in groups
  ]
  names = sorted(groups)
  got = classification.multirc(
      [t for t, _, _ in judged],
      [p for _, p, _ in judged],
      [names.index(unit) for _, _, unit in judged],
  ).once()
  assert got == pytest.approx({
      'multirc_f1a': 200 * precision * recall / both if both else 0.0,
      'multirc_em': 100 * sum(exact) / len(exact),
  })


_FUNCTIONS = [
    classification.accuracy,
    classification.f1,
    classification.macro_f1,
    classification.matthews,
]


@given(_pairs(3, lowest=-1), st.randoms(use_true_random=False))
def test_order_does_not_matter(pairs, random):
  shuffled = list(pairs)
  random.shuffle(shuffled)
  for function in _FUNCTIONS:
    before = function(*zip(*pairs, strict=True)).once()
    after = function(*zip(*shuffled, strict=True)).once()
    assert before == pytest.approx(after)


@pytest.mark.parametrize('function', _FUNCTIONS)
def test_lists_that_do_not_fit(function):
  with pytest.raises(ValueError, match='2 targets but 1 predictions'):
    function([1, 0], [1])
  with pytest.raises(ValueError, match='nothing to score'):
    function([], [])
