"""What all optimizers share: decay, clipping, groups, averages, shardings."""

from flan_jax import errors
from flan_jax import partitioning
from flan_jax.checkpoints import layout
from flan_jax.models import naming
from flan_jax.training import optimizers
from flan_jax.training import schedules
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

# Two programs are to agree to the bit, as those that users compile do.
pytestmark = pytest.mark.usefixtures('optimised')

RATE = schedules.Constant(value=0.1)
KINDS = {
    'adafactor': optimizers.Adafactor,
    'adamw': optimizers.AdamW,
    'lion': optimizers.Lion,
    'muon': optimizers.Muon,
}
GROUPS = (
    optimizers.ParameterGroup(pattern='token_embedder/.*', frozen=True),
    optimizers.ParameterGroup(pattern='.*/layers_2/.*', frozen=True),
    optimizers.ParameterGroup(
        pattern='.*/layers_1/.*', rate_factor=3.0, weight_decay=0.7
    ),
    optimizers.ParameterGroup(
        pattern='.*/scale', schedule=schedules.Constant(value=0.01)
    ),
)
KERNEL = 'encoder/layers/mlp/wo/kernel'
LAYERS = [f'encoder/layers_{i}/mlp/wo/kernel' for i in range(4)]
SCALE, TABLE = 'encoder/encoder_norm/scale', 'token_embedder/embedding'


def _arrays(seed: int) -> dict[str, jax.Array]:
  rng = np.random.default_rng(seed)
  shapes = {KERNEL: (4, 6, 5), SCALE: (6,), TABLE: (7, 6)}
  return {k: jnp.float32(rng.normal(size=s)) for k, s in shapes.items()}


def _flat(arrays):
  """Returns the same arrays, each layer its own."""
  kernel = arrays[KERNEL]
  rest = {k: v for k, v in arrays.items() if k != KERNEL}
  return {**rest, **{name: kernel[i] for i, name in enumerate(LAYERS)}}


