"""From products with the head's kernel to logits: a cap, rows without an id.

Shape letters are those of layers.py.
"""

import dataclasses

from flan_jax.models import config as config_lib
import jax
import jax.numpy as jnp

# The logits of rows that are no ids; finite, so that products with 0 are 0.
_NO_ID = -1e9


@dataclasses.dataclass(frozen=True)
class Readout:
  """How products with the head's kernel become logits.

  Attributes:
    cap: Products x become cap * tanh(x / cap); 0 leaves them.
    ids: Ids from the first on and below the second are ones; the others'
      logits are -1e9. None is: all are.
  """

  cap: float = 0.0
  ids: tuple[int, int] | None = None

  def logits(self, products: jax.Array) -> jax.Array:
    """Returns float32 logits [..., V]."""
    if self.cap:
      products = self.cap * jnp.tanh(products / self.cap)
    if self.ids is None:
      return products
    return jnp.where(self._known(products), products, _NO_ID)

  def slope(self, logits: jax.Array) -> jax.Array | float:
    """Returns the derivative of logits by the products they were made of."""
    slope = 1.0 - jnp.square(logits / self.cap) if self.cap else 1.0
    if self.ids is None:
      return slope
    return jnp.where(self._known(logits), slope, 0.0)

  def count(self, size: int) -> int:
    """Returns how many of `size` rows are ids."""
    return self.ids[1] - self.ids[0] if self.ids else size

  def share(self, logits: jax.Array) -> jax.Array:
    """Returns the logits, 0 where there is no id."""
    if self.ids is None:
      return logits
    return jnp.where(self._known(logits), logits, 0.0)

  def _known(self, logits: jax.Array) -> jax.Array:
    assert self.ids is not None
    ids = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
    return (ids >= self.ids[0]) & (ids < self.ids[1])


ALL_IDS = Readout()


def of(config: config_lib.ModelConfig) -> Readout:
  """Returns the model's."""
  if isinstance(config, config_lib.DecoderConfig):
    cap = config.logits_cap
  elif isinstance(config, config_lib.EncoderConfig):
    cap = 0.0
  else:
    return ALL_IDS
  return Readout(cap, (1, config.num_ids + 1) if config.num_ids else None)
