"""Dropout draws the same numbers wherever a step runs."""

import functools

from flan_jax import partitioning
from flan_jax.training import state as state_lib
from flan_jax.training import step as step_lib
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest


def _losses(model, batch, mesh, **config):
  """Returns the losses of three steps from the same parameters."""
  optimizer = optax.sgd(0.0)
  step = functools.partial(
      step_lib.train_step,
      model=model,
      optimizer=optimizer,
      learning_rate=optax.constant_schedule(0.0),
      config=step_lib.StepConfig(seed=3, **config),
  )
  found = []
  with partitioning.use(mesh):
    params = jax.jit(model.init)(jax.random.key(0))
    rows = partitioning.put_batch(batch, mesh)
    run = jax.jit(step)
    state = state_lib.TrainState(
        jnp.zeros((), jnp.int32), params, optimizer.init(params)
    )
    for _ in range(3):
      state, metrics = run(state, rows)
      found.append(float(metrics.loss))
  return found


@pytest.mark.parametrize('generator', ['rbg', 'unsafe_rbg', 'threefry2x32'])
def test_the_mesh_does_not_show(generator, tiny_model, batch, mesh_of):
  model = tiny_model(dropout_rate=0.3)
  alone = _losses(model, batch, mesh_of(), dropout_rng=generator)
  shared = _losses(
      model, batch, mesh_of(data=2, tensor=2), dropout_rng=generator
  )
  np.testing.assert_allclose(shared, alone, rtol=1e-5)
  assert len(set(alone)) == 3  # Each step draws anew.


def test_bfloat16_trains_float32_parameters(tiny_model, batch, mesh_of):
  model = tiny_model(dtype='bfloat16', dropout_rate=0.1)
  optimizer = optax.adamw(1e-2)
  params = jax.jit(model.init)(jax.random.key(0))
  state = state_lib.TrainState(
      jnp.zeros((), jnp.int32), params, optimizer.init(params)
  )
  step = jax.jit(
      functools.partial(
          step_lib.train_step,
          model=model,
          optimizer=optimizer,
          learning_rate=optax.constant_schedule(1e-2),
          config=step_lib.StepConfig(seed=0),
      )
  )
  found = []
  for _ in range(12):
    state, metrics = step(state, batch)
    found.append(float(metrics.loss))
  assert {
      leaf.dtype for leaf in jax.tree.leaves((state.params, state.optimizer))
  } <= {np.dtype(np.float32), np.dtype(np.int32)}
  assert found[-1] < found[0]
  text = step.lower(state, batch).as_text()
  # The products of layers are of bfloat16.
  assert 'tensor<16x32xbf16>' in text
