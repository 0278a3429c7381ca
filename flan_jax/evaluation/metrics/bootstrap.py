"""Seeded percentile bootstrap intervals.

Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13: the
test set's units (examples, or groups where a metric scores groups) are drawn
again with replacement, 1,000 times, and the middle 95% of the values that come
out are the interval. It says how much a value owes to the choice of test rows;
what another training run or another template would do is not in it. With a few
dozen units, or a share close to 0 or 100, it is narrower than it should be.
"""

from collections.abc import Iterator
import functools

from flan_jax.data import seeding
from flan_jax.evaluation.metrics import tally as tally_lib
import numpy as np

RESAMPLES = 1000
LEVEL = 0.95

# Draws that are made, and weights that are kept, at once.
_MOST_AT_ONCE = 2_000_000
_MOST_KEPT = 20_000_000


def replicates(
    tally: tally_lib.Tally, seed: int, name: str, count: int = RESAMPLES
) -> dict[str, np.ndarray]:
  """Returns the values on each of `count` resamples, float64 [count].

  The same seed, name and number of units give the same resamples, so two
  systems on the same rows are compared on the same resamples, and so are
  templates.

  Args:
    tally: A metric of some examples.
    seed: Of the draws.
    name: What is resampled, such as a dataset; other names, other draws.
    count: The number of resamples.
  """
  found = [
      tally.values(weights) for weights in _weights(seed, name, tally, count)
  ]
  return {
      value: np.concatenate([part[value] for part in found])
      for value in found[0]
  }


def interval(values: np.ndarray) -> tuple[float, float]:
  """Returns the ends of the middle 95% of replicates.

  Args:
    values: What `replicates` returned of a value, float [R].
  """
  outside = (1.0 - LEVEL) / 2
  low, high = np.quantile(values, (outside, 1.0 - outside))
  return float(low), float(high)


def _weights(
    seed: int, name: str, tally: tally_lib.Tally, count: int
) -> Iterator[np.ndarray]:
  """Yields weights of resamples, float64 [R, N], `count` rows in all."""
  units = tally.units
  if units * count <= _MOST_KEPT:
    kept = _drawn_all(seed, name, units, count)
    step = max(1, _MOST_AT_ONCE // units)
    for start in range(0, count, step):
      yield kept[start : start + step].astype(np.float64)
    return
  for drawn in _drawn(seed, name, units, count):
    yield drawn.astype(np.float64)


# Two: metrics over examples and over groups of one dataset take turns.
@functools.lru_cache(maxsize=2)
def _drawn_all(seed: int, name: str, units: int, count: int) -> np.ndarray:
  return np.concatenate(list(_drawn(seed, name, units, count)))


def _drawn(
    seed: int, name: str, units: int, count: int
) -> Iterator[np.ndarray]:
  """Yields how often each unit is drawn, uint32 [R, N]."""
  step = max(1, _MOST_AT_ONCE // units)
  places = np.arange(units)
  for start in range(0, count, step):
    rows = np.arange(start, min(start + step, count))
    hashes = seeding.hash_ints(
        seed, seeding.name_seed(name), rows[:, None], places[None, :]
    )
    chosen = seeding.choose(hashes, units)
    chosen += np.arange(len(rows))[:, None] * units
    counts = np.bincount(chosen.reshape(-1), minlength=len(rows) * units)
    yield counts.reshape(len(rows), units).astype(np.uint32)
