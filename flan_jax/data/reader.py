"""Stored rows of one split, read by index."""

from collections.abc import Sequence
import pathlib
from typing import Any

from flan_jax import errors
from flan_jax.data import manifest as manifest_lib
from flan_jax.data import row_files
from flan_jax.data import row_paths
from flan_jax.data import row_types
from flan_jax.data import specs
from flan_jax.data.sources import base
import numpy as np
import pyarrow as pa


class Rows:
  """The rows of one split of one dataset, memory-mapped.

  Rows can be sent to another process, which maps the file anew.

  Attributes:
    dataset: The dataset.
    split: train, validation or test.
    manifest: Where the rows came from.
  """

  def __init__(
      self,
      dataset: specs.Dataset,
      split: str,
      folder: pathlib.Path,
      manifest: manifest_lib.SplitManifest,
  ):
    self.dataset = dataset
    self.split = split
    self.manifest = manifest
    self._folder = folder
    self._batches = row_files.read(folder / row_files.FILE)
    sizes = [batch.num_rows for batch in self._batches]
    self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    self._columns = list(manifest.types)
    self._plan: list[row_paths.Getter] | None = None

  def __reduce__(self):
    return Rows, (self.dataset, self.split, self._folder, self.manifest)

  def __len__(self) -> int:
    return self.manifest.rows

  def take(self, indices: Sequence[int] | np.ndarray) -> list[dict[str, Any]]:
    """Returns raw rows, as the source gave them.

    A key that some rows lack is None in those. Where a function makes the
    fields, they are what is stored, and what is returned.

    Args:
      indices: Integers [B], 0 <= index < len(self).

    Raises:
      IndexError: An index is out of range.
    """
    columns = [self._column(name) for name in self._columns]
    lists = self._gather(indices, columns)
    if not lists:
      return [{} for _ in range(len(indices))]
    names = self._columns
    return [
        dict(zip(names, values, strict=True))
        for values in zip(*lists, strict=True)
    ]

  def fields(self, indices: Sequence[int] | np.ndarray) -> list[dict[str, Any]]:
    """Returns the dataset's fields of rows, choices not applied.

    A mapping also gives what only `choices` and `references` name, under the
    path that they name it by. Values are texts, or lists of texts; the
    label alone is as the row has it. A value that is missing is ''.

    Args:
      indices: Integers [B], 0 <= index < len(self).

    Raises:
      UserError: A field is not in the rows.
      IndexError: An index is out of range.
    """
    self.check()
    assert self._plan is not None
    names = [getter.name for getter in self._plan]
    lists = self._gather(indices, [getter.read for getter in self._plan])
    return [
        dict(zip(names, values, strict=True))
        for values in zip(*lists, strict=True)
    ]

  def check(self) -> None:
    """Finds out how fields are read.

    Raises:
      UserError: A field is not in the rows.
    """
    if self._plan is None:
      self._plan = self._make_plan()

  def row_ids(self, indices: Sequence[int] | np.ndarray) -> list[str]:
    """Returns each row's place in its source, such as 'train:17'."""
    place = len(self._columns)
    places = self._gather(
        indices, [lambda batch, at: batch.column(place).take(at).to_pylist()]
    )[0]
    ends = np.cumsum([rows for _, rows in self.manifest.parts])
    part = np.searchsorted(ends, np.asarray(indices), side='right')
    names = [name for name, _ in self.manifest.parts]
    return [
        f'{names[which]}:{place}'
        for which, place in zip(part.tolist(), places, strict=True)
    ]

  def _column(self, name: str) -> row_paths.Read:
    kind = self.manifest.types[name]
    place = self._columns.index(name)

    def read(batch: pa.RecordBatch, at: pa.Array) -> list[Any]:
      return row_types.decode(kind, batch.column(place).take(at))

    return read

  def _gather(
      self, indices: Sequence[int] | np.ndarray, reads: list[row_paths.Read]
  ) -> list[list[Any]]:
    """Reads columns at indices; a list of values for each of `reads`."""
    array = np.asarray(indices, np.int64).reshape(-1)
    if len(array) and not 0 <= array.min() <= array.max() < len(self):
      raise IndexError(
          f'{self.dataset.name}/{self.split} has {len(self)} rows; asked for'
          f' {array.min()} to {array.max()}'
      )
    groups = row_files.locate(self._starts, array)
    if len(groups) == 1:
      number, _, at = groups[0]
      return [read(self._batches[number], pa.array(at)) for read in reads]
    lists: list[list[Any]] = [[None] * len(array) for _ in reads]
    for number, which, at in groups:
      rows = pa.array(at)
      for values, read in zip(lists, reads, strict=True):
        found = read(self._batches[number], rows)
        for place, value in zip(which.tolist(), found, strict=True):
          values[place] = value
    return lists

  def _make_plan(self) -> list[row_paths.Getter]:
    """Works out once how each field is read; finds fields that are not there.

    Raises:
      UserError: A path leads nowhere.
    """
    fields = self.dataset.field_names
    paths = self.dataset.row_paths or {name: name for name in fields}
    plan = []
    for name, path in paths.items():
      key = f'fields.{name}' if name in fields else self._key_of(name)
      where = base.declared_in(self.dataset, key)
      try:
        getter = row_paths.getter(
            name, path, self.manifest.types, raw=name == self._label
        )
      except row_paths.NoPath as error:
        raise errors.UserError(
            f'{where}: {error} (rows of {self.manifest.place})'
        ) from error
      plan.append(getter)
    return plan

  @property
  def _label(self) -> str:
    return self.dataset.choices.label if self.dataset.choices else ''

  def _key_of(self, name: str) -> str:
    """The key of a declaration that alone names a path."""
    choices = self.dataset.choices
    if choices and name == choices.label:
      return 'choices.label'
    if choices and name in (*choices.fields, choices.list):
      return 'choices'
    if name == self.dataset.group_by:
      return 'group_by'
    return 'references'
