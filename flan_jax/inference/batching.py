"""Batches of few shapes: examples sorted by length, padded to a ladder.

Every shape is one compilation, so lengths are rounded up to a ladder that
doubles up to 128 and from there on has one step in between as well: 16, 32, 64,
128, 192, 256, 384, 512, 768, 1024, ... Short rows are cheap to pad and dear to
compile; from 128 on it is the other way round, and padding stays under a third.
The last step is the task's own length.
"""

from collections.abc import Sequence
import dataclasses

from flan_jax import vocabularies
import numpy as np

_SHORTEST = 16
_DOUBLING_UNTIL = 128


def ladder(longest: int) -> tuple[int, ...]:
  """Returns the padded lengths in use up to `longest`, which is the last."""
  steps = []
  step = _SHORTEST
  while step < longest:
    steps.append(step)
    if step >= _DOUBLING_UNTIL and step * 3 // 2 < longest:
      steps.append(step * 3 // 2)
    step *= 2
  return (*steps, longest)


@dataclasses.dataclass(frozen=True)
class Batch:
  """Which examples go together, and what they are padded to.

  Attributes:
    indices: Places of the examples in the caller's list; at most a batch.
    shape: The padded length of each measured side (inputs, or inputs and
      options).
  """

  indices: tuple[int, ...]
  shape: tuple[int, ...]


def plan(
    lengths: Sequence[Sequence[int]],
    longest: Sequence[int],
    batch_size: int,
) -> list[Batch]:
  """Groups examples of like lengths, the longest first.

  A batch is padded to the longest of its examples, rounded up to the ladder. As
  the examples are in order of their rounded lengths, a new shape appears only
  where one rung ends and the next begins: over one side there are never more
  shapes than rungs. The longest come first, so that memory runs out in the
  first batch or never.

  Args:
    lengths: For each example, its number of tokens on each side.
    longest: The most tokens on each side.
    batch_size: Examples a batch.

  Returns:
    Batches that hold every example once.
  """
  if not lengths:
    return []
  rungs = [np.asarray(ladder(most)) for most in longest]
  measured = np.asarray(lengths)
  rounded = np.stack(
      [
          side[np.searchsorted(side, measured[:, i])]
          for i, side in enumerate(rungs)
      ],
      axis=1,
  )
  # lexsort's last key is the first in rank, and it is stable: examples of one
  # shape stay in the caller's order.
  order = np.lexsort(tuple(-rounded[:, i] for i in reversed(range(len(rungs)))))
  batches = []
  for start in range(0, len(order), batch_size):
    members = order[start : start + batch_size]
    shape = rounded[members].max(axis=0)
    batches.append(
        Batch(
            indices=tuple(int(i) for i in members),
            shape=tuple(int(n) for n in shape),
        )
    )
  return batches


def tokens_of(
    vocabulary: vocabularies.Vocabulary, texts: Sequence[str], longest: int
) -> tuple[list[list[int]], int]:
  """Returns token ids that end in EOS, and how many texts had to be cut.

  A text that is too long loses its end and keeps its EOS, as under SeqIO's
  `append_eos` and trimming. A text that occurs often is tokenised once.

  Args:
    vocabulary: The model's vocabulary.
    texts: What to tokenise.
    longest: The most tokens a text may have, EOS included.
  """
  distinct = list(dict.fromkeys(texts))
  encoded = dict(zip(distinct, vocabulary.encode_batch(distinct), strict=True))
  cut = sum(len(encoded[text]) >= longest for text in texts)
  tokens = [
      [*encoded[text][: longest - 1], vocabulary.eos_id] for text in texts
  ]
  return tokens, cut


def pad(
    tokens: Sequence[Sequence[int]], rows: int, length: int, pad_id: int = 0
) -> np.ndarray:
  """Returns `tokens` as int32 [rows, length], filled up with `pad_id`."""
  padded = np.full((rows, length), pad_id, np.int32)
  for row, ids in zip(padded, tokens, strict=False):
    row[: len(ids)] = ids
  return padded


def round_up(size: int, multiple: int) -> int:
  """Returns the least multiple of `multiple` that is not below `size`."""
  return -(-size // multiple) * multiple
