"""The published models' config.json, and how many parameters they have."""

from flan_jax.checkpoints.huggingface import architectures
from flan_jax.models import interface
import pytest

_LLAMA3 = {
    'attention_bias': False,
    'bos_token_id': 128000,
    'eos_token_id': 128001,
    'hidden_act': 'silu',
    'max_position_embeddings': 131072,
    'mlp_bias': False,
    'rms_norm_eps': 1e-05,
    'rope_theta': 500000.0,
    'vocab_size': 128256,
}
_SCALING = {
    'factor': 8.0,
    'high_freq_factor': 4.0,
    'low_freq_factor': 1.0,
    'original_max_position_embeddings': 8192,
    'rope_type': 'llama3',
}
# As their folders have them, in the form of the version that wrote them.
_PUBLISHED = {
    'gpt2': (
        'GPT2LMHeadModel',
        124_439_808,
        {
            'activation_function': 'gelu_new',
            'bos_token_id': 50256,
            'eos_token_id': 50256,
            'layer_norm_epsilon': 1e-05,
            'n_ctx': 1024,
            'n_embd': 768,
            'n_head': 12,
            'n_layer': 12,
            'n_positions': 1024,
            'vocab_size': 50257,
        },
    ),
    'TinyLlama-1.1B': (
        'LlamaForCausalLM',
        1_100_048_384,
        {
            'bos_token_id': 1,
            'eos_token_id': 2,
            'hidden_act': 'silu',
            'hidden_size': 2048,
            'intermediate_size': 5632,
            'max_position_embeddings': 2048,
            'num_attention_heads': 32,
            'num_hidden_layers': 22,
            'num_key_value_heads': 4,
            'pretraining_tp': 1,
            'rms_norm_eps': 1e-05,
            'rope_scaling': None,
            'tie_word_embeddings': False,
            'vocab_size': 32000,
        },
    ),
    'Llama-3.1-8B': (
        'LlamaForCausalLM',
        8_030_261_248,
        _LLAMA3
        | {
            'hidden_size': 4096,
            'intermediate_size': 14336,
            'num_attention_heads': 32,
            'num_hidden_layers': 32,
            'num_key_value_heads': 8,
            'rope_scaling': _SCALING,
            'tie_word_embeddings': False,
        },
    ),
    'Llama-3.2-1B': (
        'LlamaForCausalLM',
        1_235_814_400,
        _LLAMA3
        | {
            'head_dim': 64,
            'hidden_size': 2048,
            'intermediate_size': 8192,
            'num_attention_heads': 32,
            'num_hidden_layers': 16,
            'num_key_value_heads': 8,
            'rope_scaling': _SCALING | {'factor': 32.0},
            'tie_word_embeddings': True,
        },
    ),
    'Qwen2.5-0.5B': (
        'Qwen2ForCausalLM',
        494_032_768,
        {
            'bos_token_id': 151643,
            'eos_token_id': 151643,
            'hidden_act': 'silu',
            'hidden_size': 896,
            'intermediate_size': 4864,
            'max_position_embeddings': 32768,
            'max_window_layers': 24,
            'num_attention_heads': 14,
            'num_hidden_layers': 24,
            'num_key_value_heads': 2,
            'rope_theta': 1000000.0,
            'sliding_window': 32768,
            'tie_word_embeddings': True,
            'use_sliding_window': False,
            'vocab_size': 151936,
        },
    ),
    'gemma-2-2b': (
        'Gemma2ForCausalLM',
        2_614_341_888,
        {
            'attn_logit_softcapping': 50.0,
            'bos_token_id': 2,
            'eos_token_id': 1,
            'final_logit_softcapping': 30.0,
            'head_dim': 256,
            'hidden_act': 'gelu_pytorch_tanh',
            'hidden_activation': 'gelu_pytorch_tanh',
            'hidden_size': 2304,
            'intermediate_size': 9216,
            'num_attention_heads': 8,
            'num_hidden_layers': 26,
            'num_key_value_heads': 4,
            'query_pre_attn_scalar': 256,
            'rope_theta': 10000.0,
            'sliding_window': 4096,
            'vocab_size': 256000,
        },
    ),
    'gemma-3-1b': (
        'Gemma3ForCausalLM',
        999_885_952,
        {
            'attn_logit_softcapping': None,
            'bos_token_id': 2,
            'eos_token_id': [1, 106],
            'head_dim': 256,
            'hidden_activation': 'gelu_pytorch_tanh',
            'hidden_size': 1152,
            'intermediate_size': 6912,
            'max_position_embeddings': 32768,
            'num_attention_heads': 4,
            'num_hidden_layers': 26,
            'num_key_value_heads': 1,
            'query_pre_attn_scalar': 256,
            'rope_local_base_freq': 10000,
            'rope_scaling': None,
            'rope_theta': 1000000,
            'sliding_window': 512,
            'sliding_window_pattern': 6,
            'vocab_size': 262144,
        },
    ),
}


@pytest.mark.parametrize('name', _PUBLISHED)
def test_the_number_of_parameters(name):
  architecture, count, facts = _PUBLISHED[name]
  known = architectures.ALL[architecture]
  config = known.config(facts, {})
  ours = interface.count_parameters(interface.create(config))
  tables = 1 if config.logits_via_embedding else 2
  more = tables * config.emb_dim * (config.vocab_size - config.num_ids)
  assert ours - more == count
  # Each parameter has a tensor, and none is told twice.
  entries = known.names(config)
  wanted = interface.create(config)
  flat = wanted.unstack(wanted.abstract_params())
  assert sorted(entry.ours for entry in entries) == sorted(flat)
  assert known.fits(config)


def test_windows_of_gemma():
  for name, every in (('gemma-2-2b', 2), ('gemma-3-1b', 6)):
    architecture, _, facts = _PUBLISHED[name]
    config = architectures.ALL[architecture].config(facts, {})
    full = [i for i, own in enumerate(config.window_layers) if not own]
    assert full == list(range(every - 1, 26, every))
    assert config.window == facts['sliding_window']
  assert (config.rope_theta, config.rope_local_theta) == (1e6, 1e4)
