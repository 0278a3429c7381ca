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

  model: config_lib.EncoderDecoderConfig


def _preset(name: str, *bindings: str) -> config_lib.EncoderDecoderConfig:
  configuration.register(config_lib.EncoderDecoderConfig)
  return configuration.load(
      [f'gin/models/t5_1_1/{name}.gin'],
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


def test_flags_change_a_preset():
  config = _preset(
      'small', 'DROPOUT_RATE=0.1', 'EncoderDecoderConfig.dtype="bfloat16"'
  )
  assert config.dropout_rate == 0.1
  assert config.dtype == 'bfloat16'


SIZES = dict(
    emb_dim=8,
    num_heads=2,
    num_encoder_layers=1,
    num_decoder_layers=1,
    head_dim=4,
    mlp_dim=16,
)


@pytest.mark.parametrize(
    'change, words',
    [
        ({'dtype': 'float16'}, 'dtype: .*65504.*bfloat16'),
        ({'dtype': 'float8'}, "dtype: must be one of 'float32', 'bfloat16'"),
        ({'remat': 'some'}, "remat: must be one of 'none', 'full'"),
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
def test_what_cannot_work_is_refused(change, words):
  with pytest.raises(errors.UserError, match=words):
    config_lib.EncoderDecoderConfig(**SIZES | change)


def test_a_config_survives_json():
  config = config_lib.EncoderDecoderConfig(**SIZES)
  text = json.dumps(dataclasses.asdict(config))
  again = config_lib.EncoderDecoderConfig(**json.loads(text))
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
