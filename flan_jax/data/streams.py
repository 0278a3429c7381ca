"""Streams: how blocks are dealt out to hosts, and how they get there."""

import collections
from collections.abc import Mapping, Sequence
import dataclasses
import itertools
import math

from absl import flags
from flan_jax import errors
from flan_jax.data import blocks
from flan_jax.data import packing
from flan_jax.data import reports

# What a run has unless it says otherwise. More streams let more hosts share
# the work, but each needs a block before the first batch.
_STREAMS = 8


def number(streams: int | None, batch_size: int, process_count: int) -> int:
  """Returns the number of streams, which suits hosts and batch size.

  Args:
    streams: What is asked for; None for a number that suits.
    batch_size: Rows in a global batch.
    process_count: The number of hosts.

  Raises:
    UserError: They do not divide each other.
  """
  share(batch_size, process_count)
  if streams is None:
    # Without a look at the hosts, so that their number changes nothing.
    usual = max(n for n in range(1, _STREAMS + 1) if batch_size % n == 0)
    more = math.lcm(usual, process_count)
    return more if batch_size % more == 0 else process_count
  if streams < 1 or streams % process_count:
    raise errors.UserError(
        f'streams: {streams} streams cannot be dealt out evenly to'
        f' {process_count} hosts; make it a multiple of {process_count}'
    )
  if batch_size % streams:
    raise errors.UserError(
        f'BATCH_SIZE: {batch_size} rows cannot be taken evenly from'
        f' {streams} streams; make it a multiple of {streams}'
    )
  return streams


def share(batch_size: int, process_count: int) -> int:
  """Returns each host's rows of a global batch.

  Raises:
    UserError: The hosts do not divide the batch.
  """
  if batch_size % process_count:
    raise errors.UserError(
        f'BATCH_SIZE: {batch_size} rows cannot be dealt out evenly to'
        f' {process_count} hosts; make it a multiple of {process_count}'
    )
  return batch_size // process_count


class Source:
  """The rows of some streams, from given positions on.

  Grain moves the blocks: it asks for them in a fixed order, the streams in
  turn, from a thread or from worker processes. Blocks differ in rows, so a
  stream may run ahead of what is asked of it; its blocks wait here.
  """

  def __init__(
      self,
      all_blocks: blocks.Blocks,
      positions: Mapping[int, Sequence[int]],
      streams: int,
      workers: int,
      report: reports.Report | None = None,
  ):
    """Starts reading.

    Args:
      all_blocks: The mixture's.
      positions: Of each stream, the block and the row in it to begin with.
      streams: How many there are on all hosts.
      workers: Processes that make blocks; 0 is a thread.
      report: Learns of the examples in each block that is begun.
    """
    # Grain imports jax, which reading and showing examples does not need.
    import grain

    starts = [(stream, block) for stream, (block, _) in positions.items()]
    blocks_in_turn = grain.MapDataset.range(1 << 60).map(
        _InTurn(all_blocks, starts, streams)
    )
    dataset = blocks_in_turn.to_iter_dataset(
        grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
    )
    if workers:
      if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # Grain reads some, with their defaults.
      dataset = dataset.mp_prefetch(
          grain.MultiprocessingOptions(
              num_workers=workers, per_worker_buffer_size=2
          )
      )
    self._arriving = iter(dataset)
    self._turn = itertools.cycle(positions)
    self._positions = {s: list(position) for s, position in positions.items()}
    self._report = report
    self._lengths = all_blocks.members.lengths
    self._form = all_blocks.members.form
    self._waiting: dict[int, collections.deque[blocks.Block]] = {
        stream: collections.deque() for stream in positions
    }

  def take(
      self, stream: int, batch: packing.Batch, first: int, count: int
  ) -> None:
    """Writes the stream's next `count` rows into `batch`, from row `first`."""
    position, waiting = self._positions[stream], self._waiting[stream]
    while count:
      while not waiting:
        self._waiting[next(self._turn)].append(next(self._arriving))
      rows, tally = waiting[0]
      parts = packing.features(rows, self._lengths, self._form)
      if packing.MEMBER_IDS in batch:
        parts[packing.MEMBER_IDS] = packing.member_ids(
            rows, self._lengths, self._form
        )
      start = position[1]
      if not start and self._report is not None:
        self._report.add(tally)
      taken = min(count, len(rows) - start)
      for name, array in parts.items():
        batch[name][first : first + taken] = array[start : start + taken]
      first, count = first + taken, count - taken
      position[1] += taken
      if position[1] == len(rows):
        waiting.popleft()
        position[:] = position[0] + 1, 0

  def positions(self) -> dict[int, list[int]]:
    """Returns [next block, next row in it] of each stream."""
    return {s: list(position) for s, position in self._positions.items()}

  def close(self) -> None:
    self._arriving.close()


@dataclasses.dataclass
class _InTurn:
  """Block after block of the streams in turn; travels to worker processes."""

  all_blocks: blocks.Blocks
  starts: list[tuple[int, int]]
  streams: int

  def __call__(self, index: int) -> blocks.Block:
    later, place = divmod(index, len(self.starts))
    stream, first = self.starts[place]
    return self.all_blocks.build((first + later) * self.streams + stream)
