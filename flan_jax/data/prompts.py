"""Prompts: queries with their exemplars before them, as text and as ids.

An exemplar is never the query: neither the same row, nor one that puts the
same question. It is rendered and tokenised once and kept while there is room
for it. Where the vocabulary tokenises parts exactly (`joining`), prompts are
put together as ids; where it does not, whole prompts are tokenised. Both give
the same ids and keep the same exemplars, so where most exemplars are new and
all of them fit, whole prompts are tokenised too: that is quicker then.
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
# Stands for ids that nobody has asked for yet.
UNKNOWN = np.empty(0, np.int32)
_NO_IDS: list[np.ndarray] = []
# What is assumed before anything is known: characters of an exemplar, tokens
# a character. They decide on effort, never on results.
_CHARACTERS = 300.0
_DENSITY = 0.3
# From so many exemplars on it is known how many of them are new.
_ENOUGH = 256


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


class _Draft:
  """A prompt on its way.

  Attributes:
    rows: The rows drawn for it, the query's own left out.
    drawn: How many were drawn, the query's own counted.
    seen: How many of them have been looked at.
    kept: The exemplars that fit.
    parts: Their ids.
    room: Tokens that are left.
    exact: Whether its parts can be put together as ids.
    full: Whether the next exemplar did not fit.
  """

  __slots__ = (
      'drawn',
      'exact',
      'full',
      'kept',
      'parts',
      'room',
      'rows',
      'seen',
  )

  def __init__(self, rows: list[int], drawn: int):
    self.rows = rows
    self.drawn = drawn
    self.seen = 0
    self.kept: list[Exemplar] = []
    self.parts: list[np.ndarray] = []
    self.room = 0
    self.exact = False
    self.full = False


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
    self._characters = _CHARACTERS
    self._density = _DENSITY
    self._asked = self._new = 0

  def texts(self, queries: Queries) -> list[str]:
    """Returns the prompts as text."""
    if self._vocabulary is None or self._room is None:
      drafts = self._drafts(queries, None)
      kept = [(draft.kept, _NO_IDS) for draft in drafts]
    else:
      kept = self._fitted(queries)
    return [
        self._text(exemplars, shown.inputs)
        for (exemplars, _), shown in zip(kept, queries.shown, strict=True)
    ]

  def ids(self, queries: Queries) -> list[list[np.ndarray]]:
    """Returns each prompt's ids, int32, in parts that stand end to end.

    The vocabulary and `max_inputs` are needed. Ends are not among the ids, and
    a query that is too long by itself is not cut.
    """
    return [parts for _, parts in self._fitted(queries)]

  def _text(self, exemplars: Sequence[Exemplar], query: str) -> str:
    return self._layout.join([each.block for each in exemplars], query)

  def _drafts(
      self, queries: Queries, afters: Sequence[np.ndarray | None] | None
  ) -> list[_Draft]:
    """Gives each query its exemplars, the first to keep first.

    Exemplars are rendered and tokenised in rounds, as many as there may be
    room for, so that few are made in vain.

    Args:
      queries: All queries.
      afters: Their ids after exemplars; None where those are not measured.
    """
    drafts = [
        _Draft(rows, self._count + 1)
        for rows in self._draw(queries, self._count + 1)
    ]
    if afters is not None:
      assert self._room is not None
      for draft, ids in zip(drafts, afters, strict=True):
        if ids is not None:
          draft.exact = True
          draft.room = self._room - len(ids)
          draft.full = draft.room <= 0
    while True:
      wanted = [
          (place, number)
          for place, draft in enumerate(drafts)
          if (number := self._wanted(queries, place, draft))
      ]
      if not wanted:
        return drafts
      self._advance(queries, drafts, wanted)

  def _wanted(self, queries: Queries, place: int, draft: _Draft) -> int:
    """Returns how many more exemplars to look at for a prompt."""
    missing = self._count - len(draft.kept)
    if not missing or draft.full:
      return 0
    if draft.seen == len(draft.rows):
      self._draw_more(queries, place, draft)
    left = len(draft.rows) - draft.seen
    if draft.exact:
      # Rather one too few than one too many.
      missing = min(missing, max(1, int(draft.room / self._mean_tokens)))
    return min(missing, left)

  def _advance(
      self,
      queries: Queries,
      drafts: list[_Draft],
      wanted: list[tuple[int, int]],
  ) -> None:
    """Looks at the next exemplars of prompts."""
    rows: list[int] = []
    for place, number in wanted:
      draft = drafts[place]
      rows += draft.rows[draft.seen : draft.seen + number]
      draft.seen += number
    places = np.repeat(*np.array(wanted, np.int64).T)
    found = self._look_up(queries, places, np.array(rows, np.int64))
    first: list[Exemplar] = []
    after: list[Exemplar] = []
    new: list[tuple[_Draft, list[Exemplar]]] = []
    start = 0
    for place, number in wanted:
      draft, identity = drafts[place], queries.shown[place].identity
      some = [
          each
          for each in found[start : start + number]
          if each.identity != identity
      ]
      start += number
      if not draft.exact:
        draft.kept += some
      elif some:
        new.append((draft, some))
        if draft.kept:
          after += some
        else:
          first.append(some[0])
          after += some[1:]
    if new:
      assert self._joiner is not None
      self._tokenise(self._joiner, first, after)
      for draft, some in new:
        self._keep(self._joiner, draft, some)

  def _keep(
      self, joiner: joining.Joiner, draft: _Draft, exemplars: list[Exemplar]
  ) -> None:
    """Keeps exemplars in a measured prompt while there is room."""
    assert self._room is not None
    for place, each in enumerate(exemplars):
      ids = each.after if draft.kept else each.first
      if ids is None or len(ids) + self._room > joiner.longest:
        # Whole prompts have to tell; all exemplars that there could be go in.
        draft.exact = False
        draft.kept += exemplars[place:]
        return
      if len(ids) > draft.room:
        draft.full = True
        return
      draft.room -= len(ids)
      draft.kept.append(each)
      draft.parts.append(ids)

  def _draw(self, queries: Queries, number: int) -> list[list[int]]:
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

  def _draw_more(self, queries: Queries, place: int, draft: _Draft) -> None:
    """Goes on drawing for a query that others put too."""
    most = min(_SEARCH * self._count, self._pool.size)
    if draft.drawn >= most:
      return
    draft.drawn = min(2 * draft.drawn, most)
    one = dataclasses.replace(
        queries,
        indices=queries.indices[place : place + 1],
        hashes=queries.hashes[place : place + 1],
        row_ids=lambda: queries.row_ids()[place : place + 1],
    )
    # More draws begin with the same ones.
    draft.rows = self._draw(one, draft.drawn)[0]

  def _look_up(
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
    self._asked += len(keys)
    self._new += len(missing)
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

  def _tokenise(
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
      self._learn(
          sum(len(each.block) for each in new),
          sum(len(found) for found in ids if found is not None),
      )

  def _learn(self, characters: int, tokens: int) -> None:
    """Learns how many tokens a character makes."""
    if characters and tokens:
      self._density += (tokens / characters - self._density) / 4

  @property
  def _mean_tokens(self) -> float:
    """About how many tokens an exemplar has."""
    return max(self._characters * self._density, 1.0)

  def _pays(self) -> bool:
    """Whether putting ids together is quicker than whole prompts."""
    assert self._room is not None
    return (
        self._asked < _ENOUGH
        or self._new < self._asked / 2
        or self._count * self._mean_tokens > self._room / 2
    )

  def _fitted(
      self, queries: Queries
  ) -> list[tuple[list[Exemplar], list[np.ndarray]]]:
    """Returns the exemplars of each prompt that fit, and its ids in parts."""
    asked = [shown.inputs for shown in queries.shown]
    afters = None
    if self._joiner is not None and self._pays():
      afters = self._joiner.after(asked)
    drafts = self._drafts(queries, afters)
    fitted: list[tuple[list[Exemplar], list[np.ndarray]]] = []
    whole, alone = [], []
    for place, draft in enumerate(drafts):
      if not draft.exact:
        whole.append(place)
      elif not draft.kept:
        alone.append(place)  # It begins a text.
      else:
        assert afters is not None
        draft.parts.append(afters[place])  # type: ignore[arg-type]
      fitted.append((draft.kept, draft.parts))
    ids = self._encode([asked[place] for place in alone])
    for place, found in zip(alone, ids, strict=True):
      fitted[place] = ([], [found])
    if whole:
      for place, each in zip(
          whole,
          self._whole(
              [asked[place] for place in whole],
              [drafts[place].kept for place in whole],
          ),
          strict=True,
      ):
        fitted[place] = each
    return fitted

  def _whole(
      self, asked: Sequence[str], exemplars: list[list[Exemplar]]
  ) -> list[tuple[list[Exemplar], list[np.ndarray]]]:
    """As `_fitted`, from whole prompts."""
    room = self._room
    assert room is not None
    tried: dict[tuple[int, int], np.ndarray] = {}

    def encode(pairs: list[tuple[int, int]]) -> list[np.ndarray]:
      found = self._encode([
          self._text(exemplars[place][:number], asked[place])
          for place, number in pairs
      ])
      tried.update(zip(pairs, found, strict=True))
      return found

    numbers = few_shot.fit(
        [len(some) + 1 for some in exemplars],  # One more than there are.
        [
            self._guess(some, query)
            for some, query in zip(exemplars, asked, strict=True)
        ],
        lambda pairs: [len(each) <= room for each in encode(pairs)],
    )
    # What fits nothing has not been tokenised by itself.
    kept = list(enumerate(numbers))
    encode([pair for pair in kept if pair not in tried])
    return [
        (exemplars[place][:number], [tried[place, number]])
        for place, number in kept
    ]

  def _guess(self, exemplars: Sequence[Exemplar], query: str) -> int:
    """Returns about how many exemplars fit before a query."""
    assert self._room is not None
    characters = self._room / self._density - len(query)
    for number, each in enumerate(exemplars):
      characters -= len(each.block)
      if characters < 0:
        return number
    return len(exemplars)

  def _encode(self, texts: Sequence[str]) -> list[np.ndarray]:
    assert self._vocabulary is not None
    if not texts:
      return []
    ids = self._vocabulary.encode_arrays(texts)
    self._learn(sum(map(len, texts)), sum(map(len, ids)))
    return ids
