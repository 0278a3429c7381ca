"""What metrics keep of their examples, so that values can be recomputed fast.

A bootstrap asks for a metric's values on a thousand resamples. Scoring texts a
thousand times would take hours; but nearly every metric is a function of sums
over examples (BLEU of n-gram counts, F1 of true and false positives), so texts
are scored once, and a resample is a weighted sum.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses

import numpy as np

Values = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Tally:
  """A metric, ready to be computed for any weights of its units.

  A unit is what is resampled: an example, or a group of examples that are
  scored together.

  Attributes:
    units: The number of units, N.
    values: From weights, float64 [R, N] (how often each unit is in each of R
      resamples), to named values, float64 [R]. No value is NaN for any
      weights that are not all zero.
  """

  units: int
  values: Callable[[np.ndarray], Values]

  def once(self) -> dict[str, float]:
    """Returns the values with every unit counted once."""
    found = self.values(np.ones((1, self.units)))
    return {name: float(value[0]) for name, value in found.items()}


def of_sums(
    columns_NxK: Sequence[Sequence[float]] | np.ndarray,
    finish: Callable[[np.ndarray], Values],
) -> Tally:
  """Returns the tally of a metric that is a function of sums.

  Args:
    columns_NxK: What each unit adds.
    finish: From sums, float64 [R, K], to values, float64 [R].
  """
  columns = np.asarray(columns_NxK, np.float64)
  return Tally(len(columns), lambda weights: finish(weights @ columns))


def of_means(shares: Mapping[str, Sequence[float]]) -> Tally:
  """Returns the tally of means in percent.

  Args:
    shares: By value, each unit's share, 0 to 1.
  """
  names = tuple(shares)
  columns = np.array([*shares.values()], np.float64).T

  def finish(sums_RxK: np.ndarray) -> Values:
    count = sums_RxK[:, -1]
    return {
        name: 100.0 * sums_RxK[:, place] / count
        for place, name in enumerate(names)
    }

  ones = np.ones((len(columns), 1))
  return of_sums(np.concatenate([columns, ones], axis=1), finish)


def ratio(
    above: np.ndarray, below: np.ndarray, otherwise: float = 0.0
) -> np.ndarray:
  """Returns above / below, and `otherwise` where that is 0 / 0."""
  zero = below == 0
  return np.where(zero, otherwise, above / np.where(zero, 1.0, below))


def check(targets: Sequence, predictions: Sequence) -> None:
  """Raises ValueError unless there are as many of both, and some."""
  if len(targets) != len(predictions):
    raise ValueError(
        f'{len(targets)} targets but {len(predictions)} predictions.'
    )
  if not len(targets):
    raise ValueError('There is nothing to score.')
