"""Losses as sums over tokens, so that microbatches and hosts just add up."""

import functools
import math
from typing import NamedTuple

from flan_jax import partitioning
from flan_jax.models import readout as readout_lib
import jax
import jax.numpy as jnp

# So many targets are projected to the vocabulary at a time where only some are
# wanted: with fewer a product is slower, with more the last part has more
# padding. (On a CPU, 32,128 tokens: 64 to 256 do not differ by a tenth.)
_HEAD_PLACES = 128


class LossSums(NamedTuple):
  """Sums over target tokens, each times its weight. float32 scalars.

  Attributes:
    loss: Cross entropy in nats, z-loss included.
    z_loss: The z-loss alone.
    weight: The weights; `loss / weight` is the mean loss of a token.
    correct: Tokens whose logit is the highest (the first one, in a tie).
    by_token: What `loss` is the sum of, float32 [B, T], for sums over a part of
      the tokens; whoever adds up `LossSums` drops it first.
  """

  loss: jax.Array
  z_loss: jax.Array
  weight: jax.Array
  correct: jax.Array
  by_token: jax.Array | None = None


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def token_losses(
    logits_BxTxV: jax.Array,
    targets_BxT: jax.Array,
    z_loss: float,
    label_smoothing: float,
    readout: readout_lib.Readout = readout_lib.ALL_IDS,
) -> tuple[jax.Array, jax.Array]:
  """Returns each token's loss and its z-loss.

  The loss is the cross entropy, plus `z_loss` times the squared logarithm of
  the softmax's normaliser. Under label smoothing the target has probability
  1 - `label_smoothing`, the other V - 1 tokens share the rest evenly, and the
  entropy of that distribution is subtracted, so that the lowest possible cross
  entropy is 0. All as in T5X (`t5x.losses`). The gradient is that of the loss;
  the second result is for logging and has none.

  Written with its own gradient: it needs the logits and the normalisers only,
  while autodiff would keep two more arrays as large as the logits.

  Args:
    logits_BxTxV: float32.
    targets_BxT: int32.
    z_loss: The z-loss's coefficient; T5 uses 1e-4.
    label_smoothing: The probability mass taken from the target.
    readout: Which ids there are; V is their number.

  Returns:
    Two float32 arrays [B, T].
  """
  loss, penalty, _ = _forward(
      logits_BxTxV, targets_BxT, z_loss, label_smoothing, readout
  )
  return loss, penalty


def _forward(logits_BxTxV, targets_BxT, z_loss, label_smoothing, readout):
  log_z_BxT = jax.nn.logsumexp(logits_BxTxV, axis=-1)
  target_BxT = _target_logits(logits_BxTxV, targets_BxT)
  if label_smoothing:
    on, off = _smoothed(label_smoothing, readout.count(logits_BxTxV.shape[-1]))
    entropy = -on * math.log(on) - label_smoothing * math.log(off)
    others_BxT = jnp.sum(readout.share(logits_BxTxV), axis=-1) - target_BxT
    cross_BxT = log_z_BxT - on * target_BxT - off * others_BxT - entropy
  else:
    cross_BxT = log_z_BxT - target_BxT
  penalty_BxT = z_loss * jnp.square(log_z_BxT)
  return cross_BxT + penalty_BxT, penalty_BxT, log_z_BxT


def _token_losses_fwd(
    logits_BxTxV, targets_BxT, z_loss, label_smoothing, readout
):
  loss, penalty, log_z_BxT = _forward(
      logits_BxTxV, targets_BxT, z_loss, label_smoothing, readout
  )
  return (loss, penalty), (logits_BxTxV, targets_BxT, log_z_BxT)


def _token_losses_bwd(z_loss, label_smoothing, readout, residuals, gradients):
  logits_BxTxV, targets_BxT, log_z_BxT = residuals
  gradient_BxT, _ = gradients
  slope_BxTxV = readout.share(
      _slope(
          logits_BxTxV, targets_BxT, log_z_BxT, z_loss, label_smoothing, readout
      )
  )
  return gradient_BxT[..., None] * slope_BxTxV, None


