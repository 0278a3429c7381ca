"""A step is the gradient of the summed loss, whatever it is divided into."""

import functools

from flan_jax import partitioning
from flan_jax.models import losses
from flan_jax.training import optimizers
from flan_jax.training import schedules
from flan_jax.training import state as state_lib
from flan_jax.training import step as step_lib
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

RATE = 0.5


class Lookup:
  """A model in one line: the token before gives the logits.

  It compiles in no time, and its gradient can be written down.
  """

  def __init__(self, dropout=False):
    self._dropout = dropout

  def loss(
      self, params, batch, *, dropout_rng=None, z_loss=1e-4, label_smoothing=0.0
  ):
    logits = params['table'][batch['decoder_input_tokens']]
    if self._dropout and dropout_rng is not None:
      logits *= jax.random.bernoulli(dropout_rng, 0.7, logits.shape)
    return losses.loss_sums(
        logits,
        batch['decoder_target_tokens'],
        batch['decoder_loss_weights'],
        z_loss=z_loss,
        label_smoothing=label_smoothing,
    )


def _table(size=48):
  rng = np.random.default_rng(1)
  return {'table': rng.normal(size=(size, size)).astype(np.float32)}


def _gradient(table, batch, z_loss=1e-4):
  """The gradient of the summed loss, in float64 by the formula."""
  table = table.astype(np.float64)
  inputs, targets, weights = (
      batch[f'decoder_{name}'].ravel()
      for name in ('input_tokens', 'target_tokens', 'loss_weights')
  )
  logits = table[inputs]
  log_z = np.log(np.exp(logits).sum(-1))
  slope = np.exp(logits - log_z[:, None]) * (1 + 2 * z_loss * log_z)[:, None]
  slope[np.arange(len(targets)), targets] -= 1
  gradient = np.zeros_like(table)
  np.add.at(gradient, inputs, slope * weights[:, None])
  loss = log_z - logits[np.arange(len(targets)), targets]
  correct = (logits.argmax(-1) == targets) * weights
  return {
      'gradient': gradient,
      'loss': ((loss + z_loss * log_z**2) * weights).sum(),
      'z_loss': (z_loss * log_z**2 * weights).sum(),
      'correct': correct.sum(),
  }


def _schedule(step):
  """A schedule that shows which step it was asked for."""
  return RATE + jnp.asarray(step, jnp.float32)


def _run(model, params, batch, mesh, step=0, **config):
  """Returns the state after one step of plain descent, and the metrics."""
  optimizer = optax.sgd(1.0)
  with partitioning.use(mesh):
    state = state_lib.TrainState(
        jnp.asarray(step, jnp.int32), params, optimizer.init(params)
    )
    train_step = functools.partial(
        step_lib.train_step,
        model=model,
        optimizer=optimizer,
        learning_rate=_schedule,
        config=step_lib.StepConfig(**{'seed': 0, **config}),
    )
    new, metrics = jax.jit(train_step)(
        state, partitioning.put_batch(batch, mesh)
    )
  return jax.device_get(new), jax.device_get(metrics)


def _is_descent(new, before, gradient, tolerance=1e-5):
  np.testing.assert_allclose(
      before['table'] - new.params['table'],
      gradient,
      rtol=tolerance,
      # The difference of parameters is exact to their own last place.
      atol=tolerance * np.abs(gradient).max() + 5e-7,
  )


@pytest.mark.parametrize(
    ('factor', 'divisor'),
    [
        ('NUM_REAL_TARGET_TOKENS', 7 * 4),
        ('NUM_TOTAL_TARGET_TOKENS', 8 * 6),
        (None, 1),
        (100.0, 100),
    ],
)
def test_the_summed_loss_is_divided_by_what_is_asked_for(
    batch, mesh_of, factor, divisor
):
  params = _table()
  new, metrics = _run(
      Lookup(), params, batch, mesh_of(), loss_normalizing_factor=factor
  )
  gradient = _gradient(params['table'], batch)['gradient'] / divisor
  _is_descent(new, params, gradient)
  np.testing.assert_allclose(
      metrics.gradient_norm, np.sqrt((gradient**2).sum()), rtol=1e-5
  )


