"""The configuration of a model, from the shapes of its parameters.

Shapes say all but what is computed with which function and in what dtype. That
is in the `config.gin` that T5X writes into a run's folder; without it, T5's own
functions are taken.
"""

from collections.abc import Mapping
import dataclasses
import pathlib
import re
from typing import Any

from flan_jax import errors
from flan_jax import gin_files
from flan_jax.checkpoints.t5x import folders
from flan_jax.checkpoints.t5x import layers
from flan_jax.models import config as model_config

_LAYER = re.compile(r'(encoder|decoder)/layers_(\d+)/')
# Arguments of T5X's `T5Config` and `TransformerConfig`.
_NETWORK = re.compile(r'(T5|Transformer)Config')
_VOCABULARY = 'vocabulary.model'
_MODEL = re.compile(r'SentencePieceVocabulary')


@dataclasses.dataclass(frozen=True)
class Sizes:
  """What a checkpoint is of.

  Attributes:
    config: The model.
    assumed: The fields of it that neither shapes nor config.gin say.
    vocabulary: The SentencePiece model that config.gin names, if it does.
  """

  config: model_config.ModelConfig
  assumed: tuple[str, ...]
  vocabulary: str | None


def read(folder: pathlib.Path, layout: layers.Layout) -> Sizes:
  """Finds out what a checkpoint is of.

  Args:
    folder: The checkpoint; config.gin lies in it or beside it.
    layout: Its parameters.

  Raises:
    UserError: They are of no model that is known, or config.gin is broken.
  """
  try:
    fields = _sizes(layout)
  except (KeyError, ValueError, ZeroDivisionError) as error:
    raise errors.UserError(
        f'{folder}: its parameters are of no model that is known ({error};'
        f' there are {layers.listed(layout.places)})'
    ) from error
  said = _said(folder)
  # T5X writes the one into its networks, and the other is its model's.
  assumed = ['relative_attention_max_distance', 'prefix_lm']
  gated = 'mlp_activations' not in fields
  activations = tuple(map(_activation, said.get('mlp_activations', ())))
  if len(activations) == (2 if gated else 1):
    fields['mlp_activations'] = activations
  else:
    fields.setdefault('mlp_activations', ('gelu', 'linear'))
    assumed.append('mlp_activations')
  if said.get('dtype') in ('float32', 'bfloat16'):
    fields['dtype'] = said['dtype']
  else:
    assumed.append('dtype')
  family = (
      model_config.EncoderDecoderConfig
      if 'num_encoder_layers' in fields
      else model_config.DecoderConfig
  )
  return Sizes(family(**fields), tuple(assumed), said.get('vocabulary'))


def _sizes(layout: layers.Layout) -> dict[str, Any]:
  """Returns the fields of a configuration that shapes say."""
  shape = layout.shape
  names = layout.places
  depth: dict[str, int] = {}
  for name in names:
    if match := _LAYER.match(name):
      side, layer = match.group(1), int(match.group(2))
      depth[side] = max(depth.get(side, 0), layer + 1)
  if 'decoder' not in depth:
    raise ValueError('no decoder')
  table = next(
      (name for name in _tables('decoder') if name in names),
      _tables('decoder')[0],
  )
  heads, buckets = shape(table)
  joined = shape('decoder/layers_0/self_attention/query/kernel')[1]
  if joined % heads:
    raise ValueError(
        f'query/kernel has {joined} columns, which {heads} heads do not share'
    )
  fields: dict[str, Any] = {
      'vocab_size': layout.embedding[0],
      'emb_dim': layout.embedding[1],
      'num_heads': heads,
      'head_dim': joined // heads,
      'mlp_dim': shape('decoder/layers_0/mlp/wo/kernel')[0],
      'relative_attention_num_buckets': buckets,
      'logits_via_embedding': 'decoder/logits_dense/kernel' not in names,
  }
  if table != _tables('decoder')[0]:
    fields['relative_attention_per_layer'] = True
  if 'decoder/layers_0/mlp/wi/kernel' in names:
    fields['mlp_activations'] = ('relu',)
  if 'encoder' in depth:
    fields['num_encoder_layers'] = depth['encoder']
    fields['num_decoder_layers'] = depth['decoder']
  else:
    fields['num_layers'] = depth['decoder']
  return fields


def _tables(side: str) -> tuple[str, str]:
  """Returns where a stack's table of relative positions may be."""
  return (
      f'{side}/relpos_bias/rel_embedding',
      f'{side}/layers_0/relpos_bias/rel_embedding',
  )


def _said(folder: pathlib.Path) -> Mapping[str, Any]:
  """Returns what a file beside says of the network and the vocabulary."""
  places = (folder, folder.parent)
  found: dict[str, Any] = {}
  for place in places:
    if (place / _VOCABULARY).is_file():  # `flan-jax convert` puts it there.
      found['vocabulary'] = str(place / _VOCABULARY)
  known = [
      place / name
      for place in places
      for name in (folders.CONFIG, folders.MODEL)
      if (place / name).is_file()
  ]
  if not known:
    return found
  for key, value in gin_files.plain(known[0]).items():
    *_, configurable, argument = ('', *key.rpartition('/')[2].split('.'))
    if _NETWORK.fullmatch(configurable):
      found[argument] = value
    elif _MODEL.fullmatch(configurable):
      if argument == 'sentencepiece_model_file' and isinstance(value, str):
        found.setdefault('vocabulary', value)
  return found


def _activation(name: Any) -> str:
  """Returns our name of an activation of Flax; SiLU has two there."""
  return 'silu' if name == 'swish' else str(name)
