"""What the mappings of all decoder-only models share: ids, rope, windows."""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any

from flan_jax import errors
from flan_jax.checkpoints.huggingface import mapping
from flan_jax.models import config as model_config

# The names of `transformers`, and ours.
ACTIVATIONS = {
    'gelu_new': 'gelu',
    'gelu_pytorch_tanh': 'gelu',
    'gelu': 'gelu_exact',
    'relu': 'relu',
    'silu': 'silu',
    'swish': 'silu',
}
WRITTEN = {
    'gelu': 'gelu_pytorch_tanh',
    'gelu_exact': 'gelu',
    'relu': 'relu',
    'silu': 'silu',
}
SLIDING = 'sliding_attention'
FULL = 'full_attention'
# Tables are padded to a multiple of it, so that they divide over a mesh.
_MULTIPLE = 128


def ids(facts: mapping.Json, size: int, bos: int | None) -> dict[str, Any]:
  """Returns what our configuration says of ids; they are theirs plus 1.

  Args:
    facts: What config.json says.
    size: Their vocabulary's size.
    bos: The id that a row begins with where config.json does not say.

  Raises:
    UserError: It is not known what rows begin with.
  """
  for key, default in (
      ('bos_token_id', bos),
      ('pad_token_id', None),
      ('eos_token_id', None),
  ):
    begin = facts.get(key, default)
    begin = begin[0] if isinstance(begin, list) and begin else begin
    if isinstance(begin, int) and begin >= 0:
      return {
          'vocab_size': table_rows(size),
          'num_ids': size,
          'begin_id': begin + 1,
      }
  raise errors.UserError(
      'bos_token_id: is needed, as what rows begin with; "eos_token_id" or'
      ' "pad_token_id" would do too'
  )


def table_rows(size: int) -> int:
  """Returns the rows of a table for `size` ids of theirs, each plus 1."""
  return -(-(size + 1) // _MULTIPLE) * _MULTIPLE


def activation(facts: mapping.Json, *keys: str, default: str) -> str:
  """Returns our name of an activation.

  Args:
    facts: What config.json says.
    *keys: The key, and others that older versions wrote.
    default: What the key is by default.

  Raises:
    UserError: Ours have no such activation.
  """
  key = next((key for key in keys if facts.get(key) is not None), keys[0])
  name = facts.get(key) or default
  if name not in ACTIVATIONS:
    raise mapping.unsupported(key, name, 'one of ' + ', '.join(ACTIVATIONS))
  return ACTIVATIONS[name]


def rope(
    facts: mapping.Json, theta: float, kind: str | None = None
) -> tuple[float, model_config.RopeScaling | None]:
  """Returns the base of rotary positions, and how they are stretched.

  Args:
    facts: What config.json says; since version 5 in "rope_parameters".
    theta: The base where it does not say.
    kind: The kind of layers, where they differ.

  Raises:
    UserError: They are stretched in a way that ours know nothing of.
  """
  given = facts.get('rope_parameters')
  if given is None:
    given = dict(facts.get('rope_scaling') or {})
    given.setdefault('rope_theta', facts.get('rope_theta', theta))
  elif kind is not None and kind in given:
    given = given[kind]
  base = float(given.get('rope_theta') or theta)
  partial = given.get('partial_rotary_factor', 1.0)
  if partial != 1:
    raise mapping.unsupported('partial_rotary_factor', partial, '1')
  name = given.get('rope_type', given.get('type', 'default'))
  if name == 'default':
    return base, None
  if name == 'linear':
    factor = float(given['factor'])
    return base, model_config.RopeScaling(kind='linear', factor=factor)
  if name == 'llama3':
    return base, model_config.RopeScaling(
        kind='llama3',
        factor=float(given['factor']),
        low_frequency_factor=float(given['low_freq_factor']),
        high_frequency_factor=float(given['high_freq_factor']),
        original_positions=int(given['original_max_position_embeddings']),
    )
  raise mapping.unsupported('rope_type', name, 'default, linear or llama3')


def rope_json(config: model_config.DecoderConfig) -> dict[str, Any]:
  """Returns what `rope` reads, in the form that all versions read."""
  scaling = config.rope_scaling
  if scaling is None:
    return {'rope_theta': config.rope_theta, 'rope_scaling': None}
  facts: dict[str, Any] = {'rope_type': scaling.kind, 'factor': scaling.factor}
  if scaling.kind == 'llama3':
    facts |= {
        'low_freq_factor': scaling.low_frequency_factor,
        'high_freq_factor': scaling.high_frequency_factor,
        'original_max_position_embeddings': scaling.original_positions,
    }
  return {'rope_theta': config.rope_theta, 'rope_scaling': facts}


def windows(
    facts: mapping.Json,
    layers: int,
    size: int,
    sliding: Callable[[int], bool],
) -> dict[str, Any]:
  """Returns what our configuration says of windows.

  Args:
    facts: What config.json says.
    layers: The number of layers.
    size: The window where it does not say; null there is none.
    sliding: Whether a layer has it, by number, where it does not say.

  Raises:
    UserError: There are other kinds of layers.
  """
  window = facts.get('sliding_window', size)
  kinds = facts.get('layer_types')
  if kinds is None:
    kinds = [SLIDING if sliding(i) else FULL for i in range(layers)]
  for kind in kinds:
    if kind not in (SLIDING, FULL):
      raise mapping.unsupported('layer_types', kind, f'{SLIDING} or {FULL}')
  which = tuple(kind == SLIDING for kind in kinds)
  if not window or not any(which):
    return {}
  return {'window': window, 'window_layers': which}


def windows_json(config: model_config.DecoderConfig) -> dict[str, Any]:
  """Returns what `windows` reads."""
  which = config.window_layers or (False,) * config.num_layers
  return {
      'sliding_window': config.window or None,
      'layer_types': [SLIDING if own else FULL for own in which],
  }


def fits(
    architecture: Callable[..., model_config.DecoderConfig],
    to_json: Callable[[Any], Mapping[str, Any]],
) -> Callable[[model_config.ModelConfig], bool]:
  """Returns what says whether a model can be written as an architecture.

  It can if what is written reads as the same model.

  Args:
    architecture: Makes our configuration of config.json.
    to_json: Makes what config.json says.
  """

  def one(config: model_config.ModelConfig) -> bool:
    if not isinstance(config, model_config.DecoderConfig):
      return False
    if not config.num_ids or config.positions == 'relative':
      return False
    try:
      found = architecture(to_json(config), {})
    except (errors.UserError, KeyError):
      return False
    same = {
        field: getattr(config, field)
        for field in (
            'vocab_size',
            'dropout_rate',
            'dtype',
            'relative_attention_num_buckets',
            'relative_attention_max_distance',
            'remat',
            'unroll_layers',
            'loss_chunks',
            'lora',
            'prefill_chunk',
            'prefix_lm',
        )
    }
    return dataclasses.replace(found, **same) == config

  return one


def tables(
    config: model_config.DecoderConfig, embedding: str, head: str
) -> list[mapping.Entry]:
  """Returns the lines of the table of token vectors, and of the head.

  Args:
    config: The model.
    embedding: Their name of the table.
    head: Their name of the head; files of tied models may have it too.
  """
  rows = (1, config.num_ids, config.vocab_size)
  ours = 'decoder/token_embedder/embedding'
  if config.logits_via_embedding:
    return [mapping.Entry(ours, embedding, rows=rows, other_names=(head,))]
  kernel = 'decoder/logits_dense/kernel'
  return [
      mapping.Entry(ours, embedding, rows=rows),
      mapping.Entry(kernel, head, True, rows=rows),
  ]
