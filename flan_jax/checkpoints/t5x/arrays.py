"""Arrays that tensorstore keeps, found by looking and read by parts.

T5X writes one array (zarr) a parameter, in folders beside each other or, since
it uses Orbax, all in one database (OCDBT). Both are stores of keys such as
'target.encoder.encoder_norm.scale/.zarray'. A part of an array that is missing
reads as zeros, without an error; so what should be there is counted first.

Importable without tensorstore.
"""

from collections.abc import Iterator, Mapping
import contextlib
import dataclasses
import itertools
import json
import math
import pathlib
from typing import Any

from flan_jax import errors
from flan_jax import storage
import numpy as np

Index = tuple[slice, ...]

_ZARR, _ZARR3 = '.zarray', 'zarr.json'
_SHOWN = 3
# Neither of the two has a word for it; `ml_dtypes` has.
_BFLOAT16 = 'bfloat16'


@dataclasses.dataclass(frozen=True)
class Array:
  """An array of a checkpoint.

  Attributes:
    shape: Its shape.
    dtype: Its dtype.
    source: The array itself, where it is small, or what tensorstore opens.
  """

  shape: tuple[int, ...]
  dtype: np.dtype
  source: np.ndarray | Mapping[str, Any]

  def read(self, index: Index | None = None) -> np.ndarray:
    """Returns the array or a part of it; keeps nothing.

    Args:
      index: A slice for each axis.

    Raises:
      UserError: It cannot be read.
    """
    if isinstance(self.source, np.ndarray):
      return np.array(self.source if index is None else self.source[index])
    import tensorstore

    with one_line(self.source):
      opened = tensorstore.open(dict(self.source)).result()
      part = opened if index is None else opened[index]
      found = np.asarray(part.read().result())
    if found.dtype == np.uint16:
      # So T5X wrote bfloat16 before its version 3.
      found = found.view(self.dtype)
    return found


def inline(value: np.ndarray) -> Array:
  """Returns an array that is at hand."""
  return Array(value.shape, value.dtype, value)


def find(store: Mapping[str, Any], whole: pathlib.Path) -> dict[str, Array]:
  """Returns all arrays of a store by their folders' names.

  Args:
    store: What tensorstore opens; see `files` and `database`.
    whole: The checkpoint, for messages.

  Raises:
    UserError: The store cannot be read, or parts of arrays are missing.
  """
  import tensorstore

  with one_line(store):
    opened = tensorstore.KvStore.open(dict(store)).result()
    folders: dict[str, set[str]] = {}
    for key in opened.list().result():
      folder, _, file = key.decode().rpartition('/')
      folders.setdefault(folder, set()).add(file)
    read = {
        f'{folder}/{kind}': opened.read(f'{folder}/{kind}')
        for folder, files in folders.items()
        for kind in (_ZARR, _ZARR3)
        if kind in files
    }
    described = {
        place: json.loads(future.result().value)
        for place, future in read.items()
    }
  found, broken = {}, []
  for place, facts in described.items():
    folder, _, kind = place.rpartition('/')
    spec = {
        'driver': 'zarr' if kind == _ZARR else 'zarr3',
        'kvstore': {**store, 'path': f'{store.get("path", "")}{folder}/'},
    }
    if kind == _ZARR and not _chunks(facts) <= folders[folder]:
      broken.append(folder)
    found[folder] = Array(tuple(facts['shape']), _dtype(facts), spec)
  if broken:
    more = f' and {len(broken) - _SHOWN} more' if len(broken) > _SHOWN else ''
    raise errors.UserError(
        f'{whole}: parts of {", ".join(sorted(broken)[:_SHOWN])}{more} are'
        ' missing; copy the checkpoint again'
    )
  return found


def files(folder: pathlib.Path) -> dict[str, Any]:
  """Returns how tensorstore opens the files of a folder, or of a bucket's."""
  if storage.is_address(folder):
    bucket, _, path = str(folder).removeprefix('gs://').partition('/')
    return {'driver': 'gcs', 'bucket': bucket, 'path': f'{path}/'}
  return {'driver': 'file', 'path': f'{folder.absolute()}/'}


def database(folder: pathlib.Path) -> dict[str, Any]:
  """Returns how tensorstore opens Orbax's database in a folder."""
  return {'driver': 'ocdbt', 'base': files(folder), 'path': ''}


def _chunks(facts: Mapping[str, Any]) -> set[str]:
  """Returns the names of all parts of an array."""
  separator = facts.get('dimension_separator', '.')
  if separator != '.':
    return set()  # They lie in folders of their own, which are not looked into.
  counts = [
      math.ceil(size / chunk)
      for size, chunk in zip(facts['shape'], facts['chunks'], strict=True)
  ]
  if not counts:
    return {'0'}
  return {
      '.'.join(map(str, place))
      for place in itertools.product(*map(range, counts))
  }


def _dtype(facts: Mapping[str, Any]) -> np.dtype:
  name = facts.get('dtype') or facts['data_type']
  if name in (_BFLOAT16, '<u2', 'uint16'):
    import ml_dtypes

    return np.dtype(ml_dtypes.bfloat16)
  return np.dtype(name)


@contextlib.contextmanager
def one_line(spec: Mapping[str, Any], done: str = 'read') -> Iterator[None]:
  """Makes one line of what tensorstore says of a file.

  Args:
    spec: The file.
    done: What is done with it.

  Raises:
    UserError: It cannot be.
  """
  try:
    yield
  except (ValueError, OSError, KeyError, NotImplementedError) as error:
    where = spec.get('kvstore', spec)
    where = where.get('base', {}).get('path', '') + where.get('path', '')
    why = storage.reason(error).partition(' [')[0]
    raise errors.UserError(f'{where}: cannot be {done} ({why})') from error
