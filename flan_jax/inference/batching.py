"""Batches of few shapes: examples of like lengths, padded to a ladder.

Every shape is one compilation. Which steps of the ladder are in use depends on
what comes: `Planner` opens a shape where it saves more than it costs.
"""

from collections.abc import Iterable, Sequence
import dataclasses
import itertools
from typing import NamedTuple

from flan_jax import vocabularies
import numpy as np

# A batch costs as much as so many tokens, whatever is in it.
_BATCH_TOKENS = 256

# A compilation is worth this part of a batch of tokens, but never less than so
# many. (It takes longer, but what is compiled is kept for the next run too.)
_WORTH = 0.25
_LEAST_WORTH = 4096

# A sample stands for at most so many examples.
_MOST_SAMPLED = 65_536


def ladder(
    longest: int, shortest: int = 16, steps: int = 16
) -> tuple[int, ...]:
  """Returns the padded lengths that may be, up to `longest`, the last one.

  Shapes are chosen among them, and there are few shapes however fine the ladder
  is. A fine one lets them fit better: with nine shapes for lengths from 16 to
  512, steps of 16 pad 10% where four steps to a power of two pad 12.

  Args:
    longest: The last one.
    shortest: All are multiples of it, but for the last one.
    steps: How many there are from a power of two to the next, unless that would
      be less than `shortest` apart.
  """
  lengths = []
  length = shortest
  while length < longest:
    lengths.append(length)
    octave = 1 << (length.bit_length() - 1)
    length += max(octave // steps, shortest)
  return (*lengths, longest)


class Shape(NamedTuple):
  """What a function is compiled for.

  Attributes:
    rows: Examples a batch.
    lengths: What each side (inputs, or inputs and options) is padded to.
  """

  rows: int
  lengths: tuple[int, ...]

  def holds(self, lengths: np.ndarray) -> np.ndarray:
    """Whether examples fit, bool [N]; `lengths` are int [N, sides]."""
    return np.all(lengths <= np.asarray(self.lengths), axis=1)


@dataclasses.dataclass(frozen=True)
class Batch:
  """Which examples go together, and what they are padded to.

  Attributes:
    indices: Places of the examples in the caller's list; at most `rows`.
    rows: Rows of the batch; those that no example fills are padding.
    shape: The padded length of each side.
  """

  indices: tuple[int, ...]
  rows: int
  shape: tuple[int, ...]


class Planner:
  """Groups examples of like lengths, in few shapes.

  Every shape is a compilation, and there are at most so many in all, whatever
  comes and in however many calls. A shape is opened where an example fits
  none so far, or where it saves more padding than a compilation is worth; a
  call opens at most half of those that are left, and the last one of each kind
  holds the longest examples there may be.

  The same calls in the same order give the same batches on every host.
  """

  def __init__(
      self,
      *,
      batch_size: int | None = None,
      batch_tokens: int | None = None,
      divisor: int = 1,
      most: int = 12,
      kinds: Sequence[str] = ('generate', 'rank'),
  ):
    """Opens nothing yet.

    Args:
      batch_size: Examples a batch; or
      batch_tokens: Tokens a batch, padding included: the shorter the examples,
        the more of them.
      divisor: What the number of rows must be a multiple of.
      most: Shapes of all kinds together.
      kinds: What there will be shapes of; each keeps one for itself.
    """
    if (batch_size is None) == (batch_tokens is None):
      raise ValueError('give either batch_size or batch_tokens')
    self._batch_size = batch_size
    self._batch_tokens = batch_tokens
    self._divisor = divisor
    self._most = most
    self._opened: dict[str, list[Shape]] = {kind: [] for kind in kinds}
    self._complete = {kind: False for kind in kinds}
    # Padding since a kind's last shape was opened: what did not pay in one call
    # may do in many.
    self._regret = {kind: 0.0 for kind in kinds}
    self._settled = False

  def settle(self) -> None:
    """Opens no more shapes: batches no longer depend on earlier calls.

    What fits none of those that are open gets the one for the longest examples
    there may be.
    """
    self._settled = True

  def shapes(self) -> list[tuple[str, Shape]]:
    """Returns what batches have had so far: kinds and their shapes."""
    return [
        (kind, shape) for kind, own in self._opened.items() for shape in own
    ]

  def plan(
      self,
      kind: str,
      lengths: Sequence[Sequence[int]] | np.ndarray,
      rungs: Sequence[Sequence[int]],
      more: int = 0,
  ) -> list[Batch]:
    """Returns batches that hold every example once.

    Those of the largest shape come first, so that memory runs out in the first
    batch or never. A batch that its own examples do not fill takes shorter
    ones.

    Args:
      kind: What the batches are for.
      lengths: For each example, its number of tokens on each side.
      rungs: For each side the padded lengths that may be; none is longer than
        the last one.
      more: Tokens a row has besides, as those that are to be written.
    """
    if not len(lengths):
      return []
    measured = np.asarray(lengths)
    rounded = np.stack(
        [
            np.asarray(side)[np.searchsorted(side, measured[:, i])]
            for i, side in enumerate(rungs)
        ],
        axis=1,
    )
    needs, belongs, counts = np.unique(
        rounded, axis=0, return_inverse=True, return_counts=True
    )
    longest = tuple(int(side[-1]) for side in rungs)
    shapes = self._choose(kind, needs, counts, longest, more)
    costs = self._costs(shapes, needs, len(measured), more)
    best = costs.argmin(axis=0)[belongs.reshape(-1)]
    batches = self._fill(shapes, best, rounded, more)
    if self._settled:
      return batches
    used = {Shape(batch.rows, batch.shape) for batch in batches}
    opened = self._opened[kind]
    opened += sorted(used.difference(opened), reverse=True)
    if any(shape.lengths == longest for shape in opened):
      self._complete[kind] = True
    return batches

  def _rows(self, lengths: Sequence[int], more: int) -> int:
    """Returns the most rows that a batch may have."""
    if self._batch_size is not None:
      return round_up(self._batch_size, self._divisor)
    assert self._batch_tokens is not None
    fitting = self._batch_tokens // (sum(lengths) + more)
    return max(fitting // self._divisor, 1) * self._divisor

  def _unit(self, longest: Sequence[int], more: int) -> int:
    """Returns the tokens of a full batch."""
    if self._batch_tokens is not None:
      return self._batch_tokens
    return self._rows(longest, more) * (sum(longest) + more)

  def _costs(
      self, shapes: Sequence[Shape], needs: np.ndarray, count: int, more: int
  ) -> np.ndarray:
    """Returns tokens an example, [shapes, needs]; inf where it does not fit.

    Rows that `count` examples leave empty count as well, and a batch costs
    something by itself: few rows do not keep a device busy.
    """
    rows = np.asarray([shape.rows for shape in shapes], np.float64)
    tokens = np.asarray([sum(shape.lengths) + more for shape in shapes])
    batches = np.ceil(count / rows)
    each = (tokens * rows + _BATCH_TOKENS) * batches / count
    sides = np.asarray([shape.lengths for shape in shapes])
    fits = (needs[None] <= sides[:, None]).all(axis=2)
    return np.where(fits, each[:, None], np.inf)

  def _choose(
      self,
      kind: str,
      needs: np.ndarray,
      counts: np.ndarray,
      longest: tuple[int, ...],
      more: int,
  ) -> list[Shape]:
    """Returns the shapes that examples may have: opened ones and new ones."""
    count = int(counts.sum())
    chosen = list(self._opened[kind])
    if self._settled:
      whole = Shape(self._rows(longest, more), longest)
      return chosen if whole in chosen else [*chosen, whole]
    others = sum(
        not complete
        for name, complete in self._complete.items()
        if name != kind
    )
    left = self._most - len(self.shapes()) - others
    spare = left - (not self._complete[kind])
    best = np.full(len(needs), np.inf)
    if chosen:
      best = self._costs(chosen, needs, count, more).min(axis=0)
    homeless = np.isinf(best)
    if homeless.any():
      sides = tuple(needs[homeless].max(axis=0).tolist())
      if spare > 0:
        spare -= 1
        rows = self._fewest_rows(sides, more, count)
      else:
        sides = tuple(map(max, sides, longest))
        rows = self._rows(sides, more)
      chosen.append(Shape(rows, sides))
      best = self._costs(chosen, needs, count, more).min(axis=0)
    sides_of = [np.unique(needs[:, i]).tolist() for i in range(needs.shape[1])]
    candidates = [
        Shape(rows, sides)
        for sides in itertools.product(*sides_of)
        for rows in {
            self._rows(sides, more),
            self._fewest_rows(sides, more, count),
        }
    ]
    costs = self._costs(candidates, needs, count, more)
    worth = max(self._unit(longest, more) * _WORTH, _LEAST_WORTH)
    for _ in range(-(-spare // 2)):
      savings = (counts * np.maximum(best - costs, 0)).sum(axis=1)
      most = int(savings.argmax())
      if savings[most] + self._regret[kind] <= worth:
        self._regret[kind] += float(savings[most])
        break
      self._regret[kind] = 0.0
      chosen.append(candidates[most])
      best = np.minimum(best, costs[most])
    return chosen

  def _fewest_rows(self, lengths: Sequence[int], more: int, count: int) -> int:
    """Returns the rows of a batch that may never have to hold more."""
    rows = self._rows(lengths, more)
    while rows % (4 * self._divisor) == 0 and rows // 4 >= count:
      rows //= 4
    return rows

  def _fill(
      self,
      shapes: Sequence[Shape],
      best: np.ndarray,
      rounded: np.ndarray,
      more: int,
  ) -> list[Batch]:
    """Returns the batches, given each example's shape."""
    # The longest first; lexsort is stable, so that examples of one need stay in
    # the caller's order.
    order = np.lexsort(tuple(-side for side in reversed(rounded.T)))
    waiting = {s: order[best[order] == s].tolist() for s in range(len(shapes))}
    by_size = sorted(
        waiting, key=lambda s: (-sum(shapes[s].lengths), shapes[s])
    )
    batches = []
    for place, s in enumerate(by_size):
      shape, own = shapes[s], waiting[s]
      rows = shape.rows
      last = own[len(own) // rows * rows :]
      for start in range(0, len(own) - len(last), rows):
        batches.append(Batch(tuple(own[start : start + rows]), *shape))
      if not last:
        continue
      for shorter in by_size[place + 1 :]:
        fitting = shape.holds(rounded[waiting[shorter]]).tolist()
        moved = [
            i for i, fits in zip(waiting[shorter], fitting, strict=True) if fits
        ][: rows - len(last)]
        last += moved
        gone = set(moved)
        waiting[shorter] = [i for i in waiting[shorter] if i not in gone]
      needed = rounded[last].max(axis=0)[None]
      smallest = min(
          (
              other
              for other in shapes
              if other.rows >= len(last) and other.holds(needed)[0]
          ),
          key=lambda other: other.rows * (sum(other.lengths) + more),
      )
      batches.append(Batch(tuple(last), *smallest))
    return batches


def evenly(sizes: Sequence[int], each: int) -> list[tuple[np.ndarray, int]]:
  """Returns places that shapes can be decided by, for `Predictor.settle`.

  Args:
    sizes: How many examples there are, of each of several tasks.
    each: At most so many places of a task, from its first to its last.

  Returns:
    For each task the places, int [N], and how many examples one stands for.
  """
  # Beyond so many examples, more of them change nothing.
  share = min(_MOST_SAMPLED / max(sum(sizes), 1), 1.0)
  found = []
  for size in sizes:
    places = np.unique(
        np.linspace(0, size - 1, min(size, each)).astype(np.int64)
    )
    times = max(round(size * share / max(len(places), 1)), 1)
    found.append((places, times))
  return found


def tokens_of(
    vocabulary: vocabularies.Vocabulary, texts: Sequence[str], longest: int
) -> tuple[list[list[int]], list[int]]:
  """Returns token ids that end in EOS, and how many of each text were cut.

  A text that is too long loses its end and keeps its EOS, as under SeqIO's
  `append_eos` and trimming. A text that occurs often is tokenised once.

  Args:
    vocabulary: The model's vocabulary.
    texts: What to tokenise.
    longest: The most tokens a text may have, EOS included.
  """
  distinct = list(dict.fromkeys(texts))
  encoded = dict(zip(distinct, vocabulary.encode_batch(distinct), strict=True))
  cut = [max(len(encoded[text]) + 1 - longest, 0) for text in texts]
  tokens = [
      [*encoded[text][: longest - 1], vocabulary.eos_id] for text in texts
  ]
  return tokens, cut


def pad(
    tokens: Iterable[Sequence[int]], rows: int, length: int, pad_id: int = 0
) -> np.ndarray:
  """Returns `tokens` as int32 [rows, length], filled up with `pad_id`."""
  padded = np.full((rows, length), pad_id, np.int32)
  for row, ids in zip(padded, tokens, strict=False):
    row[: len(ids)] = ids
  return padded


def round_up(size: int, multiple: int) -> int:
  """Returns the least multiple of `multiple` that is not below `size`."""
  return -(-size // multiple) * multiple
