"""Configurations: the presets' sizes, and what is refused."""

import dataclasses
import json
import subprocess
import sys

from flan_jax import configuration
from flan_jax import errors
from flan_jax.models import config as config_lib
from flan_jax.models import interface
import jax
import pytest


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preset:
  """An entry point that takes nothing but a model."""

  model: config_lib.ModelConfig


def _preset(
    name: str, *bindings: str, family: str = 't5_1_1'
) -> config_lib.ModelConfig:
  for configurable in config_lib.FAMILIES:
    configuration.register(configurable)
  return configuration.load(
      [f'gin/models/{family}/{name}.gin'],
      ['Preset.model=%MODEL', *bindings],
      entry=Preset,
  ).settings.model


@pytest.mark.parametrize(
    'name, millions',
    [
        # Published: T5 1.1's checkpoints.
        ('small', 77.0),
        ('base', 247.6),
        ('large', 783.2),
        ('xl', 2849.8),
        ('xxl', 11135.3),
        # Not published in this form; see the files.
        ('tiny', 25.9),
        ('mini', 48.3),
    ],
)
def test_presets_have_the_published_sizes(name, millions):
  model = interface.create(_preset(name))
  leaves = jax.tree.leaves(model.abstract_params())
  count = sum(leaf.size for leaf in leaves)
  assert round(count / 1e6, 1) == millions


@pytest.mark.parametrize('name, millions', [('tiny', 15.6), ('mini', 31.2)])
def test_presets_of_t5_efficient_in_its_own_form(name, millions):
  """ReLU and tied logits give the sizes of google/t5-efficient-*."""
  config = dataclasses.replace(
      _preset(name), mlp_activations=('relu',), logits_via_embedding=True
  )
  params = interface.create(config).abstract_params()
  assert 'wi' in params['encoder']['layers']['mlp']
  count = sum(leaf.size for leaf in jax.tree.leaves(params))
  assert round(count / 1e6, 1) == millions


@pytest.mark.parametrize(
    'name, parameters',
    [
        # T5X's figures, less what it had in earlier versions: logits of their
        # own, and a table of biases in each layer but the first.
        ('base', 134_307_072 - 32128 * 768 - 11 * 12 * 32),
        ('xxl', 4_762_357_760 - 23 * 64 * 32),
        # Not published: embedding, layers, last norm, biases.
        (
            'large',
            32128 * 1024
            + 24 * (4 * 1024**2 + 3 * 1024 * 2816 + 2 * 1024)
            + 1024
            + 32 * 16,
        ),
    ],
)
def test_decoder_only_presets_have_t5xs_sizes(name, parameters):
  model = interface.create(_preset(name, family='decoder'))
  leaves = jax.tree.leaves(model.abstract_params())
  assert sum(leaf.size for leaf in leaves) == parameters


def test_flags_change_a_preset():
  config = _preset(
      'small', 'DROPOUT_RATE=0.1', 'EncoderDecoderConfig.dtype="bfloat16"'
  )
  assert config.dropout_rate == 0.1
  assert config.dtype == 'bfloat16'


_COMMON = dict(emb_dim=8, num_heads=2, head_dim=4, mlp_dim=16)
SIZES = {
    config_lib.EncoderDecoderConfig: (
        _COMMON | dict(num_encoder_layers=1, num_decoder_layers=1)
    ),
    config_lib.DecoderConfig: _COMMON | dict(num_layers=1),
    config_lib.EncoderConfig: _COMMON | dict(num_layers=1, max_positions=9),
}


@pytest.mark.parametrize(
    'change, words',
    [
        ({'dtype': 'float16'}, 'dtype: .*65504.*bfloat16'),
        ({'dtype': 'float8'}, "dtype: must be one of 'float32', 'bfloat16'"),
        (
            {'remat': 'some'},
            "remat: must be one of 'none', 'minimal', 'full'",
        ),
        ({'loss_chunks': 0}, 'loss_chunks: must be a positive integer'),
        ({'unroll_layers': -1}, 'unroll_layers: must be an integer, at least'),
        ({'emb_dim': 0}, 'emb_dim: must be a positive integer, not 0'),
        ({'num_heads': 2.0}, 'num_heads: must be a positive integer'),
        ({'mlp_activations': ('gelo',)}, "no activation is called 'gelo'"),
        ({'mlp_activations': ()}, 'mlp_activations: at least one'),
        ({'dropout_rate': 1.0}, 'dropout_rate: must be at least 0'),
        ({'relative_attention_num_buckets': 30}, 'multiple of 4'),
        (
            {'relative_attention_max_distance': 16},
            'max_distance: must be above',
        ),
    ],
)
@pytest.mark.parametrize('family', config_lib.FAMILIES)
def test_what_cannot_work_is_refused(family, change, words):
  with pytest.raises(errors.UserError, match=f'{family.__name__}.*{words}'):
    family(**SIZES[family] | change)


@pytest.mark.parametrize(
    'change, words',
    [
        ({'num_layers': 0}, 'num_layers: must be a positive integer, not 0'),
        ({'prefix_lm': 1}, 'prefix_lm: must be True or False, not 1'),
    ],
)
def test_what_a_decoder_cannot_be_is_refused(change, words):
  with pytest.raises(errors.UserError, match=f'DecoderConfig.{words}'):
    family = config_lib.DecoderConfig
    family(**SIZES[family] | change)


@pytest.mark.parametrize(
    'change, words',
    [
        ({'max_positions': 0}, 'max_positions: must be a positive integer'),
        ({'mlp_activations': ('relu',) * 2}, 'mlp_activations: must be one'),
        ({'logits_via_embedding': False}, 'logits_via_embedding: must be True'),
        ({'num_ids': 9, 'vocab_size': 9}, 'num_ids: ids from 1 to 9 need'),
    ],
)
def test_what_an_encoder_cannot_be_is_refused(change, words):
  family = config_lib.EncoderConfig
  with pytest.raises(errors.UserError, match=f'EncoderConfig.{words}'):
    family(**SIZES[family] | change)


@pytest.mark.parametrize('family', config_lib.FAMILIES)
def test_a_config_survives_json(family):
  config = family(**SIZES[family])
  text = json.dumps(dataclasses.asdict(config))
  again = family(**json.loads(text))
  assert again == config
  assert hash(again) == hash(config)


@pytest.mark.parametrize(
    'module',
    [
        'models.config',
        'partitioning',
        'training.optimizers',
        'training.schedules',
    ],
)
def test_what_gin_reaches_imports_no_jax(module):
  code = f'import sys, flan_jax.{module}; print("jax" in sys.modules)'
  done = subprocess.run(
      [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert done.stdout.strip() == 'False'
