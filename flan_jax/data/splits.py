"""Slices of splits: 'train[:-200]', 'train[10%:20%]', 'train+validation'.

They mean what TFDS's mean, on every source, but that a slice may reach past
the end as Python's may: 'train[:30000]' of a small split is all of it.
"""

from collections.abc import Callable, Iterator, Mapping
import dataclasses
import re

from flan_jax import errors
from flan_jax.data import seeding
import numpy as np

_TERM = re.compile(r'(?P<name>[^\[\]]+?)\s*(\[(?P<slice>[^\[\]]*)\])?')
_BOUND = re.compile(r'([+-]?\d[\d_]*)(%?)')


@dataclasses.dataclass(frozen=True)
class Term:
  """A split, or a slice of it.

  Attributes:
    name: The split.
    start: None from the beginning; an integer as in Python; with `percent`, a
      percentage.
    stop: Like `start`.
    percent: Whether start and stop are percentages.
  """

  name: str
  start: int | None = None
  stop: int | None = None
  percent: bool = False

  @property
  def whole(self) -> bool:
    return self.start is None and self.stop is None

  def places(self, count: int) -> range:
    """Returns the places that the slice takes of `count` rows.

    Percentages are rounded to the nearest row, as TFDS does by default; one
    from the end that is less than half a row is none (TFDS: all).
    """
    start, stop = self.start, self.stop
    if self.percent:
      start, stop = _rows(start, count), _rows(stop, count)
    return range(*slice(start, stop).indices(count))


def _rows(percentage: int | None, count: int) -> int | None:
  if percentage is None:
    return None
  rows = round(abs(percentage) * count / 100)
  # Not -rows: minus zero rows would be the beginning instead of the end.
  return rows if percentage >= 0 else count - rows


@dataclasses.dataclass(frozen=True)
class Part:
  """Rows of one split of a source.

  Attributes:
    split: The source's split.
    places: Which rows of it, ascending; None for all of them.
  """

  split: str
  places: np.ndarray | None


def parse(expression: str, where: str) -> tuple[Term, ...]:
  """Reads an expression.

  Args:
    expression: Such as 'train[:-200]' or 'train+validation[:50%]'.
    where: The file and key that hold it, for the error.

  Raises:
    UserError: It cannot be read.
  """
  terms = []
  for text in expression.split('+'):
    match = _TERM.fullmatch(text.strip())
    if match is None:
      raise errors.UserError(
          f"{where}: cannot read '{expression}': write train, train[:-200],"
          ' train[10%:20%] or train+validation'
      )
    terms.append(_term(match['name'], match['slice'], expression, where))
  return tuple(terms)


