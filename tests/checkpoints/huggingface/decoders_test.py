"""Decoder-only models beside `transformers`, at odd sizes."""

import dataclasses
import json

from flan_jax import errors
from flan_jax import partitioning
from flan_jax.checkpoints import formats
from flan_jax.checkpoints import native
from flan_jax.checkpoints.huggingface import architectures
from flan_jax.checkpoints.huggingface import mapping
from flan_jax.models import interface
import jax
import numpy as np
import pytest
import torch
import transformers

_GPT2 = {
    'vocab_size': 101,
    'n_positions': 40,
    'n_embd': 21,
    'n_head': 3,
    'n_layer': 2,
    'bos_token_id': 100,
    'eos_token_id': 0,
}
_LLAMA = {
    'vocab_size': 101,
    'hidden_size': 20,
    'intermediate_size': 37,
    'num_hidden_layers': 3,
    'num_attention_heads': 4,
    'num_key_value_heads': 2,
    'head_dim': 6,
    'max_position_embeddings': 64,
    'bos_token_id': 99,
    'eos_token_id': 0,
    'pad_token_id': None,
}
_LLAMA3 = {
    'rope_type': 'llama3',
    'rope_theta': 500.0,
    'factor': 8.0,
    'low_freq_factor': 1.0,
    'high_freq_factor': 4.0,
    'original_max_position_embeddings': 16,
}
_LINEAR = {'rope_type': 'linear', 'factor': 4.0, 'rope_theta': 5000.0}


def _without(facts: dict, key: str) -> dict:
  return {name: value for name, value in facts.items() if name != key}


# Windows are shorter than rows, and caps far from where tanh is straight.
_CASES = {
    'gpt2': ('GPT2', _GPT2),
    'gpt2_untied': (
        'GPT2',
        _GPT2
        | {
            'tie_word_embeddings': False,
            'n_layer': 1,
            'n_inner': 33,
            'activation_function': 'gelu',
            'layer_norm_epsilon': 1e-3,
        },
    ),
    'llama2': ('Llama', _LLAMA | {'num_key_value_heads': 4}),
    'llama3': (
        'Llama',
        _LLAMA
        | {
            'rope_parameters': _LLAMA3,
            'tie_word_embeddings': True,
            'attention_bias': True,
            'mlp_bias': True,
            'rms_norm_eps': 1e-3,
        },
    ),
    'qwen2': ('Qwen2', _without(_LLAMA | {'hidden_size': 24}, 'head_dim')),
    'qwen2_window': (
        'Qwen2',
        _LLAMA
        | {
            'use_sliding_window': True,
            'sliding_window': 3,
            'max_window_layers': 1,
            'rope_parameters': _LINEAR,
        },
    ),
    'qwen3': ('Qwen3', _LLAMA | {'num_key_value_heads': 1}),
    'gemma': ('Gemma', _LLAMA | {'num_key_value_heads': 1}),
    'gemma2': (
        'Gemma2',
        _LLAMA
        | {
            'sliding_window': 4,
            'query_pre_attn_scalar': 7,
            'attn_logit_softcapping': 2.0,
            'final_logit_softcapping': 3.0,
        },
    ),
    'gemma3': (
        'Gemma3',
        _LLAMA
        | {
            'sliding_window': 4,
            'layer_types': ['sliding_attention', 'full_attention'] * 2,
            'num_hidden_layers': 4,
            'query_pre_attn_scalar': 9,
            'final_logit_softcapping': 3.0,
            'rope_parameters': {
                'full_attention': _LINEAR,
                'sliding_attention': {
                    'rope_type': 'default',
                    'rope_theta': 50.0,
                },
            },
        },
    ),
}


def make(kind: str, facts: dict):
  """Returns a new model of `transformers`."""
  names = {
      'GPT2': ('GPT2Config', 'GPT2LMHeadModel'),
      'Gemma3': ('Gemma3TextConfig', 'Gemma3ForCausalLM'),
  }
  config, model = names.get(kind, (f'{kind}Config', f'{kind}ForCausalLM'))
  facts = {**facts, 'attn_implementation': 'eager'}
  return getattr(transformers, model)(getattr(transformers, config)(**facts))


@pytest.fixture(scope='module', params=_CASES)
def pair(request, tmp_path_factory, perturb):
  """A model of `transformers`, and the folder that it is saved in."""
  torch.manual_seed(0)
  model = make(*_CASES[request.param])
  folder = tmp_path_factory.mktemp(request.param)
  perturb(model).save_pretrained(folder)
  return model, folder


