"""Token ids of many examples -> rows of fixed length, several to a row.

An example is never split and never meets another in attention: each has its
own segment id, its positions start at 0, and the decoder starts it with a pad.
"""

import bisect
from collections.abc import Mapping
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

# Features by name, int32 [rows, length].
Batch = dict[str, np.ndarray]


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
  kept = np.minimum(ragged.lengths, limit - 1)
  lengths = kept + 1
  source = np.cumsum(ragged.lengths) - ragged.lengths
  place = np.arange(lengths.sum())
  starts = np.cumsum(lengths) - lengths
  within = place - np.repeat(starts, lengths)
  ids = np.empty(len(place), np.int32)
  inside = within < np.repeat(kept, lengths)
  ids[inside] = ragged.ids[(within + np.repeat(source, lengths))[inside]]
  ids[~inside] = vocabularies.EOS_ID
  return Ragged(ids, lengths)


def assign(
    input_lengths: np.ndarray,
    target_lengths: np.ndarray,
    limits: Mapping[str, int],
) -> np.ndarray:
  """Chooses a row for each example: best fit, the longest first.

  An example goes where the least room is left for the scarcer of inputs and
  targets, if the other has room too; else it opens a row.

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
  rows = np.empty(needs.shape[1], np.int64)
  if not rows.size:
    return rows
  parts = needs / sizes[:, None]
  order = np.argsort(-parts.max(axis=0), kind='stable')
  # Rows are kept sorted by the room for what fills up first on the whole.
  first = int(np.argmax(parts.sum(axis=1)))
  second = 1 - first
  size, other_size = sizes[[first, second]].tolist()
  least, other_least = needs[[first, second]].min(axis=1).tolist()
  room: list[int] = []  # Sorted; row and room for the other run beside it.
  opened: list[int] = []
  other_room: list[int] = []
  chosen = []
  count = 0
  for need, other in needs[[first, second]][:, order].T.tolist():
    place = bisect.bisect_left(room, need)
    while place < len(room) and other_room[place] < other:
      place += 1
    if place < len(room):
      row = opened.pop(place)
      left, other_left = room.pop(place) - need, other_room.pop(place) - other
    else:
      row, count = count, count + 1
      left, other_left = size - need, other_size - other
    chosen.append(row)
    if left >= least and other_left >= other_least:
      place = bisect.bisect_left(room, left)
      room.insert(place, left)
      opened.insert(place, row)
      other_room.insert(place, other_left)
  rows[order] = chosen
  return rows


def lay_out(
    inputs: Ragged,
    targets: Ragged,
    rows: np.ndarray,
    limits: Mapping[str, int],
) -> Batch:
  """Writes examples into rows, with segments, positions and weights.

  Args:
    inputs: Encoder tokens of each example, ends included.
    targets: Decoder tokens of each example, ends included.
    rows: The row of each example, int64 [examples]; in a row, examples stand
      in their own order.
    limits: Tokens in a row: 'inputs' and 'targets'.

  Returns:
    `FEATURES`, int32 [rows, length]: segments count from 1 and are 0 on
    padding; positions count from 0 in each segment; decoder inputs are the
    targets moved right by one within their segment, with 0 (T5's start) first;
    weights are 1 on targets and 0 on padding.
  """
  count = int(rows.max()) + 1 if len(rows) else 0
  by_row = np.argsort(rows, kind='stable')
  sizes = np.bincount(rows, minlength=count)
  segments = np.empty(len(rows), np.int64)
  segments[by_row] = _counted(sizes) + 1
  batch = {}
  for side, ragged, limit in (
      ('encoder', inputs, limits['inputs']),
      ('decoder', targets, limits['targets']),
  ):
    lengths = ragged.lengths
    starts = np.empty(len(rows), np.int64)
    before = np.cumsum(lengths[by_row]) - lengths[by_row]
    row_starts = before[np.cumsum(sizes) - sizes] if count else before
    starts[by_row] = before - np.repeat(row_starts, sizes)
    within = _counted(lengths)
    place = np.repeat(rows * limit + starts, lengths) + within

    def spread(values, place=place, shape=(count, limit)):
      filled = np.zeros(shape, np.int32)
      filled.reshape(-1)[place] = values
      return filled

    batch[f'{side}_segment_ids'] = spread(np.repeat(segments, lengths))
    batch[f'{side}_positions'] = spread(within)
    if side == 'encoder':
      batch['encoder_input_tokens'] = spread(ragged.ids)
    else:
      batch['decoder_target_tokens'] = spread(ragged.ids)
      previous = np.roll(ragged.ids, 1)
      previous[within == 0] = vocabularies.PAD_ID
      batch['decoder_input_tokens'] = spread(previous)
      batch['decoder_loss_weights'] = spread(1)
  return {name: batch[name] for name in FEATURES}


def pack(
    inputs: Ragged,
    targets: Ragged,
    limits: Mapping[str, int],
    *,
    together: bool = True,
) -> Batch:
  """Ends, cuts and lays out the examples of a block.

  Args:
    inputs: Ids of each example's inputs, without ends.
    targets: Ids of each example's targets, without ends.
    limits: Tokens in a row: 'inputs' and 'targets'.
    together: False gives every example its own row, in order.

  Returns:
    `FEATURES`, int32 [rows, length], as `lay_out` describes them.
  """
  inputs = with_end(inputs, limits['inputs'])
  targets = with_end(targets, limits['targets'])
  if together:
    rows = assign(inputs.lengths, targets.lengths, limits)
  else:
    rows = np.arange(len(inputs.lengths))
  return lay_out(inputs, targets, rows, limits)


def empty(rows: int, limits: Mapping[str, int]) -> Batch:
  """Returns rows of padding alone, int32 [rows, length]."""
  return {
      name: np.zeros(
          (rows, limits['inputs' if name.startswith('enc') else 'targets']),
          np.int32,
      )
      for name in FEATURES
  }


def count_rows(batch: Batch) -> int:
  """Returns the number of rows."""
  return len(batch[FEATURES[0]])


def _counted(lengths: np.ndarray) -> np.ndarray:
  """Returns 0, 1, ... for each length in turn, int64 [sum of lengths]."""
  starts = np.cumsum(lengths) - lengths
  return np.arange(lengths.sum()) - np.repeat(starts, lengths)
