"""Paths into rows: 'premise', 'answers.text.0', 'label-coarse'.

A step is a key of a mapping or a place in a list (from 0; '-1' is the last).
A key after a list means that key of each of its entries. A key may itself
hold dots: the longest one that fits is taken.
"""

from collections.abc import Callable, Mapping
import dataclasses
import re
from typing import Any

from flan_jax import errors
from flan_jax.data import row_types
import pyarrow as pa

_PLACE = re.compile(r'-?\d+')

# Reads values from a batch at rows.
Read = Callable[[pa.RecordBatch, pa.Array], list[Any]]
# A step into a value: a key, a place, or a key of each entry.
Step = tuple[str, Any]


class NoPath(Exception):
  """A path that no row has."""


@dataclasses.dataclass(frozen=True)
class Getter:
  """How a field is read."""

  name: str
  read: Read


def steps(path: str, kind: row_types.Type) -> list[Step]:
  """Works out where a path leads in rows of a type.

  Raises:
    NoPath: It leads nowhere; the message says what there is instead.
  """
  found: list[Step] = []
  parts = path.split('.')
  done = 0
  while done < len(parts) and kind != 'null':
    before = '.'.join(parts[:done])
    each = False
    if kind[0] == 'list' and not _PLACE.fullmatch(parts[done]):
      kind, each = kind[1], True
    if kind[0] == 'struct':
      key, length = _longest_key(parts[done:], kind[1])
      if key is None:
        raise NoPath(_no_key(path, before, parts[done], list(kind[1])))
      found.append(('each' if each else 'key', key))
      kind, done = kind[1][key], done + length
      if each:
        kind = ('list', kind)
    elif kind[0] == 'list' and not each:
      found.append(('place', int(parts[done])))
      kind, done = kind[1], done + 1
    elif kind != 'null':
      raise NoPath(
          f"'{path}': '{before}' is"
          f" {'a list of texts or numbers' if each else row_types.name(kind)},"
          f" so there is no '{parts[done]}' in it"
          + ('; write a place, such as 0' if each else '')
      )
  return found


def _longest_key(
    parts: list[str], keys: Mapping[str, Any]
) -> tuple[str | None, int]:
  for length in range(len(parts), 0, -1):
    key = '.'.join(parts[:length])
    if key in keys:
      return key, length
  return None, 0


def _no_key(path: str, before: str, key: str, known: list[str]) -> str:
  place = f" in '{before}'" if before else ''
  return (
      f"'{path}': there is no '{key}'{place}.{errors.nearest(key, known)}"
      f' There: {", ".join(known) or "nothing"}'
  )


def follow(value: Any, way: list[Step]) -> Any:
  """Returns what a path leads to; None where a row has nothing there."""
  for kind, step in way:
    if value is None:
      return None
    if kind == 'key':
      value = value[step]
    elif kind == 'each':
      value = [None if item is None else item[step] for item in value]
    elif -len(value) <= step < len(value):
      value = value[step]
    else:
      return None
  return value


def text(value: Any) -> str | list[str]:
  """Returns a value as a text, or a list as texts.

  None is ''; in lists it is left out.

  Raises:
    ValueError: The value is neither a text, a number nor a list of them.
  """
  if isinstance(value, str):
    return value
  if value is None:
    return ''
  if isinstance(value, (bool, int, float)):
    return str(value)
  if isinstance(value, (list, tuple)):
    texts = [text(item) for item in value if item is not None]
    if all(isinstance(item, str) for item in texts):
      return texts  # type: ignore[return-value]
    raise ValueError('a list of lists is no text; make one with a function')
  raise ValueError(f'a {type(value).__name__} is no text')


def getter(
    name: str, path: str, types: Mapping[str, row_types.Type], raw: bool
) -> Getter:
  """Returns how the field `name` is read.

  Args:
    name: The field's name.
    path: Where it is in the row.
    types: Column -> type.
    raw: Leave values as they are, instead of making texts of them.

  Raises:
    NoPath: The path leads nowhere, or to something that is no text.
  """
  way = steps(path, ('struct', types))
  column = way[0][1]
  place = list(types).index(column)
  kind, rest = types[column], way[1:]
  _check_text(path, _end(kind, rest))

  def read(batch: pa.RecordBatch, at: pa.Array) -> list[Any]:
    array = batch.column(place).take(at)
    if kind == 'str' and not rest:
      values = array.to_pylist()
      if array.null_count and not raw:
        values = ['' if value is None else value for value in values]
      return values
    values = row_types.decode(kind, array)
    if rest:
      values = [follow(value, rest) for value in values]
    return values if raw else [text(value) for value in values]

  return Getter(name, read)


def _end(kind: row_types.Type, way: list[Step]) -> row_types.Type:
  for step, key in way:
    if step == 'key':
      kind = kind[1][key]
    elif step == 'each':
      kind = ('list', kind[1][1][key])
    else:
      kind = kind[1]
  return kind


def _check_text(path: str, kind: row_types.Type) -> None:
  inner = kind[1] if kind[0] == 'list' else kind
  if inner[0] == 'struct':
    known = ', '.join(f'{path}.{key}' for key in inner[1])
    raise NoPath(f"'{path}' is a mapping, not a text: name one of {known}")
  if inner[0] == 'list':
    raise NoPath(
        f"'{path}' is a list of lists, not a text: name a place in it, such as"
        f' {path}.0, or use a function'
    )
