"""Losses as sums over tokens, so that microbatches and hosts just add up."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp


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


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def token_losses(
    logits_BxTxV: jax.Array,
    targets_BxT: jax.Array,
    z_loss: float,
    label_smoothing: float,
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

  Returns:
    Two float32 arrays [B, T].
  """
  loss, penalty, _ = _forward(
      logits_BxTxV, targets_BxT, z_loss, label_smoothing
  )
  return loss, penalty


def _forward(logits_BxTxV, targets_BxT, z_loss, label_smoothing):
  log_z_BxT = jax.nn.logsumexp(logits_BxTxV, axis=-1)
  target_BxT = _target_logits(logits_BxTxV, targets_BxT)
  if label_smoothing:
    on, off = _smoothed(label_smoothing, logits_BxTxV.shape[-1])
    entropy = -on * math.log(on) - label_smoothing * math.log(off)
    others_BxT = jnp.sum(logits_BxTxV, axis=-1) - target_BxT
    cross_BxT = log_z_BxT - on * target_BxT - off * others_BxT - entropy
  else:
    cross_BxT = log_z_BxT - target_BxT
  penalty_BxT = z_loss * jnp.square(log_z_BxT)
  return cross_BxT + penalty_BxT, penalty_BxT, log_z_BxT


def _token_losses_fwd(logits_BxTxV, targets_BxT, z_loss, label_smoothing):
  loss, penalty, log_z_BxT = _forward(
      logits_BxTxV, targets_BxT, z_loss, label_smoothing
  )
  return (loss, penalty), (logits_BxTxV, targets_BxT, log_z_BxT)


def _token_losses_bwd(z_loss, label_smoothing, residuals, gradients):
  logits_BxTxV, targets_BxT, log_z_BxT = residuals
  gradient_BxT, _ = gradients
  vocab_size = logits_BxTxV.shape[-1]
  softmax_BxTxV = jnp.exp(logits_BxTxV - log_z_BxT[..., None])
  on, off = _smoothed(label_smoothing, vocab_size)
  wanted_BxTxV = jnp.where(_is_target(targets_BxT, vocab_size), on, off)
  scale_BxT = 1 + 2 * z_loss * log_z_BxT
  slope_BxTxV = scale_BxT[..., None] * softmax_BxTxV - wanted_BxTxV
  return gradient_BxT[..., None] * slope_BxTxV, None


token_losses.defvjp(_token_losses_fwd, _token_losses_bwd)


def loss_sums(
    logits_BxTxV: jax.Array,
    targets_BxT: jax.Array,
    weights_BxT: jax.Array,
    *,
    z_loss: float,
    label_smoothing: float,
) -> LossSums:
  """Returns the sums of a batch; see `token_losses` for the formula."""
  weights_BxT = weights_BxT.astype(jnp.float32)
  loss_BxT, penalty_BxT = token_losses(
      logits_BxTxV, targets_BxT, z_loss, label_smoothing
  )
  best_BxT = jnp.argmax(jax.lax.stop_gradient(logits_BxTxV), axis=-1)
  weighted_BxT = loss_BxT * weights_BxT
  return LossSums(
      loss=jnp.sum(weighted_BxT),
      z_loss=jnp.sum(penalty_BxT * weights_BxT),
      weight=jnp.sum(weights_BxT),
      correct=jnp.sum((best_BxT == targets_BxT) * weights_BxT),
      by_token=weighted_BxT,
  )


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


def _is_target(targets_BxT, vocab_size):
  ids_V = jax.lax.broadcasted_iota(jnp.int32, (1, 1, vocab_size), 2)
  return targets_BxT[..., None] == ids_V
