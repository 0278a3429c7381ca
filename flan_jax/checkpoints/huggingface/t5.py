"""T5 and its relatives: which tensor is which parameter.

`transformers` keeps the kernels of linear layers [out, in], and the table of
biases by distance [buckets, heads]; ours are the other way round.
"""

from collections.abc import Callable, Iterator, Mapping
import functools
from typing import Any, Literal

from flan_jax.checkpoints.huggingface import mapping
from flan_jax.checkpoints.huggingface import safetensors
from flan_jax.models import config as model_config
import numpy as np

_SHARED = 'shared.weight'
_HEAD = 'lm_head.weight'
_COPIES = ('encoder.embed_tokens.weight', 'decoder.embed_tokens.weight')
# How `transformers` names the tanh approximation, and ours.
_ACTIVATIONS = {
    'gelu_new': 'gelu',
    'gelu_pytorch_tanh': 'gelu',
    'relu': 'relu',
    'silu': 'silu',
    'swish': 'silu',
    'linear': 'linear',
}
_WRITTEN = {
    ('gelu', 'linear'): 'gated-gelu',
    ('silu', 'linear'): 'gated-silu',
    ('relu', 'linear'): 'gated-relu',
    ('gelu',): 'gelu_new',
    ('relu',): 'relu',
    ('silu',): 'silu',
}
# Rows of the embedding that are compared at a time.
_ROWS = 4096


def _config(
    facts: mapping.Json,
    tensors: Mapping[str, safetensors.Tensor],
    *,
    scaled: Callable[[mapping.Json], bool],
    per_layer: bool = False,
) -> model_config.EncoderDecoderConfig:
  """Returns the configuration that config.json describes.

  Args:
    facts: What it says.
    tensors: The checkpoint's.
    scaled: Whether logits are divided by the root of the width.
    per_layer: Whether each layer has a table of biases.
  """
  mapping.require(facts, 'is_encoder_decoder', True)
  mapping.require(facts, 'pad_token_id', 0)
  mapping.require(facts, 'eos_token_id', 1, [1])
  mapping.require(facts, 'decoder_start_token_id', 0, None)
  layers = mapping.size(facts, 'num_layers', 6)
  tied = not _has_head(facts, tensors)
  scale: Literal['tied', 'always', 'never'] = 'tied'
  if scaled(facts) != tied:
    scale = 'never' if tied else 'always'
  return model_config.EncoderDecoderConfig(
      vocab_size=mapping.size(facts, 'vocab_size', 32128),
      emb_dim=mapping.size(facts, 'd_model', 512),
      num_heads=mapping.size(facts, 'num_heads', 8),
      num_encoder_layers=layers,
      num_decoder_layers=mapping.size(facts, 'num_decoder_layers', layers),
      head_dim=mapping.size(facts, 'd_kv', 64),
      mlp_dim=mapping.size(facts, 'd_ff', 2048),
      mlp_activations=_activations(facts),
      dropout_rate=float(facts.get('dropout_rate', 0.1)),
      logits_via_embedding=tied,
      logits_scale=scale,
      relative_attention_per_layer=per_layer,
      norm_epsilon=float(facts.get('layer_norm_epsilon', 1e-6)),
      relative_attention_num_buckets=mapping.size(
          facts, 'relative_attention_num_buckets', 32
      ),
      relative_attention_max_distance=mapping.size(
          facts, 'relative_attention_max_distance', 128
      ),
  )


def _activations(facts: mapping.Json) -> tuple[str, ...]:
  """Returns our names of the feed-forward block's activations."""
  written = facts.get('feed_forward_proj', 'relu')
  gate, _, name = str(written).rpartition('-')
  # 'gelu' is the exact one everywhere but here.
  name = facts.get('dense_act_fn') or (
      'gelu_new' if written == 'gated-gelu' else name
  )
  if name not in _ACTIVATIONS or gate not in ('', 'gated'):
    raise mapping.unsupported(
        'feed_forward_proj',
        f'{written} ({name})',
        'of ' + ', '.join(_ACTIVATIONS) + ', alone or after gated-',
    )
  own = _ACTIVATIONS[name]
  return (own, 'linear') if gate else (own,)


