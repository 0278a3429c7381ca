"""Token ids of many examples -> rows of fixed length, several to a row.

An example is never split and never meets another in attention: each has its
own segment id, its positions start at 0, and the decoder starts it with a pad.

Rows have one of two forms, those of SeqIO's converters. In `TWO_SIDES`
(`EncDecFeatureConverter`), inputs and targets have rows of their own, each as
long as its limit. In `ONE_SIDE` (`DecoderFeatureConverter`), the targets of an
example follow its inputs, both with their ends, and a row is as long as both
limits together. Inputs and targets are each cut to their own limit either way.
"""

from collections.abc import Callable, Mapping
import dataclasses
from typing import NamedTuple

from flan_jax import vocabularies
from flan_jax.data import fitting
import numpy as np


@dataclasses.dataclass(frozen=True)
class Form:
  """What rows look like.

  Attributes:
    features: By name, the sides ('inputs', 'targets') whose lengths make up
      that of the feature.
    joined: Whether an example's inputs and targets are one sequence.
  """

  features: Mapping[str, tuple[str, ...]]
  joined: bool

  def length(self, name: str, limits: Mapping[str, int]) -> int:
    """Returns how long a feature is.

    Args:
      name: The feature.
      limits: Tokens in a row: 'inputs' and 'targets'.
    """
    return sum(limits[side] for side in self.features[name])

  def positions(self, limits: Mapping[str, int]) -> dict[str, int]:
    """Returns how long rows are: of the 'decoder', and of an 'encoder'."""
    end = '_segment_ids'
    return {
        name.removesuffix(end): self.length(name, limits)
        for name in self.features
        if name.endswith(end)
    }


_DECODER = (
    'decoder_input_tokens',
    'decoder_target_tokens',
    'decoder_segment_ids',
    'decoder_positions',
    'decoder_loss_weights',
)
TWO_SIDES = Form(
    joined=False,
    features={
        **dict.fromkeys(
            (
                'encoder_input_tokens',
                'encoder_segment_ids',
                'encoder_positions',
            ),
            ('inputs',),
        ),
        **dict.fromkeys(_DECODER, ('targets',)),
    },
)
ONE_SIDE = Form(
    joined=True,
    features=dict.fromkeys(
        (*_DECODER, 'decoder_causal_attention'), ('inputs', 'targets')
    ),
)
# As models name what they want.
FORMS = {'two_sides': TWO_SIDES, 'one_side': ONE_SIDE}
FEATURES = tuple(TWO_SIDES.features)

# Which member of the mixture each segment of a row is an example of, counted
# from 1 as segments are: int32 [rows, most_segments]. SeqIO has no such thing;
# only batches that are to have it do.
MEMBER_IDS = 'member_ids'

# Features by name, int32 [rows, length].
Batch = dict[str, np.ndarray]

# All features side by side, in the order of their form, and after them the
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


def with_end(
    ragged: Ragged, limit: int, eos_id: int = vocabularies.EOS_ID
) -> Ragged:
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
  ended[ends] = eos_id
  return Ragged(ended, kept + 1)


def lay_out(
    inputs: Ragged,
    targets: Ragged,
    rows: np.ndarray,
    limits: Mapping[str, int],
    dtype: np.typing.DTypeLike = np.int32,
    members: np.ndarray | None = None,
    form: Form = TWO_SIDES,
) -> Wide:
  """Writes examples into rows, with segments, positions and weights.

  Args:
    inputs: Inputs' tokens of each example, ends included.
    targets: Targets' tokens of each example, ends included.
    rows: The row of each example, int64 [examples]; in a row, examples stand
      in their own order.
    limits: Tokens in a row: 'inputs' and 'targets'.
    dtype: Of the result; ids and limits fit into it.
    members: The member of each example, int64 [examples]; see `MEMBER_IDS`.
    form: What rows look like.

  Returns:
    The form's features side by side, [rows, width]: segments count from 1 and
    are 0 on padding; positions count from 0 in each segment; decoder inputs are
    the decoder's targets moved right by one within their segment, with 0 (T5's
    start) first; weights are 1 on targets, and 0 on inputs and padding; causal
    attention is 1 where the start and the inputs are read.
  """
  count = int(rows.max()) + 1 if len(rows) else 0
  by_row = np.argsort(rows, kind='stable')
  sizes = np.bincount(rows, minlength=count)
  segments = (_counted(sizes) + 1).astype(dtype)
  more = 0 if members is None else most_segments(limits, form)
  wide = np.zeros((count, width(limits, form) + more), dtype)
  batch = features(wide, limits, form)
  if form.joined:
    sides = {'decoder': joined(inputs, targets)}
  else:
    sides = {'encoder': inputs, 'decoder': targets}
  for side, ragged in sides.items():
    lengths = ragged.lengths[by_row]
    starts = np.cumsum(ragged.lengths) - ragged.lengths
    ids = _taken(ragged.ids, starts[by_row], lengths)
    within = _counted(lengths)
    # Tokens in the order of rows fill the beginning of each.
    used = np.bincount(rows, ragged.lengths, count).astype(np.int32)
    length = form.length(f'{side}_input_tokens', limits)
    place = np.arange(length, dtype=np.int32) < used[:, None]
    batch[f'{side}_segment_ids'][place] = np.repeat(segments, lengths)
    batch[f'{side}_positions'][place] = within
    if side == 'encoder':
      batch['encoder_input_tokens'][place] = ids
      continue
    batch['decoder_target_tokens'][place] = ids
    previous = np.empty_like(ids)
    previous[1:] = ids[:-1]
    previous[within == 0] = vocabularies.PAD_ID
    batch['decoder_input_tokens'][place] = previous
    if form.joined:
      before = np.repeat(inputs.lengths[by_row].astype(np.int32), lengths)
      batch['decoder_loss_weights'][place] = within >= before
      batch['decoder_causal_attention'][place] = within <= before
    else:
      batch['decoder_loss_weights'][...] = place
  if members is not None:
    # A segment's place in its row is its number.
    places = rows[by_row], segments - 1
    member_ids(wide, limits, form)[places] = members[by_row] + 1
  return wide


