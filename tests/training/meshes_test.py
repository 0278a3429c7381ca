"""The same training on every mesh of one, two, four and eight devices.

A T5X run says how many partitions a model has; here a mesh and rules say it,
and none of them may change a loss.
"""

import math

from flan_jax import partitioning
from flan_jax.models import config as model_config
from flan_jax.models import interface
from flan_jax.training import optimizers
from flan_jax.training import schedules
from flan_jax.training import settings as settings_lib
from flan_jax.training import trainer as trainer_lib
import jax
import numpy as np
import pytest

_STEPS = 4
_ROWS, _INPUTS, _TARGETS = 8, 12, 6
# Everything that a mesh can share divides by eight.
_MODEL = model_config.EncoderDecoderConfig(
    vocab_size=48,
    emb_dim=16,
    num_heads=8,
    num_encoder_layers=1,
    num_decoder_layers=1,
    head_dim=4,
    mlp_dim=32,
    dropout_rate=0.1,
)
_MESHES = [
    (data, fsdp, tensor)
    for data in (1, 2, 4, 8)
    for fsdp in (1, 2, 4, 8)
    for tensor in (1, 2, 4, 8)
    if data * fsdp * tensor <= 8
]


def _settings(mesh: partitioning.MeshConfig) -> settings_lib.Train:
  return settings_lib.Train(
      model_dir='unused',
      mixture_or_task_name='unused',
      vocabulary='bytes',
      task_feature_lengths={'inputs': _INPUTS, 'targets': _TARGETS},
      model=_MODEL,
      # So that matrices of this size are factored.
      optimizer=optimizers.Adafactor(min_dim_size_to_factor=8),
      schedule=schedules.Constant(value=0.02),
      mesh=mesh,
      train_steps=_STEPS,
      batch_size=_ROWS,
  )


def _train(config: partitioning.MeshConfig, batch):
  """Returns the losses a token of some steps, and the state after them."""
  count = math.prod((config.data, config.fsdp, config.tensor))
  mesh = partitioning.make_mesh(config, jax.devices()[:count])
  with partitioning.use(mesh):
    trainer = trainer_lib.Trainer(
        _settings(config), interface.create(_MODEL), mesh
    )
    state = trainer.new_state()
    step = trainer.compiled_step()
    losses = []
    for number in range(_STEPS):
      rows = {name: np.roll(x, number, axis=0) for name, x in batch.items()}
      state, sums = step(state, partitioning.put_batch(rows, mesh))
      losses.append(float(sums.loss) / float(sums.weight))
  return losses, state


@pytest.fixture(scope='module')
def alone(batch):
  """The losses on one device."""
  losses, _ = _train(partitioning.MeshConfig(data=1), batch)
  assert losses[-1] < losses[0] - 0.01  # It learns, so updates matter.
  return losses


@pytest.fixture(autouse=True)
def usual_rules():
  """Puts the usual rules back after a test."""
  yield
  partitioning.make_mesh()


@pytest.mark.parametrize('shape', _MESHES)
def test_losses_are_the_same_on_every_mesh(shape, alone, batch):
  data, fsdp, tensor = shape
  config = partitioning.MeshConfig(data=data, fsdp=fsdp, tensor=tensor)
  losses, state = _train(config, batch)
  np.testing.assert_allclose(losses, alone, rtol=1e-5)

  kernel = state.params['encoder']['layers']['mlp']['wi_0']['kernel']
  assert kernel.addressable_shards[0].data.shape == (
      *(1, 16 // fsdp, 32 // tensor),
  )
  # Adafactor's rows and columns of it, too.
  moments = [
      leaf.addressable_shards[0].data.shape
      for path, leaf in jax.tree_util.tree_leaves_with_path(state.optimizer)
      if 'encoder' in str(path) and 'wi_0' in str(path) and leaf.size > 8
  ]
  assert sorted(moments) == sorted([(1, 16 // fsdp), (1, 32 // tensor)])


@pytest.mark.parametrize(
    ('rules', 'width'),
    [
        ({}, 8),
        ({'hidden': 'tensor'}, 8),  # T5X's 2D activations.
        ({'length': 'tensor'}, 8),
        ({'embed': None}, 16),  # T5X's 1D parameters.
        ({'embed': ('data', 'fsdp')}, 4),  # T5X's 2D parameters.
        ({'batch': 'data', 'hidden': 'fsdp'}, 8),
        ({'mlp': ('fsdp', 'tensor'), 'vocab': 'data'}, 16),
    ],
)
def test_losses_are_the_same_under_other_rules(rules, width, alone, batch):
  config = partitioning.MeshConfig(data=2, fsdp=2, tensor=2, rules=rules)
  losses, state = _train(config, batch)
  np.testing.assert_allclose(losses, alone, rtol=1e-5)
  kernel = state.params['encoder']['layers']['mlp']['wi_0']['kernel']
  assert kernel.addressable_shards[0].data.shape[1] == width
