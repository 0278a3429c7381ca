"""Rows whose fields stay in memory once they have been read.

Reading a row takes longer than rendering it, and in training small datasets
are gone through many times. Memory is bounded over all datasets together.
"""

import math
import sys
from typing import Any, Protocol

import numpy as np

_BYTES = 64_000_000
_WEIGHED = 16  # One row of so many.


class _Rows(Protocol):
  """What is kept of `rows.Rows`."""

  split: str

  def __len__(self) -> int:
    ...

  def fields(self, indices: np.ndarray) -> list[dict[str, Any]]:
    ...

  def row_ids(self, indices: np.ndarray) -> list[str]:
    ...


class Budget:
  """What many datasets may keep between them.

  Attributes:
    left: About so many bytes.
  """

  def __init__(self, size: int = _BYTES):
    self.left = size


class KeptRows:
  """Rows of one split; whoever reads fields must not change them.

  Attributes:
    split: train, validation or test.
  """

  def __init__(self, rows: _Rows, budget: Budget):
    self.split = rows.split
    self._rows = rows
    self._budget = budget
    self._kept: dict[int, dict[str, Any]] = {}

  def __len__(self) -> int:
    return len(self._rows)

  def row_ids(self, indices: np.ndarray) -> list[str]:
    return self._rows.row_ids(indices)

  def fields(self, indices: np.ndarray) -> list[dict[str, Any]]:
    kept = self._kept
    wanted = np.asarray(indices, np.int64).tolist()
    found = [kept.get(index) for index in wanted]
    if None not in found:
      return found  # type: ignore[return-value]
    missing = [i for i, fields in enumerate(found) if fields is None]
    new = self._rows.fields(np.array([wanted[i] for i in missing], np.int64))
    for i, fields in zip(missing, new, strict=True):
      found[i] = fields
    if self._budget.left > 0:
      for i, fields in zip(missing, new, strict=True):
        kept[wanted[i]] = fields
      # Rows of one dataset are alike enough to weigh a few of them.
      weighed = new[::_WEIGHED]
      size = sum(map(_size, weighed)) / len(weighed) * len(new)
      self._budget.left -= math.ceil(size)
    return found  # type: ignore[return-value]


def _size(fields: dict[str, Any]) -> int:
  """About how many bytes a row takes."""
  size = sys.getsizeof(fields)
  for value in fields.values():
    size += sys.getsizeof(value)
    if isinstance(value, list | tuple):
      size += sum(map(sys.getsizeof, value))
  return size
