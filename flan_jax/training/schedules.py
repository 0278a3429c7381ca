"""Learning rates by step. Importable without JAX, for gin.

The formulas are those of T5X's `create_learning_rate_scheduler`. A schedule is
called with the number of updates made before this one, from 0.
"""

from collections.abc import Mapping
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


# The factors of T5X's strings.
FACTORS = (
    'constant',
    'linear_warmup',
    'linear_decay',
    'rsqrt_decay',
    'rsqrt_normalized_decay',
    'decay_every',
    'cosine_decay',
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Factors:
  """A product of factors, as T5X's `create_learning_rate_scheduler` has it.

  Attributes:
    factors: Factors with '*' between them. At step s, with the names below, b
      for `base_learning_rate`, w for `warmup_steps`: constant b; linear_warmup
      min(1, s/w); rsqrt_decay 1/sqrt(max(s, w)); rsqrt_normalized_decay
      sqrt(w/max(s, w)); decay_every decay_factor^(s // steps_per_decay);
      cosine_decay (1 + cos(pi p))/2, with p the part that is done of the
      current one of the cycles of `steps_per_cycle` after w; linear_decay
      b min(s/w, 1 + decay_factor (w - s)), which is warm-up, base and decay in
      one.
    base_learning_rate: See there.
    warmup_steps: See there.
    decay_factor: See there.
    steps_per_decay: See there.
    steps_per_cycle: See there.
    step_offset: Subtracted from the step, which is never below 0.
    min_learning_rate: No rate is lower.
  """

  factors: str = 'constant * linear_warmup * rsqrt_decay'
  base_learning_rate: float = 0.5
  warmup_steps: int = 1000
  decay_factor: float = 0.5
  steps_per_decay: int = 20_000
  steps_per_cycle: int = 100_000
  step_offset: int = 0
  min_learning_rate: float = 1e-8

  def __post_init__(self):
    if not isinstance(self.factors, str):
      raise errors.UserError(
          f'Factors.factors: must be a string, not {self.factors!r}.'
      )
    for name in self._names:
      if name not in FACTORS:
        raise errors.UserError(
            f'Factors.factors: {name!r} is no factor.'
            + (
                errors.nearest(name, list(FACTORS))
                or f' There are {", ".join(FACTORS)}.'
            )
        )
    _check('Factors', 'base_learning_rate', self.base_learning_rate)
    divides = {'linear_warmup', 'linear_decay', 'rsqrt_decay'}
    divides |= {'rsqrt_normalized_decay'}
    least = 1 if divides & set(self._names) else 0
    _check('Factors', 'warmup_steps', self.warmup_steps, least=least)
    _check('Factors', 'decay_factor', self.decay_factor)
    _check('Factors', 'steps_per_decay', self.steps_per_decay, least=1)
    _check('Factors', 'steps_per_cycle', self.steps_per_cycle, least=1)
    _check('Factors', 'step_offset', self.step_offset, least=0)
    _check('Factors', 'min_learning_rate', self.min_learning_rate, least=0)

  @property
  def _names(self) -> list[str]:
    return [name.strip() for name in self.factors.split('*')]

  def __call__(self, step: Any) -> Any:
    import jax.numpy as jnp

    whole = jnp.maximum(jnp.asarray(step, jnp.int32) - self.step_offset, 0)
    rate = jnp.ones((), jnp.float32)
    for name in self._names:
      rate *= self._factor(name, whole)
    return jnp.maximum(rate, self.min_learning_rate)

  def _factor(self, name: str, whole: Any) -> Any:
    """Returns a factor at a step (int32, not below 0), float32."""
    import jax.numpy as jnp

    step, warmup = whole.astype(jnp.float32), float(self.warmup_steps)
    if name == 'constant':
      return self.base_learning_rate
    if name == 'linear_warmup':
      return jnp.minimum(1.0, step / warmup)
    if name == 'linear_decay':
      falling = 1.0 + self.decay_factor * (warmup - step)
      return self.base_learning_rate * jnp.minimum(step / warmup, falling)
    if name == 'rsqrt_decay':
      return 1.0 / jnp.sqrt(jnp.maximum(step, warmup))
    if name == 'rsqrt_normalized_decay':
      return jnp.sqrt(warmup / jnp.maximum(step, warmup))
    if name == 'decay_every':
      times = (whole // self.steps_per_decay).astype(jnp.float32)
      return self.decay_factor**times
    done = jnp.maximum(0.0, (step - warmup) / self.steps_per_cycle)
    return 0.5 * (1.0 + jnp.cos(jnp.pi * (done % 1.0)))


# optax's schedules, with their arguments. Written down, so that a mistake is
# found without importing optax; a test compares it.
OPTAX: dict[str, tuple[str, ...]] = {
    'constant_schedule': ('value',),
    'cosine_decay_schedule': ('init_value', 'decay_steps', 'alpha', 'exponent'),
    'cosine_onecycle_schedule': (
        'transition_steps',
        'peak_value',
        'pct_start',
        'div_factor',
        'final_div_factor',
    ),
    'exponential_decay': (
        'init_value',
        'transition_steps',
        'decay_rate',
        'transition_begin',
        'staircase',
        'end_value',
    ),
    'join_schedules': ('schedules', 'boundaries'),
    'linear_onecycle_schedule': (
        'transition_steps',
        'peak_value',
        'pct_start',
        'pct_final',
        'div_factor',
        'final_div_factor',
    ),
    'linear_schedule': (
        'init_value',
        'end_value',
        'transition_steps',
        'transition_begin',
    ),
    'piecewise_constant_schedule': ('init_value', 'boundaries_and_scales'),
    'piecewise_interpolate_schedule': (
        'interpolate_type',
        'init_value',
        'boundaries_and_scales',
    ),
    'polynomial_schedule': (
        'init_value',
        'end_value',
        'power',
        'transition_steps',
        'transition_begin',
    ),
    'sgdr_schedule': ('cosine_kwargs',),
    'warmup_constant_schedule': ('init_value', 'peak_value', 'warmup_steps'),
    'warmup_cosine_decay_schedule': (
        'init_value',
        'peak_value',
        'warmup_steps',
        'decay_steps',
        'end_value',
        'exponent',
    ),
    'warmup_exponential_decay_schedule': (
        'init_value',
        'peak_value',
        'warmup_steps',
        'transition_steps',
        'decay_rate',
        'transition_begin',
        'staircase',
        'end_value',
    ),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptaxSchedule:
  """Any schedule of optax, by name.

  Attributes:
    name: Such as 'warmup_cosine_decay_schedule'; see OPTAX.
    arguments: Its arguments by name. Those of 'join_schedules' may be any
      schedules of this module.
  """

  name: str
  arguments: Mapping[str, Any]

  def __post_init__(self):
    if self.name not in OPTAX:
      raise errors.UserError(
          f'OptaxSchedule.name: {self.name!r} is no schedule of optax.'
          + (
              errors.nearest(str(self.name), list(OPTAX))
              or f' There are {", ".join(OPTAX)}.'
          )
      )
    known = OPTAX[self.name]
    if not isinstance(self.arguments, Mapping):
      raise errors.UserError(
          'OptaxSchedule.arguments: must be like'
          f" {{'{known[0]}': ...}}, not {self.arguments!r}."
      )
    for argument in self.arguments:
      if argument not in known:
        raise errors.UserError(
            f'OptaxSchedule.arguments: {self.name} has no {argument!r}. It has'
            f' {", ".join(known)}.'
        )

  def __hash__(self) -> int:
    # What is jitted must have one; a dict has none.
    return hash((self.name, repr(self.arguments)))

  def __call__(self, step: Any) -> Any:
    import jax.numpy as jnp
    import optax

    try:
      schedule = getattr(optax.schedules, self.name)(**self.arguments)
    except (TypeError, ValueError) as error:
      raise errors.UserError(
          f'OptaxSchedule.arguments: {self.name}: {error}.'
      ) from error

    return jnp.asarray(schedule(step), jnp.float32)


ALL = (Constant, Rsqrt, Factors, OptaxSchedule)


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
