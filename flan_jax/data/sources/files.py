"""Splits that are files: JSON Lines, CSV and TSV differ only in how they read.

`source: {jsonl: rows.jsonl}` is one file; its split is called 'train' (or
'all'). `source: {jsonl: folder}` has the files of the folder as splits, by
name with or without the ending: 'train' is folder/train.jsonl. Either way a
path to another file is a split too: `splits: {test: other/test.jsonl}`.
"""

from collections.abc import Iterator
import gzip
import io
import os
import pathlib
from typing import IO
import zlib

from flan_jax import errors
from flan_jax.data import fingerprints
from flan_jax.data import specs
from flan_jax.data.sources import base

_ONE_FILE = ('train', 'all')


class Files:
  """A source of files of one kind."""

  version = ''
  seeded = False

  def __init__(
      self,
      dataset: specs.Dataset,
      settings: base.SourceSettings,
      keep: pathlib.Path | None,
      endings: tuple[str, ...],
      reader: base.FileReader,
  ):
    self._dataset = dataset
    self._settings = settings
    self._keep = keep
    self._endings = endings + tuple(f'{ending}.gz' for ending in endings)
    self._reader = reader

  def is_split(self, name: str) -> bool:
    return self._find(name) is not None

  def unknown(self, name: str) -> errors.UserError:
    root = self._root()
    if root is None:
      where = self._dataset.source.where
      return base.missing(where, self._dataset, self._settings, 'source')
    if os.sep in name or name.endswith(self._endings):
      return base.missing(name, self._dataset, self._settings, 'splits')
    known = list(_ONE_FILE)
    if root.is_dir():
      known = [path.name for path in root.iterdir()]
      known = sorted(name for name in known if name.endswith(self._endings))
    return base.no_split(name, known, str(root), self._dataset)

  def locate(self, split: str) -> str:
    return str(self._path(split))

  def fingerprint(self, split: str) -> str:
    return fingerprints.of_file(self._path(split), self._keep)

  def count(self, split: str) -> int | None:
    return None

  def read(
      self, split: str, skipped: base.Skipped
  ) -> Iterator[tuple[base.Number, base.Row]]:
    return self._reader(self._path(split), self._dataset, skipped)

  def place(self, split: str, number: base.Number) -> str:
    separator = ':' if isinstance(number, int) else ': '
    return f'{self._path(split)}{separator}{number}'

  def _root(self) -> pathlib.Path | None:
    return base.find(self._dataset.source.where, self._dataset, self._settings)

  def _find(self, name: str) -> pathlib.Path | None:
    root = self._root()
    if root is not None and root.is_file() and name in _ONE_FILE:
      return root
    if root is not None and root.is_dir():
      for ending in ('', *self._endings):
        if (root / f'{name}{ending}').is_file():
          return root / f'{name}{ending}'
    if not name.endswith(self._endings) and os.sep not in name:
      return None  # A bare word is not a path, whatever lies around.
    path = base.find(name, self._dataset, self._settings)
    return path if path is not None and path.is_file() else None

  def _path(self, split: str) -> pathlib.Path:
    path = self._find(split)
    if path is None:
      raise base.missing(split, self._dataset, self._settings, 'splits')
    return path


def open_text(path: pathlib.Path) -> IO[str]:
  """Opens a file as UTF-8 text, unpacking .gz; a byte order mark is dropped.

  Line ends are left as they are, as the csv module wants.
  """
  if path.suffix == '.gz':
    packed = gzip.open(path, 'rb')
    return io.TextIOWrapper(packed, encoding='utf-8-sig', newline='')
  return open(path, encoding='utf-8-sig', newline='')


def read_lines(
    path: pathlib.Path, skipped: base.Skipped
) -> Iterator[tuple[int, str]]:
  """Yields a file's lines, numbered from 1, without their ends.

  Only '\\n' ends a line (with '\\r' before it or not): str.splitlines would
  also cut at characters that texts may hold.
  """
  opened = gzip.open(path, 'rb') if path.suffix == '.gz' else open(path, 'rb')
  with opened as file:
    try:
      for number, line in enumerate(file, 1):
        line = line.rstrip(b'\r\n')
        if number == 1:
          line = line.removeprefix(b'\xef\xbb\xbf')
        try:
          yield number, line.decode('utf-8')
        except UnicodeDecodeError as error:
          skipped.add(not_utf8(f'{path}:{number}', error))
    except (EOFError, zlib.error, OSError) as error:
      raise errors.UserError(f'{path}: cannot be read: {error}') from error


def not_utf8(place: str, error: UnicodeDecodeError) -> errors.UserError:
  """Returns the error for bytes that are no text."""
  return errors.UserError(
      f'{place}: byte {error.object[error.start]:#04x} at {error.start} is not'
      ' UTF-8: save the file as UTF-8, or pass --on_error=skip'
  )
