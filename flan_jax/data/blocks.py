"""Blocks: a run of the mixture's order, rendered, tokenised and packed at once.

A block is the unit of work of the pipeline: everything in it is done for all
its examples together, and it depends on nothing but its number.
"""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import dataclasses
import gc
from typing import Any, NamedTuple, Protocol

from flan_jax import vocabularies
from flan_jax.data import exemplars as exemplars_lib
from flan_jax.data import few_shot
from flan_jax.data import kept_rows
from flan_jax.data import mixing
from flan_jax.data import mixtures
from flan_jax.data import packing
from flan_jax.data import reports
from flan_jax.data import seeding
from flan_jax.data import specs
from flan_jax.data import tasks
from flan_jax.data import templates
import numpy as np

_ROW_ORDER = seeding.name_seed('order of packed rows in a block')


class Store(Protocol):
  """What the pipeline needs of `rows.RowStore`."""

  def open(self, dataset: specs.Dataset, split: str) -> templates.Rows:
    ...


def renderer(
    task: tasks.Task,
    rows: templates.Rows,
    store: Store,
    *,
    seed: int,
    vocabulary: vocabularies.Vocabulary | None = None,
    lengths: Mapping[str, int] | None = None,
    layout: few_shot.Layout = few_shot.Layout(),  # noqa: B008
    cache: exemplars_lib.Cache | None = None,
) -> templates.Renderer:
  """Makes a task's rows ready for rendering, with exemplars for its shots.

  Args:
    task: What to render.
    rows: Its rows.
    store: Where the exemplars' rows are.
    seed: Of all choices.
    vocabulary: Counts tokens, for exemplars to fit.
    lengths: 'inputs' is what they have to fit.
    layout: How exemplars stand before the query.
    cache: Keeps exemplars; may be that of other tasks too.

  Raises:
    UserError: The rows cannot be had, or `fit_shot` lacks a vocabulary.
  """
  exemplars = None
  if task.setting.shots:
    in_train = rows.split == 'train'
    exemplars = rows if in_train else store.open(task.dataset, 'train')
  return templates.Renderer(
      task,
      rows,
      seed=seed,
      vocabulary=vocabulary,
      max_inputs=lengths['inputs'] if lengths else None,
      exemplars=exemplars,
      layout=layout,
      cache=cache,
  )


class Block(NamedTuple):
  """Packed examples, and what is to be said of them.

  Attributes:
    rows: All features and member ids side by side, as small integers as will
      do: one array that travels cheaply from worker processes.
    tally: What became of the examples (`reports.tally`).
  """

  rows: packing.Wide
  tally: list[list[int]]