def _term(name: str, inside: str | None, expression: str, where: str) -> Term:
  if inside is None:
    return Term(name)
  bounds = inside.split(':')
  if len(bounds) != 2:
    raise errors.UserError(
        f"{where}: '{expression}': a slice has a start and a stop, as in"
        ' train[100:200]; a step or a single row is not possible'
    )
  values: list[int | None] = []
  units = set()
  for bound in bounds:
    bound = bound.strip()
    match = _BOUND.fullmatch(bound)
    if bound and match is None:
      raise errors.UserError(
          f"{where}: '{expression}': '{bound}' is neither a whole number nor a"
          ' percentage such as 10%'
      )
    values.append(int(match[1]) if match else None)
    if match:
      units.add(match[2])
  percent = '%' in units
  if len(units) > 1:
    raise errors.UserError(
        f"{where}: '{expression}' mixes rows and percent in one slice"
    )
  if percent and any(abs(value or 0) > 100 for value in values):
    raise errors.UserError(f"{where}: '{expression}': there are only 100%")
  return Term(name, values[0], values[1], percent)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resolver:
  """Says which rows of a source the expressions of a dataset take.

  A name is first looked for among the source's splits, then among the
  dataset's own.

  Attributes:
    own: The dataset's splits: name -> expression.
    is_split: Whether the source has a split of that name.
    count: The number of rows of a split of the source. It may have to read
      them all, so it is asked only where the result depends on it.
    unknown: Gives the error to raise for a name that nobody knows.
    where: The file and key that hold the expression, for errors.
  """

  own: Mapping[str, str]
  is_split: Callable[[str], bool]
  count: Callable[[str], int]
  unknown: Callable[[str], errors.UserError]
  where: str

  def names(self, expression: str) -> list[str]:
    """Returns the source's splits that an expression needs, each once.

    Raises:
      UserError: The expression cannot be read, or names no split.
    """
    found: dict[str, None] = {}
    for term, inner in self._terms(expression):
      names = inner.names(self.own[term.name]) if inner else [term.name]
      found |= dict.fromkeys(names)
    return list(found)

  def parts(self, expression: str) -> list[Part]:
    """Returns the rows that an expression takes, in its order.

    Raises:
      UserError: As `names`.
    """
    parts = []
    for term, inner in self._terms(expression):
      if inner:
        found = inner.parts(self.own[term.name])
      else:
        found = [Part(term.name, None)]
      parts += found if term.whole else _slice(found, term, self.count)
    return parts

  def _terms(self, expression: str) -> Iterator[tuple[Term, 'Resolver | None']]:
    """Yields terms; with a resolver for those that name a split of ours."""
    # A path may hold '+' or brackets.
    if self.is_split(expression):
      yield Term(expression), None
      return
    for term in parse(expression, self.where):
      if self.is_split(term.name):
        yield term, None
      elif self.own.get(term.name, expression) != expression:
        # Without the name itself, so that two names cannot mean each other.
        rest = {key: own for key, own in self.own.items() if key != term.name}
        yield term, dataclasses.replace(self, own=rest)
      else:
        raise self.unknown(term.name)


def size(part: Part, count: Callable[[str], int]) -> int:
  """Returns the number of rows of a part."""
  return count(part.split) if part.places is None else len(part.places)


def take(
    parts: list[Part], chosen: np.ndarray, count: Callable[[str], int]
) -> list[Part]:
  """Keeps the rows at the places `chosen` (ascending) of all parts together.

  Parts of which nothing is kept are left out.
  """
  found = choose(parts, chosen, count)
  return [
      Part(part.split, places)
      for part, places in zip(parts, found, strict=True)
      if len(places)
  ]


def choose(
    parts: list[Part], chosen: np.ndarray, count: Callable[[str], int]
) -> list[np.ndarray]:
  """Returns the places in each part of the rows `chosen` of all together.

  Args:
    parts: One after the other.
    chosen: Places in that, ascending; int64 [any].
    count: The number of rows of a split of the source.
  """
  found = []
  first = 0
  for part in parts:
    places = _places(part, count)
    start, stop = np.searchsorted(chosen, [first, first + len(places)])
    found.append(places[chosen[start:stop] - first])
    first += len(places)
  return found


def sample(count: int, size: int, seed: int, name: str) -> np.ndarray:
  """Draws places without replacement; all hosts draw the same.

  Args:
    count: How many there are to draw from.
    size: How many to draw, at most `count`.
    seed: Any integer.
    name: What the sample is for.

  Returns:
    int64 [size], ascending.
  """
  places = np.arange(count, dtype=np.int64)
  keys = seeding.hash_ints(seed, seeding.name_seed(name), places)
  return np.sort(np.argsort(keys, kind='stable')[:size])


def _slice(
    parts: list[Part], term: Term, count: Callable[[str], int]
) -> list[Part]:
  total = sum(size(part, count) for part in parts)
  places = term.places(total)
  chosen = np.arange(places.start, places.stop, dtype=np.int64)
  return take(parts, chosen, count)


def _places(part: Part, count: Callable[[str], int]) -> np.ndarray:
  if part.places is not None:
    return part.places
  return np.arange(count(part.split), dtype=np.int64)