@pytest.mark.parametrize(
    ('count', 'devices'), [(1, {}), (2, {}), (1, {'data': 2, 'fsdp': 2})]
)
@pytest.mark.parametrize('packed', [True, False])
def test_each_sequence_counts_once_however_divided(
    batch, mesh_of, count, devices, packed
):
  """Of 16 examples, two to a row, the two of the first row do not count."""
  rng = np.random.default_rng(3)
  weights = rng.integers(0, 3, batch['decoder_loss_weights'].shape)
  weights[:, 0] = weights[:, 3] = 1
  weights = (weights * (batch['decoder_loss_weights'] > 0)).astype(np.int32)
  batch = {**batch, 'decoder_loss_weights': weights}
  if not packed:
    batch = {k: v for k, v in batch.items() if k != 'decoder_segment_ids'}
  params = _table()
  examples = []
  for row in range(len(weights)):
    for part in (slice(0, 3), slice(3, 6)) if packed else (slice(0, 6),):
      alone = {k: v[row : row + 1, part] for k, v in batch.items()}
      if alone['decoder_loss_weights'].any():
        total = alone['decoder_loss_weights'].sum()
        found = _gradient(params['table'], alone)
        examples.append((found['gradient'] / total, found['loss'] / total))
  assert len(examples) == (14 if packed else 7)
  new, metrics = _run(
      Lookup(),
      params,
      batch,
      mesh_of(**devices),
      loss_normalizing_factor='AVERAGE_PER_SEQUENCE',
      num_microbatches=count,
  )
  gradients, losses_alone = zip(*examples, strict=True)
  _is_descent(new, params, np.mean(gradients, axis=0))
  assert metrics.weight == pytest.approx(len(examples))
  assert metrics.target_tokens == weights.sum()
  np.testing.assert_allclose(
      metrics.loss / metrics.weight, np.mean(losses_alone), rtol=1e-5
  )


def test_metrics_are_sums_over_the_batch(batch, mesh_of):
  params = _table()
  new, metrics = _run(Lookup(), params, batch, mesh_of(), step=4)
  wanted = _gradient(params['table'], batch)
  np.testing.assert_allclose(metrics.loss, wanted['loss'], rtol=1e-5)
  np.testing.assert_allclose(metrics.z_loss, wanted['z_loss'], rtol=1e-5)
  assert metrics.correct == wanted['correct']
  assert metrics.weight == batch['decoder_loss_weights'].sum() == 28
  assert metrics.tokens == 8 * (10 + 4)
  assert metrics.learning_rate == RATE + 4
  assert new.step == 5


@pytest.mark.parametrize(
    ('count', 'devices'),
    [
        (2, {}),
        (8, {}),
        (1, {'data': 2, 'fsdp': 2, 'tensor': 2}),
        (2, {'data': 2, 'fsdp': 2, 'tensor': 2}),
    ],
)
def test_microbatches_and_meshes_change_nothing(batch, mesh_of, count, devices):
  params = _table()
  new, metrics = _run(
      Lookup(), params, batch, mesh_of(**devices), num_microbatches=count
  )
  wanted = _gradient(params['table'], batch)
  _is_descent(new, params, wanted['gradient'] / 28)
  np.testing.assert_allclose(metrics.loss, wanted['loss'], rtol=1e-5)
  assert (metrics.weight, metrics.tokens) == (28, 8 * (10 + 4))


@pytest.mark.parametrize(
    ('count', 'devices'), [(1, {}), (4, {}), (2, {'data': 2, 'fsdp': 2})]
)
def test_each_member_has_sums_of_its_own(batch, mesh_of, count, devices):
  # Two examples a row, of any of five members; the fourth has none.
  rng = np.random.default_rng(2)
  ids = rng.choice([1, 2, 3, 5], (8, 6)).astype(np.int32)
  ids[:, 2:] = 0
  params = _table()
  _, metrics = _run(
      Lookup(),
      params,
      {**batch, 'member_ids': ids},
      mesh_of(**devices),
      num_microbatches=count,
      members=5,
  )
  loss, weight = metrics.members
  assert loss.shape == weight.shape == (5,)
  for member in range(5):
    segments = batch['decoder_segment_ids']
    own = (segments > 0) & (
        ids[np.arange(8)[:, None], np.maximum(segments - 1, 0)] == member + 1
    )
    weights = batch['decoder_loss_weights'] * own
    wanted = _gradient(
        params['table'], {**batch, 'decoder_loss_weights': weights}
    )
    assert weight[member] == weights.sum()
    np.testing.assert_allclose(loss[member], wanted['loss'], rtol=1e-5)
  assert weight[3] == 0 and weight.sum() == metrics.weight
  # And the step itself is the one without them.
  _, plain = _run(
      Lookup(), params, batch, mesh_of(**devices), num_microbatches=count
  )
  assert plain.members is None
  np.testing.assert_allclose(plain.loss, metrics.loss, rtol=1e-6)
  np.testing.assert_allclose(
      plain.gradient_norm, metrics.gradient_norm, rtol=1e-6
  )


def test_examples_and_density_leave_padding_out(batch, mesh_of):
  padded = {
      name: np.concatenate([rows, np.zeros_like(rows)])
      for name, rows in batch.items()
  }
  for rows, share in ((batch, 1), (padded, 0.5)):
    _, metrics = _run(Lookup(), _table(), rows, mesh_of(), num_microbatches=2)
    assert metrics.examples == 8 * 2
    assert metrics.density == {
        'encoder': pytest.approx(share * 10 / 12),
        'decoder': pytest.approx(share * 4 / 6),
    }


def test_rows_of_padding_change_nothing(batch, mesh_of):
  padded = {
      name: np.concatenate([rows, np.zeros_like(rows)])
      for name, rows in batch.items()
  }
  params = _table()
  new, metrics = _run(Lookup(), params, padded, mesh_of())
  wanted = _gradient(params['table'], batch)['gradient'] / 28
  _is_descent(new, params, wanted)
  assert metrics.tokens == 8 * (10 + 4)