def _has_head(
    facts: mapping.Json, tensors: Mapping[str, safetensors.Tensor]
) -> bool:
  """Whether logits have a kernel of their own.

  config.json does not say: since version 5, `transformers` writes that they
  have none, and looks at the tensors.
  """
  if _HEAD not in tensors:
    return False
  name = next((n for n in (_SHARED, *_COPIES) if n in tensors), None)
  if name is None:
    return False
  if facts.get('tie_word_embeddings') is False:
    return True
  head, table = tensors[_HEAD].array(), tensors[name].array()
  return head.shape != table.shape or not all(
      np.array_equal(head[row : row + _ROWS], table[row : row + _ROWS])
      for row in range(0, len(head), _ROWS)
  )


def _t5_scaled(facts: mapping.Json) -> bool:
  """Whether logits are divided by the root of the width, as in T5 1.0."""
  if 'scale_decoder_outputs' in facts:  # Since transformers 5.
    return bool(facts['scale_decoder_outputs'])
  return facts.get('tie_word_embeddings') is not False


def _umt5_scaled(facts: mapping.Json) -> bool:
  """Whether they are in UMT5; those that Google published were not.

  Theirs say that nothing is tied. Version 5 of `transformers` divides them all
  the same, which changes probabilities but not their order; models that it has
  written say that all is tied.
  """
  return facts.get('tie_word_embeddings') is not False


def _never_scaled(facts: mapping.Json) -> bool:
  """mT5's never are."""
  del facts
  return False


def _to_json(
    config: model_config.EncoderDecoderConfig, *, model_type: str
) -> dict[str, Any]:
  """Returns what config.json says of a model."""
  scaled = (
      config.scale_tied_logits
      if config.logits_via_embedding
      else config.scale_untied_logits
  )
  # What says of logits that they are scaled, in each of the three.
  scale = {
      't5': {
          'tie_word_embeddings': config.logits_via_embedding,
          'scale_decoder_outputs': scaled,
      },
      'mt5': {'tie_word_embeddings': config.logits_via_embedding},
      'umt5': {'tie_word_embeddings': scaled},
  }[model_type]
  written = _WRITTEN[config.mlp_activations]
  return {
      'model_type': model_type,
      'is_encoder_decoder': True,
      'vocab_size': config.vocab_size,
      'd_model': config.emb_dim,
      'd_kv': config.head_dim,
      'd_ff': config.mlp_dim,
      'num_heads': config.num_heads,
      'num_layers': config.num_encoder_layers,
      'num_decoder_layers': config.num_decoder_layers,
      'feed_forward_proj': written,
      'dense_act_fn': (
          'gelu_new'
          if written == 'gated-gelu'
          else written.removeprefix('gated-')
      ),
      'is_gated_act': len(config.mlp_activations) > 1,
      'layer_norm_epsilon': config.norm_epsilon,
      'dropout_rate': config.dropout_rate,
      'relative_attention_num_buckets': config.relative_attention_num_buckets,
      'relative_attention_max_distance': config.relative_attention_max_distance,
      **scale,
      'pad_token_id': 0,
      'eos_token_id': 1,
      'decoder_start_token_id': 0,
  }


def _fits(
    config: model_config.ModelConfig,
    *,
    per_layer: bool = False,
    may_scale: bool = True,
) -> bool:
  """Whether an architecture can be a model of ours."""
  if not isinstance(config, model_config.EncoderDecoderConfig):
    return False
  scaled = (
      config.scale_tied_logits
      if config.logits_via_embedding
      else config.scale_untied_logits
  )
  return (
      config.mlp_activations in _WRITTEN
      and config.relative_attention_per_layer == per_layer
      and (may_scale or not scaled)
  )