def _run(optimizer, is_stacked, steps=3):
  """Returns the parameters, by layer, and the state after some steps."""
  shape = (lambda arrays: arrays) if is_stacked else _flat
  transform = optimizer.create(RATE, naming.is_stacked)
  params = shape(_arrays(0))
  state = transform.init(params)
  update = jax.jit(transform.update)
  for step in range(steps):
    updates, state = update(shape(_arrays(step + 1)), state, params)
    params = optax.apply_updates(params, updates)
  return (_flat(params) if is_stacked else params), state


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('groups', [(), GROUPS])
def test_stacked_layers_are_treated_as_if_alone(kind, groups):
  optimizer = KINDS[kind](groups=groups, weight_decay=0.2, ema_decay=0.5)
  together, state = _run(optimizer, True)
  apart, other = _run(optimizer, False)
  for name, array in apart.items():
    np.testing.assert_allclose(together[name], array, rtol=1e-5, atol=1e-6)
  average = optimizers.averaged(state, _arrays(0))
  alone = optimizers.averaged(other, _flat(_arrays(0)))
  for name, array in _flat(average).items():
    np.testing.assert_allclose(alone[name], array, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('kind', KINDS)
def test_groups_are_frozen_or_have_their_own_rate(kind):
  start = _flat(_arrays(0))
  plain, _ = _run(KINDS[kind](weight_decay=0.2), True, steps=1)
  grouped, state = _run(
      KINDS[kind](weight_decay=0.2, groups=GROUPS), True, steps=1
  )
  for name in (TABLE, LAYERS[2]):
    np.testing.assert_array_equal(grouped[name], start[name])
  for name in (LAYERS[0], LAYERS[3]):
    np.testing.assert_array_equal(grouped[name], plain[name])
  np.testing.assert_allclose(
      grouped[SCALE] - start[SCALE],
      (plain[SCALE] - start[SCALE]) / 10,
      rtol=1e-3,
      atol=1e-6,
  )
  step = plain[LAYERS[1]] - start[LAYERS[1]]
  by_rate = 1.0 if kind == 'adafactor' else 0.1
  direction = step + by_rate * 0.2 * start[LAYERS[1]]
  by_rate = 1.0 if kind == 'adafactor' else 0.3
  np.testing.assert_allclose(
      grouped[LAYERS[1]] - start[LAYERS[1]],
      3 * direction - by_rate * 0.7 * start[LAYERS[1]],
      rtol=1e-3,
      atol=1e-5,
  )
  # What is frozen as a whole has no state at all.
  assert not any('token_embedder' in name for name in layout.flatten(state))
  assert any(KERNEL in name for name in _paths(state))


def _paths(tree):
  return [
      jax.tree_util.keystr(path, simple=True, separator='/')
      for path, _ in jax.tree_util.tree_flatten_with_path(tree)[0]
  ]


def test_norms_biases_and_positions_do_not_decay():
  names = [
      'decoder/decoder_norm/scale',
      'decoder/dense/bias',
      'decoder/relpos_bias/rel_embedding',
      'decoder/logits_dense/kernel',
      'token_embedder/embedding',
  ]
  params = {name: jnp.ones(3) for name in names}
  transform = optimizers.AdamW(weight_decay=0.5).create(
      RATE, lambda name: False
  )
  nothing = jax.tree.map(jnp.zeros_like, params)
  updates, _ = transform.update(nothing, transform.init(params), params)
  moved = [name for name in names if updates[name].any()]
  assert moved == names[3:]
  np.testing.assert_allclose(updates[names[3]], -0.05 * np.ones(3), rtol=1e-6)


def test_the_gradient_of_all_that_is_trained_is_clipped():
  """Frozen gradients, of whole arrays or of layers, do not count."""
  optimizer = optimizers.AdamW(clip_norm=2.0, groups=GROUPS, b1=0.0)
  transform = optimizer.create(RATE, naming.is_stacked)
  params, gradient = _arrays(0), _arrays(1)
  _, state = transform.update(gradient, transform.init(params), params)
  trained = {
      k: g for k, g in _flat(gradient).items() if k not in (TABLE, LAYERS[2])
  }
  norm = np.sqrt(sum(float((g**2).sum()) for g in trained.values()))
  assert norm > 2
  mean = state.moments.mu
  np.testing.assert_allclose(
      mean[KERNEL][0], trained[LAYERS[0]] * 2 / norm, rtol=1e-5
  )
  assert not mean[KERNEL][2].any()
  # A short one stays as it is.
  _, state = (
      optimizers.AdamW(clip_norm=1e6, b1=0.0)
      .create(RATE, naming.is_stacked)
      .update(gradient, transform_init(params), params)
  )
  np.testing.assert_allclose(state.moments.mu[SCALE], gradient[SCALE])


def transform_init(params):
  return optimizers.AdamW().create(RATE, naming.is_stacked).init(params)


def test_the_average_follows_its_formula():
  optimizer = optimizers.Lion(ema_decay=0.2)
  start = _arrays(0)
  transform = optimizer.create(RATE, naming.is_stacked)
  params, state = start, transform.init(start)
  average = np.float64(start[SCALE])
  for step in range(6):
    updates, state = transform.update(_arrays(step + 1), state, params)
    params = optax.apply_updates(params, updates)
    decay = min(0.2, (1 + step) / (10 + step))
    average = decay * average + (1 - decay) * np.float64(params[SCALE])
  np.testing.assert_allclose(state.average[SCALE], average, rtol=1e-5)
  assert optimizers.averaged(state, params)[SCALE] is state.average[SCALE]
  assert optimizers.averaged(transform_init(start), start) is None


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('groups', [(), GROUPS[:2]])
def test_every_state_is_shared_as_its_parameters_are(kind, groups, tiny_model):
  model = tiny_model(num_encoder_layers=4, num_decoder_layers=4)
  abstract, axes = model.abstract_params(), model.logical_axes()
  optimizer = KINDS[kind](groups=groups, ema_decay=0.9)
  state = jax.eval_shape(optimizer.create(RATE, model.stacked()).init, abstract)
  names = optimizer.state_axes(abstract, axes, model.stacked())
  mesh = partitioning.make_mesh(
      partitioning.MeshConfig(data=2, fsdp=2, tensor=2)
  )
  # Checks that there are as many names as axes, and that sizes divide.
  shardings = partitioning.shardings(mesh, names, state)
  assert jax.tree.structure(shardings) == jax.tree.structure(state)
  wanted = {
      path: leaf
      for path, leaf in zip(
          _paths(abstract),
          jax.tree.leaves(axes, is_leaf=partitioning.is_names),
          strict=True,
      )
  }
  found = dict(
      zip(
          _paths(state),
          jax.tree.leaves(names, is_leaf=partitioning.is_names),
          strict=True,
      )
  )
  kernel = 'decoder/layers/mlp/wo/kernel'
  holders = [path for path in found if path.endswith(kernel)]
  assert holders and f'average/{kernel}' in holders
  whole = [p for p in holders if 'v_row' not in p and 'v_col' not in p]
  assert all(found[path] == wanted[kernel] for path in whole)
  assert ('average/token_embedder/embedding' in found) == (not groups)
  # Checkpoints name them after the parameters, a layer each, and back.
  flat = layout.flatten(state)
  assert 'average/decoder/layers_3/mlp/wo/kernel' in flat
  again = layout.unflatten(flat, state)
  assert jax.tree.structure(again) == jax.tree.structure(state)


def test_an_array_of_another_shape_needs_axes_of_its_own(tiny_model):
  class Odd(optimizers.Optimizer):

    def direction(self, params, plan):
      return optax.GradientTransformation(
          lambda params: jax.tree.map(lambda p: p.sum(-1), params), None
      )

  model = tiny_model()
  with pytest.raises(ValueError, match='must name its axes'):
    Odd().state_axes(
        model.abstract_params(), model.logical_axes(), model.stacked()
    )


def test_parameters_are_needed():
  transform = optimizers.Lion().create(RATE, lambda name: False)
  params = {'w': jnp.ones(2)}
  with pytest.raises(ValueError, match='Lion.update needs the parameters'):
    transform.update(params, transform.init(params))


@pytest.mark.parametrize(
    ('make', 'words'),
    [
        (
            lambda: optimizers.AdamW(weight_decay=-1.0),
            'AdamW.weight_decay: must be a number of at least 0',
        ),
        (
            lambda: optimizers.Lion(b1=1.5),
            'Lion.b1: must be a number from 0 to 1, not 1.5',
        ),
        (
            lambda: optimizers.Muon(ema_decay='much'),
            "Muon.ema_decay: must be a number from 0 to 1, not 'much'",
        ),
        (
            lambda: optimizers.Muon(adam_names='('),
            'Muon.adam_names: .* is no regular expression',
        ),
        (
            lambda: optimizers.AdamW(groups=('encoder/.*',)),
            'AdamW.groups: must be a tuple of @ParameterGroup',
        ),
        (
            lambda: optimizers.ParameterGroup(pattern='*'),
            'ParameterGroup.pattern: .* is no regular expression',
        ),
        (
            lambda: optimizers.ParameterGroup(pattern='a', frozen=1),
            'ParameterGroup.frozen: must be True or False, not 1',
        ),
        (
            lambda: optimizers.ParameterGroup(pattern='a', schedule=0.1),
            'ParameterGroup.schedule: must be made by',
        ),
    ],
)
def test_what_cannot_work_is_refused(make, words):
  with pytest.raises(errors.UserError, match=words):
    make()


@pytest.mark.parametrize(
    ('pattern', 'words'),
    [
        (
            'encodr/.*',
            "'encodr/.\\*' matches none of the 6 parameters, such as encoder/",
        ),
        ('.*', 'leaves nothing to train'),
    ],
)
def test_groups_that_do_not_fit_the_parameters_are_refused(pattern, words):
  group = optimizers.ParameterGroup(pattern=pattern, frozen=True)
  transform = optimizers.AdamW(groups=(group,)).create(RATE, naming.is_stacked)
  with pytest.raises(errors.UserError, match=words):
    transform.init(_arrays(0))