def _slope(
    logits_BxTxV, targets_BxT, log_z_BxT, z_loss, label_smoothing, readout
):
  """Returns the derivative of each token's loss by its logits."""
  vocab_size = logits_BxTxV.shape[-1]
  softmax_BxTxV = jnp.exp(logits_BxTxV - log_z_BxT[..., None])
  on, off = _smoothed(label_smoothing, readout.count(vocab_size))
  wanted_BxTxV = jnp.where(_is_target(targets_BxT, vocab_size), on, off)
  scale_BxT = 1 + 2 * z_loss * log_z_BxT
  return scale_BxT[..., None] * softmax_BxTxV - wanted_BxTxV


token_losses.defvjp(_token_losses_fwd, _token_losses_bwd)


def loss_sums(
    logits_BxTxV: jax.Array,
    targets_BxT: jax.Array,
    weights_BxT: jax.Array,
    *,
    z_loss: float,
    label_smoothing: float,
    readout: readout_lib.Readout = readout_lib.ALL_IDS,
) -> LossSums:
  """Returns the sums of a batch; see `token_losses` for the formula."""
  weights_BxT = weights_BxT.astype(jnp.float32)
  loss_BxT, penalty_BxT = token_losses(
      logits_BxTxV, targets_BxT, z_loss, label_smoothing, readout
  )
  return _added(loss_BxT, penalty_BxT, logits_BxTxV, targets_BxT, weights_BxT)


def _added(loss_BxT, penalty_BxT, logits_BxTxV, targets_BxT, weights_BxT):
  best_BxT = _is_best(jax.lax.stop_gradient(logits_BxTxV), targets_BxT)
  weighted_BxT = loss_BxT * weights_BxT
  return LossSums(
      loss=jnp.sum(weighted_BxT),
      z_loss=jnp.sum(penalty_BxT * weights_BxT),
      weight=jnp.sum(weights_BxT),
      correct=jnp.sum(best_BxT * weights_BxT),
      by_token=weighted_BxT,
  )


def head_loss_sums(
    x_BxTxE: jax.Array,
    kernel_ExV: jax.Array,
    targets_BxT: jax.Array,
    weights_BxT: jax.Array,
    *,
    z_loss: float,
    label_smoothing: float,
    chunks: int = 1,
    readout: readout_lib.Readout = readout_lib.ALL_IDS,
) -> LossSums:
  """Returns `loss_sums` of the logits that a kernel makes, with less memory.

  The gradient of the sum of losses is taken where the logits are made, and kept
  as that of `x` and of the kernel; so the logits are gone before the backward
  pass begins, and the targets can be taken in parts, the logits of one at a
  time. A part costs no product more, only one more sum over the kernel's
  gradient. (The idea is Liger's, arXiv 2410.10989, section 3.2.)

  Only `loss` has a gradient, by `x` and the kernel; the other sums are for
  logging.

  Args:
    x_BxTxE: What the logits are made of; any float.
    kernel_ExV: float32.
    targets_BxT: int32.
    weights_BxT: The targets' weights.
    z_loss: See `token_losses`.
    label_smoothing: See `token_losses`.
    chunks: In how many parts the T places are taken; where they do not divide
      evenly, in the next larger number of parts that do.
    readout: How products with the kernel become logits.
  """
  length = targets_BxT.shape[1]
  parts = next(
      n for n in range(min(chunks, length), length + 1) if not length % n
  )
  return _head_sums(
      z_loss,
      label_smoothing,
      parts,
      readout,
      x_BxTxE.astype(jnp.float32),
      kernel_ExV,
      targets_BxT,
      weights_BxT.astype(jnp.float32),
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2, 3))
def _head_sums(
    z_loss,
    label_smoothing,
    parts,
    readout,
    x_BxTxE,
    kernel_ExV,
    targets_BxT,
    weights_BxT,
):
  def read(_, part):
    x_BxTxE, targets_BxT, weights_BxT = part
    return None, loss_sums(
        readout.logits(_head(x_BxTxE, kernel_ExV)),
        targets_BxT,
        weights_BxT,
        z_loss=z_loss,
        label_smoothing=label_smoothing,
        readout=readout,
    )

  _, sums = _in_parts(read, None, parts, (x_BxTxE, targets_BxT, weights_BxT))
  return _of_all_parts(sums)


