"""Learning rates by step. Importable without JAX, for gin.

The formulas are those of T5X's `create_learning_rate_scheduler`. A schedule is
called with the number of updates made before this one, from 0.
"""

import dataclasses
from typing import Any, Protocol

from flan_jax import errors


class Schedule(Protocol):
  """A learning rate that may depend on the step."""

  def __call__(self, step: Any) -> Any:
    """Returns the rate, float32, at an integer or traced int32 step."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Constant:
  """The same rate at every step, after an optional warm-up.

  Attributes:
    value: The rate.
    warmup_steps: The rate rises linearly from 0 over so many steps.
  """

  value: float
  warmup_steps: int = 0

  def __post_init__(self):
    _check('Constant', 'value', self.value)
    _check('Constant', 'warmup_steps', self.warmup_steps, least=0)

  def __call__(self, step: Any) -> Any:
    return _warmed(self.value, step, self.warmup_steps)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rsqrt:
  """base / sqrt(max(step, warmup_steps)): T5's schedule of pre-training.

  Attributes:
    base: The numerator; T5 takes 1.
    warmup_steps: Until this step the rate is constant; T5 takes 10,000.
    linear_warmup: Whether the rate rises linearly from 0 until then instead.
  """

  base: float = 1.0
  warmup_steps: int = 10_000
  linear_warmup: bool = False

  def __post_init__(self):
    _check('Rsqrt', 'base', self.base)
    _check('Rsqrt', 'warmup_steps', self.warmup_steps, least=1)

  def __call__(self, step: Any) -> Any:
    import jax.numpy as jnp

    held = jnp.maximum(jnp.asarray(step, jnp.float32), self.warmup_steps)
    rate = self.base / jnp.sqrt(held)
    return _warmed(rate, step, self.warmup_steps if self.linear_warmup else 0)


def _warmed(rate: Any, step: Any, warmup_steps: int) -> Any:
  """Returns `rate` times the share of the warm-up that is done, float32."""
  import jax.numpy as jnp

  rate = jnp.asarray(rate, jnp.float32)
  if not warmup_steps:
    return rate
  done = jnp.asarray(step, jnp.float32) / warmup_steps
  return rate * jnp.minimum(1.0, done)


def _check(kind: str, field: str, value: Any, least: float | None = None):
  """Raises a UserError unless `value` is a number, and large enough."""
  number = isinstance(value, (int, float)) and not isinstance(value, bool)
  if not number or (value <= 0 if least is None else value < least):
    bound = 'above 0' if least is None else f'at least {least}'
    raise errors.UserError(
        f'{kind}.{field}: must be a number {bound}, not {value!r}.'
    )
