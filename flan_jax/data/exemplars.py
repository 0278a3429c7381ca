"""Exemplars: drawn from a task's training rows, rendered and tokenised once.

An exemplar is never the query's own row; `prompts.py` leaves out those that put
the query's question.
"""

import collections
from collections.abc import Callable, Sequence
import dataclasses
from typing import NamedTuple

from flan_jax import joining
from flan_jax.data import few_shot
from flan_jax.data import seeding
import numpy as np

# Of all texts that a cache holds; with their ids it takes about three times
# as many bytes.
_CACHE_CHARACTERS = 16_000_000
# Stands for ids that nobody has asked for yet.
UNKNOWN = np.empty(0, np.int32)
# What is assumed before anything is known: characters of an exemplar, tokens
# a character. They decide on effort, never on results.
_CHARACTERS = 300.0
_DENSITY = 0.3


class Shown(NamedTuple):
  """A row as text.

  Attributes:
    inputs: What the model reads.
    targets: What it is to write.
    identity: The same for rows that put the same question.
  """

  inputs: str
  targets: str
  identity: str


class Exemplar:
  """A rendered exemplar, and its ids once they are known.

  Attributes:
    block: Its text.
    identity: Of `Shown`.
    first: Its ids at the beginning of a prompt; None where parts cannot be
      tokenised exactly, and `UNKNOWN` while nobody has asked.
    after: The same after another exemplar, the separator's ids first.
  """

  __slots__ = ('after', 'block', 'first', 'identity')

  def __init__(self, block: str, identity: str):
    self.block = block
    self.identity = identity
    self.first: np.ndarray | None = UNKNOWN
    self.after: np.ndarray | None = UNKNOWN


_Key = tuple[str, int, int, int, int]


class Cache:
  """The exemplars used last, of any number of tasks."""

  def __init__(self, characters: int = _CACHE_CHARACTERS):
    self._limit = characters
    self._held = 0
    self._found: collections.OrderedDict[_Key, Exemplar] = (
        collections.OrderedDict()
    )

  def get(self, key: _Key) -> Exemplar | None:
    found = self._found.get(key)
    if found is not None:
      self._found.move_to_end(key)
    return found

  def put(self, key: _Key, exemplar: Exemplar) -> None:
    self._found[key] = exemplar
    self._held += len(exemplar.block)
    while self._held > self._limit:
      _, oldest = self._found.popitem(last=False)
      self._held -= len(oldest.block)


@dataclasses.dataclass(frozen=True)
class Queries:
  """What is asked, a batch of it.

  Attributes:
    shown: Each query's text.
    indices: Its row, int64 [B].
    epochs: How often the row has been seen before, int64 [B].
    chosen: Its template, by place among those in play.
    hashes: uint64 [B]: all that the draw of exemplars depends on.
    row_ids: Gives the row ids.
  """

  shown: Sequence[Shown]
  indices: np.ndarray
  epochs: np.ndarray
  chosen: Sequence[int]
  hashes: np.ndarray
  row_ids: Callable[[], list[str]]


@dataclasses.dataclass(frozen=True)
class Pool:
  """The rows that exemplars are drawn from.

  Attributes:
    size: How many.
    shared: Whether queries are of the same rows, under the same numbers.
    row_ids: Gives the ids of rows.
    render: Renders rows (int64 [n]), each under its own template, with the
      identity that it has under the query's, in epochs (int64 [n]).
    templates: How many templates are in play.
    by_epoch: Whether a row's text depends on the epoch.
  """

  size: int
  shared: bool
  row_ids: Callable[[np.ndarray], list[str]]
  render: Callable[
      [np.ndarray, Sequence[int], Sequence[int], np.ndarray], list[Shown]
  ]
  templates: int
  by_epoch: bool


