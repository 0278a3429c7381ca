"""Whether a checkpoint can be read whole. Needs no jax.

The name of a checkpoint says that its write was completed. Later a disk may
fail, a copy stop half way, a machine lose power before its disk had everything:
files are then missing, cut short, or full of something else.
"""

import hashlib
import json
import pathlib
from typing import Any

from flan_jax import storage

ARRAYS = ('params', 'optimizer')
POSITION = 'position'
METADATA = '_METADATA'
_MANIFEST = 'manifest.ocdbt'
# JsonCheckpointHandler's file.
JSON = 'metadata'
_ARRAY = '/.zarray'


def fault(
    checkpoint: pathlib.Path, index: int = 0, count: int = 1
) -> str | None:
  """Reads a checkpoint from disk, and returns what is wrong with it.

  Arrays are read, and unpacked, one at a time.

  Args:
    checkpoint: MODEL_DIR/checkpoint_<step>.
    index: Of `count` equal shares of the arrays, which one to read.
    count: How many readers share the arrays.

  Returns:
    Half a sentence such as 'params: files are cut short', or None.
  """
  item = POSITION
  try:
    saved = read_position(checkpoint)
    for item in ARRAYS if saved.get('optimizer', True) else ARRAYS[:1]:
      _read_arrays(checkpoint / item, index, count)
  except (OSError, ValueError, TypeError, KeyError) as error:
    return reason(item, error)
  return None


def identity(checkpoint: pathlib.Path) -> str:
  """Returns what tells a checkpoint from all others, wherever it lies.

  It is a hash of the small file that points to the parameters: the files that
  it names are called anew, at random, in every checkpoint that is written. A
  copy has the same identity. It is '' where that file is not there.
  """
  try:
    manifest = (checkpoint / ARRAYS[0] / _MANIFEST).read_bytes()
  except OSError:
    return ''
  return hashlib.sha256(manifest).hexdigest()[:16]


def read_position(checkpoint: pathlib.Path) -> dict[str, Any]:
  """Returns a checkpoint's JSON: 'step', 'data' and 'numbers'.

  Raises:
    OSError: It is not there.
    ValueError: It is no JSON, or another's.
  """
  path = checkpoint / POSITION / JSON
  saved = json.loads(path.read_text(encoding='utf-8'))
  if not isinstance(saved, dict) or not {'step', 'data'} <= saved.keys():
    raise ValueError('holds no data position')
  return saved


def reason(item: str, error: BaseException) -> str:
  """Returns, in a few words, why an item of a checkpoint cannot be read."""
  while error.__cause__ is not None:
    error = error.__cause__  # Orbax wraps what tensorstore says.
  text = str(error)
  if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
    return f'{item}: is no JSON'
  if isinstance(error, FileNotFoundError) or text.startswith('NOT_FOUND'):
    return f'{item}: files are missing'
  if text.startswith('OUT_OF_RANGE'):
    return f'{item}: files are cut short'
  if text.startswith(('DATA_LOSS', 'FAILED_PRECONDITION')):
    return f'{item}: files are damaged'
  first = text.strip().split('\n')[0] or type(error).__name__
  return f'{item}: {first}'


def _read_arrays(item: pathlib.Path, index: int, count: int) -> None:
  """Reads a share of an item's arrays; raises what goes wrong."""
  json.loads((item / METADATA).read_text(encoding='utf-8'))
  for name in array_names(item)[index::count]:
    open_array(item, name).read().result()


def database(item: pathlib.Path) -> dict[str, str]:
  """Returns where tensorstore finds the arrays of an item."""
  scheme = '' if storage.is_address(item) else 'file://'
  return {
      'driver': 'ocdbt',
      'base': f'{scheme}{storage.absolute(item)}/',
  }


def array_names(item: pathlib.Path) -> list[str]:
  """Returns the names of an item's arrays, 'encoder.layers_0.mlp.wo.kernel'.

  Raises:
    OSError: It is not there.
    ValueError: It is broken.
  """
  import tensorstore

  if not (item / _MANIFEST).is_file():
    raise FileNotFoundError(item)  # Else it would be an empty database.
  keys = tensorstore.KvStore.open(database(item)).result().list().result()
  return sorted(
      key.decode().removesuffix(_ARRAY)
      for key in keys
      if key.endswith(_ARRAY.encode())
  )


def open_array(item: pathlib.Path, name: str) -> Any:
  """Returns an array of an item, a `tensorstore.TensorStore`.

  Raises:
    ValueError: It is not there, or broken.
  """
  import tensorstore

  spec = {'driver': 'zarr', 'kvstore': {**database(item), 'path': name}}
  return tensorstore.open(spec, open=True, read=True).result()
