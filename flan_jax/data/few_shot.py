"""Exemplars: which ones, and how they stand before the example."""

from collections.abc import Callable, Sequence
import dataclasses

from flan_jax import errors
from flan_jax.data import seeding
import numpy as np

MAX_EXEMPLARS = 16  # Of `fit_shot`.
# Up to this many rows, exemplars are the head of a random order of all rows.
_SMALL = 256


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
  """How exemplars and the query make one text.

  Attributes:
    between: After each exemplar, before the next one or the query.
    answer: Between an exemplar's inputs and its targets.
    mixed: Each exemplar has a template of its own choice among those in play;
      otherwise all have the query's.
  """

  between: str = '\n\n'
  answer: str = '\n'
  mixed: bool = False

  def __post_init__(self):
    for name in ('between', 'answer'):
      if not isinstance(getattr(self, name), str):
        raise errors.UserError(
            f'FEW_SHOT_LAYOUT: {name} is {getattr(self, name)!r}; it must be a'
            ' text, such as "\\n"'
        )
    if not isinstance(self.mixed, bool):
      raise errors.UserError(
          f'FEW_SHOT_LAYOUT: mixed is {self.mixed!r}; it must be True or False'
      )

  def block(self, inputs: str, targets: str) -> str:
    """Writes one exemplar."""
    return f'{inputs}{self.answer}{targets}'

  def join(self, blocks: Sequence[str], query: str) -> str:
    """Puts exemplars before the query."""
    return self.between.join([*blocks, query])


def draw(
    hashes: np.ndarray, count: int, size: int, *, ordered: bool | None = None
) -> np.ndarray:
  """Draws rows without repetition.

  Args:
    hashes: uint64 [B]; a row's draw depends on its hash only.
    count: How many to draw.
    size: The number of rows there are.
    ordered: Whether to put all rows in order for it; None where that is cheap
      or needed. Under one value, more draws begin with the same ones as fewer.

  Returns:
    int64 [B, min(count, size)].
  """
  if ordered is None:
    ordered = in_order(count, size)
  count = min(count, size)
  if ordered:
    return seeding.orders(hashes, size)[:, :count]
  hashes = np.asarray(hashes, np.uint64)[:, None]
  tries = 2 * count + 8
  drawn = seeding.choose(
      seeding.hash_ints(0, hashes, np.arange(tries)[None, :]), size
  )
  found = drawn[:, :count].copy()
  # Few rows have a repetition among their first tries.
  sorted_rows = np.sort(found, axis=1)
  repeats = (sorted_rows[:, 1:] == sorted_rows[:, :-1]).any(axis=1)
  for place in np.flatnonzero(repeats).tolist():
    distinct = list(dict.fromkeys(drawn[place].tolist()))
    # Hardly ever needed; goes on from the last draw to rows not yet drawn.
    while len(distinct) < count:
      following = (distinct[-1] + 1) % size
      while following in distinct:
        following = (following + 1) % size
      distinct.append(following)
    found[place] = distinct[:count]
  return found


def in_order(count: int, size: int) -> bool:
  """Whether `draw` puts all rows in order, to draw `count` of them."""
  return size <= max(_SMALL, 2 * count)


def fit(
    numbers: Sequence[int],
    guesses: Sequence[int],
    fits: Callable[[list[tuple[int, int]]], Sequence[bool]],
) -> list[int]:
  """Finds for each prompt how many of its exemplars fit.

  A prompt's query stays even if it does not fit by itself.

  Args:
    numbers: The exemplars that each prompt could have; all of them are too
      many.
    guesses: About how many fit.
    fits: Says for pairs of a prompt's place and a number of exemplars whether
      these fit; more exemplars never fit better.
  """
  # So many fit, or are kept in any case; so many do not.
  low, high = [0] * len(numbers), list(numbers)
  tried = list(guesses)
  while True:
    asked = [
        (place, min(max(tried[place], low[place] + 1), high[place] - 1))
        for place in range(len(numbers))
        if high[place] - low[place] > 1
    ]
    if not asked:
      return low
    for (place, number), fitting in zip(asked, fits(asked), strict=True):
      if fitting:
        low[place] = number
        tried[place] = number + 1
      else:
        high[place] = number
        tried[place] = number - 1
