"""Models that `transformers` makes, with parameters that show mistakes."""

import json

from flan_jax import partitioning
from flan_jax.checkpoints import formats
from flan_jax.checkpoints import native
from flan_jax.models import interface
import jax
import pytest


@pytest.fixture(scope='session')
def perturb():
  """Returns a function that gives a torch model random parameters."""
  import torch

  torch.set_num_threads(1)

  def apply(model, seed=0, scale=0.3):
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
      random = torch.randn(parameter.shape, generator=generator)
      # Norms are not 1, so that one in another's place is seen.
      centre = 1.0 if parameter.ndim == 1 and 'bias' not in name else 0.0
      parameter.data = centre + scale * random
    return model.eval()

  return apply


_GPT2 = {
    'vocab_size': 101,
    'n_positions': 90,
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
    'max_position_embeddings': 96,
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
  import transformers

  names = {
      'GPT2': ('GPT2Config', 'GPT2LMHeadModel'),
      'Gemma3': ('Gemma3TextConfig', 'Gemma3ForCausalLM'),
  }
  config, model = names.get(kind, (f'{kind}Config', f'{kind}ForCausalLM'))
  facts = {**facts, 'attn_implementation': 'eager'}
  return getattr(transformers, model)(getattr(transformers, config)(**facts))


@pytest.fixture(scope='session')
def decoder_cases() -> dict[str, tuple[str, dict]]:
  """The kind and the configuration of each decoder-only model."""
  return _CASES


@pytest.fixture(scope='session', params=_CASES)
def decoder_pair(request, tmp_path_factory, perturb):
  """A model of `transformers`, and the folder that it is saved in."""
  import torch

  torch.manual_seed(0)
  model = make(*_CASES[request.param])
  folder = tmp_path_factory.mktemp(request.param)
  perturb(model).save_pretrained(folder)
  _write_tokenizer(folder)
  return model, folder


def _write_tokenizer(folder) -> None:
  """Writes a tokenizer of 101 words, of which 'w0' ends texts."""
  import tokenizers

  words = {f'w{i}': i for i in range(101)}
  made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, 'w1'))
  made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
  made.save(str(folder / 'tokenizer.json'))
  facts = {'eos_token': 'w0', 'tokenizer_class': 'PreTrainedTokenizerFast'}
  (folder / 'tokenizer_config.json').write_text(json.dumps(facts))


@pytest.fixture(scope='session')
def decoder_loaded(decoder_pair):
  """The same model of ours, with its parameters."""
  model = interface.create(formats.open_source(decoder_pair[1]).config)
  mesh = partitioning.make_mesh(
      partitioning.MeshConfig(data=1), jax.devices()[:1]
  )
  return model, native.load_params(decoder_pair[1], model, mesh)


@pytest.fixture(scope='session')
def pretrained(tmp_path_factory, perturb, root):
  """A T5 1.1 with the embedded vocabulary, and with a setting of its own."""
  import torch
  import transformers

  folder = tmp_path_factory.mktemp('pretrained')
  model = transformers.T5ForConditionalGeneration(
      transformers.T5Config(
          vocab_size=1256,
          d_model=16,
          d_kv=8,
          d_ff=24,
          num_layers=1,
          num_heads=2,
          decoder_start_token_id=0,
          feed_forward_proj='gated-gelu',
          tie_word_embeddings=False,
          n_positions=77,
      )
  )
  model.lm_head.weight = torch.nn.Parameter(
      torch.empty_like(model.shared.weight)
  )
  perturb(model, scale=0.1).save_pretrained(folder)
  vocabulary = root / 'mixtures' / 'mini' / 'mini.model'
  (folder / 'spiece.model').write_bytes(vocabulary.read_bytes())
  (folder / 'tokenizer_config.json').write_text('{"tokenizer_class": "T5Tok"}')
  return folder
