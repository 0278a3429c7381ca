"""T5's relative positions: biases of attention's logits, by distance.

Shape letters are those of layers.py.
"""

import functools
import math

from flan_jax.models import layers
from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np


def buckets(
    max_length: int, num_buckets: int, max_distance: int, bidirectional: bool
) -> np.ndarray:
  """Returns the bucket of each distance from -max_length to max_length.

  The distance is the key's position minus the query's. Half of the buckets are
  for exact small distances; the other half widen logarithmically up to
  `max_distance`. If `bidirectional`, keys after the query have the upper half
  of all buckets to themselves, otherwise they share bucket 0 (they are masked).
  arXiv 1910.10683, section 2.1; rounded as T5X does, in float32.

  Returns:
    int32 [2 * max_length + 1]; the distance d is at index d + max_length.
  """
  distance = np.arange(-max_length, max_length + 1, dtype=np.int32)
  bucket = np.zeros_like(distance)
  if bidirectional:
    num_buckets //= 2
    bucket += np.where(distance > 0, num_buckets, 0).astype(np.int32)
    back = np.abs(distance)
  else:
    back = np.maximum(-distance, 0)
  exact = num_buckets // 2
  # The epsilon keeps the logarithm of 0 finite; such entries are not used.
  ratio = back.astype(np.float32) / exact + np.finfo(np.float32).eps
  widening = np.log(ratio) / math.log(max_distance / exact)
  large = exact + (widening * (num_buckets - exact)).astype(np.int32)
  large = np.minimum(large, num_buckets - 1)
  return bucket + np.where(back < exact, back, large)


class RelativePositionBias(nn.Module):
  """What heads add to their logits, by distance; of a stack or of a layer."""

  num_heads: int
  num_buckets: int
  max_distance: int
  bidirectional: bool

  def setup(self):
    self.rel_embedding = layers.parameter(
        self,
        'rel_embedding',
        nn.initializers.variance_scaling(1.0, 'fan_avg', 'uniform'),
        ('heads', 'relpos_buckets'),
        (self.num_heads, self.num_buckets),
    )

  def _by_distance(self, length: int) -> jax.Array:
    """Returns float32 [H, 2 * length + 1], from distance -length to length."""
    table = buckets(
        length, self.num_buckets, self.max_distance, self.bidirectional
    )
    return jnp.take(self.rel_embedding, table, axis=1)

  def __call__(self, length: int) -> jax.Array:
    """Returns float32 [H, T, T] for queries and keys of the same length.

    As in T5X, distances are those of array indices. In a packed row this is
    the distance of positions wherever attention is not masked.
    """
    bias_HxN = self._by_distance(length)
    # Row i of the result is the vector moved right by i. Writing the vector,
    # with one entry more than a row, over and over into shorter rows moves it
    # so, and its gradient is a plain sum; a gather's would be a scatter of T x
    # T entries into a small table.
    around_HxP = jnp.concatenate(
        [bias_HxN[:, length : 2 * length], bias_HxN[:, :length]], axis=1
    )
    period = 2 * length
    flat = jnp.broadcast_to(
        around_HxP[:, None], (self.num_heads, length, period)
    ).reshape(self.num_heads, length * period)
    skewed = flat[:, : length * (period - 1)].reshape(
        self.num_heads, length, period - 1
    )
    return skewed[:, :, :length]

  def of_query(
      self, position: jax.Array, length: int, repeats: int = 1
  ) -> jax.Array:
    """Returns float32 [H, 1, length * repeats], for the query at `position`.

    Args:
      position: int32 scalar.
      length: The keys are at the positions from 0 on.
      repeats: How many keys beside each other have the same position.
    """
    bias_HxN = self._by_distance(length)
    row_HxS = jax.lax.dynamic_slice_in_dim(
        bias_HxN, length - position, length, axis=1
    )
    return jnp.repeat(row_HxS, repeats, axis=1)[:, None]

  def of_queries(
      self, positions_BxT: jax.Array, length: int, farthest: int
  ) -> jax.Array:
    """Returns float32 [B, H, T, length]: the rows of queries anywhere.

    Args:
      positions_BxT: int32, each query's position, counted as the keys' are.
      length: The keys are at the positions from 0 on.
      farthest: No query is at a later position; at least `length`.
    """
    batch, queries = positions_BxT.shape
    bias_HxN = self._by_distance(farthest)
    row = functools.partial(
        jax.lax.dynamic_slice_in_dim, bias_HxN, slice_size=length, axis=1
    )
    rows_NxHxS = jax.vmap(row)((farthest - positions_BxT).reshape(-1))
    return jnp.swapaxes(rows_NxHxS.reshape(batch, queries, -1, length), 1, 2)


@jax.custom_vjp
def add_bias(logits_BxHxTxS: jax.Array, bias_HxTxS: jax.Array) -> jax.Array:
  """Returns the sum, whose gradient sums over the batch by a product.

  XLA's CPU backend takes 40 times as long to sum over the first axis of such an
  array; that alone was a tenth of a training step.
  """
  return logits_BxHxTxS + bias_HxTxS


def _add_bias_fwd(logits_BxHxTxS, bias_HxTxS):
  return add_bias(logits_BxHxTxS, bias_HxTxS), None


def _add_bias_bwd(_, gradient_BxHxTxS):
  ones_B = jnp.ones(gradient_BxHxTxS.shape[0], gradient_BxHxTxS.dtype)
  return gradient_BxHxTxS, jnp.einsum(
      'b,bhts->hts',
      ones_B,
      gradient_BxHxTxS,
      precision=jax.lax.Precision.HIGHEST,
  )


add_bias.defvjp(_add_bias_fwd, _add_bias_bwd)
