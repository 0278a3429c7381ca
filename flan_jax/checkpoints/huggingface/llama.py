"""Llama 2 and 3, and the names of tensors that Qwen and Gemma took over."""

from collections.abc import Iterator
from typing import Any

from flan_jax.checkpoints.huggingface import decoders
from flan_jax.checkpoints.huggingface import mapping
from flan_jax.models import config as model_config

# Buffers of older versions, and the head of a tied model.
IGNORED = (r'.*\.rotary_emb\.inv_freq', r'lm_head\.weight')


def sizes(facts: mapping.Json, **defaults: Any) -> dict[str, Any]:
  """Returns the fields that all of these models say alike.

  Args:
    facts: What config.json says.
    **defaults: What it means where it does not say, by key.

  Raises:
    UserError: It says what ours have not, or lacks what is needed.
  """
  mapping.require(facts, 'quantization_config', None)
  mapping.require(facts, 'use_bidirectional_attention', None, False)

  def size(key: str, default: int | None = None) -> int:
    return mapping.size(facts, key, defaults.get(key, default))

  heads = size('num_attention_heads')
  width = size('hidden_size')
  kv_heads = size('num_key_value_heads', heads)
  head_dim = size('head_dim', width // heads)
  return {
      **decoders.ids(facts, size('vocab_size'), defaults.get('bos_token_id')),
      'emb_dim': width,
      'num_heads': heads,
      'num_kv_heads': 0 if kv_heads == heads else kv_heads,
      'head_dim': head_dim,
      'mlp_dim': size('intermediate_size'),
      'num_layers': size('num_hidden_layers'),
      'positions': 'rotary',
      'max_positions': size('max_position_embeddings'),
      'norm_epsilon': float(facts.get('rms_norm_eps', 1e-6)),
      'query_scale': head_dim**-0.5,
      'logits_via_embedding': facts.get(
          'tie_word_embeddings', defaults['tie_word_embeddings']
      ),
      'scale_tied_logits': False,
  }


def sizes_json(config: model_config.DecoderConfig) -> dict[str, Any]:
  """Returns what `sizes` reads, and rotary positions."""
  return {
      'vocab_size': config.num_ids,
      'hidden_size': config.emb_dim,
      'intermediate_size': config.mlp_dim,
      'num_hidden_layers': config.num_layers,
      'num_attention_heads': config.num_heads,
      'num_key_value_heads': config.kv_heads,
      'head_dim': config.head_dim,
      'max_position_embeddings': config.max_positions,
      'rms_norm_eps': config.norm_epsilon,
      'tie_word_embeddings': config.logits_via_embedding,
      'bos_token_id': config.begin_id - 1,
      **decoders.rope_json(config),
  }


def _config(facts: mapping.Json, _: Any) -> model_config.DecoderConfig:
  """Returns the configuration that config.json describes."""
  theta, scaling = decoders.rope(facts, 10000.0)
  gate = decoders.activation(facts, 'hidden_act', default='silu')
  bias = bool(facts.get('attention_bias', False))
  return model_config.DecoderConfig(
      **sizes(
          facts,
          vocab_size=32000,
          hidden_size=4096,
          intermediate_size=11008,
          num_hidden_layers=32,
          num_attention_heads=32,
          max_position_embeddings=2048,
          bos_token_id=1,
          tie_word_embeddings=False,
      ),
      mlp_activations=(gate, 'linear'),
      qkv_bias=bias,
      out_bias=bias,
      mlp_bias=bool(facts.get('mlp_bias', False)),
      rope_theta=theta,
      rope_scaling=scaling,
  )


def _to_json(config: model_config.DecoderConfig) -> dict[str, Any]:
  """Returns what config.json says of a model."""
  return {
      'model_type': 'llama',
      **sizes_json(config),
      'hidden_act': decoders.WRITTEN[config.mlp_activations[0]],
      'attention_bias': config.qkv_bias,
      'mlp_bias': config.mlp_bias,
  }


def names(config: model_config.DecoderConfig) -> list[mapping.Entry]:
  """Returns the table of names."""
  found = decoders.tables(config, 'model.embed_tokens.weight', 'lm_head.weight')
  for layer in range(config.num_layers):
    found += _layer(config, layer)
  found.append(mapping.Entry('decoder/decoder_norm/scale', 'model.norm.weight'))
  return found


def _layer(
    config: model_config.DecoderConfig, layer: int
) -> Iterator[mapping.Entry]:
  """Yields the table's lines of one layer."""
  ours, theirs = f'decoder/layers_{layer}', f'model.layers.{layer}'
  norms = {
      'pre_self_attention_layer_norm': 'input_layernorm',
      'pre_mlp_layer_norm': 'post_attention_layernorm',
  }
  if config.norm_after:
    norms |= {
        'post_self_attention_layer_norm': 'post_attention_layernorm',
        'pre_mlp_layer_norm': 'pre_feedforward_layernorm',
        'post_mlp_layer_norm': 'post_feedforward_layernorm',
    }
  if config.query_key_norm:
    norms |= {
        'self_attention/query_norm': 'self_attn.q_norm',
        'self_attention/key_norm': 'self_attn.k_norm',
    }
  for own, name in norms.items():
    yield mapping.Entry(f'{ours}/{own}/scale', f'{theirs}.{name}.weight')
  for own, name, bias in (
      ('self_attention/query', 'self_attn.q_proj', config.qkv_bias),
      ('self_attention/key', 'self_attn.k_proj', config.qkv_bias),
      ('self_attention/value', 'self_attn.v_proj', config.qkv_bias),
      ('self_attention/out', 'self_attn.o_proj', config.out_bias),
      ('mlp/wi_0', 'mlp.gate_proj', config.mlp_bias),
      ('mlp/wi_1', 'mlp.up_proj', config.mlp_bias),
      ('mlp/wo', 'mlp.down_proj', config.mlp_bias),
  ):
    kernel = f'{theirs}.{name}.weight'
    yield mapping.Entry(f'{ours}/{own}/kernel', kernel, True)
    if bias:
      yield mapping.Entry(f'{ours}/{own}/bias', f'{theirs}.{name}.bias')


_LLAMA = mapping.Architecture(
    config=_config,
    to_json=_to_json,
    fits=decoders.fits(_config, _to_json),
    names=names,
    ignored=IGNORED,
)

ARCHITECTURES = {'LlamaForCausalLM': _LLAMA}
