"""Prompts: queries with their exemplars before them, as text and as ids.

An exemplar is never the query: neither the same row, nor one that puts the
same question. It is rendered and tokenised once and kept while there is room
for it. Where the vocabulary tokenises parts exactly (`joining`), prompts are
put together as ids; where it does not, whole prompts are tokenised. Both give
the same ids and keep the same exemplars, so where most exemplars are new and
all of them fit, whole prompts are tokenised too: that is quicker then.
"""

from collections.abc import Sequence
import dataclasses

from flan_jax import joining
from flan_jax import vocabularies
from flan_jax.data import exemplars as exemplars_lib
from flan_jax.data import few_shot
import numpy as np

# Draws in search of exemplars that put another question than the query, as a
# multiple of the exemplars wanted.
_SEARCH = 16
_NO_IDS: list[np.ndarray] = []
# From so many exemplars on it is known how many of them are new.
_ENOUGH = 256


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
    self.kept: list[exemplars_lib.Exemplar] = []
    self.parts: list[np.ndarray] = []
    self.room = 0
    self.exact = False
    self.full = False


class Prompter:
  """Puts exemplars before the queries of one task."""

  def __init__(
      self,
      name: str,
      pool: exemplars_lib.Pool,
      count: int,
      layout: few_shot.Layout,
      *,
      vocabulary: vocabularies.Vocabulary | None = None,
      max_inputs: int | None = None,
      cache: exemplars_lib.Cache | None = None,
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
    self._pool = pool
    self._count = count
    self._layout = layout
    self._vocabulary = vocabulary
    self._room = None if max_inputs is None else max_inputs - 1
    self._joiner: joining.Joiner | None = None
    if vocabulary is not None:
      self._joiner = vocabulary.joiner(layout.between)
    self._source = exemplars_lib.Source(name, pool, layout, count + 1, cache)

  def texts(self, queries: exemplars_lib.Queries) -> list[str]:
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

  def ids(self, queries: exemplars_lib.Queries) -> list[list[np.ndarray]]:
    """Returns each prompt's ids, int32, in parts that stand end to end.

    The vocabulary and `max_inputs` are needed. Ends are not among the ids, and
    a query that is too long by itself is not cut.
    """
    return [parts for _, parts in self._fitted(queries)]

  def _text(
      self, exemplars: Sequence[exemplars_lib.Exemplar], query: str
  ) -> str:
    return self._layout.join([each.block for each in exemplars], query)

  def _drafts(
      self,
      queries: exemplars_lib.Queries,
      afters: Sequence[np.ndarray | None] | None,
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
        for rows in self._source.draw(queries, self._count + 1)
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

  def _wanted(
      self, queries: exemplars_lib.Queries, place: int, draft: _Draft
  ) -> int:
    """Returns how many more exemplars to look at for a prompt."""
    missing = self._count - len(draft.kept)
    if not missing or draft.full:
      return 0
    if draft.seen == len(draft.rows):
      self._draw_more(queries, place, draft)
    left = len(draft.rows) - draft.seen
    if draft.exact:
      # Rather one too few than one too many.
      missing = min(missing, max(1, int(draft.room / self._source.mean_tokens)))
    return min(missing, left)

  def _advance(
      self,
      queries: exemplars_lib.Queries,
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
    found = self._source.look_up(queries, places, np.array(rows, np.int64))
    first: list[exemplars_lib.Exemplar] = []
    after: list[exemplars_lib.Exemplar] = []
    new: list[tuple[_Draft, list[exemplars_lib.Exemplar]]] = []
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
      self._source.tokenise(self._joiner, first, after)
      for draft, some in new:
        self._keep(self._joiner, draft, some)

  def _keep(
      self,
      joiner: joining.Joiner,
      draft: _Draft,
      exemplars: list[exemplars_lib.Exemplar],
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

  def _draw_more(
      self, queries: exemplars_lib.Queries, place: int, draft: _Draft
  ) -> None:
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
    draft.rows = self._source.draw(one, draft.drawn)[0]

  def _pays(self) -> bool:
    """Whether putting ids together is quicker than whole prompts."""
    assert self._room is not None
    return (
        self._source.asked < _ENOUGH
        or self._source.new < self._source.asked / 2
        or self._count * self._source.mean_tokens > self._room / 2
    )

  def _fitted(
      self, queries: exemplars_lib.Queries
  ) -> list[tuple[list[exemplars_lib.Exemplar], list[np.ndarray]]]:
    """Returns the exemplars of each prompt that fit, and its ids in parts."""
    asked = [shown.inputs for shown in queries.shown]
    afters = None
    if self._joiner is not None and self._pays():
      afters = self._joiner.after(asked)
    drafts = self._drafts(queries, afters)
    fitted: list[tuple[list[exemplars_lib.Exemplar], list[np.ndarray]]] = []
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
      self, asked: Sequence[str], exemplars: list[list[exemplars_lib.Exemplar]]
  ) -> list[tuple[list[exemplars_lib.Exemplar], list[np.ndarray]]]:
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

  def _guess(
      self, exemplars: Sequence[exemplars_lib.Exemplar], query: str
  ) -> int:
    """Returns about how many exemplars fit before a query."""
    assert self._room is not None
    characters = self._room / self._source.density - len(query)
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
    self._source.learn(sum(map(len, texts)), sum(map(len, ids)))
    return ids
