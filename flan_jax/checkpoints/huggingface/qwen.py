"""Qwen 2 (and 2.5) and Qwen 3, without mixtures of experts."""

from typing import Any

from flan_jax.checkpoints.huggingface import decoders
from flan_jax.checkpoints.huggingface import llama
from flan_jax.checkpoints.huggingface import mapping
from flan_jax.models import config as model_config


def _shared(facts: mapping.Json, **defaults: Any) -> dict[str, Any]:
  """Returns the fields that both say alike."""
  theta, scaling = decoders.rope(facts, 10000.0)
  gate = decoders.activation(facts, 'hidden_act', default='silu')
  found = llama.sizes(
      facts,
      vocab_size=151936,
      hidden_size=4096,
      intermediate_size=22016,
      num_hidden_layers=32,
      num_attention_heads=32,
      max_position_embeddings=32768,
      tie_word_embeddings=False,
      **defaults,
  )
  found |= {
      'mlp_activations': (gate, 'linear'),
      'rope_theta': theta,
      'rope_scaling': scaling,
  }
  if facts.get('use_sliding_window', False):
    first = facts.get('max_window_layers', 28)
    layers = found['num_layers']
    found |= decoders.windows(facts, layers, 4096, lambda i: i >= first)
  return found


def _shared_json(config: model_config.DecoderConfig) -> dict[str, Any]:
  return {
      **llama.sizes_json(config),
      **decoders.windows_json(config),
      'hidden_act': decoders.WRITTEN[config.mlp_activations[0]],
      'use_sliding_window': any(config.window_layers),
  }


def _qwen2(facts: mapping.Json, _: Any) -> model_config.DecoderConfig:
  """Returns the configuration that a Qwen 2's config.json describes."""
  return model_config.DecoderConfig(
      **_shared(facts, num_key_value_heads=32), qkv_bias=True
  )


def _qwen2_json(config: model_config.DecoderConfig) -> dict[str, Any]:
  """Returns what config.json says of a Qwen 2."""
  return {'model_type': 'qwen2', **_shared_json(config)}


def _qwen3(facts: mapping.Json, _: Any) -> model_config.DecoderConfig:
  """Returns the configuration that a Qwen 3's config.json describes."""
  bias = bool(facts.get('attention_bias', False))
  return model_config.DecoderConfig(
      **_shared(facts, num_key_value_heads=32, head_dim=128),
      qkv_bias=bias,
      out_bias=bias,
      query_key_norm=True,
  )


def _qwen3_json(config: model_config.DecoderConfig) -> dict[str, Any]:
  """Returns what config.json says of a Qwen 3."""
  return {
      'model_type': 'qwen3',
      **_shared_json(config),
      'attention_bias': config.qkv_bias,
  }


ARCHITECTURES = {
    'Qwen2ForCausalLM': mapping.Architecture(
        config=_qwen2,
        to_json=_qwen2_json,
        fits=decoders.fits(_qwen2, _qwen2_json),
        names=llama.names,
        ignored=llama.IGNORED,
    ),
    'Qwen3ForCausalLM': mapping.Architecture(
        config=_qwen3,
        to_json=_qwen3_json,
        fits=decoders.fits(_qwen3, _qwen3_json),
        names=llama.names,
        ignored=llama.IGNORED,
    ),
}
