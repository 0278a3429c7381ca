"""Token ids of many examples -> rows of fixed length, several to a row.

An example is never split and never meets another in attention: each has its
own segment id, its positions start at 0, and the decoder starts it with a pad.
"""

import bisect
from collections.abc import Callable, Mapping
import heapq
from typing import NamedTuple

from flan_jax import vocabularies
import numpy as np

FEATURES = (
    'encoder_input_tokens',
    'encoder_segment_ids',
    'encoder_positions',
    'decoder_input_tokens',
    'decoder_target_tokens',
    'decoder_segment_ids',
    'decoder_positions',
    'decoder_loss_weights',
)

# Which member of the mixture each segment of a row is an example of, counted
# from 1 as segments are: int32 [rows, most_segments]. SeqIO has no such thing;
# only batches that are to have it do.
MEMBER_IDS = 'member_ids'

# Features by name, int32 [rows, length].
Batch = dict[str, np.ndarray]

# All features side by side, in the order of `FEATURES`, and after them the
# member ids if there are any: integers [rows, width].
Wide = np.ndarray


class Ragged(NamedTuple):
  """Sequences of different lengths, end to end.

  Attributes:
    ids: int32 [total].
    lengths: int64 [sequences].
  """

  ids: np.ndarray
  lengths: np.ndarray


def with_end(ragged: Ragged, limit: int) -> Ragged:
  """Appends the end to each sequence, cut first so that all fit in `limit`."""
  ids, lengths = ragged
  kept = np.minimum(lengths, limit - 1)
  if (kept < lengths).any():
    ids = _taken(ids, np.cumsum(lengths) - lengths, kept)
  ended = np.empty(len(ids) + len(kept), np.int32)
  ends = np.cumsum(kept + 1) - 1
  inside = np.ones(len(ended), bool)
  inside[ends] = False
  ended[inside] = ids
  ended[ends] = vocabularies.EOS_ID
  return Ragged(ended, kept + 1)


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


def lay_out(
    inputs: Ragged,
    targets: Ragged,
    rows: np.ndarray,
    limits: Mapping[str, int],
    dtype: np.typing.DTypeLike = np.int32,
    members: np.ndarray | None = None,
) -> Wide:
  """Writes examples into rows, with segments, positions and weights.

  Args:
    inputs: Encoder tokens of each example, ends included.
    targets: Decoder tokens of each example, ends included.
    rows: The row of each example, int64 [examples]; in a row, examples stand
      in their own order.
    limits: Tokens in a row: 'inputs' and 'targets'.
    dtype: Of the result; ids and limits fit into it.
    members: The member of each example, int64 [examples]; see `MEMBER_IDS`.

  Returns:
    `FEATURES` side by side, [rows, width]: segments count from 1 and are 0 on
    padding; positions count from 0 in each segment; decoder inputs are the
    targets moved right by one within their segment, with 0 (T5's start) first;
    weights are 1 on targets and 0 on padding.
  """
  count = int(rows.max()) + 1 if len(rows) else 0
  by_row = np.argsort(rows, kind='stable')
  sizes = np.bincount(rows, minlength=count)
  segments = (_counted(sizes) + 1).astype(dtype)
  more = 0 if members is None else most_segments(limits)
  wide = np.zeros((count, width(limits) + more), dtype)
  batch = features(wide, limits)
  for side, ragged, limit in (
      ('encoder', inputs, limits['inputs']),
      ('decoder', targets, limits['targets']),
  ):
    lengths = ragged.lengths[by_row]
    starts = np.cumsum(ragged.lengths) - ragged.lengths
    ids = _taken(ragged.ids, starts[by_row], lengths)
    within = _counted(lengths)
    # Tokens in the order of rows fill the beginning of each.
    used = np.bincount(rows, ragged.lengths, count).astype(np.int32)
    place = np.arange(limit, dtype=np.int32) < used[:, None]
    batch[f'{side}_segment_ids'][place] = np.repeat(segments, lengths)
    batch[f'{side}_positions'][place] = within
    if side == 'encoder':
      batch['encoder_input_tokens'][place] = ids
    else:
      batch['decoder_target_tokens'][place] = ids
      previous = np.empty_like(ids)
      previous[1:] = ids[:-1]
      previous[within == 0] = vocabularies.PAD_ID
      batch['decoder_input_tokens'][place] = previous
      batch['decoder_loss_weights'][...] = place
  if members is not None:
    # A segment's place in its row is its number.
    member_ids(wide, limits)[rows[by_row], segments - 1] = members[by_row] + 1
  return wide


