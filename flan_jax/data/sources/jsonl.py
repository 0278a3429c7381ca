"""JSON Lines: one object a line. A JSON file with a list of objects will do.

Where the list is in an object, as in {"version": 1, "examples": [...]}, its key
is named: `source: {jsonl: file.json, rows: examples}`.
"""

from collections.abc import Iterator
import json
import pathlib
from typing import Any
import zlib

from flan_jax import errors
from flan_jax.data import specs
from flan_jax.data.sources import base
from flan_jax.data.sources import files

ENDINGS = ('.jsonl', '.json', '.ndjson')


def create(
    dataset: specs.Dataset,
    settings: base.SourceSettings,
    keep: pathlib.Path | None = None,
) -> base.Source:
  """Returns the source that a declaration with `jsonl` names."""
  return files.Files(dataset, settings, keep, ENDINGS, read)


def read(
    path: pathlib.Path, dataset: specs.Dataset, skipped: base.Skipped
) -> Iterator[tuple[base.Number, base.Row]]:
  """Yields rows, numbered by line from 1, or by entry of the list from 0."""
  key = dataset.source.options.get('rows', '')
  if key or _starts_list(path):
    yield from _read_list(path, key, skipped)
    return
  for number, line in files.read_lines(path, skipped):
    if not line or line.isspace():
      continue
    try:
      row = parse(line)
    except ValueError as error:
      skipped.add(
          errors.UserError(
              f'{path}:{number}: not valid JSON ({error}): fix it or pass'
              ' --on_error=skip'
          )
      )
      continue
    if isinstance(row, dict):
      yield number, row
    else:
      skipped.add(_not_an_object(f'{path}:{number}', row))


def parse(text: str) -> Any:
  """Reads JSON; what cannot be read is a ValueError of one line.

  NaN and Infinity are accepted, as Python writes them.
  """
  try:
    return json.loads(text)
  except json.JSONDecodeError as error:
    place = f'column {error.colno}'
    if error.lineno > 1:
      place = f'line {error.lineno}, {place}'
    raise ValueError(f'{error.msg} at {place}') from error
  except RecursionError as error:
    raise ValueError('too many brackets inside each other') from error


def parse_file(path: pathlib.Path) -> Any:
  """Reads a file that is one JSON value.

  Raises:
    UserError: It cannot be read, or is not JSON.
  """
  try:
    with files.open_text(path) as file:
      text = file.read()
  except UnicodeDecodeError as error:
    raise errors.UserError(
        f'{path}: byte {error.start} is not UTF-8: save the file as UTF-8'
    ) from error
  except (OSError, EOFError, zlib.error) as error:
    raise errors.UserError(f'{path}: cannot be read: {error}') from error
  try:
    return parse(text)
  except ValueError as error:
    raise errors.UserError(
        f'{path}: not valid JSON ({error}): fix the file'
    ) from error


def _starts_list(path: pathlib.Path) -> bool:
  for _, line in files.read_lines(path, base.Skipped('skip')):
    if line and not line.isspace():
      return line.lstrip().startswith('[')
  return False


def _read_list(
    path: pathlib.Path, key: str, skipped: base.Skipped
) -> Iterator[tuple[base.Number, base.Row]]:
  value = parse_file(path)
  if key:
    if not isinstance(value, dict) or not isinstance(value.get(key), list):
      raise errors.UserError(
          f"{path}: there is no list '{key}', which the source's option `rows`"
          ' names'
      )
    value = value[key]
  for place, row in enumerate(value):
    if isinstance(row, dict):
      yield f'entry {place}', row
    else:
      skipped.add(_not_an_object(f'{path}: entry {place}', row))


def _not_an_object(place: str, value: Any) -> errors.UserError:
  kind = {list: 'a list', str: 'a text', type(None): 'null'}.get(
      type(value), 'a number'
  )
  return errors.UserError(
      f'{place}: {kind} where a row should be, an object such as'
      ' {"text": "..."}: fix it or pass --on_error=skip'
  )
