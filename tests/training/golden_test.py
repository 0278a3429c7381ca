"""Whole steps give T5X's losses, gradients and parameters, step by step.

However the batch is divided: into microbatches, over a mesh.
"""

import functools
import json

from flan_jax import partitioning
from flan_jax.models import config as config_lib
from flan_jax.models import interface
from flan_jax.training import optimizers
from flan_jax.training import schedules
from flan_jax.training import state as state_lib
from flan_jax.training import step as step_lib
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

MESHES = {
    'one': {},
    'eight': {'data': 2, 'fsdp': 2, 'tensor': 2},
}
PATHS = {
    'unpacked': [f'encdec_adafactor_step{i}' for i in range(1, 6)],
    'packed': [None] * 4 + ['encdec_adafactor_packed_step5'],
    'factored16': [
        'encdec_adafactor_factored16_step1',
        *[None] * 3,
        'encdec_adafactor_factored16_step5',
    ],
}


pytestmark = pytest.mark.usefixtures('precise')


@pytest.fixture(scope='module')
def model() -> interface.Model:
  """The golden encoder-decoder."""
  return interface.create(
      config_lib.EncoderDecoderConfig(
          vocab_size=128,
          emb_dim=32,
          num_heads=4,
          head_dim=8,
          mlp_dim=64,
          num_encoder_layers=2,
          num_decoder_layers=2,
      )
  )


def _stepper(model, transform, mesh, **config):
  """Returns the jitted step and a function that makes its first state."""
  step = jax.jit(
      functools.partial(
          step_lib.train_step,
          model=model,
          optimizer=transform,
          learning_rate=schedules.Constant(value=1e-3),
          config=step_lib.StepConfig(**{'seed': 0, **config}),
      )
  )

  def start(flat):
    shardings = partitioning.shardings(mesh, model.logical_axes())
    params = jax.device_put(model.stack(flat), shardings)
    return state_lib.TrainState(
        jnp.zeros((), jnp.int32), params, transform.init(params)
    )

  return step, start


def _check(found, expected, tolerance=1e-5):
  """Each array to `tolerance` of its largest entry."""
  assert set(found) == set(expected)
  for name, reference in expected.items():
    error = np.abs(np.asarray(found[name]) - reference).max()
    assert error <= tolerance * np.abs(reference).max(), (name, error)


@pytest.mark.parametrize(
    ('name', 'count', 'devices'),
    [
        ('unpacked', 4, 'one'),
        ('unpacked', 1, 'eight'),
        ('packed', 2, 'one'),
        ('factored16', 1, 'one'),
    ],
)
def test_five_steps_are_t5xs(
    name, count, devices, model, golden, mesh_of, shared
):
  """Losses before each step and after the last; parameters where stored."""
  mesh = mesh_of(**MESHES[devices])
  kind = 'packed' if name == 'packed' else 'unpacked'
  transform = optimizers.Adafactor(
      min_dim_size_to_factor=16 if name == 'factored16' else 128
  ).create(schedules.Constant(value=1e-3), model.stacked())
  step, start = _stepper(
      model,
      transform,
      mesh,
      loss_normalizing_factor=None,
      num_microbatches=count,
  )
  losses = []
  with partitioning.use(mesh):
    state = start(golden('encdec_params_init'))
    batch = partitioning.put_batch(golden(f'encdec_batch_{kind}'), mesh)
    for stored in [*PATHS[name], None]:
      state, metrics = step(state, batch)
      losses.append(float(metrics.loss))
      if stored is not None:
        _check(model.unstack(state.params), golden(stored))

  meta = json.loads((shared / 'golden' / 't5x' / 'meta.json').read_text())
  wanted = meta[f'adafactor_{name}_losses']
  assert len(losses) == len(wanted) == 6
  np.testing.assert_allclose(losses, wanted, rtol=1e-5)


def _recorder() -> optax.GradientTransformation:
  """An optimizer that changes nothing and keeps the gradient as its state."""
  return optax.GradientTransformation(
      lambda params: jax.tree.map(jnp.zeros_like, params),
      lambda gradient, state, params=None: (
          jax.tree.map(jnp.zeros_like, gradient),
          gradient,
      ),
  )


