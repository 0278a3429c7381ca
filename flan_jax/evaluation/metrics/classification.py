"""Metrics over class indices, in percent.

A prediction that names no class at all (a model that writes something else
than an option) is given as -1 and is always wrong.
"""

from collections.abc import Sequence

from flan_jax.evaluation.metrics import tally
import numpy as np

# What a generated text that is none of the options becomes.
NO_CLASS = -1


def accuracy(targets: Sequence[int], predictions: Sequence[int]) -> tally.Tally:
  """The share of examples whose class is the right one.

  Args:
    targets: The right class of each example.
    predictions: The predicted class of each example, or `NO_CLASS`.

  Raises:
    ValueError: The two differ in length, or are empty.
  """
  right_N = _arrays(targets, predictions)
  return tally.of_means({'accuracy': right_N[0] == right_N[1]})


def f1(targets: Sequence[int], predictions: Sequence[int]) -> tally.Tally:
  """F1 of the positive class (index 1) and accuracy, as GLUE has them.

  F1 = 2 TP / (2 TP + FP + FN), and 0 where nothing is or should be positive.
  As in T5's GLUE metrics, `NO_CLASS` counts as the opposite of the target, so
  that refusing to answer never helps.

  Args:
    targets: The right class of each example.
    predictions: The predicted class of each example, or `NO_CLASS`.

  Raises:
    ValueError: The two differ in length, or are empty.
  """
  target_N, predicted_N = _arrays(targets, predictions)
  columns = _positives(target_N, predicted_N)
  columns.append(target_N == predicted_N)

  def finish(sums_RxK: np.ndarray) -> tally.Values:
    hit, spurious, missed, right, count = sums_RxK.T
    return {
        'f1': 100.0 * tally.ratio(2 * hit, 2 * hit + spurious + missed),
        'accuracy': 100.0 * right / count,
    }

  return tally.of_sums(_table(columns), finish)


def macro_f1(targets: Sequence[int], predictions: Sequence[int]) -> tally.Tally:
  """The mean of the classes' F1, and accuracy, as SuperGLUE has them for CB.

  The mean is over the classes that occur among targets or predictions, as in
  scikit-learn, which SuperGLUE uses. (T5's takes a class that does not occur
  for one with F1 = 0.) `NO_CLASS` is no class: it misses the target's.

  Args:
    targets: The right class of each example.
    predictions: The predicted class of each example, or `NO_CLASS`.

  Raises:
    ValueError: The two differ in length, or are empty.
  """
  target_N, predicted_N = _arrays(targets, predictions)
  classes = range(max(target_N.max(), predicted_N.max()) + 1)
  right_N = target_N == predicted_N
  columns = [target_N == each for each in classes]
  columns += [predicted_N == each for each in classes]
  columns += [(target_N == each) & right_N for each in classes]

  def finish(sums_RxK: np.ndarray) -> tally.Values:
    expected, said, hit = np.split(sums_RxK[:, :-1], 3, axis=1)
    either = expected + said
    score = tally.ratio(2 * hit, either).sum(axis=1) / (either > 0).sum(axis=1)
    return {
        'macro_f1': 100.0 * score,
        'accuracy': 100.0 * hit.sum(axis=1) / sums_RxK[:, -1],
    }

  return tally.of_sums(_table(columns), finish)


def matthews(targets: Sequence[int], predictions: Sequence[int]) -> tally.Tally:
  """The Matthews correlation coefficient, times 100.

  For any number of classes (Gorodkin 2004, as in scikit-learn); 0 where the
  targets or the predictions are all of one class. `NO_CLASS` counts as the
  opposite of the target where there are two classes, as in `f1`, and as a
  class of its own where there are more.

  Args:
    targets: The right class of each example.
    predictions: The predicted class of each example, or `NO_CLASS`.

  Raises:
    ValueError: The two differ in length, or are empty.
  """
  target_N, predicted_N = _arrays(targets, predictions)
  if max(target_N.max(), predicted_N.max()) <= 1:
    predicted_N = np.where(predicted_N == NO_CLASS, 1 - target_N, predicted_N)
  classes = range(NO_CLASS, max(target_N.max(), predicted_N.max()) + 1)
  columns = [target_N == each for each in classes]
  columns += [predicted_N == each for each in classes]
  columns.append(target_N == predicted_N)

  def finish(sums_RxK: np.ndarray) -> tally.Values:
    right, count = sums_RxK[:, -2], sums_RxK[:, -1]
    expected, said = np.split(sums_RxK[:, :-2], 2, axis=1)
    shared = right * count - (expected * said).sum(axis=1)
    spread = (count**2 - (expected**2).sum(axis=1)) * (
        count**2 - (said**2).sum(axis=1)
    )
    return {'matthews': 100.0 * tally.ratio(shared, np.sqrt(spread))}

  return tally.of_sums(_table(columns), finish)


def multirc(
    targets: Sequence[int], predictions: Sequence[int], units: Sequence[int]
) -> tally.Tally:
  """MultiRC's F1 over all answers, and exact match by question.

  An example is one candidate answer, right (1) or not (0). F1a is the F1 of
  the right ones over all candidates of all questions, and 100 where nothing is
  or should be right; a question is an exact match if each of its candidates is
  judged rightly (Khashabi et al. 2018, with their script's corner cases).
  `NO_CLASS` counts as the opposite of the target, as in T5.

  Args:
    targets: Whether each candidate is right.
    predictions: What was said of it, or `NO_CLASS`.
    units: The question of each candidate: 0, 1 ...

  Raises:
    ValueError: The lists differ in length, or are empty.
  """
  target_N, predicted_N = _arrays(targets, predictions)
  tally.check(targets, units)
  wrong = target_N != predicted_N
  each_question = [
      np.bincount(units, weights=column)
      for column in (*_positives(target_N, predicted_N), wrong)
  ]
  each_question[-1] = each_question[-1] == 0

  def finish(sums_RxK: np.ndarray) -> tally.Values:
    hit, spurious, missed, exact, count = sums_RxK.T
    below = 2 * hit + spurious + missed
    return {
        'multirc_f1a': 100.0 * tally.ratio(2 * hit, below, otherwise=1.0),
        'multirc_em': 100.0 * exact / count,
    }

  return tally.of_sums(_table(each_question), finish)


def _arrays(
    targets: Sequence[int], predictions: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
  tally.check(targets, predictions)
  return np.asarray(targets, np.int64), np.asarray(predictions, np.int64)


def _positives(
    target_N: np.ndarray, predicted_N: np.ndarray
) -> list[np.ndarray]:
  """True positives, false positives, false negatives of class 1, bool [N]."""
  expected = target_N == 1
  said = np.where(predicted_N == NO_CLASS, ~expected, predicted_N == 1)
  return [expected & said, ~expected & said, expected & ~said]


def _table(columns: Sequence[np.ndarray]) -> np.ndarray:
  """The columns [N] side by side, and one of ones after them."""
  return np.stack([*columns, np.ones(len(columns[0]))], axis=1)
