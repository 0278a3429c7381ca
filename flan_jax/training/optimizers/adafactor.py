"""Adafactor, the same for stacked layers as for each layer alone.

Importable without JAX, for gin.
"""

import dataclasses
from typing import Any, ClassVar, TYPE_CHECKING

from flan_jax import errors
from flan_jax import partitioning
from flan_jax.training.optimizers import base
from flan_jax.training.optimizers import groups

if TYPE_CHECKING:
  import optax


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adafactor(base.Optimizer):
  """Adafactor (arXiv 1804.04235) without momentum, as T5 and T5X use it.

  The updates are those of `t5x.adafactor` under the standard factor rules, put
  together from optax's parts. `optax.adafactor` itself would take a stack of
  layers for one parameter: it would factor over the layers, and clip and scale
  all of them by one root mean square.

  Attributes:
    decay_rate: The second moment's decay at step t is 1 - (t + 1)^-decay_rate.
    step_offset: Subtracted from t, to start the decay afresh in fine-tuning.
    clipping_threshold: The largest root mean square of a parameter's update
      before it is scaled; None does not clip.
    multiply_by_parameter_scale: Whether an update is relative to the
      parameter's own root mean square.
    min_dim_size_to_factor: Only matrices with both sides at least this long
      keep row and column means in place of the whole second moment.
    epsilon1: Added to squared gradients.
    epsilon2: The least root mean square of a parameter, for scaling.
    weight_decay: As for all optimizers, but the share that each step takes
      away, whatever the learning rate: so T5X has it.
  """

  decay_rate: float = 0.8
  step_offset: int = 0
  clipping_threshold: float | None = 1.0
  multiply_by_parameter_scale: bool = True
  min_dim_size_to_factor: int = 128
  epsilon1: float = 1e-30
  epsilon2: float = 1e-3

  _decay_has_rate: ClassVar[bool] = False

  def __post_init__(self):
    super().__post_init__()
    for field in ('decay_rate', 'epsilon1', 'epsilon2'):
      if not getattr(self, field) > 0:
        raise errors.UserError(
            f'Adafactor.{field}: must be above 0, not {getattr(self, field)!r}.'
        )
    if self.clipping_threshold is not None and not self.clipping_threshold > 0:
      raise errors.UserError(
          'Adafactor.clipping_threshold: must be above 0, or None for no'
          f' clipping, not {self.clipping_threshold!r}.'
      )

  def direction(
      self, params: Any, plan: groups.Plan
  ) -> 'optax.GradientTransformation':
    """See `base.Optimizer.direction`.

    The state is an `optax.FactoredState`: `count`, and trees `v_row`, `v_col`
    and `v` like the parameters', with T5X's values. `v_row` has lost the longer
    side of a matrix and `v_col` the shorter one (of equal sides, the last and
    the first); what is not used is a zero.
    """
    import jax
    import jax.numpy as jnp
    import optax

    del params
    flags = jax.tree.leaves(plan.trained(plan.stacked))
    parts = [
        optax.scale_by_factored_rms(
            decay_rate=self.decay_rate,
            step_offset=self.step_offset,
            min_dim_size_to_factor=self.min_dim_size_to_factor,
            epsilon=self.epsilon1,
        )
    ]
    if self.clipping_threshold is not None:
      parts.append(optax.clip_by_block_rms(self.clipping_threshold))
    if self.multiply_by_parameter_scale:
      parts.append(optax.scale_by_param_block_rms(self.epsilon2))
    alone = optax.chain(*parts)
    # One array's state is (FactoredState, EmptyState, ...). Under vmap the step
    # is shared and the rest has one entry a layer.
    axes = (optax.FactoredState(None, 0, 0, 0), *[None] * (len(parts) - 1))  # type: ignore[arg-type]
    layered = optax.GradientTransformation(
        jax.vmap(alone.init, out_axes=axes),
        jax.vmap(alone.update, in_axes=(0, axes, 0), out_axes=(0, axes)),
    )

    def choose(is_stacked: bool) -> optax.GradientTransformation:
      return layered if is_stacked else alone

    def init(params):
      states = [
          choose(flag).init(leaf)[0]
          for flag, leaf in zip(flags, jax.tree.leaves(params), strict=True)
      ]
      return _joined(jnp.zeros((), jnp.int32), states, params)

    def update(gradients, state, params=None):
      directions, states = [], []
      for flag, *leaves in zip(
          flags,
          *map(
              jax.tree.leaves,
              (gradients, params, state.v_row, state.v_col, state.v),
          ),
          strict=True,
      ):
        gradient, param, *moments = leaves
        step, new = choose(flag).update(
            gradient,
            (
                optax.FactoredState(state.count, *moments),
                *[optax.EmptyState()] * (len(parts) - 1),
            ),
            param,
        )
        directions.append(step)
        states.append(new[0])
      return (
          jax.tree.unflatten(jax.tree.structure(params), directions),
          _joined(optax.safe_increment(state.count), states, params),
      )

    return optax.GradientTransformation(init, update)

  def moment_axes(
      self, moments: Any, params: Any, logical_axes: Any, plan: groups.Plan
  ) -> Any:
    """See `base.Optimizer.moment_axes`."""
    import jax
    import numpy as np
    import optax

    del moments
    flags = jax.tree.leaves(plan.trained(plan.stacked))
    structure = jax.tree.structure(params)
    rows, columns, whole = [], [], []
    for flag, leaf, names in zip(
        flags,
        jax.tree.leaves(params),
        jax.tree.leaves(logical_axes, is_leaf=partitioning.is_names),
        strict=True,
    ):
      front, unused = (names[:1], (None, None)) if flag else ((), (None,))
      shape, names = leaf.shape[len(front) :], names[len(front) :]
      shorter, longer = _sides(np.argsort(shape))
      if len(shape) > 1 and shape[shorter] >= self.min_dim_size_to_factor:
        rows.append(front + _without(names, longer))
        columns.append(front + _without(names, shorter))
        whole.append(unused)
      else:
        rows.append(unused)
        columns.append(unused)
        whole.append(front + names)
    return optax.FactoredState(
        count=(),
        v_row=jax.tree.unflatten(structure, rows),
        v_col=jax.tree.unflatten(structure, columns),
        v=jax.tree.unflatten(structure, whole),
    )


def _joined(count, states, params):
  """Returns one state from the states of all leaves."""
  import jax
  import optax

  structure = jax.tree.structure(params)
  return optax.FactoredState(
      count=count,
      v_row=jax.tree.unflatten(structure, [state.v_row for state in states]),
      v_col=jax.tree.unflatten(structure, [state.v_col for state in states]),
      v=jax.tree.unflatten(structure, [state.v for state in states]),
  )


def _sides(order: Any) -> tuple[int, int]:
  """Returns the second longest and the longest axis, as optax picks them."""
  return (int(order[-2]), int(order[-1])) if len(order) > 1 else (0, 0)


def _without(names: tuple, axis: int) -> tuple:
  return names[:axis] + names[axis + 1 :]