def pack(
    inputs: Ragged,
    targets: Ragged,
    limits: Mapping[str, int],
    *,
    together: bool = True,
    order: Callable[[int], np.ndarray] | None = None,
    dtype: np.typing.DTypeLike = np.int32,
    members: np.ndarray | None = None,
) -> Wide:
  """Ends, cuts and lays out the examples of a block.

  Args:
    inputs: Ids of each example's inputs, without ends.
    targets: Ids of each example's targets, without ends.
    limits: Tokens in a row: 'inputs' and 'targets'.
    together: False gives every example its own row, in order.
    order: From the number of rows, which of them stands at each place: int64
      [rows]. None leaves them as they are, those with long examples first.
    dtype: Of the result.
    members: The member of each example, if the rows are to say it.

  Returns:
    `FEATURES` side by side, [rows, width], as `lay_out` describes them.
  """
  inputs = with_end(inputs, limits['inputs'])
  targets = with_end(targets, limits['targets'])
  if together:
    rows = assign(inputs.lengths, targets.lengths, limits)
  else:
    rows = np.arange(len(inputs.lengths))
  if order is not None and len(rows):
    rows = np.argsort(order(int(rows.max()) + 1))[rows]
  return lay_out(inputs, targets, rows, limits, dtype, members)


def smallest_dtype(size: int, limits: Mapping[str, int]) -> np.dtype:
  """Returns the smallest type that ids below `size` and positions fit into."""
  return np.dtype(
      np.uint16 if max(size, *limits.values()) < 65536 else np.int32
  )


def width(limits: Mapping[str, int]) -> int:
  """Returns how wide all features are side by side."""
  return sum(limits[_side(name)] for name in FEATURES)


def most_segments(limits: Mapping[str, int]) -> int:
  """Returns how many examples fit into a row: each has an end on both sides."""
  return min(limits['inputs'], limits['targets'])


def member_ids(wide: Wide, limits: Mapping[str, int]) -> np.ndarray:
  """Returns the part of `wide` that says whose examples the segments are."""
  return wide[:, width(limits) :]


def features(wide: Wide, limits: Mapping[str, int]) -> Batch:
  """Returns the parts of `wide`, by name, without copying them."""
  batch, start = {}, 0
  for name in FEATURES:
    end = start + limits[_side(name)]
    batch[name] = wide[:, start:end]
    start = end
  return batch


def empty(
    rows: int, limits: Mapping[str, int], *, members: bool = False
) -> Batch:
  """Returns rows of padding alone, int32 [rows, length].

  Args:
    rows: How many.
    limits: Tokens in a row: 'inputs' and 'targets'.
    members: Whether they have `MEMBER_IDS` too.
  """
  batch = {
      name: np.zeros((rows, limits[_side(name)]), np.int32) for name in FEATURES
  }
  if members:
    batch[MEMBER_IDS] = np.zeros((rows, most_segments(limits)), np.int32)
  return batch


def count_rows(batch: Batch) -> int:
  """Returns the number of rows."""
  return len(batch[FEATURES[0]])


def _side(name: str) -> str:
  return 'inputs' if name.startswith('encoder') else 'targets'


def _taken(
    ids: np.ndarray, starts: np.ndarray, lengths: np.ndarray
) -> np.ndarray:
  """Returns runs of `ids` end to end: `lengths` of them from `starts` on."""
  ends = (starts + lengths).tolist()
  runs = [
      ids[start:end] for start, end in zip(starts.tolist(), ends, strict=True)
  ]
  return np.concatenate(runs) if runs else ids[:0]


def _counted(lengths: np.ndarray) -> np.ndarray:
  """Returns 0, 1, ... for each length in turn, int32 [sum of lengths]."""
  starts = (np.cumsum(lengths) - lengths).astype(np.int32)
  total = int(lengths.sum())
  return np.arange(total, dtype=np.int32) - np.repeat(starts, lengths)
