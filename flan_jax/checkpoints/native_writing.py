"""Writes a checkpoint of ours from another format, one parameter at a time.

What Orbax writes when training saves is in memory as a whole. This writes the
same files (a database of zarr arrays, and the JSON that names them), and holds
no more than one parameter. A test reads them through Orbax.

Nothing here needs jax.
"""

import json
import pathlib
from typing import Any

from flan_jax import storage
from flan_jax import vocabularies
from flan_jax.checkpoints import carried
from flan_jax.checkpoints import foreign
from flan_jax.checkpoints import integrity
from flan_jax.checkpoints import runs
import numpy as np

# Arrays are cut into chunks along their first axis, so that a part of one can
# be read, and that packing one takes little memory.
_CHUNK_BYTES = 32 << 20
_HANDLERS = 'orbax.checkpoint._src.handlers'


def write(
    directory: pathlib.Path,
    source: foreign.Source,
    vocabulary: vocabularies.Vocabulary,
    vocabulary_spec: str,
    facts: dict[str, Any],
) -> pathlib.Path:
  """Writes a MODEL_DIR with one checkpoint; returns the checkpoint's folder.

  Arrays keep their dtypes; they become float32 when they are read.

  Args:
    directory: The MODEL_DIR, which is made.
    source: The parameters, the model, the step, and files to carry along.
    vocabulary: The vocabulary.
    vocabulary_spec: What `vocabularies.load` made it from.
    facts: What run.json says besides; see `runs.write`.
  """
  folder = runs.step_path(directory, source.step)
  params = folder / integrity.ARRAYS[0]
  storage.make_folder(params)
  runs.write(directory, source.config, vocabulary, vocabulary_spec, facts)
  carried.keep(source.files, directory)
  for name in source.shapes:
    _put(params, name.replace('/', '.'), source.read(name))
  metadata = {
      'tree_metadata': {
          str(tuple(name.split('/'))): _leaf(name, shape)
          for name, (shape, _) in source.shapes.items()
      },
      'use_ocdbt': True,
      'use_zarr3': False,
      'store_array_data_equal_to_fill_value': True,
      'custom_metadata': None,
  }
  storage.write(params / integrity.METADATA, json.dumps(metadata))
  position = folder / integrity.POSITION
  storage.make_folder(position)
  storage.write(
      position / integrity.JSON,
      json.dumps(
          {'step': source.step, 'data': {}, 'numbers': {}, 'optimizer': False}
      ),
  )
  items = {
      integrity.ARRAYS[0]: 'pytree_checkpoint_handler.PyTreeCheckpointHandler',
      integrity.POSITION: 'json_checkpoint_handler.JsonCheckpointHandler',
  }
  storage.write(
      folder / '_CHECKPOINT_METADATA',
      json.dumps({
          'item_handlers': {
              item: f'{_HANDLERS}.{handler}' for item, handler in items.items()
          },
          'metrics': {},
          'custom_metadata': {},
      }),
  )
  if storage.is_address(folder):
    storage.write(folder / runs.COMPLETE, '')
  return folder


def _put(item: pathlib.Path, name: str, value: np.ndarray) -> None:
  """Writes an array, chunk by chunk."""
  import tensorstore

  rows = value.shape[0] if value.ndim else 1
  per_chunk = max(1, _CHUNK_BYTES // max(1, value.nbytes // max(1, rows)))
  per_chunk = min(per_chunk, rows)
  array = tensorstore.open(
      {
          'driver': 'zarr',
          'kvstore': {**integrity.database(item), 'path': name},
          'metadata': {
              'compressor': {'id': 'zstd', 'level': 1},
              'chunks': [per_chunk, *value.shape[1:]] if value.ndim else [],
          },
      },
      create=True,
      dtype=tensorstore.dtype(value.dtype),
      shape=value.shape,
  ).result()
  if not value.ndim:
    array.write(value).result()
    return
  for begin in range(0, rows, per_chunk):
    part = slice(begin, min(begin + per_chunk, rows))
    array[part].write(value[part]).result()


def _leaf(name: str, shape: foreign.Shape) -> dict[str, Any]:
  """Returns what Orbax's JSON says of an array."""
  return {
      'key_metadata': [
          {'key': part, 'key_type': 2} for part in name.split('/')
      ],
      'value_metadata': {
          'value_type': 'jax.Array',
          'skip_deserialize': False,
          'write_shape': list(shape),
      },
  }
