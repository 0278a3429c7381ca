"""One step: loss sums, their gradient, the optimizer. Pure functions."""

from collections.abc import Callable, Mapping
import dataclasses
import functools
from typing import Any, NamedTuple

from flan_jax import partitioning
from flan_jax.data import packing
from flan_jax.models import adapters
from flan_jax.models import interface
from flan_jax.models import losses
from flan_jax.training import normalizing
from flan_jax.training import state as state_lib
import jax
import jax.numpy as jnp
import optax

Batch = Mapping[str, jax.Array]


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepConfig:
  """What a step does beside the model and the optimizer.

  Attributes:
    seed: Dropout at step n draws from key(seed) folded with n.
    dropout_rng: JAX's name of the generator that dropout draws from. A seed and
      a step give the same numbers on any mesh and any number of hosts, with
      'threefry2x32' on any kind of device too. 'rbg' and 'unsafe_rbg' are the
      device's own generator, which costs a TPU far less.
    z_loss: The coefficient of the squared log normaliser.
    label_smoothing: Probability mass taken from the target.
    loss_normalizing_factor: What the summed loss is divided by before the
      gradient is taken; see `normalizing.apply`.
    num_microbatches: The rows go through in so many equal parts, one after the
      other; sums are of all parts, so results differ by rounding alone.
    members: How many members the mixture has, for sums of each; 0 for none.
    skip_non_finite: Whether a step whose loss or gradient is not finite leaves
      parameters and optimizer as they are, and only counts.
  """

  seed: int
  dropout_rng: str = 'rbg'
  z_loss: float = 1e-4
  label_smoothing: float = 0.0
  loss_normalizing_factor: float | str | None = (
      normalizing.NUM_REAL_TARGET_TOKENS
  )
  num_microbatches: int = 1
  members: int = 0
  skip_non_finite: bool = False


class MemberSums(NamedTuple):
  """Sums over the target tokens of each member of the mixture.

  Attributes:
    loss: As `StepMetrics.loss`, float32 [members].
    weight: As `StepMetrics.weight`, float32 [members]; 0 for members that the
      batch has no example of.
  """

  loss: jax.Array
  weight: jax.Array


class StepMetrics(NamedTuple):
  """Sums over the global batch of a step. float32 scalars.

  Attributes:
    loss: Cross entropy in nats with z-loss, over weighted target tokens.
    z_loss: The z-loss alone.
    weight: The weights of the target tokens; under AVERAGE_PER_SEQUENCE those
      of an example add up to 1.
    correct: Weighted target tokens that had the highest logit.
    tokens: Tokens in inputs and targets, padding left out.
    learning_rate: What the schedule said for this step.
    gradient_norm: The Euclidean norm of the (normalised) gradient.
    target_tokens: The weights as the data have them.
    finite: 1, or 0 where loss or gradient is not finite.
    examples: Examples in all rows.
    density: The share of positions that carry tokens, of each side that the
      batch has: 'encoder' and 'decoder'.
    members: The sums of each member of the mixture, where asked for.
  """

  loss: jax.Array
  z_loss: jax.Array
  weight: jax.Array
  correct: jax.Array
  tokens: jax.Array
  learning_rate: jax.Array
  gradient_norm: jax.Array
  target_tokens: jax.Array
  finite: jax.Array
  examples: jax.Array | None = None
  density: Mapping[str, jax.Array] | None = None
  members: MemberSums | None = None


def train_step(
    state: state_lib.TrainState,
    batch: Batch,
    frozen: Any = None,
    *,
    model: interface.Model,
    optimizer: optax.GradientTransformation,
    learning_rate: Callable[[Any], jax.Array],
    config: StepConfig,
    split: adapters.Split | None = None,
) -> tuple[state_lib.TrainState, StepMetrics]:
  """Returns the next state and this step's sums.

  Args:
    state: Before the step.
    batch: Features under SeqIO's names, int32 [rows, length], and
      `packing.MEMBER_IDS` where `config.members` is not 0.
    frozen: The parameters that are not trained; `split` joins them to those
      that are.
    model: The model.
    optimizer: The optimizer; it holds its own schedule.
    learning_rate: The schedule, for the metrics.
    config: See there.
    split: What is trained, where that is not all of the model.
  """
  key = jax.random.key(config.seed, impl=config.dropout_rng)
  rng = jax.random.fold_in(key, state.step)
  weighted, divisor = normalizing.apply(batch, config.loss_normalizing_factor)
  gradient, sums, members = _gradient(
      state.params,
      weighted,
      rng,
      lambda trained: split.join(trained, frozen) if split else trained,
      model,
      config,
  )
  gradient = jax.tree.map(lambda g: g / divisor, gradient)
  norm = optax.tree.norm(gradient)
  finite = jnp.isfinite(sums.loss) & jnp.isfinite(norm)
  updates, kept = optimizer.update(gradient, state.optimizer, state.params)
  new = state_lib.TrainState(
      step=state.step + 1,
      params=optax.apply_updates(state.params, updates),
      optimizer=kept,
  )
  if config.skip_non_finite:
    old = state._replace(step=new.step)
    new = jax.tree.map(functools.partial(jnp.where, finite), new, old)
  metrics = StepMetrics(
      loss=sums.loss,
      z_loss=sums.z_loss,
      weight=sums.weight,
      target_tokens=jnp.sum(batch['decoder_loss_weights'], dtype=jnp.float32),
      correct=sums.correct,
      tokens=_tokens(batch),
      learning_rate=jnp.asarray(learning_rate(state.step), jnp.float32),
      gradient_norm=norm,
      finite=finite.astype(jnp.float32),
      examples=_examples(batch),
      density=_density(batch),
      members=members,
  )
  return new, metrics


