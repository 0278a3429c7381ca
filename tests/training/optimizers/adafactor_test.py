"""Adafactor gives T5X's numbers, stacked or not, and the paper's formulas."""

import json

from flan_jax import errors
from flan_jax import partitioning
from flan_jax.models import config as config_lib
from flan_jax.models import interface
from flan_jax.training import optimizers
from flan_jax.training import schedules
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

RATE = schedules.Constant(value=1e-3)


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


def _train(model, golden, optimizer, is_stacked: bool):
  """Takes five steps; returns losses, parameters by step, and the state."""
  batch = golden('encdec_batch_unpacked')
  start = golden('encdec_params_init')
  if is_stacked:
    stacked, params, stack = model.stacked(), model.stack(start), lambda p: p
    flat = model.unstack
  else:
    stacked, params, stack = lambda name: False, start, model.stack
    flat = dict
  transformation = optimizer.create(RATE, stacked)

  @jax.jit
  def step(params, state):
    loss, gradient = jax.value_and_grad(
        lambda p: model.loss(stack(p), batch).loss
    )(params)
    updates, state = transformation.update(gradient, state, params)
    return loss, optax.apply_updates(params, updates), state

  losses, path = [], []
  state = transformation.init(params)
  for _ in range(5):
    loss, params, state = step(params, state)
    losses.append(float(loss))
    path.append(flat(params))
  return losses, path, state


def _check(found, expected):
  """Each parameter to 1e-5 of its largest entry."""
  assert set(found) == set(expected)
  for name, reference in expected.items():
    error = np.abs(found[name] - reference).max()
    assert error <= 1e-5 * np.abs(reference).max(), name


@pytest.mark.parametrize(
    ('smallest', 'is_stacked', 'key', 'steps'),
    [
        (
            128,
            False,
            'adafactor_unpacked_losses',
            {i: f'encdec_adafactor_step{i}' for i in range(1, 6)},
        ),
        *[
            (
                16,
                is_stacked,
                'adafactor_factored16_losses',
                {i: f'encdec_adafactor_factored16_step{i}' for i in (1, 5)},
            )
            for is_stacked in (True, False)
        ],
    ],
)
def test_five_steps_are_t5xs(
    smallest, is_stacked, key, steps, model, golden, shared
):
  """With T5X's slots; golden_test.py has whole steps."""
  optimizer = optimizers.Adafactor(min_dim_size_to_factor=smallest)
  losses, path, state = _train(model, golden, optimizer, is_stacked)

  meta = json.loads((shared / 'golden' / 't5x' / 'meta.json').read_text())
  np.testing.assert_allclose(losses, meta[key][:5], rtol=1e-5)
  for step, name in steps.items():
    _check(path[step - 1], golden(name))
  assert state.count == 5

  if smallest == 16:
    slots = {
        f'{name}/{slot}': leaf
        for slot in ('v_row', 'v_col', 'v')
        for name, leaf in (
            model.unstack(getattr(state.moments, slot))
            if is_stacked
            else getattr(state.moments, slot)
        ).items()
    }
    expected = golden('encdec_adafactor_factored16_slots_step5')
    momentum = {name for name in expected if name.endswith('/m')}
    assert all(not expected[name].any() for name in momentum)
    _check(slots, {k: v for k, v in expected.items() if k not in momentum})


@pytest.mark.parametrize('smallest', [16, 128])
def test_axes_of_the_state_are_those_of_its_arrays(smallest, model):
  optimizer = optimizers.Adafactor(min_dim_size_to_factor=smallest)
  abstract, axes = model.abstract_params(), model.logical_axes()
  state = jax.eval_shape(optimizer.create(RATE, model.stacked()).init, abstract)

  names = optimizer.state_axes(abstract, axes, model.stacked())

  mesh = partitioning.make_mesh(
      partitioning.MeshConfig(data=2, fsdp=2, tensor=2)
  )
  # Checks that there are as many names as axes, and that sizes divide.
  shardings = partitioning.shardings(mesh, names, state)
  assert jax.tree.structure(shardings) == jax.tree.structure(state)
  wo = ('decoder', 'layers', 'mlp', 'wo', 'kernel')
  row, column, whole = (_at(tree, wo) for tree in names.moments[1:])
  if smallest == 16:
    assert (row, column) == (('layers', 'embed'), ('layers', 'mlp'))
    assert whole == (None, None)
  else:
    assert whole == ('layers', 'mlp', 'embed')
  assert _at(names.moments.v, ('encoder', 'encoder_norm', 'scale')) == (
      'embed',
  )


