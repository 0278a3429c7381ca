"""Gemma 1, 2 and 3, for text."""

from typing import Any

from flan_jax.checkpoints.huggingface import decoders
from flan_jax.checkpoints.huggingface import llama
from flan_jax.checkpoints.huggingface import mapping
from flan_jax.models import config as model_config

_SIZES_2 = {
    'hidden_size': 2304,
    'intermediate_size': 9216,
    'num_hidden_layers': 26,
    'num_attention_heads': 8,
    'num_key_value_heads': 4,
}


def _shared(facts: mapping.Json, **defaults: Any) -> dict[str, Any]:
  """Returns the fields that all of them say alike."""
  gate = decoders.activation(
      facts, 'hidden_activation', 'hidden_act', default='gelu_pytorch_tanh'
  )
  bias = bool(facts.get('attention_bias', False))
  return {
      **llama.sizes(
          facts,
          head_dim=256,
          bos_token_id=2,
          tie_word_embeddings=True,
          **defaults,
      ),
      # The first release says "gelu", and means the approximation.
      'mlp_activations': ('gelu' if gate == 'gelu_exact' else gate, 'linear'),
      'norm': 'rms_plus_one',
      'scale_embedding': True,
      'qkv_bias': bias,
      'out_bias': bias,
  }


def _shared_json(config: model_config.DecoderConfig) -> dict[str, Any]:
  return {
      **llama.sizes_json(config),
      'attention_bias': config.qkv_bias,
      'pad_token_id': 0,
  }


def _gemma1(facts: mapping.Json, _: Any) -> model_config.DecoderConfig:
  """Returns the configuration that a Gemma 1's config.json describes."""
  theta, scaling = decoders.rope(facts, 10000.0)
  return model_config.DecoderConfig(
      **_shared(
          facts,
          vocab_size=256000,
          hidden_size=3072,
          intermediate_size=24576,
          num_hidden_layers=28,
          num_attention_heads=16,
          num_key_value_heads=16,
          max_position_embeddings=8192,
      ),
      rope_theta=theta,
      rope_scaling=scaling,
  )


def _gemma1_json(config: model_config.DecoderConfig) -> dict[str, Any]:
  """Returns what config.json says of a Gemma 1."""
  return {
      'model_type': 'gemma',
      **_shared_json(config),
      'hidden_act': decoders.WRITTEN[config.mlp_activations[0]],
  }


def _later(facts: mapping.Json, **defaults: Any) -> dict[str, Any]:
  """Returns the fields that Gemma 2 and 3 say alike, but for windows."""
  return _shared(facts, **_SIZES_2, **defaults) | {
      'norm_after': True,
      'query_scale': facts.get('query_pre_attn_scalar', 256) ** -0.5,
  }


def _later_json(config: model_config.DecoderConfig) -> dict[str, Any]:
  scalar = config.query_scale**-2
  return {
      **_shared_json(config),
      **decoders.windows_json(config),
      'hidden_activation': decoders.WRITTEN[config.mlp_activations[0]],
      'query_pre_attn_scalar': round(scalar),
      'final_logit_softcapping': config.logits_cap or None,
  }


def _gemma2(facts: mapping.Json, _: Any) -> model_config.DecoderConfig:
  """Returns the configuration that a Gemma 2's config.json describes."""
  theta, scaling = decoders.rope(facts, 10000.0)
  found = _later(facts, vocab_size=256000, max_position_embeddings=8192)
  layers = found['num_layers']
  return model_config.DecoderConfig(
      **found,
      **decoders.windows(facts, layers, 4096, lambda i: i % 2 == 0),
      attention_cap=float(facts.get('attn_logit_softcapping', 50.0) or 0),
      logits_cap=float(facts.get('final_logit_softcapping', 30.0) or 0),
      rope_theta=theta,
      rope_scaling=scaling,
  )


def _gemma2_json(config: model_config.DecoderConfig) -> dict[str, Any]:
  """Returns what config.json says of a Gemma 2."""
  return {
      'model_type': 'gemma2',
      **_later_json(config),
      'attn_logit_softcapping': config.attention_cap or None,
  }


def _gemma3(facts: mapping.Json, _: Any) -> model_config.DecoderConfig:
  """Returns the configuration that a Gemma 3's config.json describes."""
  mapping.require(facts, 'attn_logit_softcapping', None)
  theta, scaling = decoders.rope(facts, 1e6, decoders.FULL)
  if 'rope_parameters' in facts:
    local, stretched = decoders.rope(facts, 1e4, decoders.SLIDING)
    if stretched is not None:
      raise mapping.unsupported(
          f'rope_parameters.{decoders.SLIDING}', stretched.kind, 'default'
      )
  else:
    local = float(facts.get('rope_local_base_freq', 1e4))
  found = _later(facts, vocab_size=262208, max_position_embeddings=131072)
  layers = found['num_layers']
  pattern = facts.get('sliding_window_pattern', 6)
  return model_config.DecoderConfig(
      **found,
      **decoders.windows(facts, layers, 4096, lambda i: (i + 1) % pattern != 0),
      query_key_norm=True,
      logits_cap=float(facts.get('final_logit_softcapping') or 0),
      rope_theta=theta,
      rope_scaling=scaling,
      rope_local_theta=local,
  )


def _gemma3_json(config: model_config.DecoderConfig) -> dict[str, Any]:
  """Returns what config.json says of a Gemma 3."""
  return {
      'model_type': 'gemma3_text',
      **_later_json(config),
      'rope_local_base_freq': config.rope_local_theta,
  }


def _architecture(config: Any, to_json: Any) -> mapping.Architecture:
  return mapping.Architecture(
      config=config,
      to_json=to_json,
      fits=decoders.fits(config, to_json),
      names=llama.names,
      ignored=llama.IGNORED,
  )


ARCHITECTURES = {
    'GemmaForCausalLM': _architecture(_gemma1, _gemma1_json),
    'Gemma2ForCausalLM': _architecture(_gemma2, _gemma2_json),
    'Gemma3ForCausalLM': _architecture(_gemma3, _gemma3_json),
}
