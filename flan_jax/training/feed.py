"""Batches on their devices before the step that needs them."""

from collections.abc import Iterator, Mapping
import queue
import threading
from typing import Any, NamedTuple, Protocol

from flan_jax import partitioning
import jax


class Pipeline(Protocol):
  """What the loop knows of data: batches, and the position after each."""

  def __iter__(self) -> Iterator[Mapping[str, Any]]:
    """Yields this host's rows of each global batch, without end."""
    ...

  def get_state(self) -> dict[str, Any]:
    """Returns the position after the batch yielded last, fit for JSON."""
    ...


class Fed(NamedTuple):
  """A batch on the devices, and the data position after it."""

  batch: dict[str, jax.Array]
  position: dict[str, Any]


class Feed:
  """Reads a pipeline in a thread, `depth` batches ahead.

  The position travels with its batch, so a checkpoint never holds one that
  runs ahead of the training.
  """

  def __init__(
      self, pipeline: Pipeline, mesh: jax.sharding.Mesh, depth: int = 2
  ):
    self._queue: queue.Queue[Fed | BaseException] = queue.Queue(depth)
    self._stopped = threading.Event()
    self._thread = threading.Thread(
        target=self._run, args=(pipeline, mesh), name='feed', daemon=True
    )
    self._thread.start()

  def __iter__(self) -> 'Feed':
    return self

  def __next__(self) -> Fed:
    """Returns the next batch; raises what the pipeline raised."""
    item = self._queue.get()
    if isinstance(item, BaseException):
      raise item
    return item

  def close(self) -> None:
    """Stops the thread; batches read ahead are lost, their positions too."""
    self._stopped.set()
    while self._thread.is_alive():
      try:
        self._queue.get(timeout=0.05)
      except queue.Empty:
        continue

  def _run(self, pipeline: Pipeline, mesh: jax.sharding.Mesh) -> None:
    try:
      for rows in pipeline:
        batch = partitioning.put_batch(rows, mesh)
        if not self._put(Fed(batch, pipeline.get_state())):
          return
      raise ValueError('the training data has ended; it never should')
    except BaseException as error:  # The main thread raises it.
      self._put(error)

  def _put(self, item: Fed | BaseException) -> bool:
    """Waits for room; returns whether it found some before `close`."""
    while not self._stopped.is_set():
      try:
        self._queue.put(item, timeout=0.1)
        return True
      except queue.Full:
        continue
    return False
