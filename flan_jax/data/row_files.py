"""Arrow files of rows: written in one pass, read by place.

A file is in Arrow's IPC file format, a column for each key of the rows, and
one more with each row's place in its source. Batches are large (a capped
dataset is one), so that reading by place is one `take` a column.
"""

from collections.abc import Mapping
import hashlib
import os
import pathlib
from typing import Any

from flan_jax.data import row_types
import numpy as np
import pyarrow as pa

FILE = 'rows.arrow'
PLACE = '__place__'
_BATCH_ROWS = 1 << 16
_BATCH_CHARACTERS = 1 << 26


class _Buffer:
  """Rows on their way to a batch."""

  def __init__(self):
    self.rows: list[dict[str, Any]] = []
    self.places: list[int] = []
    self._characters = 0

  def add(self, place: int, row: dict[str, Any]) -> None:
    self.rows.append(row)
    self.places.append(place)
    self._characters += _characters(row)

  @property
  def full(self) -> bool:
    rows, characters = len(self.rows), self._characters
    return rows >= _BATCH_ROWS or characters >= _BATCH_CHARACTERS


def _characters(value: Any) -> int:
  """About how much memory a value takes."""
  if isinstance(value, str):
    return len(value)
  if isinstance(value, dict):
    return sum(_characters(item) for item in value.values())
  if isinstance(value, list):
    return sum(_characters(item) for item in value)
  return 8


class Writer:
  """Writes the rows of one split.

  The types of columns are known for certain only at the end, so batches go to
  part files of the types known by then. Mostly that is a single part, and it
  becomes the file; otherwise the parts are written again with the final types.
  Rows belong to a `part` of the split's expression and end up in its order.
  """

  def __init__(self, folder: pathlib.Path):
    self._folder = folder
    self._type = row_types.EMPTY
    self._buffers: dict[int, _Buffer] = {}
    self._files: list[tuple[int, pathlib.Path, row_types.Type]] = []
    self._writer: pa.RecordBatchFileWriter | None = None
    self._sink: pa.OSFile | None = None
    self.counts: dict[int, int] = {}

  @property
  def rows(self) -> int:
    return sum(self.counts.values())

  def append(self, part: int, place: int, row: dict[str, Any]) -> None:
    """Adds a row.

    Args:
      part: The part of the split that the row belongs to.
      place: The row's place in its source, ascending within the part.
      row: Anything that `row_types` can store.

    Raises:
      Mismatch: The row cannot be stored beside the rows before it; it is left
        out, and more can be added.
    """
    if PLACE in row:
      raise row_types.Mismatch(f"field '{PLACE}' is a name kept for ourselves")
    self._type = row_types.widen(self._type, row)
    buffer = self._buffers.setdefault(part, _Buffer())
    buffer.add(place, row)
    self.counts[part] = self.counts.get(part, 0) + 1
    if buffer.full:
      self._flush(part)

  def finish(self) -> Mapping[str, row_types.Type]:
    """Completes the file; returns the types of its columns."""
    for part in list(self._buffers):
      self._flush(part)
    self._close()
    target = self._folder / FILE
    kind = self._type
    if len(self._files) == 1 and self._files[0][2] is kind:
      os.replace(self._files[0][1], target)
      return kind[1]
    with pa.OSFile(str(target), 'wb') as sink:
      with pa.ipc.new_file(sink, _schema(kind)) as writer:
        for _, path, old in sorted(self._files, key=lambda file: file[0]):
          for batch in read(path):
            rows, places = _rows_of(batch, old[1])
            writer.write_batch(_batch(kind, rows, places))
    for _, path, _ in self._files:
      path.unlink()
    return kind[1]

  def discard(self) -> None:
    """Removes what was written."""
    self._buffers.clear()
    self._close()
    for _, path, _ in self._files:
      path.unlink()

  def _flush(self, part: int) -> None:
    buffer = self._buffers.pop(part)
    last = self._files[-1] if self._writer else None
    if last is None or last[0] != part or last[2] is not self._type:
      self._close()
      path = self._folder / f'part-{len(self._files)}.arrow'
      self._files.append((part, path, self._type))
      self._sink = pa.OSFile(str(path), 'wb')
      self._writer = pa.ipc.new_file(self._sink, _schema(self._type))
    assert self._writer is not None
    self._writer.write_batch(_batch(self._type, buffer.rows, buffer.places))

  def _close(self) -> None:
    if self._writer and self._sink:
      self._writer.close()
      self._sink.close()
      self._writer = self._sink = None


def _schema(kind: row_types.Type) -> pa.Schema:
  fields = [(key, row_types.arrow(inner)) for key, inner in kind[1].items()]
  return pa.schema([*fields, (PLACE, pa.int64())])


def _batch(
    kind: row_types.Type, rows: list[dict[str, Any]], places: list[int]
) -> pa.RecordBatch:
  columns = [
      row_types.encode(inner, [row.get(key) for row in rows])
      for key, inner in kind[1].items()
  ]
  return pa.record_batch(
      [*columns, pa.array(places, pa.int64())], schema=_schema(kind)
  )


def _rows_of(
    batch: pa.RecordBatch, types: Mapping[str, row_types.Type]
) -> tuple[list[dict[str, Any]], list[int]]:
  columns = {
      key: row_types.decode(kind, batch.column(place))
      for place, (key, kind) in enumerate(types.items())
  }
  places = batch.column(len(types)).to_pylist()
  rows = [{key: columns[key][i] for key in columns} for i in range(len(places))]
  return rows, places


def read(path: pathlib.Path) -> list[pa.RecordBatch]:
  """Returns a file's batches, memory-mapped: nothing is read before use."""
  file = pa.memory_map(str(path))
  reader = pa.ipc.open_file(file)
  batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
  # The batches keep the mapping; without this each split would keep a file
  # descriptor too, and a mixture of thousands of tasks runs out of them.
  file.close()
  return batches


def sha256(path: pathlib.Path) -> str:
  """Returns the SHA-256 of a file's bytes."""
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def locate(
    starts: np.ndarray, indices: np.ndarray
) -> list[tuple[int, np.ndarray, np.ndarray]]:
  """Groups indices by batch.

  Args:
    starts: int64 [batches + 1]; the first row of each batch, and the end.
    indices: int64 [B].

  Returns:
    For each batch in use: its number, which of `indices` are in it, and their
    rows within it.
  """
  if len(starts) == 2:
    return [(0, np.arange(len(indices)), indices)]
  batch = np.searchsorted(starts, indices, side='right') - 1
  groups = []
  for number in np.unique(batch).tolist():
    which = np.nonzero(batch == number)[0]
    groups.append((number, which, indices[which] - starts[number]))
  return groups