@dataclasses.dataclass
class Members:
  """A mixture's members, each opened when first drawn.

  Attributes:
    mixture: The tasks.
    split: Of their rows.
    vocabulary: Makes ids of their texts.
    store: Where rows are.
    lengths: Tokens in a row, 'inputs' and 'targets'.
    seed: Of all choices.
    layout: How exemplars stand before the query.
    form: What rows look like.
  """

  mixture: mixtures.Mixture
  split: str
  vocabulary: vocabularies.Vocabulary
  store: Store
  lengths: Mapping[str, int]
  seed: int
  layout: few_shot.Layout = few_shot.Layout()  # noqa: RUF009
  form: packing.Form = packing.TWO_SIDES

  def __post_init__(self):
    self._rows: dict[int, templates.Rows] = {}
    self._renderers: dict[int, templates.Renderer] = {}
    self._exemplars = exemplars_lib.Cache()
    self._fields = kept_rows.Budget()
    self._dtype = packing.smallest_dtype(
        max(self.vocabulary.size, len(self.mixture.members) + 1),
        self.lengths,
        self.form,
    )

  def __getstate__(self):
    # Worker processes open rows themselves.
    kept = {field.name for field in dataclasses.fields(self)}
    return {name: self.__dict__[name] for name in kept}

  def __setstate__(self, state):
    self.__dict__.update(state)
    self.__post_init__()

  def sizes(self) -> np.ndarray:
    """Returns the rows of each member, int64 [members]."""
    count = len(self.mixture.members)
    return np.array([len(self._open(i)) for i in range(count)], np.int64)

  def texts(self, draws: mixing.Draws) -> tuple[list[str], list[str]]:
    """Returns inputs and targets of each draw, exemplars included."""
    return self._render(draws, templates.Renderer.render_texts)

  def block(
      self,
      draws: mixing.Draws,
      *,
      pack: bool,
      order: Callable[[int], np.ndarray] | None = None,
  ) -> Block:
    """Returns the draws as features.

    Args:
      draws: Which examples.
      pack: Whether they share rows.
      order: Of the rows; see `packing.pack`.
    """
    inputs, targets = self._ids(draws)
    rows = packing.pack(
        inputs,
        targets,
        self.lengths,
        together=pack,
        order=order,
        dtype=self._dtype,
        members=draws.member,
        form=self.form,
        eos_id=self.vocabulary.eos_id,
    )
    return Block(
        rows, reports.tally(draws.member, inputs, targets, self.lengths)
    )

  def _ids(self, draws: mixing.Draws) -> tuple[packing.Ragged, packing.Ragged]:
    """Returns the ids of inputs and targets, without ends."""
    inputs, targets = self._render(draws, _render_parts)
    # All that is text is tokenised at once.
    texts = [some for some in inputs if isinstance(some, str)]
    ids = self.vocabulary.encode_arrays(texts + targets)
    split = len(texts)
    if split == len(inputs):
      whole = packing.Ragged(*vocabularies.joined(ids[:split]))
    else:
      following = iter(ids)
      parts = [
          [next(following)] if isinstance(some, str) else some
          for some in inputs
      ]
      flat = [part for some in parts for part in some]
      whole = packing.Ragged(
          np.concatenate(flat) if flat else np.empty(0, np.int32),
          np.array([sum(map(len, some)) for some in parts], np.int64),
      )
    return whole, packing.Ragged(*vocabularies.joined(ids[split:]))

  def _render(
      self,
      draws: mixing.Draws,
      render: Callable[..., tuple[list[Any], list[str]]],
  ) -> tuple[list[Any], list[str]]:
    """Renders each member's draws together; returns them in their order."""
    count = len(draws.member)
    inputs, targets = [''] * count, [''] * count
    by_member = np.argsort(draws.member, kind='stable')
    members, starts = np.unique(draws.member[by_member], return_index=True)
    parts = np.split(by_member, starts[1:])
    for member, places in zip(members.tolist(), parts, strict=True):
      rendered = render(
          self._renderer(member), draws.row[places], draws.epoch[places]
      )
      for place, one, other in zip(places.tolist(), *rendered, strict=True):
        inputs[place], targets[place] = one, other
    return inputs, targets

  def _open(self, member: int) -> templates.Rows:
    if member not in self._rows:
      task, _ = self.mixture.members[member]
      self._rows[member] = kept_rows.KeptRows(
          self.store.open(task.dataset, self.split), self._fields
      )
    return self._rows[member]

  def _renderer(self, member: int) -> templates.Renderer:
    if member not in self._renderers:
      self._renderers[member] = renderer(
          self.mixture.members[member][0],
          self._open(member),
          self.store,
          seed=self.seed,
          vocabulary=self.vocabulary,
          lengths=self.lengths,
          layout=self.layout,
          cache=self._exemplars,
      )
    return self._renderers[member]


def _render_parts(
    renderer: templates.Renderer, rows: np.ndarray, epochs: np.ndarray
) -> tuple[list[Any], list[str]]:
  """Renders inputs as text, or with exemplars as ids in parts."""
  if renderer.has_exemplars:
    return renderer.render_ids(rows, epochs)
  return renderer.render_texts(rows, epochs)


def row_order(seed: int, number: int) -> Callable[[int], np.ndarray]:
  """Returns what shuffles the rows of a packed block, for `packing.pack`.

  Packing starts with the longest examples; batches should not.
  """

  def order(count: int) -> np.ndarray:
    hashes = seeding.hash_ints(seed, _ROW_ORDER, number, np.arange(count))
    return np.argsort(hashes)

  return order


@dataclasses.dataclass
class Blocks:
  """The endless row of blocks of a mixture.

  Attributes:
    members: What is drawn.
    index_map: In which order.
    size: Examples in a block.
    pack: Whether examples share rows.
    shuffle: Whether a block's rows are shuffled.
  """

  members: Members
  index_map: mixing.IndexMap
  size: int
  pack: bool
  shuffle: bool

  def build(self, number: int) -> Block:
    """Returns block `number`.

    How many rows a packed block has depends on its examples.
    """
    first = number * self.size
    draws = self.index_map.lookup(np.arange(first, first + self.size))

    order = row_order(self.members.seed, number)
    with _without_collections():
      return self.members.block(
          draws,
          pack=self.pack,
          order=order if self.pack and self.shuffle else None,
      )


@contextlib.contextmanager
def _without_collections() -> Iterator[None]:
  """Puts off Python's search for reference cycles.

  A block makes ten thousands of small objects and no cycles. Searches would
  set in again and again and go through all objects of the process.
  """
  enabled = gc.isenabled()
  gc.disable()
  try:
    yield
  finally:
    if enabled:
      gc.enable()
