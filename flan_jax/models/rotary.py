"""Rotary positions: queries and keys are turned by angles that grow with place.

arXiv 2104.09864, section 3.2, with the two halves of a head as the two sides of
its pairs, as GPT-NeoX and Llama have it. Shape letters are those of layers.py.
"""

import math
from typing import NamedTuple

from flan_jax.models import config as config_lib
import jax
import jax.numpy as jnp
import numpy as np


class Turn(NamedTuple):
  """By how much tokens are turned, float32 [B, T, D / 2] each."""

  cos: jax.Array
  sin: jax.Array


def turn(frequencies_D: np.ndarray, positions_BxT: jax.Array) -> Turn:
  """Returns the turns of tokens at these positions."""
  angles = positions_BxT[..., None].astype(jnp.float32) * frequencies_D
  return Turn(jnp.cos(angles), jnp.sin(angles))


def turned(x_BxTxHxD: jax.Array, by: Turn) -> jax.Array:
  """Returns queries or keys, turned, in float32."""
  cos, sin = (x[:, :, None] for x in by)
  first, second = jnp.split(x_BxTxHxD.astype(jnp.float32), 2, axis=-1)
  return jnp.concatenate(
      [first * cos - second * sin, second * cos + first * sin], axis=-1
  )


def frequencies(
    head_dim: int, theta: float, scaling: config_lib.RopeScaling | None = None
) -> np.ndarray:
  """Returns how far each pair turns a position, in radians, float32 [D / 2].

  In float32 throughout, as the published models' own code.
  """
  exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
  plain = np.float32(1.0) / np.float32(theta) ** exponents
  if scaling is None:
    return plain
  slow = plain / np.float32(scaling.factor)
  if scaling.kind == 'linear':
    return slow
  # How often each turns around in a row of the first length.
  turns = scaling.original_positions * plain / np.float32(2 * math.pi)
  low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
  share = np.clip((turns - low) / (high - low), 0, 1).astype(np.float32)
  return (1 - share) * slow + share * plain
