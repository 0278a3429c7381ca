"""Batches on their way to the devices and back."""

import collections
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent import futures
import dataclasses
import functools
import os
import queue
import threading
import time
from typing import Any, TypeVar

from absl import logging
from flan_jax import partitioning
from flan_jax.inference import batching
import jax
from jax.experimental import multihost_utils
import numpy as np

# Batches at work at once on a CPU. XLA runs the operations of a decoding step
# one after another, most of them on one core, and computations that one thread
# has started as well; those of two threads it runs side by side.
_LANES = 2

_T = TypeVar('_T')


@dataclasses.dataclass
class Tokens:
  """Tokens that a model has read and written, padding apart.

  Attributes:
    read: Those of inputs, and of options that were scored.
    written: Those of answers.
  """

  read: int = 0
  written: int = 0


class Runner:
  """Runs compiled functions over batches on a mesh.

  Attributes:
    mesh: The devices.
    planner: Groups examples into batches.
    shapes: What was compiled so far: names, with rows and padded lengths.
    compile_seconds: How long compiling took, beginning the first batch of each
      shape included.
    tokens: Those of finished batches; whoever unpacks results counts them.
  """

  def __init__(self, mesh: jax.sharding.Mesh, **limits: Any):
    """Compiles nothing yet.

    Args:
      mesh: The devices.
      **limits: As `batching.Planner` takes them, without the divisor.
    """
    self.mesh = mesh
    self.planner = batching.Planner(
        divisor=partitioning.batch_divisor(mesh), **limits
    )
    self.compile_seconds = 0.0
    self._one_launch = threading.Lock()
    self.tokens = Tokens()
    self.shapes: set[tuple[str, tuple[int, ...]]] = set()

  def put(self, batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
    """Puts this host's rows of a batch that every host holds on the mesh."""
    index, count = partitioning.host_share(self.mesh)
    local = {}
    for name, rows in batch.items():
      share = len(rows) // count
      local[name] = rows[index * share : (index + 1) * share]
    return partitioning.put_batch(local, self.mesh)

  def note(self, what: str, rows: int, shape: tuple[int, ...]) -> None:
    """Counts a function's compilation for a shape, the first time it is met."""
    key = (what, (rows, *shape))
    if key in self.shapes:
      return
    self.shapes.add(key)
    logging.info(
        'Compiling %s for %d rows of %s tokens: %d compilations so far.',
        what,
        rows,
        ' and '.join(map(str, shape)),
        len(self.shapes),
    )

  def run(
      self,
      batches: Iterable[batching.Batch],
      launch: Callable[[batching.Batch], Any],
  ) -> Iterator[tuple[batching.Batch, Any]]:
    """Yields each batch with its results as numpy arrays.

    While results are read, the device already works on the next batch; a CPU
    with several cores works on two.

    Args:
      batches: What to run, in this order.
      launch: Starts a batch; returns arrays on the mesh, as a tree. It is
        called by one thread at a time, not always the same.
    """
    if self.lanes > 1:
      yield from self._run_in_lanes(batches, launch)
      return
    waiting: tuple[batching.Batch, Any] | None = None
    for batch in batches:
      launched = self.launched(functools.partial(launch, batch))
      if waiting is not None:
        yield waiting[0], fetch(waiting[1])
      waiting = batch, launched
    if waiting is not None:
      yield waiting[0], fetch(waiting[1])

  @property
  def lanes(self) -> int:
    """How many batches are at work at once: no device waits for another."""
    alone = (
        self.mesh.size == 1
        and jax.process_count() == 1
        and self.mesh.devices.flat[0].platform == 'cpu'
        and (os.cpu_count() or 1) > 1
    )
    return _LANES if alone else 1

  def _run_in_lanes(
      self,
      batches: Iterable[batching.Batch],
      launch: Callable[[batching.Batch], Any],
  ) -> Iterator[tuple[batching.Batch, Any]]:
    """Does what `run` does, with a thread for each batch at work."""

    def work(batch: batching.Batch) -> Any:
      return fetch(self.launched(functools.partial(launch, batch)))

    waiting: collections.deque[tuple[batching.Batch, futures.Future]]
    waiting = collections.deque()
    lanes = futures.ThreadPoolExecutor(_LANES, 'batch')
    try:
      for batch in batches:
        waiting.append((batch, lanes.submit(work, batch)))
        # One more than are at work, so that no lane waits for the caller.
        if len(waiting) > _LANES:
          first, found = waiting.popleft()
          yield first, found.result()
      while waiting:
        first, found = waiting.popleft()
        yield first, found.result()
    finally:
      lanes.shutdown(cancel_futures=True)

  def in_lanes(self, work: Callable[[], Iterable[_T]]) -> Iterator[_T]:
    """Yields what several threads yield that do the same work side by side.

    Args:
      work: What each of them goes through; they share out among them what
        there is to do.
    """
    found: queue.SimpleQueue[Any] = queue.SimpleQueue()
    stop = threading.Event()
    ended = object()

    def lane() -> None:
      try:
        for each in work():
          found.put(each)
          if stop.is_set():
            break
      except BaseException:
        stop.set()  # The others need not go on.
        raise
      finally:
        found.put(ended)

    lanes = futures.ThreadPoolExecutor(_LANES, 'lane')
    at_work = [lanes.submit(lane) for _ in range(_LANES)]
    try:
      for _ in at_work:
        while (each := found.get()) is not ended:
          yield each
      for done in at_work:
        done.result()
    finally:
      stop.set()
      lanes.shutdown()

  def launched(self, launch: Callable[[], _T]) -> _T:
    """Returns what `launch` does, and counts the time that compiling takes."""
    # Two threads that meet a shape at once would both compile it.
    with self._one_launch, partitioning.use(self.mesh):
      before, start = len(self.shapes), time.perf_counter()
      launched = launch()
      if len(self.shapes) > before:
        self.compile_seconds += time.perf_counter() - start
    return launched


def fetch(arrays: Any) -> Any:
  """Returns the arrays of all hosts as numpy arrays."""
  if jax.process_count() > 1:
    return multihost_utils.process_allgather(arrays, tiled=True)
  return jax.device_get(arrays)