def _head_sums_fwd(
    z_loss,
    label_smoothing,
    parts,
    readout,
    x_BxTxE,
    kernel_ExV,
    targets_BxT,
    weights_BxT,
):
  def read(kernel_gradient_ExV, part):
    x_BxTxE, targets_BxT, weights_BxT = part
    logits_BxTxV = readout.logits(_head(x_BxTxE, kernel_ExV))
    loss, penalty, log_z_BxT = _forward(
        logits_BxTxV, targets_BxT, z_loss, label_smoothing, readout
    )
    sums = _added(loss, penalty, logits_BxTxV, targets_BxT, weights_BxT)
    gradient_BxTxV = weights_BxT[..., None] * _slope(
        logits_BxTxV, targets_BxT, log_z_BxT, z_loss, label_smoothing, readout
    )
    gradient_BxTxV *= readout.slope(logits_BxTxV)
    # The activations stand first: see `layers.einsum`.
    here_ExV = jnp.einsum('bte,btv->ev', x_BxTxE, gradient_BxTxV)
    if kernel_gradient_ExV is not None:
      here_ExV += kernel_gradient_ExV
    x_gradient_BxTxE = jnp.einsum('btv,ev->bte', gradient_BxTxV, kernel_ExV)
    return here_ExV, (sums, x_gradient_BxTxE)

  start = None if parts == 1 else jnp.zeros_like(kernel_ExV)
  kernel_gradient_ExV, (sums, x_gradient_BxTxE) = _in_parts(
      read, start, parts, (x_BxTxE, targets_BxT, weights_BxT)
  )
  return _of_all_parts(sums), (
      _joined(x_gradient_BxTxE),
      kernel_gradient_ExV,
  )


def _head_sums_bwd(
    z_loss, label_smoothing, parts, readout, residuals, gradients
):
  del z_loss, label_smoothing, parts, readout
  x_gradient_BxTxE, kernel_gradient_ExV = residuals
  return (
      gradients.loss * x_gradient_BxTxE,
      gradients.loss * kernel_gradient_ExV,
      None,
      None,
  )


_head_sums.defvjp(_head_sums_fwd, _head_sums_bwd)


def _head(x_BxTxE, kernel_ExV):
  logits_BxTxV = jnp.einsum('bte,ev->btv', x_BxTxE, kernel_ExV)
  return partitioning.constrain(logits_BxTxV, ('batch', 'length', 'vocab'))