def _names(config: model_config.EncoderDecoderConfig) -> list[mapping.Entry]:
  """Returns the table of names."""
  tied = config.logits_via_embedding
  found = [
      mapping.Entry(
          'token_embedder/embedding',
          _SHARED,
          other_names=(*_COPIES, _HEAD) if tied else _COPIES,
      )
  ]
  if not tied:
    found.append(mapping.Entry('decoder/logits_dense/kernel', _HEAD, True))
  for side, layers in (
      ('encoder', config.num_encoder_layers),
      ('decoder', config.num_decoder_layers),
  ):
    for layer in range(layers):
      found += _layer(side, layer, len(config.mlp_activations))
    tables = (
        {f'{side}/layers_{layer}': layer for layer in range(layers)}
        if config.relative_attention_per_layer
        else {side: 0}
    )
    found += [
        mapping.Entry(
            f'{place}/relpos_bias/rel_embedding',
            f'{side}.block.{layer}.layer.0.SelfAttention'
            '.relative_attention_bias.weight',
            True,
        )
        for place, layer in tables.items()
    ]
    found.append(
        mapping.Entry(
            f'{side}/{side}_norm/scale', f'{side}.final_layer_norm.weight'
        )
    )
  return found


def _layer(side: str, layer: int, activations: int) -> Iterator[mapping.Entry]:
  """Yields the table's lines of one layer."""
  parts = {
      'encoder': (
          ('attention', 'SelfAttention', 'pre_attention_layer_norm'),
          ('mlp', 'DenseReluDense', 'pre_mlp_layer_norm'),
      ),
      'decoder': (
          (
              'self_attention',
              'SelfAttention',
              'pre_self_attention_layer_norm',
          ),
          (
              'encoder_decoder_attention',
              'EncDecAttention',
              'pre_cross_attention_layer_norm',
          ),
          ('mlp', 'DenseReluDense', 'pre_mlp_layer_norm'),
      ),
  }[side]
  heads = {'query': 'q', 'key': 'k', 'value': 'v', 'out': 'o'}
  branches = (
      ['wi'] if activations == 1 else [f'wi_{i}' for i in range(activations)]
  )
  for place, (own, theirs, norm) in enumerate(parts):
    ours, block = f'{side}/layers_{layer}', f'{side}.block.{layer}'
    inside = f'{block}.layer.{place}'
    names = (
        {name: name for name in (*branches, 'wo')} if own == 'mlp' else heads
    )
    for name, letter in names.items():
      yield mapping.Entry(
          f'{ours}/{own}/{name}/kernel',
          f'{inside}.{theirs}.{letter}.weight',
          True,
      )
    yield mapping.Entry(f'{ours}/{norm}/scale', f'{inside}.layer_norm.weight')


# Of a table that the first versions had and did not use, and of copies.
_IGNORED = (
    r'decoder\.block\.0\.layer\.1\.EncDecAttention'
    r'\.relative_attention_bias\.weight',
    r'(en|de)coder\.embed_tokens\.weight',
    r'shared\.weight',
    r'lm_head\.weight',
)
_T5 = mapping.Architecture(
    config=functools.partial(_config, scaled=_t5_scaled),
    to_json=functools.partial(_to_json, model_type='t5'),
    fits=_fits,
    names=_names,
    ignored=_IGNORED,
)
_MT5 = mapping.Architecture(
    config=functools.partial(_config, scaled=_never_scaled),
    to_json=functools.partial(_to_json, model_type='mt5'),
    fits=functools.partial(_fits, may_scale=False),
    names=_names,
    ignored=_IGNORED,
)
_UMT5 = mapping.Architecture(
    config=functools.partial(_config, scaled=_umt5_scaled, per_layer=True),
    to_json=functools.partial(_to_json, model_type='umt5'),
    fits=functools.partial(_fits, per_layer=True),
    names=_names,
    ignored=_IGNORED,
)

# The first that fits a model is what it is written as, where nothing is known
# of what it came from.
ARCHITECTURES = {
    'T5ForConditionalGeneration': _T5,
    'MT5ForConditionalGeneration': _MT5,
    'UMT5ForConditionalGeneration': _UMT5,
    'T5WithLMHeadModel': _T5,  # What the first versions called it.
}
