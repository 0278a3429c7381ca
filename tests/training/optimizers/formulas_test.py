"""AdamW, Lion and Muon against their formulas in numpy, float64."""

from flan_jax.training import optimizers
from flan_jax.training import schedules
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

# Rising, so that a step too early or too late shows.
RATE = schedules.Constant(value=0.1, warmup_steps=4)
NAMES = ('token_embedder/embedding', 'encoder/layers_0/mlp/wo/kernel')
NORM = 'encoder/encoder_norm/scale'


@pytest.fixture(autouse=True)
def precise():
  """Products in full float32."""
  with jax.default_matmul_precision('highest'):
    yield


def _arrays(seed: int) -> dict[str, np.ndarray]:
  rng = np.random.default_rng(seed)
  shapes = dict(zip((*NAMES, NORM), ((5, 6), (6, 4), (6,)), strict=True))
  return {name: rng.normal(size=shape) for name, shape in shapes.items()}


def _path(optimizer) -> list[dict[str, np.ndarray]]:
  """Returns the parameters after each of five steps."""
  transform = optimizer.create(RATE, lambda name: False)
  params = {k: jnp.float32(v) for k, v in _arrays(0).items()}
  state = transform.init(params)
  update = jax.jit(transform.update)
  found = []
  for step in range(5):
    gradient = {k: jnp.float32(v) for k, v in _arrays(step + 1).items()}
    updates, state = update(gradient, state, params)
    params = optax.apply_updates(params, updates)
    found.append(params)
  assert state.count == 5
  return found


def _adam(memory, gradient, step, b1, b2, epsilon):
  """Adam's direction (arXiv 1412.6980, algorithm 1)."""
  mean, square = memory.setdefault('adam', [0.0, 0.0])
  mean = b1 * mean + (1 - b1) * gradient
  square = b2 * square + (1 - b2) * gradient**2
  memory['adam'] = [mean, square]
  mean = mean / (1 - b1 ** (step + 1))
  square = square / (1 - b2 ** (step + 1))
  return mean / (np.sqrt(square) + epsilon)


def _lion(memory, gradient, b1, b2):
  """Lion's direction (arXiv 2302.06675, algorithm 2)."""
  mean = memory.get('lion', 0.0)
  memory['lion'] = b2 * mean + (1 - b2) * gradient
  return np.sign(b1 * mean + (1 - b1) * gradient)


def _orthogonal(matrix, steps):
  """Jordan's quintic iteration; of rows, as wide as they are many or wider."""
  if len(matrix) > len(matrix.T):
    return _orthogonal(matrix.T, steps).T
  x = matrix / np.sqrt((matrix**2).sum())
  for _ in range(steps):
    square = x @ x.T
    x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
  return x


def _muon(memory, gradient, step, beta, steps, rms):
  """Nesterov's momentum, both parts as optax corrects them, orthogonal."""
  mean = beta * memory.get('muon', 0.0) + (1 - beta) * gradient
  memory['muon'] = mean
  ahead = beta * mean / (1 - beta ** (step + 2)) + (1 - beta) * gradient / (
      1 - beta ** (step + 1)
  )
  return rms * np.sqrt(max(gradient.shape)) * _orthogonal(ahead, steps)


def _expected(direction, decay) -> list[dict[str, np.ndarray]]:
  params, memory = _arrays(0), {name: {} for name in _arrays(0)}
  found = []
  for step in range(5):
    rate = 0.1 * min(1, step / 4)
    for name, gradient in _arrays(step + 1).items():
      aim = direction(name, memory[name], gradient, step)
      shrinks = 0 if name == NORM else decay
      params[name] = params[name] - rate * (aim + shrinks * params[name])
    found.append(dict(params))
  return found


def _check(found, expected, tolerance=2e-6):
  for one, other in zip(found, expected, strict=True):
    for name, wanted in other.items():
      np.testing.assert_allclose(
          one[name], wanted, rtol=tolerance, atol=tolerance, err_msg=name
      )


@pytest.mark.parametrize('decay', [None, 0.3])
def test_adamw(decay):
  optimizer = optimizers.AdamW(b1=0.8, b2=0.9, epsilon=1e-3, weight_decay=decay)
  _check(
      _path(optimizer),
      _expected(
          lambda name, memory, g, t: _adam(memory, g, t, 0.8, 0.9, 1e-3),
          decay or 0,
      ),
  )


def test_lion():
  optimizer = optimizers.Lion(b1=0.7, b2=0.9, weight_decay=0.3)
  _check(
      _path(optimizer),
      _expected(lambda name, memory, g, t: _lion(memory, g, 0.7, 0.9), 0.3),
  )


def test_muon_for_matrices_and_adamw_for_the_rest():
  optimizer = optimizers.Muon(weight_decay=0.3, beta=0.9)

  def direction(name, memory, gradient, step):
    if name == NAMES[1]:
      return _muon(memory, gradient, step, 0.9, 5, 0.2)
    return _adam(memory, gradient, step, 0.9, 0.999, 1e-8)

  _check(_path(optimizer), _expected(direction, 0.3), 2e-5)


def test_muons_update_is_nearly_orthogonal_whatever_the_layer():
  """Stacked layers of sizes far apart: none drowns the others."""
  rng = np.random.default_rng(0)
  name = 'decoder/layers/attention/query/kernel'
  sizes = np.array([1e-3, 1, 1e3])[:, None, None]
  gradient = rng.normal(size=(3, 16, 8)) * sizes
  transform = optimizers.Muon(consistent_rms=1.0).create(
      schedules.Constant(value=1.0), {name: True}
  )
  params = {name: jnp.zeros((3, 16, 8))}
  updates, _ = transform.update(
      {name: jnp.float32(gradient)}, transform.init(params), params
  )
  values = np.linalg.svd(updates[name] / 4, compute_uv=False)
  assert values.shape == (3, 8)
  assert (values > 0.6).all() and (values < 1.3).all()


def test_jordans_scale():
  name = 'decoder/layers_0/mlp/wi/kernel'
  gradient = {name: jnp.float32(np.random.default_rng(0).normal(size=(4, 16)))}
  params = {name: jnp.zeros((4, 16))}
  found = []
  for rms in (1.0, None):
    transform = optimizers.Muon(consistent_rms=rms).create(
        schedules.Constant(value=1.0), lambda name: False
    )
    updates, _ = transform.update(gradient, transform.init(params), params)
    found.append(np.asarray(updates[name]))
  # sqrt(max(4, 16)) and sqrt(max(1, 16 / 4)).
  np.testing.assert_allclose(found[0] / 4, found[1] / 2, rtol=1e-5)
