"""Prompts: queries with their exemplars before them, as text and as ids.

An exemplar is never the query: neither the same row, nor one that puts the
same question. It is rendered and tokenised once and kept while there is room
for it. Where the vocabulary tokenises parts exactly (`joining`), prompts are
put together as ids; where it does not, whole prompts are tokenised. Both give
the same ids and keep the same exemplars.
"""

import collections
from collections.abc import Callable, Sequence
import dataclasses
from typing import NamedTuple

from flan_jax import joining
from flan_jax import vocabularies
from flan_jax.data import few_shot
from flan_jax.data import seeding
import numpy as np

# Of all texts that a cache holds; with their ids it takes about three times
# as many bytes.
_CACHE_CHARACTERS = 16_000_000
# Draws in search of exemplars that put another question than the query, as a
# multiple of the exemplars wanted.
_SEARCH = 16


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
    first: Its ids at the beginning of a prompt, None where parts cannot be
      tokenised exactly.
    after: Its ids after another, the separator's first.
    tokens: The number of ids by itself; -1 while it is not known.
  """

  __slots__ = ('after', 'block', 'first', 'identity', 'tokenised', 'tokens')

  def __init__(self, block: str, identity: str):
    self.block = block
    self.identity = identity
    self.first: np.ndarray | None = None
    self.after: np.ndarray | None = None
    self.tokenised = [False, False]  # First, after.
    self.tokens = -1


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


class Prompter:
  """Puts exemplars before the queries of one task."""

  def __init__(
      self,
      name: str,
      pool: Pool,
      count: int,
      layout: few_shot.Layout,
      *,
      vocabulary: vocabularies.Vocabulary | None = None,
      max_inputs: int | None = None,
      cache: Cache | None = None,
  ):
    """Draws nothing yet.

    Args:
      name: The task's, for the cache.
      pool: Where exemplars come from.
      count: The most exemplars of a query.
      layout: How a prompt is put together.
      vocabulary: Counts tokens; None keeps all exemplars.
      max_inputs: The tokens that fit, end of sequence included.
      cache: Keeps exemplars; may be that of other tasks too.
    """
    self._name = name
    self._pool = pool
    self._count = count
    self._layout = layout
    self._vocabulary = vocabulary
    self._room = None if max_inputs is None else max_inputs - 1
    self._joiner: joining.Joiner | None = None
    if vocabulary is not None:
      self._joiner = vocabulary.joiner(layout.between)
    self._cache = cache or Cache()
    self._ordered = few_shot.in_order(count + 1, pool.size)

  def texts(self, queries: Queries) -> list[str]:
    """Returns the prompts as text."""
    exemplars = self._exemplars(queries)
    if self._vocabulary is None or self._room is None:
      kept = [len(some) for some in exemplars]
    else:
      kept = [number for number, _ in self._fitted(queries, exemplars)]
    return [
        self._text(some[:number], shown.inputs)
        for some, number, shown in zip(
            exemplars, kept, queries.shown, strict=True
        )
    ]

  def ids(self, queries: Queries) -> list[list[np.ndarray]]:
    """Returns each prompt's ids, int32, in parts that stand end to end.

    The vocabulary and `max_inputs` are needed. Ends are not among the ids, and
    a query that is too long by itself is not cut.
    """
    fitted = self._fitted(queries, self._exemplars(queries))
    return [parts for _, parts in fitted]

  def _text(self, exemplars: Sequence[Exemplar], query: str) -> str:
    return self._layout.join([each.block for each in exemplars], query)

  def _exemplars(self, queries: Queries) -> list[list[Exemplar]]:
    """Draws each query's exemplars, the first to keep first."""
    rows, numbers = self._draw(queries)
    found = self._look_up(queries, np.arange(len(rows)), rows)
    result = []
    for place, (some, number, query) in enumerate(
        zip(found, numbers, queries.shown, strict=True)
    ):
      kept = some[:number]
      identity = query.identity
      for each in kept:
        if each.identity == identity:
          kept = self._search(queries, place)
          break
      result.append(kept)
    return result

  def _draw(self, queries: Queries) -> tuple[np.ndarray, list[int]]:
    """Draws rows, int64 [B, n], and says how many of each are to be used.

    The query's own row is left out, which changes no other.
    """
    drawn = few_shot.draw(
        queries.hashes,
        self._count + 1,  # One more, in case the query itself is drawn.
        self._pool.size,
        ordered=self._ordered,
    )
    own = self._own(queries, drawn)
    if own.any():
      order = np.argsort(own, axis=1, kind='stable')
      drawn = np.take_along_axis(drawn, order, axis=1)
    numbers = np.minimum(self._count, drawn.shape[1] - own.sum(axis=1))
    return drawn[:, : self._count], numbers.tolist()

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

  def _search(self, queries: Queries, place: int) -> list[Exemplar]:
    """Draws for one query until enough exemplars put another question."""
    one = dataclasses.replace(
        queries,
        shown=queries.shown[place : place + 1],
        indices=queries.indices[place : place + 1],
        hashes=queries.hashes[place : place + 1],
        row_ids=lambda: queries.row_ids()[place : place + 1],
    )
    most = min(_SEARCH * self._count, self._pool.size)
    number = min(2 * self._count + 1, most)
    identity = queries.shown[place].identity
    while True:
      drawn = few_shot.draw(
          one.hashes, number, self._pool.size, ordered=self._ordered
      )
      others = drawn[:, ~self._own(one, drawn)[0]]
      found = self._look_up(queries, np.array([place]), others)[0]
      kept = [each for each in found if each.identity != identity]
      if len(kept) >= self._count or number == most:
        return kept[: self._count]
      number = min(2 * number, most)

  def _look_up(
      self, queries: Queries, places: np.ndarray, rows: np.ndarray
  ) -> list[list[Exemplar]]:
    """Returns the exemplars that rows make for the queries at places.

    Args:
      queries: All queries.
      places: Which of them, int64 [n].
      rows: Of the pool, int64 [n, exemplars].
    """
    each = rows.shape[1]
    asked = [queries.chosen[place] for place in places.tolist()]
    asked = [choice for choice in asked for _ in range(each)]
    epochs = np.repeat(queries.epochs[places], each)
    flat = rows.reshape(-1)
    own = asked
    if self._layout.mixed and self._pool.templates > 1:
      # By the row, not by its place: other exemplars change nothing.
      hashes = np.repeat(queries.hashes[places], each)
      own = seeding.choose(
          seeding.hash_ints(1, hashes, flat), self._pool.templates
      ).tolist()
    epoch_keys = epochs if self._pool.by_epoch else np.zeros_like(epochs)
    name, cache = self._name, self._cache
    found: list[Exemplar] = []
    missing: dict[_Key, int] = {}
    keys = [
        (name, *key)
        for key in zip(
            flat.tolist(), own, asked, epoch_keys.tolist(), strict=True
        )
    ]
    for place, key in enumerate(keys):
      exemplar = cache.get(key)
      if exemplar is None:
        missing.setdefault(key, place)
      found.append(exemplar)  # type: ignore[arg-type]
    if missing:
      made = self._render(missing, flat, own, asked, epochs)
      found = [
          made[key] if exemplar is None else exemplar
          for key, exemplar in zip(keys, found, strict=True)
      ]
    return [found[i * each : (i + 1) * each] for i in range(len(places))]

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
    block = self._layout.block
    made = {}
    for key, (inputs, targets, identity) in zip(missing, shown, strict=True):
      made[key] = Exemplar(block(inputs, targets), identity)
      self._cache.put(key, made[key])
    return made

  def _fitted(
      self, queries: Queries, exemplars: list[list[Exemplar]]
  ) -> list[tuple[int, list[np.ndarray]]]:
    """Returns how many exemplars of each prompt fit, and its ids in parts."""
    asked = [shown.inputs for shown in queries.shown]
    if self._joiner is None:
      return self._whole(asked, exemplars)
    fitted = self._joined(self._joiner, asked, exemplars)
    rest = [place for place, each in enumerate(fitted) if each is None]
    if rest:
      whole = self._whole(
          [asked[place] for place in rest],
          [exemplars[place] for place in rest],
      )
      for place, each in zip(rest, whole, strict=True):
        fitted[place] = each
    return fitted  # type: ignore[return-value]

  def _joined(
      self,
      joiner: joining.Joiner,
      asked: Sequence[str],
      exemplars: list[list[Exemplar]],
  ) -> list[tuple[int, list[np.ndarray]] | None]:
    """As `_fitted`, from parts; None for a prompt that has no exact ones."""
    _tokenise(0, joiner.first, [some[0] for some in exemplars if some])
    _tokenise(
        1, joiner.after, [each for some in exemplars for each in some[1:]]
    )
    afters = joiner.after(asked)
    room = self._room
    assert room is not None
    fitted: list[tuple[int, list[np.ndarray]] | None] = []
    alone = []
    for place, (some, query) in enumerate(zip(exemplars, afters, strict=True)):
      parts = [each.after for each in some]
      if some:
        parts[0] = some[0].first
      parts.append(query)
      if any(part is None for part in parts):
        fitted.append(None)
        continue
      lengths = [len(part) for part in parts]  # type: ignore[arg-type]
      total = sum(lengths)
      if total > joiner.longest:
        fitted.append(None)
        continue
      number = len(some)
      while number and total > room:
        number -= 1
        total -= lengths[number]
      if not number:
        alone.append(place)
      fitted.append((number, [*parts[:number], query]))  # type: ignore
    # A query without exemplars begins a text.
    texts = [asked[place] for place in alone]
    for place, ids in zip(alone, self._encode(texts), strict=True):
      fitted[place] = (0, [ids])
    return fitted

  def _whole(
      self, asked: Sequence[str], exemplars: list[list[Exemplar]]
  ) -> list[tuple[int, list[np.ndarray]]]:
    """As `_fitted`, from whole prompts."""
    room = self._room
    assert room is not None
    texts = [
        self._text(some, query)
        for some, query in zip(exemplars, asked, strict=True)
    ]
    ids = self._encode(texts)
    numbers = [len(some) for some in exemplars]
    long = [
        place
        for place, found in enumerate(ids)
        if len(found) > room and numbers[place]
    ]
    if long:
      self._count_tokens([each for place in long for each in exemplars[place]])
      queries = self._encode([asked[place] for place in long])
      tried = {(i, 0): found for i, found in enumerate(queries)}

      def fits(pairs: list[tuple[int, int]]) -> list[bool]:
        found = self._encode([
            self._text(exemplars[long[i]][:number], asked[long[i]])
            for i, number in pairs
        ])
        tried.update(zip(pairs, found, strict=True))
        return [len(each) <= room for each in found]

      guesses = [
          _guess(exemplars[place], room - len(query))
          for place, query in zip(long, queries, strict=True)
      ]
      kept = few_shot.fit([numbers[place] for place in long], guesses, fits)
      for i, (place, number) in enumerate(zip(long, kept, strict=True)):
        numbers[place], ids[place] = number, tried[i, number]
    return [(n, [found]) for n, found in zip(numbers, ids, strict=True)]

  def _encode(self, texts: Sequence[str]) -> list[np.ndarray]:
    assert self._vocabulary is not None
    return self._vocabulary.encode_arrays(texts) if texts else []

  def _count_tokens(self, exemplars: Sequence[Exemplar]) -> None:
    new = [each for each in dict.fromkeys(exemplars) if each.tokens < 0]
    ids = self._encode([each.block for each in new])
    for each, found in zip(new, ids, strict=True):
      each.tokens = len(found)


def _tokenise(
    place: int,
    encode: Callable[[Sequence[str]], list[np.ndarray | None]],
    exemplars: Sequence[Exemplar],
) -> None:
  """Tokenises exemplars that have no ids at this place: 0 first, 1 after."""
  new = [each for each in exemplars if not each.tokenised[place]]
  if not new:
    return
  new = list(dict.fromkeys(new))
  ids = encode([each.block for each in new])
  for each, found in zip(new, ids, strict=True):
    each.tokenised[place] = True
    if place:
      each.after = found
    else:
      each.first = found


def _guess(exemplars: Sequence[Exemplar], room: int) -> int:
  """Returns how many of the first exemplars have about `room` tokens."""
  number = 0
  for each in exemplars:
    room -= each.tokens
    if room < 0:
      break
    number += 1
  return number
