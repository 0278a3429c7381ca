"""Parquet files: `source: {parquet: folder}` or one file.

A file's split is called 'train' (or 'all'). In a folder, a split is
`train.parquet`, the shards of an export such as `train-00000-of-00003.parquet`,
or all Parquet files of a folder `train/`. A path to another file is a split
too: `splits: {test: other/test.parquet}`.

Rows are read a row group at a time. What JSON could not hold becomes text:
dates and times in ISO form, decimal numbers as they are written.
"""

from collections.abc import Iterator
import datetime
import decimal
import glob
import os
import pathlib
import re
from typing import Any

from flan_jax import errors
from flan_jax.data import fingerprints
from flan_jax.data import row_types
from flan_jax.data import specs
from flan_jax.data.sources import base
import pyarrow as pa
import pyarrow.parquet as pq

ENDING = '.parquet'
_ONE_FILE = ('train', 'all')
_BATCH_ROWS = 1024
_SHARD = re.compile(r'(?P<split>.+)-(?P<number>\d+)-of-(?P<count>\d+)\.parquet')
_TEXTS = (datetime.timedelta, decimal.Decimal)


class Parquet:
  """A source of Parquet files."""

  version = ''
  seeded = False

  def __init__(
      self,
      dataset: specs.Dataset,
      settings: base.SourceSettings,
      keep: pathlib.Path | None = None,
  ):
    self._dataset = dataset
    self._settings = settings
    self._keep = keep
    self._counts: dict[str, list[int]] = {}

  def is_split(self, name: str) -> bool:
    return bool(self._find(name))

  def unknown(self, name: str) -> errors.UserError:
    root = self._root()
    if root is None:
      where = self._dataset.source.where
      return base.missing(where, self._dataset, self._settings, 'source')
    if os.sep in name or name.endswith(ENDING):
      return base.missing(name, self._dataset, self._settings, 'splits')
    known = _splits_of(root) if root.is_dir() else list(_ONE_FILE)
    return base.no_split(name, known, str(root), self._dataset)

  def locate(self, split: str) -> str:
    paths = self._paths(split)
    return str(paths[0] if len(paths) == 1 else paths[0].parent)

  def fingerprint(self, split: str) -> str:
    paths = self._paths(split)
    return '+'.join(fingerprints.of_file(path, self._keep) for path in paths)

  def count(self, split: str) -> int | None:
    return sum(self._rows(split))

  def read(
      self, split: str, skipped: base.Skipped
  ) -> Iterator[tuple[base.Number, base.Row]]:
    number = 0
    for path in self._paths(split):
      for row in _read(path):
        try:
          yield number, row_types.plain(row)
        except errors.UserError as error:
          place = self.place(split, number)
          skipped.add(errors.UserError(f'{place}: {error}'))
        number += 1

  def place(self, split: str, number: base.Number) -> str:
    rest = int(number)
    for path, count in zip(self._paths(split), self._rows(split), strict=True):
      if rest < count:
        return f'{path}: row {rest}'
      rest -= count
    raise IndexError(f'{split}: there is no row {number}')

  def _rows(self, split: str) -> list[int]:
    """The number of rows of each file of a split."""
    if split not in self._counts:
      self._counts[split] = [
          _open(path).metadata.num_rows for path in self._paths(split)
      ]
    return self._counts[split]

  def _root(self) -> pathlib.Path | None:
    return base.find(self._dataset.source.where, self._dataset, self._settings)

  def _paths(self, split: str) -> list[pathlib.Path]:
    paths = self._find(split)
    if not paths:
      raise base.missing(split, self._dataset, self._settings, 'splits')
    for path, number in zip(paths, range(len(paths)), strict=True):
      match = _SHARD.fullmatch(path.name)
      if match and (
          int(match['number']) != number or int(match['count']) != len(paths)
      ):
        raise errors.UserError(
            f"{path.parent}: '{split}' should have {int(match['count'])}"
            f' shards, and has {len(paths)}: fetch the others, or remove all'
            ' but one export'
        )
    return paths

  def _find(self, name: str) -> list[pathlib.Path]:
    """Returns the files of a split, in order; none if there is no such."""
    root = self._root()
    if root is not None and root.is_file() and name in _ONE_FILE:
      return [root]
    if root is not None and root.is_dir() and os.sep not in name:
      for path in (root / f'{name}{ENDING}', root / name):
        if path.is_file() and path.name.endswith(ENDING):
          return [path]
      shards = []
      for path in root.glob(f'{glob.escape(name)}-*-of-*{ENDING}'):
        match = _SHARD.fullmatch(path.name)
        if match and match['split'] == name:
          shards.append((int(match['number']), path))
      if shards:
        return [path for _, path in sorted(shards)]
      if (root / name).is_dir():
        return sorted((root / name).glob(f'*{ENDING}'))
    if not name.endswith(ENDING):
      return []  # A bare word is not a path, whatever lies around.
    found = base.find(name, self._dataset, self._settings)
    return [found] if found is not None and found.is_file() else []


def _splits_of(root: pathlib.Path) -> list[str]:
  """The splits that a folder's names tell."""
  found = set()
  for path in root.iterdir():
    match = _SHARD.fullmatch(path.name)
    if match:
      found.add(match['split'])
    elif path.name.endswith(ENDING):
      found.add(path.name.removesuffix(ENDING))
    elif path.is_dir() and any(path.glob(f'*{ENDING}')):
      found.add(path.name)
  return sorted(found)


def _open(path: pathlib.Path) -> pq.ParquetFile:
  try:
    return pq.ParquetFile(path)
  except (pa.ArrowException, OSError) as error:
    raise _unreadable(path, error) from error


def _unreadable(path: pathlib.Path, error: Exception) -> errors.UserError:
  what = ' '.join(str(error).split())
  return errors.UserError(
      f'{path}: cannot be read as Parquet ({what}): fetch or export it again'
  )


def _read(path: pathlib.Path) -> Iterator[dict[str, Any]]:
  file = _open(path)
  names = file.schema_arrow.names
  twice = {name for name in names if names.count(name) > 1}
  if twice:
    raise errors.UserError(f"{path}: two columns are called '{min(twice)}'")
  batches = file.iter_batches(batch_size=_BATCH_ROWS)
  while True:
    try:
      batch = next(batches, None)
      if batch is None:
        return
      columns = [
          _values(column, column.to_pylist(maps_as_pydicts='lossy'))
          for column in batch.columns
      ]
    except (pa.ArrowException, OSError, ValueError) as error:
      raise _unreadable(path, error) from error
    for values in zip(*columns, strict=True):
      yield dict(zip(names, values, strict=True))


def _values(column: pa.Array, values: list[Any]) -> list[Any]:
  """Makes text of what is neither text nor number, where a type has such."""
  return (
      [_text(value) for value in values] if _has_texts(column.type) else values
  )


def _has_texts(kind: pa.DataType) -> bool:
  if pa.types.is_nested(kind):
    return any(
        _has_texts(kind.field(place).type) for place in range(kind.num_fields)
    )
  if pa.types.is_dictionary(kind):
    return _has_texts(kind.value_type)
  return pa.types.is_temporal(kind) or pa.types.is_decimal(kind)


def _text(value: Any) -> Any:
  if isinstance(value, dict):
    return {key: _text(item) for key, item in value.items()}
  if isinstance(value, list):
    return [_text(item) for item in value]
  if isinstance(value, (datetime.date, datetime.time)):
    return value.isoformat()
  return str(value) if isinstance(value, _TEXTS) else value
