"""The file `checkpoint` of T5X's own format: what it has, and small values.

It is msgpack as Flax writes it: nested dicts, with numpy arrays as extensions
that hold (shape, dtype, bytes). Where an array is too large to stand in it, it
says how tensorstore finds it (a dict with `driver`, `kvstore` and `metadata`).

    {'version': 3, 'optimizer': {'target': {...}, 'state': {'step': ...,
     'param_states': {...}}}}

`target` holds the parameters. Importable without msgpack.
"""

from collections.abc import Mapping
import pathlib
from typing import Any

from flan_jax import errors
from flan_jax import storage
import numpy as np

FILE = 'checkpoint'
VERSION = 3
_OLDEST = 2
_ARRAY, _SCALAR = 1, 3
_SPEC = {'driver', 'kvstore'}


def read(path: pathlib.Path) -> dict[str, Any]:
  """Returns the leaves of an index by name, such as 'target/encoder/...'.

  A leaf is an array of numpy, or a `str`: the folder of one that tensorstore
  keeps.

  Raises:
    UserError: It cannot be read, is TensorFlow's, or of a version before 2.
  """
  import msgpack

  try:
    data = path.read_bytes()
  except OSError as error:
    raise errors.UserError(f'{path}: {storage.reason(error)}') from error
  if data.startswith(b'model_checkpoint_path'):
    raise errors.UserError(
        f"{path.parent}: is TensorFlow's checkpoint of the first T5; T5X's own"
        ' convert_tf_checkpoint makes one of it that can be read'
    )
  try:
    tree = msgpack.unpackb(data, ext_hook=_unpack, strict_map_key=False)
  except Exception as error:  # msgpack has a dozen, and numpy some.
    raise errors.UserError(
        f'{path}: is no index of T5X, or is cut short ({storage.reason(error)})'
    ) from error
  if not isinstance(tree, dict):
    raise errors.UserError(f'{path}: is no index of T5X')
  version = tree.get('version')
  if version is not None and int(version) < _OLDEST:
    raise errors.UserError(
        f'{path}: is of version {version}; T5X has read no checkpoint before'
        f' version {_OLDEST} since 2021'
    )
  # Orbax's first index had neither a version nor this branch.
  return dict(_leaves(tree.get('optimizer', tree), ''))


def pack(leaves: Mapping[str, np.ndarray | dict[str, Any]]) -> bytes:
  """Returns an index.

  Args:
    leaves: Values by name, as `read` gives them, but for arrays that
      tensorstore keeps what finds them.
  """
  import msgpack

  tree: dict[str, Any] = {}
  for name in sorted(leaves):
    *branches, last = name.split('/')
    node = tree
    for branch in branches:
      node = node.setdefault(branch, {})
    node[last] = leaves[name]
  whole = {'version': VERSION, 'optimizer': tree}
  return msgpack.packb(whole, default=_pack, strict_types=True)


def _leaves(node: Any, name: str):
  if isinstance(node, dict) and not _SPEC <= set(node):
    for key, value in node.items():
      yield from _leaves(value, f'{name}/{key}' if name else str(key))
  elif isinstance(node, dict):
    place = node['kvstore'].get('path') or node.get('path', '')
    yield name, place.rstrip('/')
  elif isinstance(node, str):
    yield name, node.partition('://')[2] or node
  elif node is not None:
    yield name, np.asarray(node)


def _unpack(code: int, data: bytes) -> Any:
  import msgpack

  if code not in (_ARRAY, _SCALAR):
    return msgpack.ExtType(code, data)
  shape, dtype, values = msgpack.unpackb(data)
  name = dtype if isinstance(dtype, str) else dtype.decode()
  if name == 'bfloat16':
    import ml_dtypes

    name = ml_dtypes.bfloat16
  return np.frombuffer(values, np.dtype(name)).reshape(shape)


def _pack(value: Any) -> Any:
  import msgpack

  if isinstance(value, np.ndarray):
    # Flax's order of the parts, and its C layout.
    content = (value.shape, value.dtype.name, value.tobytes('C'))
    return msgpack.ExtType(_ARRAY, msgpack.packb(content))
  raise TypeError(f'{type(value)} is nothing that an index holds.')