@pytest.fixture(scope='module')
def loaded(pair):
  """The same model of ours, with its parameters."""
  model = interface.create(formats.open_source(pair[1]).config)
  mesh = partitioning.make_mesh(
      partitioning.MeshConfig(data=1), jax.devices()[:1]
  )
  return model, native.load_params(pair[1], model, mesh)


def _logits(theirs, ids):
  """Returns their logits after each of a row's tokens, its begin first."""
  with torch.no_grad():
    found = theirs(input_ids=torch.tensor(ids)[None] - 1).logits
  return found[0].numpy()


def test_logits_are_those_of_transformers(pair, loaded):
  theirs, _ = pair
  model, params = loaded
  begin = model.config.begin_id
  rng = np.random.default_rng(0)
  # Two examples in one row: ids are theirs and 1, and theirs begin at 0.
  sides = [rng.integers(1, 102, n) for n in (14, 9)]
  batch = {
      'decoder_input_tokens': np.concatenate([[0, *s[:-1]] for s in sides]),
      'decoder_target_tokens': np.concatenate(sides),
      'decoder_segment_ids': np.repeat([1, 2], [14, 9]),
      'decoder_positions': np.concatenate([np.arange(14), np.arange(9)]),
  }
  batch = {k: v[None].astype(np.int32) for k, v in batch.items()}
  found = np.asarray(jax.jit(model.logits)(params, batch))[0]
  expected = [_logits(theirs, [begin, *s[:-1]]) for s in sides]
  expected = np.concatenate(expected)
  assert np.abs(expected).max() > 1
  np.testing.assert_allclose(found[:, 1:102], expected, atol=1e-4)
  np.testing.assert_array_equal(found[:, 0], -1e9)
  np.testing.assert_array_equal(found[:, 102:], -1e9)

  loss = jax.jit(model.loss, static_argnames='z_loss')(
      params, batch, z_loss=0.0
  )
  log_p = torch.log_softmax(torch.tensor(expected), -1).numpy()
  wanted = -log_p[np.arange(23), np.concatenate(sides) - 1].sum()
  np.testing.assert_allclose(loss.loss, wanted, rtol=1e-5)


def test_what_is_written_reads_as_the_same_model(pair):
  source = formats.open_source(pair[1])
  fitting = [
      name for name, own in architectures.ALL.items() if own.fits(source.config)
  ]
  assert type(pair[0]).__name__ in fitting
  architecture = architectures.ALL[type(pair[0]).__name__]
  again = architecture.config(architecture.to_json(source.config), {})
  assert again == dataclasses.replace(
      source.config, dropout_rate=again.dropout_rate
  )


def test_parts_of_a_table_are_those_of_the_whole():
  tensor = np.arange(15.0).reshape(5, 3)
  for transpose in (False, True):
    entry = mapping.Entry('ours', 'theirs', transpose, rows=(1, 5, 8))
    whole = np.zeros((8, 3))
    whole[1:6] = tensor
    whole = whole.T if transpose else whole
    assert entry.shape((5, 3)) == whole.shape
    np.testing.assert_array_equal(entry.taken(tensor), whole)
    np.testing.assert_array_equal(entry.back(whole), tensor)
    for begin in range(8):
      for end in range(begin, 9):
        index = (slice(begin, end), slice(1, 3))
        index = index[::-1] if transpose else index
        np.testing.assert_array_equal(entry.taken(tensor, index), whole[index])


@pytest.mark.parametrize(
    'facts, words',
    [
        ({'architectures': ['Qwen3MoeForCausalLM']}, 'Qwen3MoeForCausalLM'),
        (
            {'architectures': ['Gemma3ForConditionalGeneration']},
            'Gemma3ForConditionalGeneration',
        ),
        ({'rope_scaling': {'rope_type': 'yarn'}}, "rope_type: 'yarn'"),
        ({'hidden_act': 'tanh'}, "hidden_act: 'tanh'"),
        ({'quantization_config': {}}, 'quantization_config'),
        ({'bos_token_id': None, 'eos_token_id': None}, 'bos_token_id: is'),
        ({'bos_token_id': 101}, 'begin_id: 102 is none of its 102'),
        ({'num_key_value_heads': 3}, 'num_kv_heads: must divide'),
    ],
)
def test_what_is_not_supported_is_named(facts, words, tmp_path):
  (tmp_path / 'model.safetensors').write_bytes(b'\2' + 7 * b'\0' + b'{}')
  facts = {'architectures': ['LlamaForCausalLM'], **_LLAMA, **facts}
  (tmp_path / 'config.json').write_text(json.dumps(facts))
  with pytest.raises(errors.UserError, match=words):
    formats.open_source(tmp_path)
