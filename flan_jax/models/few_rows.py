"""Few rows of a batch at a time, where many would not stay in a CPU's cache."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

# Attention's logits of so many places (float32, 4 MB) are made at a time. With
# all rows at once they would be written to memory and read back four times,
# which took a sixth of the encoder's time for 16 rows of 512.
_LOGITS = 1 << 20


def mapped(
    function: Callable[..., jax.Array], logits: int, *arrays: Any
) -> jax.Array:
  """Returns `function(*arrays)`, on one CPU device computed by few rows.

  It is for reading inputs, not for training: a gradient would have to keep each
  part's logits apart.

  Args:
    function: Makes rows [B, ...] of rows; no row has to do with another.
    logits: How many of attention's logits all rows have.
    *arrays: Trees of arrays [B, ...].
  """
  batch = jax.tree.leaves(arrays)[0].shape[0]
  rows = max(_LOGITS * batch // max(logits, 1), 1)
  if rows >= batch or not _one_cpu():
    return function(*arrays)
  whole = batch // rows * rows

  def some(x: jax.Array) -> jax.Array:
    return x[:whole].reshape(-1, rows, *x.shape[1:])

  found = jax.lax.map(lambda few: function(*few), jax.tree.map(some, arrays))
  found = found.reshape(whole, *found.shape[2:])
  if whole == batch:
    return found
  rest = jax.tree.map(lambda x: x[whole:], arrays)
  return jnp.concatenate([found, function(*rest)])


def _one_cpu() -> bool:
  """Whether what is traced will run on one CPU device."""
  mesh = jax.sharding.get_abstract_mesh()
  return jax.default_backend() == 'cpu' and (mesh.empty or mesh.size == 1)
