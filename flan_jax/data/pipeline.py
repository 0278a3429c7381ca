"""From a mixture to global batches, the same on any number of hosts.

The mixture's order is cut into blocks (`blocks.py`), and the blocks are dealt
out to a fixed number of streams: block n belongs to stream n mod streams. Each
global batch takes the same number of rows from every stream, and each host has
an equal run of the streams. So hosts share no work, and neither their number
nor that of worker processes changes what is in a batch. The position is two
integers a stream: its next block and the next row in it.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import hashlib
import itertools
import json
from typing import Any

from flan_jax import errors
from flan_jax import vocabularies
from flan_jax.data import blocks
from flan_jax.data import examples as examples_lib
from flan_jax.data import few_shot as few_shot_lib
from flan_jax.data import mixing
from flan_jax.data import mixtures
from flan_jax.data import packing
from flan_jax.data import reports
from flan_jax.data import streams as streams_lib
from flan_jax.data import tasks
import numpy as np

_RENDERED_AT_ONCE = 1024

Batch = packing.Batch


@dataclasses.dataclass(frozen=True, kw_only=True)
class PipelineConfig:
  """How examples become batches.

  Attributes:
    lengths: Tokens in a row: {'inputs': ..., 'targets': ...}.
    row_format: What rows look like, by name in `packing.FORMS`; the model says
      which it wants.
    batch_size: Rows in a global batch, packed ones where `pack` is set.
    seed: Of everything random: order, templates, options, exemplars.
    pack: Several examples a row; otherwise one.
    streams: The most hosts that can share the work, and a part of the order:
      another number is another order. None: 8, or the largest number below
      that divides the batch size; more only where the hosts need it.
    workers: Processes that prepare data; 0 does it in this process, in a
      thread.
    shuffle: False goes through each member's rows in their own order.
    block: Examples that are packed together.
    few_shot: How exemplars stand before the query, for tasks with shots.
    member_ids: Whether training batches say whose examples they hold; see
      `packing.MEMBER_IDS`. It changes nothing else.
  """

  lengths: Mapping[str, int]
  batch_size: int
  row_format: str = 'two_sides'
  seed: int = 0
  pack: bool = True
  streams: int | None = None
  workers: int = 0
  shuffle: bool = True
  block: int = 2048
  few_shot: few_shot_lib.Layout = few_shot_lib.Layout()  # noqa: RUF009
  member_ids: bool = False

  @property
  def form(self) -> packing.Form:
    """What rows look like."""
    return packing.FORMS[self.row_format]

  def __post_init__(self):
    for name in ('inputs', 'targets'):
      if self.lengths.get(name, 0) < 2:
        raise errors.UserError(
            f"TASK_FEATURE_LENGTHS: '{name}' must be 2 tokens or more, of which"
            f' one is the end; it is {self.lengths.get(name)}'
        )
    for name in ('batch_size', 'block'):
      if getattr(self, name) < 1:
        raise errors.UserError(f'{name} must be at least 1')
    if self.workers < 0:
      raise errors.UserError('workers must be at least 0')


class TrainPipeline:
  """An endless iterator of this host's rows of each global batch.

  Yields the features of the row format, int32 [batch_size / process_count,
  length]. Hosts' rows in the order of hosts are the global batch.
  """

  def __init__(
      self,
      mixture: mixtures.Mixture | tasks.Task,
      split: str,
      vocabulary: vocabularies.Vocabulary,
      store: blocks.Store,
      config: PipelineConfig,
      process_index: int = 0,
      process_count: int = 1,
  ):
    """Opens the members' rows.

    Args:
      mixture: What to go through, over and over.
      split: 'train', as a rule.
      vocabulary: Makes ids of texts.
      store: Where rows are.
      config: Lengths, sizes and seed.
      process_index: This host's number.
      process_count: The number of hosts.

    Raises:
      UserError: Rows cannot be had, or hosts, streams and batch size do not
        divide each other.
    """
    mixture = mixtures.as_mixture(mixture)
    self._config = config
    self._process = process_index, process_count
    self._streams = streams_lib.number(
        config.streams, config.batch_size, process_count
    )
    members = blocks.Members(
        mixture,
        split,
        vocabulary,
        store,
        config.lengths,
        config.seed,
        config.few_shot,
        config.form,
    )
    sizes = members.sizes()
    names = [task.name for task, _ in mixture.members]
    rates = mixtures.rates(mixture, sizes)
    self._blocks = blocks.Blocks(
        members,
        mixing.IndexMap(
            names,
            sizes,
            rates,
            seed=config.seed,
            cap=mixture.caps,
            shuffle=config.shuffle,
        ),
        config.block,
        config.pack,
        config.shuffle,
    )
    caps = [] if mixture.caps is None else [mixture.caps.tolist()]
    # All that decides on the order: a position means nothing in another one.
    self._identity = {
        'seed': config.seed,
        'lengths': dict(config.lengths),
        'pack': config.pack,
        'shuffle': config.shuffle,
        'block': config.block,
        'split': split,
        'mixture': _digest([names, sizes.tolist(), rates.tolist(), *caps]),
        'vocabulary': _digest(vocabulary.describe()),
    }
    if config.row_format != 'two_sides':  # Older positions do not name it.
      self._identity['row_format'] = config.row_format
    if any(task.setting.shots for task, _ in mixture.members):
      self._identity['few_shot'] = dataclasses.asdict(config.few_shot)
    self._report = reports.Report(names)
    self._batches = 0
    self._positions = {stream: [0, 0] for stream in self._own_streams()}
    self._source: streams_lib.Source | None = None

  def __iter__(self) -> 'TrainPipeline':
    return self

  def __next__(self) -> Batch:
    """Returns the next batch; there always is one."""
    if self._source is None:
      self._source = streams_lib.Source(
          self._blocks,
          self._positions,
          self._streams,
          self._config.workers,
          self._report,
      )
    share = self._config.batch_size // self._streams
    batch = packing.empty(
        share * len(self._positions),
        self._config.lengths,
        members=self._config.member_ids,
        form=self._config.form,
    )
    for place, stream in enumerate(self._positions):
      self._source.take(stream, batch, place * share, share)
    self._positions = self._source.positions()
    self._batches += 1
    return batch

  @property
  def report(self) -> reports.Report:
    """What became of this host's examples since the pipeline was made.

    Examples are counted with the block that they are in, once it is begun.
    """
    return self._report

  def drawn(self) -> np.ndarray:
    """Returns how often each member was drawn up to the position.

    It is computed from the position alone, so it holds for all of a run, and
    for all hosts together; the pipeline must have all streams. Of a packed
    block that is begun, each member counts for the share of rows in use.

    Returns:
      float64 [members].

    Raises:
      ValueError: Other hosts have some of the streams.
    """
    if len(self._positions) < self._streams:
      raise ValueError('Other hosts have some of the streams.')
    index_map, size = self._blocks.index_map, self._blocks.size
    whole = min(block for block, _ in self._positions.values())
    first = index_map.drawn(whole * self._streams * size)
    counts: np.ndarray = first.astype(np.float64)
    for stream, (block, row) in self._positions.items():
      for later in range(whole, block + bool(row)):
        number = later * self._streams + stream
        places = np.arange(number * size, (number + 1) * size)
        used = 1.0
        if later == block and self._config.pack:
          used = row / len(self._blocks.build(number).rows)
        elif later == block:
          places = places[:row]  # An example a row, in their order.
        member = index_map.lookup(places).member
        counts += used * np.bincount(member, minlength=len(counts))
    return counts

  def get_state(self) -> dict[str, Any]:
    """Returns the position after the last batch, fit for JSON.

    'streams' holds [next block, next row in it] of each stream, and None for
    the streams of other hosts: `merge_states` joins those of all hosts.
    """
    return {
        'batches': self._batches,
        'streams': [
            list(self._positions[stream]) if stream in self._positions else None
            for stream in range(self._streams)
        ],
        'data': self._identity,
    }

  def set_state(
      self, state: Mapping[str, Any], *, other_data: bool = False
  ) -> None:
    """Goes to a position that `get_state` or `merge_states` gave.

    The number of hosts may be another one; without `config.streams`, that of
    streams is taken over.

    Args:
      state: The position.
      other_data: Whether the mixture, seed and so on may differ from those
        that the position was saved under; the position is then kept in blocks
        and rows, but means other examples.

    Raises:
      UserError: The data differ, or the position lacks this host's streams.
    """
    streams = len(state['streams'])
    config = dataclasses.replace(
        self._config, streams=self._config.streams or streams
    )
    if config.streams != streams:
      raise errors.UserError(
          f'streams: the data position was saved with {streams} streams, and'
          f' the pipeline has {config.streams}; set streams to {streams}'
      )
    differing = [
        name
        for name in self._identity | state['data']
        if state['data'].get(name) != self._identity.get(name)
    ]
    if differing and not other_data:
      raise errors.UserError(
          'the data position was saved under other data (different:'
          f' {", ".join(differing)}); start in a new MODEL_DIR, or undo the'
          ' change'
      )
    self._streams = streams_lib.number(
        config.streams, config.batch_size, self._process[1]
    )
    own = self._own_streams()
    missing = [s for s in own if state['streams'][s] is None]
    if missing:
      raise errors.UserError(
          f'the data position lacks the streams {missing} of host'
          f' {self._process[0]}; it was saved by another host alone'
      )
    self.close()
    self._batches = state['batches']
    self._positions = {stream: list(state['streams'][stream]) for stream in own}

  def close(self) -> None:
    """Stops workers; the next batch starts them again."""
    if self._source is not None:
      self._source.close()
      self._source = None

  def _own_streams(self) -> range:
    index, count = self._process
    share = self._streams // count
    return range(index * share, (index + 1) * share)


def merge_states(states: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """Joins the positions of all hosts into one that any host can go on from.

  Raises:
    ValueError: The hosts are not at the same batch.
  """
  first = states[0]
  if any(
      state['batches'] != first['batches'] or state['data'] != first['data']
      for state in states
  ):
    raise ValueError('The hosts are not at the same batch of the same data.')
  merged = [
      next((position for position in column if position is not None), None)
      for column in zip(*(state['streams'] for state in states), strict=True)
  ]
  return {**first, 'streams': merged}


def examples(
    task: tasks.Task,
    split: str,
    store: blocks.Store,
    *,
    seed: int = 0,
    limit: int | None = None,
    vocabulary: vocabularies.Vocabulary | None = None,
    lengths: Mapping[str, int] | None = None,
    layout: few_shot_lib.Layout = few_shot_lib.Layout(),  # noqa: B008
) -> list[examples_lib.Example]:
  """Renders a split's examples, in the order of its rows, as epoch 0 does.

  Args:
    task: What to render.
    split: 'train', 'validation' or 'test'.
    store: Where rows are.
    seed: Of all choices.
    limit: Only the first so many.
    vocabulary: Counts tokens, so that exemplars fit; `fit_shot` needs it.
    lengths: 'inputs' is what they have to fit.
    layout: How exemplars stand before the query.

  Raises:
    UserError: The rows cannot be had, or a row does not suit its templates.
  """
  rows = store.open(task.dataset, split)
  rendering = blocks.renderer(
      task,
      rows,
      store,
      seed=seed,
      vocabulary=vocabulary,
      lengths=lengths,
      layout=layout,
  )
  count = len(rows)
  if limit is not None:
    count = min(count, limit)
  rendered: list[examples_lib.Example] = []
  for first in range(0, count, _RENDERED_AT_ONCE):
    indices = np.arange(first, min(first + _RENDERED_AT_ONCE, count))
    rendered += rendering.render(indices, np.zeros_like(indices))
  return rendered


def evaluation_batches(
    mixture: mixtures.Mixture | tasks.Task,
    split: str,
    vocabulary: vocabularies.Vocabulary,
    store: blocks.Store,
    config: PipelineConfig,
    steps: int,
    process_index: int = 0,
    process_count: int = 1,
) -> list[Batch]:
  """Returns the first batches of one epoch, always the same ones.

  Members take turns, an example each in the order of their rows, until they
  have no more; so a few batches show every member. Packed, rows of a block are
  shuffled: the first ones are not those of the longest examples.

  Args:
    mixture: What to go through.
    split: 'validation', as a rule.
    vocabulary: Makes ids of texts.
    store: Where rows are.
    config: Lengths, batch size, seed, block, the layout of exemplars and
      whether to pack; the rest plays no part.
    steps: The most batches.
    process_index: This host's number.
    process_count: The number of hosts.

  Returns:
    At most `steps` batches of features, int32 [batch_size / process_count,
    length]; a short last one is filled up with rows of padding.

  Raises:
    UserError: Rows cannot be had, or hosts do not divide the batch.
  """
  share = streams_lib.share(config.batch_size, process_count)
  members = blocks.Members(
      mixtures.as_mixture(mixture),
      split,
      vocabulary,
      store,
      config.lengths,
      config.seed,
      config.few_shot,
      config.form,
  )
  parts: list[packing.Wide] = []
  wanted = steps * config.batch_size
  for number, draws in enumerate(_turns(members.sizes(), config.block)):
    if sum(map(len, parts)) >= wanted:
      break
    order = blocks.row_order(config.seed, number) if config.pack else None
    parts.append(members.block(draws, pack=config.pack, order=order).rows)
  found = min(sum(map(len, parts)), wanted)
  whole = -(-found // config.batch_size) * config.batch_size
  rows = packing.empty(
      max(whole, sum(map(len, parts))), config.lengths, form=config.form
  )
  first = 0
  for part in parts:
    for name, array in packing.features(
        part, config.lengths, config.form
    ).items():
      rows[name][first : first + len(part)] = array
    first += len(part)
  own = process_index * share
  return [
      {
          name: array[first + own : first + own + share]
          for name, array in rows.items()
      }
      for first in range(0, whole, config.batch_size)
  ]


def _turns(sizes: np.ndarray, block: int) -> Iterator[mixing.Draws]:
  """Yields draws of an epoch in which members take turns, `block` at a time."""
  pairs = (
      (member, row)
      for row in range(int(sizes.max()))
      for member in np.flatnonzero(sizes > row).tolist()
  )
  while some := list(itertools.islice(pairs, block)):
    member, row = np.array(some, np.int64).T
    yield mixing.Draws(member, row, np.zeros_like(row))


def _digest(value: Any) -> str:
  text = json.dumps(value, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:16]
