"""Blocks: a run of the mixture's order, rendered, tokenised and packed at once.

A block is the unit of work of the pipeline: everything in it is done for all
its examples together, and it depends on nothing but its number.
"""

from collections.abc import Mapping
import dataclasses
from typing import Protocol

from flan_jax import vocabularies
from flan_jax.data import mixing
from flan_jax.data import mixtures
from flan_jax.data import packing
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
) -> templates.Renderer:
  """Makes a task's rows ready for rendering, with exemplars for its shots.

  Args:
    task: What to render.
    rows: Its rows.
    store: Where the exemplars' rows are.
    seed: Of all choices.
    vocabulary: Counts tokens, for exemplars to fit.
    lengths: 'inputs' is what they have to fit.

  Raises:
    UserError: The rows cannot be had, or `fit_shot` lacks a vocabulary.
  """
  exemplars = None
  if task.setting.shots:
    in_train = rows.split == 'train'
    exemplars = rows if in_train else store.open(task.dataset, 'train')
  count_tokens = None
  if vocabulary is not None:
    encode = vocabulary.encode
    count_tokens = lambda text: len(encode(text))  # noqa: E731
  return templates.Renderer(
      task,
      rows,
      seed=seed,
      count_tokens=count_tokens,
      max_inputs=lengths['inputs'] if lengths else None,
      exemplars=exemplars,
  )


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
  """

  mixture: mixtures.Mixture
  split: str
  vocabulary: vocabularies.Vocabulary
  store: Store
  lengths: Mapping[str, int]
  seed: int

  def __post_init__(self):
    self._rows: dict[int, templates.Rows] = {}
    self._renderers: dict[int, templates.Renderer] = {}

  def __getstate__(self):
    # Worker processes open rows themselves.
    return self.__dict__ | {'_rows': {}, '_renderers': {}}

  def sizes(self) -> np.ndarray:
    """Returns the rows of each member, int64 [members]."""
    count = len(self.mixture.members)
    return np.array([len(self._open(i)) for i in range(count)], np.int64)

  def texts(self, draws: mixing.Draws) -> tuple[list[str], list[str]]:
    """Returns inputs and targets of each draw."""
    count = len(draws.member)
    inputs, targets = [''] * count, [''] * count
    by_member = np.argsort(draws.member, kind='stable')
    members, starts = np.unique(draws.member[by_member], return_index=True)
    parts = np.split(by_member, starts[1:])
    for member, places in zip(members.tolist(), parts, strict=True):
      texts = self._renderer(member).render_texts(
          draws.row[places], draws.epoch[places]
      )
      for place, one, other in zip(places.tolist(), *texts, strict=True):
        inputs[place], targets[place] = one, other
    return inputs, targets

  def rows(self, draws: mixing.Draws, *, pack: bool) -> packing.Batch:
    """Returns the draws as features, int32 [rows, length] (`packing.pack`)."""
    inputs, targets = self.texts(draws)
    return packing.pack(
        packing.Ragged(*self.vocabulary.encode_flat(inputs)),
        packing.Ragged(*self.vocabulary.encode_flat(targets)),
        self.lengths,
        together=pack,
    )

  def _open(self, member: int) -> templates.Rows:
    if member not in self._rows:
      task, _ = self.mixture.members[member]
      self._rows[member] = self.store.open(task.dataset, self.split)
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
      )
    return self._renderers[member]


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

  def build(self, number: int) -> packing.Batch:
    """Returns block `number`, features int32 [rows, length].

    How many rows a packed block has depends on its examples.
    """
    first = number * self.size
    draws = self.index_map.lookup(np.arange(first, first + self.size))
    rows = self.members.rows(draws, pack=self.pack)
    if not (self.pack and self.shuffle):
      return rows
    # Packing starts with the longest examples; a batch should not.
    count = packing.count_rows(rows)
    order = np.argsort(
        seeding.hash_ints(
            self.members.seed, _ROW_ORDER, number, np.arange(count)
        )
    )
    return {name: array[order] for name, array in rows.items()}