def _gradient(model, params, batch, mesh, **config):
  """Returns the gradient by T5X's names, and the metrics."""
  step, start = _stepper(model, _recorder(), mesh, **config)
  with partitioning.use(mesh):
    state, metrics = step(start(params), partitioning.put_batch(batch, mesh))
  return model.unstack(state.optimizer), metrics


@pytest.mark.parametrize(
    ('kind', 'factor', 'divisor'),
    [
        ('unpacked', 'NUM_TOTAL_TARGET_TOKENS', 4 * 16),
        ('packed', 'NUM_REAL_TARGET_TOKENS', 32),
    ],
)
def test_the_gradient_is_t5xs_over_the_factor(
    kind, factor, divisor, model, golden, mesh_of
):
  batch = golden(f'encdec_batch_{kind}')
  found, metrics = _gradient(
      model,
      golden('encdec_params_init'),
      batch,
      mesh_of(),
      loss_normalizing_factor=factor,
  )
  expected = golden(f'encdec_grads_{kind}')
  _check(found, {k: g / divisor for k, g in expected.items()})
  np.testing.assert_allclose(
      metrics.loss, golden(f'encdec_forward_{kind}')['loss'], rtol=1e-6
  )


def _apart(batch):
  """Returns the examples of a packed batch, each in a row of its own."""
  rows = []
  for row in range(len(batch['decoder_segment_ids'])):
    for segment in range(1, batch['decoder_segment_ids'][row].max() + 1):
      example = {}
      for side in ('encoder', 'decoder'):
        within = batch[f'{side}_segment_ids'][row] == segment
        for name, feature in batch.items():
          if name.startswith(side):
            alone = np.zeros_like(feature[row])
            alone[: within.sum()] = feature[row][within]
            example[name] = alone
        ids = example[f'{side}_segment_ids']
        example[f'{side}_segment_ids'] = (ids > 0).astype(np.int32)
      rows.append(example)
  return {name: np.stack([row[name] for row in rows]) for name in batch}


def test_each_sequence_counts_once(model, golden, mesh_of):
  """AVERAGE_PER_SEQUENCE is the mean of what each example has alone."""
  together = golden('encdec_batch_packed')
  # The last token of each example does not count, one example not at all.
  targets = together['decoder_target_tokens']
  weights = (targets > 1) & (together['decoder_segment_ids'] != 2)
  together['decoder_loss_weights'] = weights.astype(np.int32)
  apart = _apart(together)
  params = golden('encdec_params_init')
  stacked = model.stack(params)

  def mean(params, row):
    sums = model.loss(params, row)
    return sums.loss / sums.weight

  one = jax.jit(jax.value_and_grad(mean))
  alone = [
      one(stacked, {k: v[i : i + 1] for k, v in apart.items()})
      for i, weights in enumerate(apart['decoder_loss_weights'])
      if weights.any()
  ]
  assert 2 <= len(alone) < len(apart['decoder_loss_weights'])
  expected = jax.tree.map(
      lambda *gs: sum(map(np.float64, gs)) / len(gs), *[g for _, g in alone]
  )
  found, metrics = _gradient(
      model,
      params,
      together,
      mesh_of(),
      loss_normalizing_factor='AVERAGE_PER_SEQUENCE',
  )
  _check(found, model.unstack(expected))
  assert metrics.weight == pytest.approx(len(alone))
  assert metrics.target_tokens == together['decoder_loss_weights'].sum()
  np.testing.assert_allclose(
      metrics.loss / metrics.weight,
      np.mean([float(loss) for loss, _ in alone]),
      rtol=1e-5,
  )


def test_packing_changes_neither_loss_nor_gradient(model, golden, mesh_of):
  together = golden('encdec_batch_packed')
  params = golden('encdec_params_init')
  first, one = _gradient(
      model, params, together, mesh_of(), label_smoothing=0.1
  )
  second, other = _gradient(
      model, params, _apart(together), mesh_of(), label_smoothing=0.1
  )
  np.testing.assert_allclose(one.loss, other.loss, rtol=1e-5)
  _check(second, jax.device_get(first))