def _at(tree, path):
  for key in path:
    tree = tree[key]
  return tree


def _one_step(optimizer, param, gradient, stacked=False):
  transformation = optimizer.create(
      schedules.Constant(value=0.5), {'w': stacked}
  )
  params = {'w': jnp.asarray(param, jnp.float32)}
  updates, _ = transformation.update(
      {'w': jnp.asarray(gradient, jnp.float32)},
      transformation.init(params),
      params,
  )
  return np.asarray(updates['w'])


def test_first_step_by_hand():
  """At step 0 the decay is 0, so the second moment is the squared gradient."""
  param, gradient = np.array([3.0, 4.0]), np.array([-2.0, 0.5])
  scale = np.sqrt(12.5)
  plain = optimizers.Adafactor()
  np.testing.assert_allclose(
      _one_step(plain, param, gradient),
      0.5 * scale * np.array([1, -1]),
      rtol=1e-6,
  )
  clipped = optimizers.Adafactor(clipping_threshold=0.25)
  np.testing.assert_allclose(
      _one_step(clipped, param, gradient),
      0.5 * scale * np.array([0.25, -0.25]),
      rtol=1e-6,
  )
  absolute = optimizers.Adafactor(multiply_by_parameter_scale=False)
  np.testing.assert_allclose(
      _one_step(absolute, param, gradient), [0.5, -0.5], rtol=1e-6
  )
  least = optimizers.Adafactor(epsilon2=10.0)
  np.testing.assert_allclose(
      _one_step(least, param, gradient), [5, -5], rtol=1e-6
  )
  decayed = optimizers.Adafactor(weight_decay=0.1)
  np.testing.assert_allclose(
      _one_step(decayed, param, gradient),
      0.5 * scale * np.array([1, -1]) - 0.1 * param,
      rtol=1e-6,
  )


def test_layers_of_a_stack_do_not_touch_each_other():
  rng = np.random.default_rng(0)
  param = rng.normal(size=(3, 16, 24)) * np.array([1, 10, 100])[:, None, None]
  gradient = rng.normal(size=(3, 16, 24))
  optimizer = optimizers.Adafactor(min_dim_size_to_factor=16)

  together = _one_step(optimizer, param, gradient, stacked=True)

  for layer in range(3):
    alone = _one_step(optimizer, param[layer], gradient[layer])
    np.testing.assert_allclose(together[layer], alone, rtol=1e-5)


def test_the_schedule_sees_updates_made_so_far():
  seen = optimizers.Adafactor(multiply_by_parameter_scale=False).create(
      schedules.Constant(value=1.0, warmup_steps=2), lambda name: False
  )
  params = {'w': jnp.ones(2)}
  state = seen.init(params)
  sizes = []
  for _ in range(3):
    updates, state = seen.update({'w': jnp.ones(2)}, state, params)
    sizes.append(float(-updates['w'][0]))
  np.testing.assert_allclose(sizes, [0, 0.5, 1], rtol=1e-5)


def test_parameters_are_needed():
  transformation = optimizers.Adafactor().create(RATE, lambda name: False)
  params = {'w': jnp.ones(2)}
  with pytest.raises(ValueError, match='needs the parameters'):
    transformation.update(params, transformation.init(params))


@pytest.mark.parametrize(
    'change', [{'decay_rate': 0}, {'clipping_threshold': -1.0}, {'epsilon1': 0}]
)
def test_what_cannot_work_is_refused(change):
  (name,) = change
  with pytest.raises(
      errors.UserError, match=f'Adafactor.{name}: must be above'
  ):
    optimizers.Adafactor(**change)
