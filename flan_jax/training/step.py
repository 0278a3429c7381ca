"""One step: loss sums, their gradient, the optimizer. Pure functions."""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any, NamedTuple

from flan_jax import partitioning
from flan_jax.models import interface
from flan_jax.models import losses
from flan_jax.training import state as state_lib
import jax
import jax.numpy as jnp
import optax

Batch = Mapping[str, jax.Array]

# T5X's names (`t5x.losses.SpecialLossNormalizingFactor`).
NUM_REAL_TARGET_TOKENS = 'NUM_REAL_TARGET_TOKENS'
NUM_TOTAL_TARGET_TOKENS = 'NUM_TOTAL_TARGET_TOKENS'


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepConfig:
  """What a step does beside the model and the optimizer.

  Attributes:
    seed: Dropout at step n draws from key(seed) folded with n.
    z_loss: The coefficient of the squared log normaliser.
    label_smoothing: Probability mass taken from the target.
    loss_normalizing_factor: What the summed loss is divided by before the
      gradient is taken: 'NUM_REAL_TARGET_TOKENS' (the weights of all target
      tokens of the global batch), 'NUM_TOTAL_TARGET_TOKENS' (padding counted
      too), a number, or None (nothing: the sum itself).
    num_microbatches: The rows go through in so many equal parts, one after the
      other; sums are of all parts, so results differ by rounding alone.
  """

  seed: int
  z_loss: float = 1e-4
  label_smoothing: float = 0.0
  loss_normalizing_factor: float | str | None = NUM_REAL_TARGET_TOKENS
  num_microbatches: int = 1


class StepMetrics(NamedTuple):
  """Sums over the global batch of a step. All float32 scalars.

  Attributes:
    loss: Cross entropy in nats with z-loss, over weighted target tokens.
    z_loss: The z-loss alone.
    weight: The weights of the target tokens.
    correct: Weighted target tokens that had the highest logit.
    tokens: Tokens in inputs and targets, padding left out.
    learning_rate: What the schedule said for this step.
    gradient_norm: The Euclidean norm of the (normalised) gradient.
  """

  loss: jax.Array
  z_loss: jax.Array
  weight: jax.Array
  correct: jax.Array
  tokens: jax.Array
  learning_rate: jax.Array
  gradient_norm: jax.Array


def train_step(
    state: state_lib.TrainState,
    batch: Batch,
    *,
    model: interface.Model,
    optimizer: optax.GradientTransformation,
    learning_rate: Callable[[Any], jax.Array],
    config: StepConfig,
) -> tuple[state_lib.TrainState, StepMetrics]:
  """Returns the next state and this step's sums.

  Args:
    state: Before the step.
    batch: Features under SeqIO's names, int32 [rows, length].
    model: The model.
    optimizer: The optimizer; it holds its own schedule.
    learning_rate: The schedule, for the metrics.
    config: See there.
  """
  rng = jax.random.fold_in(jax.random.key(config.seed), state.step)
  gradient, sums = _gradient(state.params, batch, rng, model, config)
  normalizer = _normalizer(batch, config.loss_normalizing_factor)
  gradient = jax.tree.map(lambda g: g / normalizer, gradient)
  updates, kept = optimizer.update(gradient, state.optimizer, state.params)
  new = state_lib.TrainState(
      step=state.step + 1,
      params=optax.apply_updates(state.params, updates),
      optimizer=kept,
  )
  metrics = StepMetrics(
      loss=sums.loss,
      z_loss=sums.z_loss,
      weight=sums.weight,
      correct=sums.correct,
      tokens=_tokens(batch),
      learning_rate=jnp.asarray(learning_rate(state.step), jnp.float32),
      gradient_norm=optax.tree.norm(gradient),
  )
  return new, metrics


def eval_step(
    params: Any, batch: Batch, *, model: interface.Model, config: StepConfig
) -> losses.LossSums:
  """Returns the sums of a batch without dropout or label smoothing."""
  return model.loss(params, batch, z_loss=config.z_loss)


def _gradient(
    params: Any,
    batch: Batch,
    rng: jax.Array,
    model: interface.Model,
    config: StepConfig,
) -> tuple[Any, losses.LossSums]:
  """Returns the gradient of the summed loss, and the sums."""

  def loss(params: Any, part: Batch, rng: jax.Array):
    sums = model.loss(
        params,
        part,
        dropout_rng=rng,
        z_loss=config.z_loss,
        label_smoothing=config.label_smoothing,
    )
    return sums.loss, sums

  value_and_grad = jax.value_and_grad(loss, has_aux=True)
  count = config.num_microbatches
  if count == 1:
    (_, sums), gradient = value_and_grad(params, batch, rng)
    return gradient, sums

  def add(totals: Any, part: tuple[jax.Array, Batch]):
    index, rows = part
    key = jax.random.fold_in(rng, index)
    (_, sums), gradient = value_and_grad(params, rows, key)
    return jax.tree.map(jnp.add, totals, (gradient, sums)), None

  zeros = jax.tree.map(jnp.zeros_like, params)
  nothing = losses.LossSums(*[jnp.zeros((), jnp.float32)] * 4)
  parts = (jnp.arange(count), _split(batch, count))
  (gradient, sums), _ = jax.lax.scan(add, (zeros, nothing), parts)
  return gradient, sums


def _split(batch: Batch, count: int) -> Batch:
  """Returns features [count, rows / count, length].

  Part i has every count-th row from the i-th on: so each part has rows of
  every device, and no row moves between devices.
  """

  def split(feature: jax.Array) -> jax.Array:
    rows, length = feature.shape
    parts = feature.reshape(rows // count, count, length).swapaxes(0, 1)
    return partitioning.constrain(parts, (None, 'batch', None))

  return {name: split(feature) for name, feature in batch.items()}


def _normalizer(batch: Batch, factor: float | str | None) -> jax.Array:
  weights = batch['decoder_loss_weights']
  if factor is None:
    return jnp.ones((), jnp.float32)
  if factor == NUM_REAL_TARGET_TOKENS:
    # A batch of padding alone has a gradient of zero, not of 0 / 0.
    return jnp.maximum(jnp.sum(weights.astype(jnp.float32)), 1.0)
  if factor == NUM_TOTAL_TARGET_TOKENS:
    return jnp.full((), weights.size, jnp.float32)
  return jnp.full((), float(factor), jnp.float32)


def _tokens(batch: Batch) -> jax.Array:
  return sum(
      (
          jnp.sum(feature > 0, dtype=jnp.float32)
          for name, feature in batch.items()
          if name.endswith('_segment_ids')
      ),
      start=jnp.zeros((), jnp.float32),
  )