def eval_step(
    params: Any,
    batch: Batch,
    frozen: Any = None,
    *,
    model: interface.Model,
    config: StepConfig,
    split: adapters.Split | None = None,
) -> losses.LossSums:
  """Returns the sums of a batch without dropout or label smoothing.

  Args:
    params: The parameters that are trained.
    batch: As for `train_step`.
    frozen: As for `train_step`.
    model: The model.
    config: See there.
    split: As for `train_step`.
  """
  if split:
    params = split.join(params, frozen)
  sums = model.loss(params, batch, z_loss=config.z_loss)
  return sums._replace(by_token=None)


def _gradient(
    params: Any,
    batch: Batch,
    rng: jax.Array,
    whole: Callable[[Any], Any],
    model: interface.Model,
    config: StepConfig,
) -> tuple[Any, losses.LossSums, MemberSums | None]:
  """Returns the gradient of the summed loss, the sums, and each member's.

  Args:
    params: What to differentiate by.
    batch: As for `train_step`.
    rng: Of dropout.
    whole: Makes the model's parameters of `params`.
    model: The model.
    config: See there.
  """

  def loss(params: Any, part: Batch, rng: jax.Array):
    sums = model.loss(
        whole(params),
        part,
        dropout_rng=rng,
        z_loss=config.z_loss,
        label_smoothing=config.label_smoothing,
    )
    members = _member_sums(sums, part, config.members)
    return sums.loss, (sums._replace(by_token=None), members)

  value_and_grad = jax.value_and_grad(loss, has_aux=True)
  count = config.num_microbatches
  if count == 1:
    (_, (sums, members)), gradient = value_and_grad(params, batch, rng)
    return gradient, sums, members

  def add(totals: Any, part: tuple[jax.Array, Batch]):
    index, rows = part
    key = jax.random.fold_in(rng, index)
    (_, (sums, members)), gradient = value_and_grad(params, rows, key)
    return jax.tree.map(jnp.add, totals, (gradient, sums, members)), None

  zeros = jax.tree.map(jnp.zeros_like, params)
  nothing = losses.LossSums(*[jnp.zeros((), jnp.float32)] * 4)
  nobody = None
  if config.members:
    nobody = MemberSums(*[jnp.zeros(config.members, jnp.float32)] * 2)
  parts = (jnp.arange(count), _split(batch, count))
  totals, _ = jax.lax.scan(add, (zeros, nothing, nobody), parts)
  return totals


def _member_sums(
    sums: losses.LossSums, batch: Batch, count: int
) -> MemberSums | None:
  """Adds up the tokens of each of `count` members."""
  if not count:
    return None
  if sums.by_token is None:
    raise ValueError('The model does not give the losses of tokens.')
  segments_BxT = batch['decoder_segment_ids']
  # A token's segment is a place in its row of members, and 0 is padding.
  members_BxT = jnp.take_along_axis(
      batch[packing.MEMBER_IDS], jnp.maximum(segments_BxT - 1, 0), axis=1
  )
  members_BxT = jnp.where(segments_BxT > 0, members_BxT, 0)
  weights_BxT = batch['decoder_loss_weights'].astype(jnp.float32)
  both_Nx2 = jnp.stack([sums.by_token, weights_BxT], axis=-1).reshape(-1, 2)
  totals_Mx2 = jax.ops.segment_sum(
      jax.lax.stop_gradient(both_Nx2), members_BxT.ravel(), count + 1
  )
  return MemberSums(loss=totals_Mx2[1:, 0], weight=totals_Mx2[1:, 1])


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


def _examples(batch: Batch) -> jax.Array:
  if 'decoder_segment_ids' not in batch:  # One example a row.
    return jnp.sum(jnp.any(batch['decoder_loss_weights'] > 0, axis=1) * 1.0)
  # Segments of a row count from 1, and every example has targets.
  last_B = jnp.max(batch['decoder_segment_ids'], axis=1)
  return jnp.sum(last_B.astype(jnp.float32))


def _density(batch: Batch) -> dict[str, jax.Array]:
  end = '_segment_ids'
  return {
      name.removesuffix(end): jnp.mean(feature > 0, dtype=jnp.float32)
      for name, feature in batch.items()
      if name.endswith(end)
  }


def _tokens(batch: Batch) -> jax.Array:
  return sum(
      (
          jnp.sum(feature > 0, dtype=jnp.float32)
          for name, feature in batch.items()
          if name.endswith('_segment_ids')
      ),
      start=jnp.zeros((), jnp.float32),
  )
