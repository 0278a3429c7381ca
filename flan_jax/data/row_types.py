"""Types of rows: found out from the rows, and stored as Arrow columns.

A type is 'null', 'bool', 'int', 'float', 'number', 'str', ('list', type) or
('struct', {key: type}). 'number' is for columns that hold whole numbers and
others, or whole numbers too large for 64 bits: Arrow has no such column, and
as floats 51 would come back as 51.0, so they are stored as they are written.
"""

from collections.abc import Mapping, Sequence
import json
from typing import Any

from flan_jax import errors
import pyarrow as pa

Type = Any  # Recursive: str, ('list', Type) or ('struct', dict[str, Type]).

_SCALARS: Mapping[type, str] = {
    str: 'str',
    bool: 'bool',
    int: 'int',
    float: 'float',
    type(None): 'null',
}
_NUMBERS = ('int', 'float', 'number')
_ARROW = {
    'null': pa.null(),
    'bool': pa.bool_(),
    'int': pa.int64(),
    'float': pa.float64(),
    'number': pa.string(),
    'str': pa.string(),
}
EMPTY: Type = ('struct', {})


class Mismatch(Exception):
  """A value that does not fit what the rows before it hold."""


def widen(known: Type, value: Any, path: str = '') -> Type:
  """Returns the type of `value` and of what was seen before, together.

  Args:
    known: The type so far; 'null' before the first value. It is returned
      itself, not a copy, when `value` adds nothing.
    value: A value made of dicts with text keys, lists, str, int, float, bool
      and None.
    path: Where the value stands in the row, for the error.

  Raises:
    Mismatch: The value cannot be stored beside the ones before.
  """
  kind = _SCALARS.get(type(value))
  if kind is not None:
    if kind == 'int' and not -(2**63) <= value < 2**63:
      kind = 'number'
    if kind == 'str' and not value.isascii():
      _check_text(value, path)
    if kind == known or kind == 'null':
      return known
    if known == 'null':
      return kind
    if kind in _NUMBERS and known in _NUMBERS:
      return 'number'
  elif type(value) is list:
    if known == 'null':
      known = ('list', 'null')
    if known[0] == 'list':
      inner = known[1]
      for item in value:
        inner = widen(inner, item, f'{path}[]')
      return known if inner is known[1] else ('list', inner)
  elif type(value) is dict:
    if known == 'null':
      known = EMPTY
    if known[0] == 'struct':
      return _widen_struct(known, value, path)
  else:
    raise Mismatch(f'{_field(path)} is a {type(value).__name__}, not data')
  raise Mismatch(
      f'{_field(path)} is {_name_of(value)}, but {name(known)} before'
  )


def _widen_struct(known: Type, value: dict, path: str) -> Type:
  types = known[1]
  changed = {}
  for key, item in value.items():
    old = types.get(key)
    if old is None:
      if not isinstance(key, str):
        raise Mismatch(f'{_field(path)} has the key {key!r}, not a text')
      _check_text(key, path)
    inner = widen(old or 'null', item, f'{path}.{key}' if path else key)
    if inner is not old:
      changed[key] = inner
  return ('struct', {**types, **changed}) if changed else known


def _check_text(value: str, path: str) -> None:
  try:
    value.encode('utf-8')
  except UnicodeEncodeError as error:
    raise Mismatch(
        f'{_field(path)} holds half a character ({value[error.start]!a}),'
        ' which no text can have'
    ) from error


def _field(path: str) -> str:
  return f"field '{path}'" if path else 'the row'


def name(kind: Type) -> str:
  """Returns a type's name in words."""
  if isinstance(kind, str):
    return {
        'null': 'nothing',
        'bool': 'true or false',
        'int': 'a whole number',
        'float': 'a number',
        'number': 'a number',
        'str': 'a text',
    }[kind]
  return 'a list' if kind[0] == 'list' else 'a mapping'


def _name_of(value: Any) -> str:
  return name(widen('null', value))


def arrow(kind: Type) -> pa.DataType:
  """Returns the Arrow type that stores a type."""
  if isinstance(kind, str):
    return _ARROW[kind]
  if kind[0] == 'list':
    return pa.list_(arrow(kind[1]))
  return pa.struct([(key, arrow(inner)) for key, inner in kind[1].items()])


def has_numbers(kind: Type) -> bool:
  """Whether 'number' is anywhere in a type, so that values need recoding."""
  if isinstance(kind, str):
    return kind == 'number'
  if kind[0] == 'list':
    return has_numbers(kind[1])
  return any(has_numbers(inner) for inner in kind[1].values())


def encode(kind: Type, values: Sequence[Any]) -> pa.Array:
  """Returns values of a type as an Arrow array."""
  if has_numbers(kind):
    values = [_recode(kind, value, json.dumps) for value in values]
  return pa.array(values, type=arrow(kind))


def decode(kind: Type, array: pa.Array) -> list[Any]:
  """Returns the values that `encode` stored."""
  values = array.to_pylist()
  if has_numbers(kind):
    values = [_recode(kind, value, json.loads) for value in values]
  return values


def _recode(kind: Type, value: Any, change) -> Any:
  if value is None or not has_numbers(kind):
    return value
  if isinstance(kind, str):
    return change(value)
  if kind[0] == 'list':
    return [_recode(kind[1], item, change) for item in value]
  return {
      key: _recode(kind[1][key], item, change) for key, item in value.items()
  }


def plain(value: Any) -> Any:
  """Returns a value made of Python's own types alone.

  numpy scalars and arrays, tuples and subclasses become what they hold, and
  bytes are read as UTF-8. What is left unknown is for `widen` to refuse.

  Raises:
    UserError: Bytes are not UTF-8.
  """
  if type(value) in _SCALARS:
    return value
  if isinstance(value, bytes):
    try:
      return value.decode('utf-8')
    except UnicodeDecodeError as error:
      raise errors.UserError(
          f'{value[:40]!r}: byte {error.start} is not UTF-8; only text can be'
          ' stored'
      ) from error
  if isinstance(value, Mapping):
    return {
        str(key) if isinstance(key, str) else key: plain(item)
        for key, item in value.items()
    }
  if isinstance(value, (list, tuple)):
    return [plain(item) for item in value]
  if hasattr(value, 'tolist'):  # numpy, scalars and arrays alike.
    return plain(value.tolist())
  for kind in (str, int, float):  # Subclasses, such as enumerations.
    if isinstance(value, kind):
      return kind(value)
  return value