class Source:
  """Draws the exemplars of one task, and knows how long they usually are.

  Attributes:
    density: About how many tokens a character makes.
    asked: Exemplars that were looked up.
    new: Those of them that had to be rendered.
  """

  def __init__(
      self,
      name: str,
      pool: Pool,
      layout: few_shot.Layout,
      usual: int,
      cache: Cache | None = None,
  ):
    """Draws nothing yet.

    Args:
      name: The task's, for the cache.
      pool: Where exemplars come from.
      layout: How an exemplar is put together.
      usual: How many are drawn for a query at first.
      cache: Keeps exemplars; may be that of other tasks too.
    """
    self._name = name
    self._pool = pool
    self._layout = layout
    self._cache = cache or Cache()
    self._ordered = few_shot.in_order(usual, pool.size)
    self._characters = _CHARACTERS
    self.density = _DENSITY
    self.asked = self.new = 0

  def draw(self, queries: Queries, number: int) -> list[list[int]]:
    """Draws rows, and leaves each query's own out, which changes no other.

    Args:
      queries: For whom.
      number: How many to draw, one more than needed in case of the own row.
    """
    drawn = few_shot.draw(
        queries.hashes, number, self._pool.size, ordered=self._ordered
    )
    own = self._own(queries, drawn)
    rows = drawn.tolist()
    for place in np.flatnonzero(own.any(axis=1)).tolist():
      rows[place] = drawn[place, ~own[place]].tolist()
    return rows

  def _own(self, queries: Queries, drawn: np.ndarray) -> np.ndarray:
    """Says which draws are the query's own row, bool [B, n]."""
    if self._pool.shared:
      return drawn == queries.indices[:, None]
    ids = self._pool.row_ids(drawn.reshape(-1))
    each = drawn.shape[1]
    own = [
        row_id == query_id
        for place, query_id in enumerate(queries.row_ids())
        for row_id in ids[place * each : (place + 1) * each]
    ]
    return np.array(own, bool).reshape(drawn.shape)

  def look_up(
      self, queries: Queries, places: np.ndarray, rows: np.ndarray
  ) -> list[Exemplar]:
    """Returns the exemplars that rows make for the queries at places.

    Args:
      queries: All queries.
      places: For which of them each row is, int64 [n].
      rows: Of the pool, int64 [n].
    """
    asked = [queries.chosen[place] for place in places.tolist()]
    epochs = queries.epochs[places]
    own = asked
    if self._layout.mixed and self._pool.templates > 1:
      # By the row, not by its place: other exemplars change nothing.
      own = seeding.choose(
          seeding.hash_ints(1, queries.hashes[places], rows),
          self._pool.templates,
      ).tolist()
    epoch_keys = epochs if self._pool.by_epoch else np.zeros_like(epochs)
    name, get = self._name, self._cache.get
    found: list[Exemplar | None] = []
    missing: dict[_Key, int] = {}
    keys = [
        (name, *key)
        for key in zip(
            rows.tolist(), own, asked, epoch_keys.tolist(), strict=True
        )
    ]
    for place, key in enumerate(keys):
      exemplar = get(key)
      if exemplar is None:
        missing.setdefault(key, place)
      found.append(exemplar)
    self.asked += len(keys)
    self.new += len(missing)
    made = {}
    if missing:
      made = self._render(missing, rows, own, asked, epochs)
    return [
        made[key] if exemplar is None else exemplar
        for key, exemplar in zip(keys, found, strict=True)
    ]

  def _render(
      self,
      missing: dict[_Key, int],
      rows: np.ndarray,
      own: Sequence[int],
      asked: Sequence[int],
      epochs: np.ndarray,
  ) -> dict[_Key, Exemplar]:
    places = list(missing.values())
    shown = self._pool.render(
        rows[places],
        [own[place] for place in places],
        [asked[place] for place in places],
        epochs[places],
    )
    block, put = self._layout.block, self._cache.put
    made = {}
    for key, (inputs, targets, identity) in zip(missing, shown, strict=True):
      made[key] = Exemplar(block(inputs, targets), identity)
      put(key, made[key])
    mean = sum(len(each.block) for each in made.values()) / len(made)
    self._characters += (mean - self._characters) / 4
    return made

  def tokenise(
      self,
      joiner: joining.Joiner,
      first: Sequence[Exemplar],
      after: Sequence[Exemplar],
  ) -> None:
    """Tokenises exemplars that have no ids yet for where they stand."""
    new = [each for each in dict.fromkeys(first) if each.first is UNKNOWN]
    if new:
      ids = joiner.first([each.block for each in new])
      for each, found in zip(new, ids, strict=True):
        each.first = found
    new = [each for each in dict.fromkeys(after) if each.after is UNKNOWN]
    if new:
      ids = joiner.after([each.block for each in new])
      for each, found in zip(new, ids, strict=True):
        each.after = found
      self.learn(
          sum(len(each.block) for each in new),
          sum(len(found) for found in ids if found is not None),
      )

  def learn(self, characters: int, tokens: int) -> None:
    """Learns how many tokens a character makes."""
    if characters and tokens:
      self.density += (tokens / characters - self.density) / 4

  @property
  def mean_tokens(self) -> float:
    """About how many tokens an exemplar has."""
    return max(self._characters * self.density, 1.0)
