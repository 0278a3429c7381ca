"""Which row each example goes into, so that few rows are needed."""

import bisect
from collections.abc import Mapping
import heapq

import numpy as np


def assign(
    input_lengths: np.ndarray,
    target_lengths: np.ndarray,
    limits: Mapping[str, int],
) -> np.ndarray:
  """Chooses a row for each example.

  On the whole, either inputs or targets fill up first. By that side, examples
  go where they leave the least room, the longest first (best fit decreasing).
  Where some are longer on the other side (a template that asks for a whole
  passage), this would crowd them together and waste the rows they crowd, so
  they may be spread over the rows before that: what takes fewer rows is taken.

  Args:
    input_lengths: int64 [examples], each at most `limits['inputs']`.
    target_lengths: int64 [examples], each at most `limits['targets']`.
    limits: Tokens in a row: 'inputs' and 'targets'.

  Returns:
    The row of each example, int64 [examples], 0 to the number of rows - 1.

  Raises:
    ValueError: An example is longer than a row.
  """
  needs = np.stack([input_lengths, target_lengths])
  sizes = np.array([limits['inputs'], limits['targets']])
  if (needs > sizes[:, None]).any():
    raise ValueError('An example is longer than a row.')
  if not needs.size:
    return np.empty(0, np.int64)
  parts = needs / sizes[:, None]
  if parts[1].sum() > parts[0].sum():
    needs, sizes, parts = needs[::-1], sizes[::-1], parts[::-1]
  order = np.argsort(-parts.max(axis=0), kind='stable')
  needs = needs[:, order]
  other_side = (parts[1] > parts[0])[order]
  rows = _best_fit(needs, _Open(sizes, needs))
  if other_side.any():
    opened = _Open(sizes, needs)
    spread = np.empty_like(rows)
    # So many rows are needed whatever is done.
    fewest = -(-int(needs[0].sum()) // int(sizes[0]))
    spread[other_side] = _spread(needs[:, other_side], opened, fewest)
    spread[~other_side] = _best_fit(needs[:, ~other_side], opened)
    used, spread = np.unique(spread, return_inverse=True)
    if len(used) <= rows.max():
      rows = spread
  result = np.empty_like(rows)
  result[order] = rows
  return result


class _Open:
  """Rows that something may still fit into, by their room on the first side.

  Attributes:
    sizes: A row's tokens on the first and the second side.
    room: What is left on the first side, sorted.
    other: What is left on the second side, beside `room`.
    rows: The rows' numbers, beside `room`.
    count: Rows opened so far.
  """

  def __init__(self, sizes: np.ndarray, needs: np.ndarray):
    self.sizes: list[int] = sizes.tolist()
    self._least: list[int] = needs.min(axis=1).tolist()
    self.room: list[int] = []
    self.other: list[int] = []
    self.rows: list[int] = []
    self.count = 0

  def new(self) -> int:
    """Returns the number of a new row, which is not yet among the open."""
    self.count += 1
    return self.count - 1

  def put(self, row: int, room: int, other: int) -> None:
    """Puts a row among the open, unless nothing fits into it any more."""
    if room >= self._least[0] and other >= self._least[1]:
      place = bisect.bisect_left(self.room, room)
      self.room.insert(place, room)
      self.other.insert(place, other)
      self.rows.insert(place, row)


def _best_fit(needs: np.ndarray, opened: _Open) -> np.ndarray:
  """Puts examples, in their order, where the least room is left.

  Args:
    needs: Tokens on the first and the second side, int64 [2, examples].
    opened: Rows to fill; more are opened as needed.

  Returns:
    The row of each example, int64 [examples].
  """
  chosen = []
  room, others, rows = opened.room, opened.other, opened.rows
  size, other_size = opened.sizes
  for need, other in needs.T.tolist():
    place = bisect.bisect_left(room, need)
    while place < len(room) and others[place] < other:
      place += 1
    if place < len(room):
      row = rows.pop(place)
      opened.put(row, room.pop(place) - need, others.pop(place) - other)
    else:
      row = opened.new()
      opened.put(row, size - need, other_size - other)
    chosen.append(row)
  return np.array(chosen, np.int64)


def _spread(needs: np.ndarray, opened: _Open, count: int) -> np.ndarray:
  """Opens rows and puts each example where the second side has most room.

  Args:
    needs: Tokens on the first and the second side, int64 [2, examples].
    opened: No rows yet.
    count: Rows to open; more as needed.

  Returns:
    The row of each example, int64 [examples].
  """
  size, other_size = opened.sizes
  # Most room first: on the second side, then on the first.
  heap = [(-other_size, -size, opened.new()) for _ in range(count)]
  chosen = []
  for need, other in needs.T.tolist():
    other_room, room, row = heap[0]
    if -other_room >= other and -room >= need:
      heapq.heapreplace(heap, (other_room + other, room + need, row))
    else:
      row = opened.new()
      heapq.heappush(heap, (other - other_size, need - size, row))
    chosen.append(row)
  for other_room, room, row in heap:
    opened.put(row, -room, -other_room)
  return np.array(chosen, np.int64)
