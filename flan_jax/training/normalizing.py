"""What the summed loss of a batch is divided by. T5X's choices and names.

As in `t5x.losses.get_loss_normalizing_factor_and_weights`. Weights and divisor
come from the global batch before it is divided into microbatches, so neither
these nor the mesh nor packing change a loss or a gradient.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

Batch = Mapping[str, jax.Array]

# T5X's names (`t5x.losses.SpecialLossNormalizingFactor`).
NUM_REAL_TARGET_TOKENS = 'NUM_REAL_TARGET_TOKENS'
NUM_TOTAL_TARGET_TOKENS = 'NUM_TOTAL_TARGET_TOKENS'
AVERAGE_PER_SEQUENCE = 'AVERAGE_PER_SEQUENCE'

_WEIGHTS = 'decoder_loss_weights'


def apply(batch: Batch, factor: float | str | None) -> tuple[Batch, jax.Array]:
  """Returns the batch with the weights to sum by, and what to divide by.

  Args:
    batch: Features under SeqIO's names, int32 [rows, length].
    factor: 'NUM_REAL_TARGET_TOKENS': the weights of all target tokens.
      'NUM_TOTAL_TARGET_TOKENS': all target tokens, padding too.
      'AVERAGE_PER_SEQUENCE': each example's mean loss a weighted token counts
      once, so long targets weigh no more than short ones; examples are told
      apart by decoder_segment_ids, or are rows where there are none. A number,
      or None for 1.

  Returns:
    The batch, with other float32 weights for AVERAGE_PER_SEQUENCE, and a
    float32 scalar.
  """
  weights = batch[_WEIGHTS]
  if factor is None:
    return batch, jnp.ones((), jnp.float32)
  if factor == NUM_TOTAL_TARGET_TOKENS:
    return batch, jnp.full((), weights.size, jnp.float32)
  if factor not in (NUM_REAL_TARGET_TOKENS, AVERAGE_PER_SEQUENCE):
    return batch, jnp.full((), float(factor), jnp.float32)
  weights = weights.astype(jnp.float32)
  if factor == AVERAGE_PER_SEQUENCE:
    sums = _example_sums(weights, batch.get('decoder_segment_ids'))
    weights = jnp.where(sums > 0, weights / jnp.where(sums > 0, sums, 1), 0)
    batch = {**batch, _WEIGHTS: weights}
  # A batch of padding alone has a gradient of zero, not of 0 / 0.
  total = jnp.sum(weights)
  return batch, jnp.where(total > 0, total, 1)


def _example_sums(
    weights_BxT: jax.Array, segments_BxT: jax.Array | None
) -> jax.Array:
  """Returns for each token the sum of its example's weights, float32 [B, T]."""
  if segments_BxT is None:
    return jnp.sum(weights_BxT, axis=1, keepdims=True) + 0 * weights_BxT
  # Running sums, at each segment's start and end, spread over the segment: they
  # do not fall, so the latest start is the greatest one so far.
  sums_BxT = jnp.cumsum(weights_BxT, axis=1)
  before = jnp.pad(segments_BxT[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
  after = jnp.pad(segments_BxT[:, 1:], ((0, 0), (0, 1)), constant_values=-1)
  starts_BxT = jnp.where(segments_BxT != before, sums_BxT - weights_BxT, 0)
  ends_BxT = jnp.where(segments_BxT != after, sums_BxT, jnp.inf)
  return jax.lax.cummin(ends_BxT, axis=1, reverse=True) - jax.lax.cummax(
      starts_BxT, axis=1
  )
