"""Writes checkpoints in T5X's own form, as its reader expects them.

    DST/checkpoint_<step>/checkpoint           the index, written last
                          target.<name>        the parameters
                          state.param_states.<name>.v, .v_row, .v_col
    DST/model.gin                              the model, for T5X's gin files

Layers are written one by one, as the models of `t5x.examples.t5` have them.
"""

from collections.abc import Callable, Iterable, Mapping
import dataclasses
import math
import pathlib
from typing import Any

from flan_jax import errors
from flan_jax import storage
from flan_jax.checkpoints import foreign
from flan_jax.checkpoints.t5x import arrays
from flan_jax.checkpoints.t5x import folders
from flan_jax.checkpoints.t5x import index
from flan_jax.checkpoints.t5x import slots as slots_lib
from flan_jax.models import config as model_config
import numpy as np

_CHUNK_BYTES = 64 << 20  # As T5X has them: few files, many partitionings.
_COMPRESSOR = {'id': 'gzip', 'level': 1}
_KINDS = ('v', 'v_row', 'v_col', 'm')
_UNUSED = np.zeros((1,), np.float32)
# Fields that change no parameter, or are set elsewhere in T5X's gin files.
_ANY = (
    'dropout_rate',
    'remat',
    'unroll_layers',
    'loss_chunks',
    'prefill_chunk',
    'prefix_lm',
)

# Returns one of the moments by our name; see `slots.Slots`.
Moments = Mapping[str, Callable[[], np.ndarray]]


def write(
    directory: pathlib.Path,
    source: foreign.Source,
    moments: Moments | None,
    extra_ids: int | None = None,
) -> pathlib.Path:
  """Writes a checkpoint; returns its folder.

  Of the parameters one at a time is in memory.

  Args:
    directory: Where it goes; the checkpoint gets a folder in it.
    source: Whose parameters, step and model.
    moments: Those of Adafactor by our names, one entry a layer; None writes
      parameters alone.
    extra_ids: The sentinels that the vocabulary adds to its model, if known.

  Raises:
    UserError: T5X has no such model, or the folder cannot be written.
  """
  check(source.config)
  folder = directory / f'checkpoint_{source.step}'
  storage.make_folder(folder)
  leaves: dict[str, Any] = {
      folders.STEP: np.asarray(source.step, np.int32),
  }
  with storage.reached('DST', directory):
    for name in source.shapes:
      leaf = f'{folders.TARGET}/{name}'
      leaves[leaf] = _put(folder, leaf, source.read(name).astype(np.float32))
      if moments is not None:
        for kind in _KINDS:
          leaf = f'{folders.SLOTS}/{name}/{kind}'
          read = moments.get(f'{slots_lib.MOMENTS}/{kind}/{name}')
          value = _UNUSED if read is None else np.asarray(read())
          # T5X keeps what it does not shard in the index: means along an axis.
          leaves[leaf] = (
              _put(folder, leaf, value)
              if kind == 'v' and value.shape != _UNUSED.shape
              else value
          )
    storage.write(
        directory / folders.MODEL, model_gin(source.config, extra_ids)
    )
    storage.write(folder / index.FILE, index.pack(leaves))
  return folder


def check(config: model_config.ModelConfig) -> None:
  """Refuses models that T5X's examples cannot be.

  Raises:
    UserError: Which option of the configuration they do not have.
  """
  if not config.writes:
    raise errors.UserError(
        "--to=t5x: T5X's models have a decoder, and this one is an encoder"
        ' alone'
    )
  said = {*_names(config), *_ANY}
  if not config.logits_via_embedding:
    said.add('logits_scale')  # Of the embedding's logits.
  for field in dataclasses.fields(config):
    found = getattr(config, field.name)
    # Our defaults are T5X's models.
    if field.name not in said and found != field.default:
      raise errors.UserError(
          f"--to=t5x: {field.name} is {found!r}, and T5X's models have"
          f' {field.default!r} alone'
      )


def model_gin(
    config: model_config.ModelConfig, extra_ids: int | None = None
) -> str:
  """Returns a gin file of T5X's that sets MODEL to the same model."""
  names = _names(config)
  kind, module, base = (
      ('TransformerConfig', 'decoder_only', 'decoder_only/models/base.gin')
      if 'num_layers' in names
      else ('T5Config', 't5', 't5/t5_1_1/base.gin')
  )
  lines = [
      '# The model of the checkpoint beside, for the run files of T5X.',
      'from __gin__ import dynamic_registration',
      '',
      'import seqio',
      f'from t5x.examples.{module} import network',
      '',
      f"include 't5x/examples/{base}'",
      '',
      f'network.{kind}:',
      *(f'  {name} = {getattr(config, name)!r}' for name in names),
  ]
  if extra_ids is not None:
    lines += ['', f'seqio.SentencePieceVocabulary.extra_ids = {extra_ids}']
  return '\n'.join(lines) + '\n'


def _names(config: model_config.ModelConfig) -> list[str]:
  """Returns the fields that a configuration of T5X's has too."""
  depth = (
      ['num_layers']
      if isinstance(config, model_config.DecoderConfig)
      else ['num_encoder_layers', 'num_decoder_layers']
  )
  return [
      'vocab_size',
      'dtype',
      'emb_dim',
      'num_heads',
      *depth,
      'head_dim',
      'mlp_dim',
      'mlp_activations',
      'logits_via_embedding',
  ]


def _put(folder: pathlib.Path, name: str, value: np.ndarray) -> dict[str, Any]:
  """Writes an array; returns what the index says of it."""
  import tensorstore

  place = name.replace('/', '.')
  spec: dict[str, Any] = {
      'driver': 'zarr',
      'dtype': value.dtype.name,
      'metadata': {
          'chunks': chunks(value.shape, value.dtype.itemsize),
          'compressor': _COMPRESSOR,
          'shape': list(value.shape),
      },
  }
  store = arrays.files(folder)
  store['path'] += f'{place}/'
  with arrays.one_line(store, 'written'):
    opened = tensorstore.open(
        {**spec, 'kvstore': store}, create=True, delete_existing=True
    ).result()
    opened.write(value).result()
  # The path is relative, so that a checkpoint may move.
  kvstore: dict[str, Any] = {'driver': store['driver']}
  if 'bucket' in store:
    kvstore['bucket'] = 't5x-dummy-bucket'  # T5X puts in the one it finds.
  return {**spec, 'kvstore': {**kvstore, 'path': f'{place}/'}}


def chunks(shape: Iterable[int], itemsize: int) -> list[int]:
  """Returns the shape of the parts that an array is written in.

  All parts are equal, and none is of more than 64 MiB; the longest side is
  divided first (T5X: `checkpoints._choose_chunk_shape`).
  """
  sizes = list(shape)
  parts = [1] * len(sizes)
  while (
      math.prod(size // part for size, part in zip(sizes, parts, strict=True))
      > _CHUNK_BYTES // itemsize
  ):
    longest = max(range(len(sizes)), key=lambda i: sizes[i] // parts[i])
    size = sizes[longest]
    parts[longest] = next(
        part for part in range(parts[longest] + 1, size + 1) if size % part == 0
    )
  return [size // part for size, part in zip(sizes, parts, strict=True)]