def test_a_batch_of_padding_alone_changes_no_parameter(batch, mesh_of):
  empty = {name: np.zeros_like(rows) for name, rows in batch.items()}
  params = _table()
  new, metrics = _run(Lookup(), params, empty, mesh_of())
  assert metrics.weight == metrics.loss == 0
  np.testing.assert_array_equal(new.params['table'], params['table'])


class Steep(Lookup):
  """A loss that is finite, and whose gradient is not."""

  def loss(self, params, batch, **settings):
    sums = super().loss(params, batch, **settings)
    edge = jnp.sqrt(jnp.zeros(()) * params['table'][0, 0])
    return sums._replace(loss=sums.loss + edge)


@pytest.mark.parametrize('kind', [Lookup, Steep])
@pytest.mark.parametrize('count', [1, 2])
def test_a_step_that_is_not_finite_leaves_all_but_the_step(
    batch, mesh_of, kind, count
):
  params = _table()
  if kind is Lookup:
    params['table'][0, 5] = np.inf  # Every row begins with a 0.
  settings = dict(num_microbatches=count, step=6)
  new, metrics = _run(
      kind(), params, batch, mesh_of(), skip_non_finite=True, **settings
  )
  assert metrics.finite == 0
  assert np.isfinite(metrics.loss) == (kind is Steep)
  assert not np.isfinite(metrics.gradient_norm)
  assert new.step == 7
  np.testing.assert_array_equal(new.params['table'], params['table'])
  # Unless told so, it is done, and the numbers say what it is.
  new, metrics = _run(kind(), params, batch, mesh_of(), **settings)
  assert metrics.finite == 0
  assert not np.isfinite(new.params['table']).all()


def test_a_finite_step_is_the_same_where_others_are_skipped(batch, mesh_of):
  params = _table()
  one, metrics = _run(Lookup(), params, batch, mesh_of())
  other, _ = _run(Lookup(), params, batch, mesh_of(), skip_non_finite=True)
  assert metrics.finite == 1
  np.testing.assert_array_equal(one.params['table'], other.params['table'])


def test_dropout_follows_from_seed_and_step(batch, mesh_of):
  def loss(seed, step, count=1):
    model = Lookup(dropout=True)
    mesh = mesh_of(data=2)
    return _run(
        model,
        _table(),
        batch,
        mesh,
        step=step,
        seed=seed,
        num_microbatches=count,
    )[1].loss.item()

  found = {loss(0, 0), loss(0, 1), loss(1, 0), loss(0, 0, count=2)}
  assert len(found) == 4
  assert loss(0, 1) in found


def test_evaluation_has_no_dropout_and_no_smoothing(batch):
  params = _table()
  sums = step_lib.eval_step(
      params,
      batch,
      model=Lookup(dropout=True),
      config=step_lib.StepConfig(seed=0, label_smoothing=0.2),
  )
  wanted = _gradient(params['table'], batch)
  np.testing.assert_allclose(sums.loss, wanted['loss'], rtol=1e-5)


def test_the_real_model_steps_the_same_on_eight_devices(
    tiny_model, batch, mesh_of
):
  model = tiny_model(dropout_rate=0.1)
  params = jax.device_get(jax.jit(model.init)(jax.random.key(3)))
  alone, first = _run(model, params, batch, mesh_of())
  together, second = _run(
      model, params, batch, mesh_of(data=2, fsdp=2, tensor=2)
  )
  np.testing.assert_allclose(first.loss, second.loss, rtol=1e-5)
  jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
      alone.params,
      together.params,
  )


def test_a_state_lies_where_its_axes_say(tiny_model, mesh_of):
  model = tiny_model(emb_dim=128, mlp_dim=256, num_encoder_layers=2)
  mesh = mesh_of(fsdp=4, tensor=2)
  optimizer = optimizers.Adafactor()
  stacked = model.stacked()
  transform = optimizer.create(schedules.Constant(value=0.1), stacked)
  axes = optimizer.state_axes(
      model.abstract_params(), model.logical_axes(), stacked
  )
  with partitioning.use(mesh):
    like = state_lib.abstract(model, transform, axes, mesh)
    state = state_lib.create(model, transform, like, seed=0)
    again = state_lib.with_params(transform, like, state.params)
  for made in (state, again):
    jax.tree.map(
        lambda array, leaf: (
            np.testing.assert_equal(array.shape, leaf.shape),
            np.testing.assert_(
                array.sharding.is_equivalent_to(leaf.sharding, array.ndim)
            ),
        ),
        made,
        like,
    )
  jax.tree.map(np.testing.assert_array_equal, again.params, state.params)
  kernel = state.params['encoder']['layers']['mlp']['wi_0']['kernel']
  assert kernel.shape == (2, 128, 256)
  assert kernel.addressable_shards[0].data.shape == (2, 32, 128)
  rows = state.optimizer.moments.v_row['encoder']['layers']['mlp']['wi_0'][
      'kernel'
  ]
  assert rows.shape == (2, 128)
  assert rows.addressable_shards[0].data.shape == (2, 32)
  assert state.step == 0
