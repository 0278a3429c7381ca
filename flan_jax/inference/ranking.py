"""Rank classification: all options of an example beside one encoded input.

The options lie in a decoder row as segments, each of which sees the whole input
and nothing of its neighbours, so that the input is encoded once instead of once
an option. Options that do not fit into one row go into further rows, and these
use the same encoded input.
"""

from collections.abc import Sequence
import dataclasses
from typing import Literal

import numpy as np

Normalisation = Literal['sum', 'mean']


def place(lengths: Sequence[int], row_length: int) -> list[list[int]]:
  """Returns the options of each row: every option goes where it first fits.

  Args:
    lengths: The number of tokens of each option, EOS included.
    row_length: The most tokens a row holds; no option is longer.

  Returns:
    For each row the indices of its options, in order.
  """
  rows: list[list[int]] = []
  room: list[int] = []
  for option, length in enumerate(lengths):
    fitting = (row for row, left in enumerate(room) if length <= left)
    row = next(fitting, len(rows))
    if row == len(rows):
      rows.append([])
      room.append(row_length)
    rows[row].append(option)
    room[row] -= length
  return rows


def width(lengths: Sequence[int], row_length: int) -> int:
  """Returns the tokens of the fullest row that `place` makes of `lengths`."""
  return max(
      sum(lengths[option] for option in row)
      for row in place(lengths, row_length)
  )


@dataclasses.dataclass(frozen=True)
class Packed:
  """The options of a batch of B examples as K decoder batches of length T.

  Attributes:
    rows: K dicts of int32 [B, T]: decoder_input_tokens, decoder_target_tokens,
      decoder_segment_ids (0 is padding) and decoder_positions, as
      `Model.score` takes them. All K go with one context.
    places: For each example and option: its k and its segment id.
    lengths: For each example the number of tokens of each option.
  """

  rows: list[dict[str, np.ndarray]]
  places: list[list[tuple[int, int]]]
  lengths: list[list[int]]


def pack(
    options: Sequence[Sequence[Sequence[int]]],
    batch: int,
    row_length: int,
    length: int,
) -> Packed:
  """Lays the options of examples out in decoder rows.

  Args:
    options: For each example its options as token ids that end in EOS.
    batch: B, at least the number of examples; further rows are padding.
    row_length: The most tokens a row may hold, which decides where an option
      goes; the same for all batches of a run.
    length: T, what rows are padded to; at least their `width`.
  """
  lengths = [[len(ids) for ids in example] for example in options]
  layouts = [place(sizes, row_length) for sizes in lengths]
  names = (
      'decoder_input_tokens',
      'decoder_target_tokens',
      'decoder_segment_ids',
      'decoder_positions',
  )
  rows = [
      {name: np.zeros((batch, length), np.int32) for name in names}
      for _ in range(max((len(layout) for layout in layouts), default=0))
  ]
  places: list[list[tuple[int, int]]] = []
  for b, (example, layout) in enumerate(zip(options, layouts, strict=True)):
    found = [(0, 0)] * len(example)
    for k, members in enumerate(layout):
      start = 0
      for segment, option in enumerate(members, start=1):
        ids = example[option]
        stop = start + len(ids)
        row = rows[k]
        row['decoder_target_tokens'][b, start:stop] = ids
        # The first input token of a segment stays 0, the decoder's start.
        row['decoder_input_tokens'][b, start + 1 : stop] = ids[:-1]
        row['decoder_segment_ids'][b, start:stop] = segment
        row['decoder_positions'][b, start:stop] = np.arange(len(ids))
        found[option] = (k, segment)
        start = stop
    places.append(found)
  return Packed(rows, places, lengths)


def option_scores(
    packed: Packed,
    log_probs: Sequence[np.ndarray],
    normalisation: Normalisation = 'sum',
) -> list[np.ndarray]:
  """Returns the score of each option of each example, float64.

  'sum' is the log-likelihood of the option, EOS included, by which T5X and
  SeqIO's rank classification decide. 'mean' divides it by the option's number
  of tokens, EOS included, which takes away the advantage of short options.

  Args:
    packed: Where the options lie.
    log_probs: K arrays [B, T], what `Model.score` gives for `packed.rows`.
    normalisation: 'sum' or 'mean'.
  """
  sums = []
  for row, log_probs_BxT in zip(packed.rows, log_probs, strict=True):
    segments = row['decoder_segment_ids']
    count = int(segments.max()) + 1
    ids = segments + count * np.arange(len(segments))[:, None]
    weights = np.asarray(log_probs_BxT, np.float64)
    sums.append(
        np.bincount(
            ids.ravel(),
            weights=weights.ravel(),
            minlength=count * len(segments),
        ).reshape(-1, count)
    )
  scores = []
  for b, found in enumerate(packed.places):
    total = np.asarray([sums[k][b, segment] for k, segment in found])
    if normalisation == 'mean':
      total = total / np.asarray(packed.lengths[b])
    scores.append(total)
  return scores
