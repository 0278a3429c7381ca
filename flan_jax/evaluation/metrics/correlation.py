"""Correlations of predicted numbers with the right ones, times 100.

Where either side is constant there is no correlation, and 0 is given: so that
a constant answer, the majority's, scores nothing rather than NaN.
"""

from collections.abc import Sequence
import math
import re

from flan_jax.evaluation.metrics import tally
import numpy as np

# What an answer without a number counts as: T5's choice, below every score
# that similarity data sets give.
NO_NUMBER = -1.0

_NUMBER = re.compile(r'[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)')
# Numbers in running text: '4.' at a sentence's end is 4; 'B2' holds none.
_NUMBERS = re.compile(r'(?<![\w.])[-+]?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?!\w)')


def number(text: str) -> float | None:
  """Returns the number that a text is, if it is one: '3', '3.0', ' 4. '."""
  match = _NUMBER.fullmatch(text.strip())
  return _finite(match[0]) if match else None


def only_number(text: str) -> float | None:
  """Returns the number that a text is, or the only one it holds, or None."""
  found = number(text)
  if found is None:
    held = _NUMBERS.findall(text)
    found = _finite(held[0]) if len(held) == 1 else None
  return found


def _finite(digits: str) -> float | None:
  value = float(digits)
  return value if math.isfinite(value) else None


def pearson(
    targets: Sequence[float], predictions: Sequence[float]
) -> tally.Tally:
  """Pearson's correlation coefficient, times 100.

  Args:
    targets: The right numbers.
    predictions: The predicted numbers.

  Raises:
    ValueError: The two differ in length, or are empty.
  """
  tally.check(targets, predictions)
  x_N, y_N = _scaled(targets), _scaled(predictions)
  columns = (x_N, y_N, x_N * x_N, y_N * y_N, x_N * y_N, np.ones_like(x_N))

  def finish(sums_RxK: np.ndarray) -> tally.Values:
    means = sums_RxK[:, :5] / sums_RxK[:, 5:]
    x, y, xx, yy, xy = means.T
    return {'pearson': 100.0 * _correlation(xy - x * y, xx - x * x, yy - y * y)}

  return tally.of_sums(np.stack(columns, axis=1), finish)


def spearman(
    targets: Sequence[float], predictions: Sequence[float]
) -> tally.Tally:
  """Spearman's rank correlation coefficient, times 100; ties share ranks.

  Args:
    targets: The right numbers.
    predictions: The predicted numbers.

  Raises:
    ValueError: The two differ in length, or are empty.
  """
  tally.check(targets, predictions)
  x_N, y_N = np.asarray(targets, float), np.asarray(predictions, float)

  def values(weights_RxN: np.ndarray) -> tally.Values:
    # Ranks change with the resample, so there are no sums to keep.
    x, y = _centred_ranks(x_N, weights_RxN), _centred_ranks(y_N, weights_RxN)
    xy, xx, yy = (
        np.einsum('rn,rn,rn->r', weights_RxN, a, b)
        for a, b in ((x, y), (x, x), (y, y))
    )
    return {'spearman': 100.0 * _correlation(xy, xx, yy)}

  return tally.Tally(len(x_N), values)


def _scaled(numbers: Sequence[float]) -> np.ndarray:
  """The numbers around 0 and within [-1, 1]; correlation stays the same."""
  values = np.asarray(numbers, np.float64)
  # Divided first: the difference of two very large numbers may overflow.
  values = values / max(np.abs(values).max(), 1.0)
  values = values - values.mean()
  return values / (np.abs(values).max() or 1.0)


def _correlation(
    shared: np.ndarray, first: np.ndarray, second: np.ndarray
) -> np.ndarray:
  """Covariance over standard deviations, and 0 where one of these is 0."""
  # Rounding leaves about 1e-17 of the variance of equal numbers.
  flat = (first < 1e-14) | (second < 1e-14)
  spread = np.sqrt(np.where(flat, 1.0, first * second))
  return np.where(flat, 0.0, np.clip(shared / spread, -1.0, 1.0))


def _centred_ranks(
    numbers_N: np.ndarray, weights_RxN: np.ndarray
) -> np.ndarray:
  """Each number's mean rank in each resample, less the mean of all ranks."""
  order = np.argsort(numbers_N, kind='stable')
  ordered = numbers_N[order]
  starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
  tied_RxU = np.add.reduceat(weights_RxN[:, order], starts, axis=1)
  last_RxU = np.cumsum(tied_RxU, axis=1)
  total = last_RxU[:, -1:]
  ranks_RxU = last_RxU - (tied_RxU - 1) / 2 - (total + 1) / 2
  place_N = np.empty(len(order), np.int64)
  place_N[order] = np.repeat(
      np.arange(len(starts)), np.diff(np.r_[starts, len(order)])
  )
  return ranks_RxU[:, place_N]
