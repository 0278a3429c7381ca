"""Metrics over class indices, in percent.

A prediction that names no class at all (a model that writes something else
than an option) is given as -1 and is always wrong.
"""

from collections.abc import Sequence

# What a generated text that is none of the options becomes.
NO_CLASS = -1


def accuracy(
    targets: Sequence[int], predictions: Sequence[int]
) -> dict[str, float]:
  """Returns the share of examples whose class is the right one.

  Args:
    targets: The right class of each example.
    predictions: The predicted class of each example, or `NO_CLASS`.

  Raises:
    ValueError: The two differ in length, or are empty.
  """
  _check(targets, predictions)
  right = sum(t == p for t, p in zip(targets, predictions, strict=True))
  return {'accuracy': 100.0 * right / len(targets)}


def f1(targets: Sequence[int], predictions: Sequence[int]) -> dict[str, float]:
  """Returns F1 of the positive class (index 1) and accuracy, as GLUE does.

  F1 = 2 TP / (2 TP + FP + FN), and 0 where nothing is or should be positive.
  As in T5's GLUE metrics, `NO_CLASS` counts as the opposite of the target, so
  that refusing to answer never helps.

  Args:
    targets: The right class of each example.
    predictions: The predicted class of each example, or `NO_CLASS`.

  Raises:
    ValueError: The two differ in length, or are empty.
  """
  _check(targets, predictions)
  true_positive = false_positive = false_negative = 0
  for target, prediction in zip(targets, predictions, strict=True):
    is_positive = target == 1
    says_positive = (
        not is_positive if prediction == NO_CLASS else prediction == 1
    )
    true_positive += is_positive and says_positive
    false_positive += says_positive and not is_positive
    false_negative += is_positive and not says_positive
  denominator = 2 * true_positive + false_positive + false_negative
  score = 200.0 * true_positive / denominator if denominator else 0.0
  return {'f1': score, **accuracy(targets, predictions)}


def _check(targets: Sequence[int], predictions: Sequence[int]) -> None:
  if len(targets) != len(predictions):
    raise ValueError(
        f'{len(targets)} targets but {len(predictions)} predictions.'
    )
  if not targets:
    raise ValueError('There is nothing to score.')
