"""Exemplars: which ones, and how they stand before the example."""

from collections.abc import Callable, Sequence

from flan_jax.data import seeding
import numpy as np

MAX_EXEMPLARS = 16  # Of `fit_shot`.
# Below this many rows, exemplars are the head of a random order of all rows.
_SMALL = 64


def block(inputs: str, targets: str) -> str:
  """Writes one exemplar: the answer stands on the line after the question."""
  return f'{inputs}\n{targets}'


def join(blocks: Sequence[str], query: str) -> str:
  """Puts exemplars before the query, a blank line after each."""
  return '\n\n'.join([*blocks, query])


def draw(hashes: np.ndarray, count: int, size: int) -> np.ndarray:
  """Draws rows without repetition.

  Args:
    hashes: uint64 [B]; a row's draw depends on its hash only.
    count: How many to draw.
    size: The number of rows there are.

  Returns:
    int64 [B, min(count, size)].
  """
  count = min(count, size)
  if size <= max(_SMALL, 2 * count):
    return seeding.orders(hashes, size)[:, :count]
  hashes = np.asarray(hashes, np.uint64)[:, None]
  tries = 2 * count + 8
  drawn = seeding.choose(
      seeding.hash_ints(0, hashes, np.arange(tries)[None, :]), size
  )
  found = np.empty((len(hashes), count), np.int64)
  for place, row in enumerate(drawn.tolist()):
    distinct = list(dict.fromkeys(row))
    # Hardly ever needed; goes on from the last draw to rows not yet drawn.
    while len(distinct) < count:
      following = (distinct[-1] + 1) % size
      while following in distinct:
        following = (following + 1) % size
      distinct.append(following)
    found[place] = distinct[:count]
  return found


def fit(
    blocks: Sequence[str],
    query: str,
    count_tokens: Callable[[str], int],
    max_inputs: int,
) -> str:
  """Joins as many exemplars as the input has room for, dropped from the end.

  Args:
    blocks: Exemplars, the first to keep first.
    query: Is never cut here.
    count_tokens: Counts a text's tokens, without an end-of-sequence token.
    max_inputs: The tokens that fit, of which one is end-of-sequence.
  """
  room = max_inputs - 1
  text = join(blocks, query)
  if not blocks or count_tokens(text) <= room:
    return text
  # Counting each text once gives the number up to what joining changes; then
  # whole prompts are counted, which is exact.
  used = count_tokens(query)
  kept = 0
  while kept < len(blocks) - 1:
    used += count_tokens(join([blocks[kept]], ''))
    if used > room:
      break
    kept += 1
  if count_tokens(join(blocks[:kept], query)) > room:
    while kept and count_tokens(join(blocks[:kept], query)) > room:
      kept -= 1
  else:
    while (
        kept < len(blocks) - 1
        and count_tokens(join(blocks[: kept + 1], query)) <= room
    ):
      kept += 1
  return join(blocks[:kept], query)
