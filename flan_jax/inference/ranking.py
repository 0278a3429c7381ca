"""Rank classification: all options of an example beside one encoded input.

The options lie in a decoder row as segments, each of which sees the whole input
and nothing of its neighbours, so that the input is encoded once instead of once
an option. Options that do not fit into one row go into further rows, which use
the same encoded input.
"""

from collections.abc import Sequence
import dataclasses
from typing import Any

from flan_jax.inference import batching
from flan_jax.models import interface
import jax
import jax.numpy as jnp
import numpy as np

_FEATURES = (
    'decoder_input_tokens',
    'decoder_target_tokens',
    'decoder_segment_ids',
    'decoder_positions',
)


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
  """Returns the tokens that the options of an example take.

  Several rows count whole, side by side.
  """
  if sum(lengths) <= row_length:
    return sum(lengths)
  return len(place(lengths, row_length)) * row_length


def rungs(row_length: int, longest: int) -> tuple[int, ...]:
  """Returns the widths that batches may have.

  Args:
    row_length: The most tokens of one row.
    longest: The largest width that `width` gave.
  """
  steps = list(batching.ladder(row_length, 8))
  while steps[-1] < longest:
    steps.append(2 * steps[-1])
  return tuple(steps)


@dataclasses.dataclass(frozen=True)
class Packed:
  """The options of a batch of B examples as one decoder batch of width T.

  Attributes:
    row: int32 [B, T]: decoder_input_tokens, decoder_target_tokens,
      decoder_segment_ids (0 is padding) and decoder_positions, as
      `log_probabilities` takes them.
    segments: For each example the segment id of each option.
    lengths: For each example the number of tokens of each option.
  """

  row: dict[str, np.ndarray]
  segments: list[list[int]]
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
    length: T, what rows are padded to; at least their `width`, and beyond
      `row_length` a multiple of it: rows of one example side by side.
  """
  lengths = [[len(ids) for ids in example] for example in options]
  row = {name: np.zeros((batch, length), np.int32) for name in _FEATURES}
  segments: list[list[int]] = []
  for b, example in enumerate(options):
    own = [0] * len(example)
    segment = 0
    for k, members in enumerate(place(lengths[b], row_length)):
      start = k * row_length
      for option in members:
        ids = example[option]
        stop = start + len(ids)
        segment += 1
        own[option] = segment
        row['decoder_target_tokens'][b, start:stop] = ids
        # The first input token of a segment stays 0, the decoder's start.
        row['decoder_input_tokens'][b, start + 1 : stop] = ids[:-1]
        row['decoder_segment_ids'][b, start:stop] = segment
        row['decoder_positions'][b, start:stop] = np.arange(len(ids))
        start = stop
    segments.append(own)
  return Packed(row, segments, lengths)


def log_probabilities(
    model: interface.Model,
    params: Any,
    tokens_BxS: jax.Array,
    row: dict[str, jax.Array],
    *,
    row_length: int,
) -> jax.Array:
  """Reads inputs once; returns log p of all options' tokens, float32 [B, T].

  Args:
    model: The model.
    params: Its parameters.
    tokens_BxS: The inputs, padded with 0.
    row: What `pack` laid out.
    row_length: As `pack` had it.
  """
  context = model.encode(params, tokens_BxS)
  batch, length = row['decoder_target_tokens'].shape
  if length <= row_length:
    return model.score(params, context, row)
  rows_KxBxT = {
      name: jnp.moveaxis(x.reshape(batch, -1, row_length), 1, 0)
      for name, x in row.items()
  }
  found_KxBxT = jax.lax.map(
      lambda one: model.score(params, context, one), rows_KxBxT
  )
  return jnp.moveaxis(found_KxBxT, 0, 1).reshape(batch, length)


def option_scores(
    packed: Packed, log_probs_BxT: np.ndarray
) -> list[np.ndarray]:
  """Returns the log-likelihood of each option of each example, float64.

  EOS included, it is what T5X and SeqIO's rank classification decide by.

  Args:
    packed: Where the options lie.
    log_probs_BxT: What `log_probabilities` gave for `packed.row`.
  """
  segments = packed.row['decoder_segment_ids']
  count = int(segments.max(initial=0)) + 1
  ids = segments + count * np.arange(len(segments))[:, None]
  sums_BxN = np.bincount(
      ids.ravel(),
      weights=np.asarray(log_probs_BxT, np.float64).ravel(),
      minlength=count * len(segments),
  ).reshape(-1, count)
  return [sums_BxN[b, own] for b, own in enumerate(packed.segments)]


def best(scores: Sequence[float]) -> int | None:
  """Returns the place of the highest score, the first one of equals.

  What is not a finite number is never the best; None if there is nothing else.
  """
  finite = np.where(np.isfinite(scores), scores, -np.inf)
  place_of = int(np.argmax(finite))
  return place_of if np.isfinite(finite[place_of]) else None