def joined(inputs: Ragged, targets: Ragged) -> Ragged:
  """Returns each example's inputs and targets as one sequence."""
  lengths = np.stack([inputs.lengths, targets.lengths])
  # Those of targets stand after those of all inputs.
  starts = np.cumsum(lengths).reshape(lengths.shape) - lengths
  ids = np.concatenate([inputs.ids, targets.ids])
  return Ragged(
      _taken(ids, starts.T.ravel(), lengths.T.ravel()), lengths.sum(axis=0)
  )


def pack(
    inputs: Ragged,
    targets: Ragged,
    limits: Mapping[str, int],
    *,
    together: bool = True,
    order: Callable[[int], np.ndarray] | None = None,
    dtype: np.typing.DTypeLike = np.int32,
    members: np.ndarray | None = None,
    form: Form = TWO_SIDES,
    eos_id: int = vocabularies.EOS_ID,
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
    form: What rows look like.
    eos_id: What ends inputs and targets.

  Returns:
    The form's features side by side, [rows, width], as `lay_out` describes
    them.
  """
  inputs = with_end(inputs, limits['inputs'], eos_id)
  targets = with_end(targets, limits['targets'], eos_id)
  if not together:
    rows = np.arange(len(inputs.lengths))
  elif form.joined:
    whole = inputs.lengths + targets.lengths
    room = {'inputs': sum(limits.values()), 'targets': 1}
    rows = fitting.assign(whole, np.zeros_like(whole), room)
  else:
    rows = fitting.assign(inputs.lengths, targets.lengths, limits)
  if order is not None and len(rows):
    rows = np.argsort(order(int(rows.max()) + 1))[rows]
  return lay_out(inputs, targets, rows, limits, dtype, members, form)


def smallest_dtype(
    size: int, limits: Mapping[str, int], form: Form = TWO_SIDES
) -> np.dtype:
  """Returns the smallest type that ids below `size` and positions fit into."""
  longest = (sum if form.joined else max)(limits.values())
  return np.dtype(np.uint16 if max(size, longest) < 65536 else np.int32)


def width(limits: Mapping[str, int], form: Form = TWO_SIDES) -> int:
  """Returns how wide all features are side by side."""
  return sum(form.length(name, limits) for name in form.features)


def most_segments(limits: Mapping[str, int], form: Form = TWO_SIDES) -> int:
  """Returns how many examples fit into a row: each has two ends."""
  if form.joined:
    return sum(limits.values()) // 2
  return min(limits['inputs'], limits['targets'])


def member_ids(
    wide: Wide, limits: Mapping[str, int], form: Form = TWO_SIDES
) -> np.ndarray:
  """Returns the part of `wide` that says whose examples the segments are."""
  return wide[:, width(limits, form) :]


def features(
    wide: Wide, limits: Mapping[str, int], form: Form = TWO_SIDES
) -> Batch:
  """Returns the parts of `wide`, by name, without copying them."""
  batch, start = {}, 0
  for name in form.features:
    end = start + form.length(name, limits)
    batch[name] = wide[:, start:end]
    start = end
  return batch


def empty(
    rows: int,
    limits: Mapping[str, int],
    *,
    members: bool = False,
    form: Form = TWO_SIDES,
) -> Batch:
  """Returns rows of padding alone, int32 [rows, length].

  Args:
    rows: How many.
    limits: Tokens in a row: 'inputs' and 'targets'.
    members: Whether they have `MEMBER_IDS` too.
    form: What rows look like.
  """
  batch = {
      name: np.zeros((rows, form.length(name, limits)), np.int32)
      for name in form.features
  }
  if members:
    batch[MEMBER_IDS] = np.zeros((rows, most_segments(limits, form)), np.int32)
  return batch


def count_rows(batch: Batch) -> int:
  """Returns the number of rows."""
  return len(batch['decoder_input_tokens'])


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
