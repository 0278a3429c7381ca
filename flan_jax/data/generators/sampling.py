"""Draws the rows of a split so that no two splits share one."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
import random

Row = dict[str, str | list[str]]

# A test set of 200 gives accuracies to about 3 points; 3,000 training rows are
# more than the small model of the quickstart sees of a dataset in one epoch.
SIZES: Mapping[str, int] = {'test': 200, 'validation': 100, 'train': 3000}

# Far more misses in a row than chance explains while unseen rows are left.
_PATIENCE = 10_000


def draw_rows(
    draw: Callable[[random.Random, int], Row],
    *,
    name: str,
    split: str,
    seed: int,
    key: Callable[[Row], Hashable] | None = None,
    sizes: Mapping[str, int] = SIZES,
) -> Iterator[Row]:
  """Yields the rows of `split`, all different from those of other splits.

  The rows of all splits are drawn as one sequence without repetition, test
  rows first, so a training row never equals a test row.

  Args:
    draw: Makes a row from a random generator and the row's place in its split;
      the place is for balancing (`place % 2` alternates two classes).
    name: Makes the rows of one dataset independent of another's.
    split: A key of `sizes`.
    seed: Chooses the rows.
    key: What makes two rows the same; the values of the row by default.
    sizes: Number of rows of each split, in the order in which they are drawn.

  Raises:
    ValueError: There is no such split, or there are not enough different rows.
  """
  if split not in sizes:
    raise ValueError(f'{name}: no split {split!r}; there are {sorted(sizes)}')
  rng = random.Random(f'{name}:{seed}')
  seen: set[Hashable] = set()
  for part, size in sizes.items():
    for place in range(size):
      row = _unseen(draw, rng, place, key or _values, seen, name)
      if part == split:
        yield row
    if part == split:
      return


def divide(
    rows: Sequence[Row],
    *,
    name: str,
    split: str,
    seed: int,
    group: Callable[[Row], Hashable],
    shares: Mapping[str, float],
) -> Iterator[Row]:
  """Yields a split of a complete list; a group of rows is never divided.

  Args:
    rows: All rows there are.
    name: As in `draw_rows`.
    split: 'train' or a key of `shares`.
    seed: Chooses which groups go where and the order of the rows.
    group: What a row is about; rows about the same stay in one split.
    shares: The share of the groups for each split but 'train', which gets what
      is left.

  Raises:
    ValueError: There is no such split.
  """
  if split not in (*shares, 'train'):
    known = sorted((*shares, 'train'))
    raise ValueError(f'{name}: no split {split!r}; there are {known}')
  rng = random.Random(f'{name}:{seed}')
  groups: dict[Hashable, list[Row]] = {}
  for row in rows:
    groups.setdefault(group(row), []).append(row)
  members = list(groups.values())
  rng.shuffle(members)
  start = 0
  for part, share in shares.items():
    stop = start + round(share * len(members))
    if part == split:
      members = members[start:stop]
      break
    start = stop
  else:
    members = members[start:]
  chosen = [row for rows_of_one in members for row in rows_of_one]
  random.Random(f'{name}:{seed}:{split}').shuffle(chosen)
  yield from chosen


def _unseen(
    draw: Callable[[random.Random, int], Row],
    rng: random.Random,
    place: int,
    key: Callable[[Row], Hashable],
    seen: set[Hashable],
    name: str,
) -> Row:
  for _ in range(_PATIENCE):
    row = draw(rng, place)
    row_key = key(row)
    if row_key not in seen:
      seen.add(row_key)
      return row
  raise ValueError(f'{name}: there are no {len(seen) + 1} different rows')


def _values(row: Row) -> Hashable:
  return tuple(tuple(v) if isinstance(v, list) else v for v in row.values())