def _in_parts(read, start, parts, arrays):
  """Scans over equal parts of axis 1, so that each has rows of every device."""

  def split(x):
    shape = (x.shape[0], parts, x.shape[1] // parts, *x.shape[2:])
    return jnp.moveaxis(x.reshape(shape), 1, 0)

  split_arrays = tuple(split(x) for x in arrays)
  if parts == 1:
    carry, out = read(start, tuple(x[0] for x in split_arrays))
    return carry, jax.tree.map(lambda y: y[None], out)
  return jax.lax.scan(read, start, split_arrays)


def _joined(x_PxBxT):
  """Undoes the splitting of `_in_parts`."""
  x_BxPxT = jnp.moveaxis(x_PxBxT, 0, 1)
  return x_BxPxT.reshape(x_BxPxT.shape[0], -1, *x_BxPxT.shape[3:])


def _of_all_parts(sums: LossSums) -> LossSums:
  return LossSums(
      loss=jnp.sum(sums.loss),
      z_loss=jnp.sum(sums.z_loss),
      weight=jnp.sum(sums.weight),
      correct=jnp.sum(sums.correct),
      by_token=_joined(sums.by_token),
  )


def head_log_probabilities(
    x_BxTxE: jax.Array,
    kernel_ExV: jax.Array,
    targets_BxT: jax.Array,
    wanted_BxT: jax.Array,
    readout: readout_lib.Readout = readout_lib.ALL_IDS,
) -> jax.Array:
  """Returns log probabilities [B, T], float32; 0 where they are not wanted.

  Only the wanted places are projected to the vocabulary, a few at a time: in a
  batch of answer options half of the places are padding, and the logits of all
  would be its largest array by far. It has no gradient.

  Args:
    x_BxTxE: What the logits are made of; any float.
    kernel_ExV: float32.
    targets_BxT: int32.
    wanted_BxT: bool.
    readout: How products with the kernel become logits.
  """
  batch, length, width = x_BxTxE.shape
  places = batch * length
  # Each device of the batch takes its share of every part.
  part = min(
      _HEAD_PLACES * partitioning.batch_divisor(),
      -(-places // partitioning.batch_divisor()) * partitioning.batch_divisor(),
  )
  wanted_N = wanted_BxT.reshape(places)
  order_N = jnp.argsort(~wanted_N, stable=True)
  # Past the end stands a place that does not exist, which writes nothing.
  order_P = jnp.pad(order_N, (0, -places % part), constant_values=places)
  x_NxE = x_BxTxE.reshape(places, width).astype(jnp.float32)
  targets_N = targets_BxT.reshape(places)

  def read(i, found_N):
    here_C = jax.lax.dynamic_slice_in_dim(order_P, i * part, part)
    x_CxE = jnp.take(x_NxE, here_C, axis=0, mode='clip')
    x_CxE = partitioning.constrain(x_CxE, ('batch', 'hidden'))
    logits_CxV = readout.logits(jnp.einsum('ce,ev->cv', x_CxE, kernel_ExV))
    logits_CxV = partitioning.constrain(logits_CxV, ('batch', 'vocab'))
    targets_C = jnp.take(targets_N, here_C, mode='clip')
    return found_N.at[here_C].set(
        log_probabilities(logits_CxV[None], targets_C[None])[0], mode='drop'
    )

  parts = (jnp.sum(wanted_N) + part - 1) // part
  found_N = jax.lax.fori_loop(0, parts, read, jnp.zeros(places, jnp.float32))
  return jnp.where(wanted_BxT, found_N.reshape(batch, length), 0.0)


def log_probabilities(
    logits_BxTxV: jax.Array, targets_BxT: jax.Array
) -> jax.Array:
  """Returns the target tokens' log probabilities, float32 [B, T]."""
  log_z_BxT = jax.nn.logsumexp(logits_BxTxV, axis=-1)
  return _target_logits(logits_BxTxV, targets_BxT) - log_z_BxT


def _smoothed(label_smoothing: float, vocab_size: int) -> tuple[float, float]:
  """Returns the wanted probabilities of the target and of any other token."""
  return 1 - label_smoothing, label_smoothing / (vocab_size - 1)


def _target_logits(logits_BxTxV, targets_BxT):
  # A masked sum and no gather: with the vocabulary sharded, each shard sums
  # its part, where a gather would first collect all logits on every device.
  is_target = _is_target(targets_BxT, logits_BxTxV.shape[-1])
  return jnp.sum(jnp.where(is_target, logits_BxTxV, 0), axis=-1)


def _is_best(logits_BxTxV, targets_BxT):
  """Whether each target has the highest logit, the first one in a tie.

  An argmax would cost three times as much on a CPU, and collect the indices of
  all shards of a vocabulary.
  """
  target_BxTx1 = _target_logits(logits_BxTxV, targets_BxT)[..., None]
  before_BxTxV = _ids(logits_BxTxV.shape[-1]) < targets_BxT[..., None]
  below_BxTxV = jnp.where(
      before_BxTxV, logits_BxTxV < target_BxTx1, logits_BxTxV <= target_BxTx1
  )
  return jnp.all(below_BxTxV, axis=-1)


def _is_target(targets_BxT, vocab_size):
  return targets_BxT[..., None] == _ids(vocab_size)


def _ids(vocab_size):
  return jax.lax.broadcasted_iota(jnp.int32, (1, 1, vocab_size), 2)
