"""What all optimizers share; each of them adds a direction to it.

A step with the learning rate r takes a parameter p to

    p - r (direction + weight_decay p)

where the direction comes from the gradient, clipped before, and from what the
optimizer keeps in its state.
"""

import abc
from collections.abc import Sequence
import dataclasses
import re
from typing import Any, ClassVar, NamedTuple, TYPE_CHECKING

from flan_jax import errors
from flan_jax.training import schedules
from flan_jax.training.optimizers import axes
from flan_jax.training.optimizers import groups as groups_lib

if TYPE_CHECKING:
  import optax


class State(NamedTuple):
  """The state of any optimizer.

  Attributes:
    count: int32 scalar, the updates made so far.
    moments: What the direction needs of earlier gradients; parameters that are
      frozen have none.
    average: The moving average of the parameters that are trained, None if none
      is kept.
  """

  count: Any
  moments: Any
  average: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer(abc.ABC):
  """What can be set of every optimizer.

  Attributes:
    weight_decay: The share of a parameter that is taken away at a learning rate
      of 1, apart from the gradient (decoupled, arXiv 1711.05101; as in
      PyTorch's and optax's AdamW it is multiplied by the rate). None takes
      nothing.
    weight_decay_except: A regular expression that matches the whole of T5X's
      name of each parameter that does not decay: by default the scales of
      norms, biases, and the table of relative positions, which is a bias.
    clip_norm: The greatest Euclidean norm of the gradient of all that is
      trained; a longer one is shortened to it. None does not clip.
    groups: Parameters that are treated otherwise; the first group that matches
      a name counts.
    ema_decay: An exponential moving average of the parameters is kept in the
      state: after update t (from 0) it is d a + (1 - d) p, with d the lesser of
      this number and (1 + t) / (10 + t), so that the start is soon forgotten
      (as TensorFlow's `ExponentialMovingAverage` with `num_updates`). None
      keeps none.
  """

  weight_decay: float | None = None
  weight_decay_except: str = '.*/(scale|bias|rel_embedding)'
  clip_norm: float | None = None
  groups: Sequence[groups_lib.ParameterGroup] = ()
  ema_decay: float | None = None

  # Whether the learning rate multiplies the weight decay.
  _decay_has_rate: ClassVar[bool] = True

  def __post_init__(self):
    kind = type(self).__name__
    groups_lib.check_pattern(
        f'{kind}.weight_decay_except', self.weight_decay_except
    )
    for field, most in (
        ('weight_decay', None),
        ('clip_norm', None),
        ('ema_decay', 1.0),
    ):
      value = getattr(self, field)
      if value is not None:
        groups_lib.check_number(f'{kind}.{field}', value, 0.0, most)
    for group in self.groups:
      if not isinstance(group, groups_lib.ParameterGroup):
        raise errors.UserError(
            f'{kind}.groups: must be a tuple of @ParameterGroup(), not'
            f' {group!r}.'
        )

  @abc.abstractmethod
  def direction(
      self, params: Any, plan: groups_lib.Plan
  ) -> 'optax.GradientTransformation':
    """Returns what turns gradients into directions to descend along.

    It treats every layer of a stack as if it were alone.

    Args:
      params: The parameters that are trained.
      plan: What is known of each; `plan.trained` leaves out the frozen ones.
    """

  def moment_axes(
      self, moments: Any, params: Any, logical_axes: Any, plan: groups_lib.Plan
  ) -> Any:
    """Returns the logical axes of `State.moments`.

    Args:
      moments: The arrays' shapes.
      params: The shapes of the parameters that are trained.
      logical_axes: Their tuples of logical names.
      plan: As for `direction`.
    """
    del plan
    return axes.of_state(moments, params, logical_axes)

  def create(
      self, learning_rate: schedules.Schedule, stacked: groups_lib.Stacked
  ) -> 'optax.GradientTransformation':
    """Returns the optimizer; its `update` needs the parameters too.

    Args:
      learning_rate: Called with the number of updates made so far.
      stacked: Where axis 0 of a parameter counts layers, as a tree (such as
        `Model.stacked()`) or a function of the parameter's name.

    Returns:
      A transformation whose state is a `State`. It raises UserErrors about
      groups that do not fit the parameters.
    """
    import jax
    import jax.numpy as jnp
    import optax

    def init(params):
      plan = groups_lib.Plan(params, stacked, self.groups)
      trained = plan.trained(params)
      return State(
          count=jnp.zeros((), jnp.int32),
          moments=self.direction(trained, plan).init(trained),
          # A copy: a step gives both buffers away.
          average=(
              None
              if self.ema_decay is None
              else jax.tree.map(jnp.copy, trained)
          ),
      )

    def update(gradients, state, params=None):
      if params is None:
        raise ValueError(f'{type(self).__name__}.update needs the parameters.')
      plan = groups_lib.Plan(params, stacked, self.groups)
      trained = plan.trained(params)
      directions, moments = self.direction(trained, plan).update(
          self._clipped(gradients, plan), state.moments, trained
      )
      updates = self._updates(
          directions, params, learning_rate, state.count, plan
      )
      return updates, State(
          count=optax.safe_increment(state.count),
          moments=moments,
          average=self._averaged(state, params, updates, plan),
      )

    return optax.GradientTransformation(init, update)

  def state_axes(
      self,
      abstract_params: Any,
      logical_axes: Any,
      stacked: groups_lib.Stacked,
  ) -> State:
    """Returns the logical axes of the state that `create(...).init` gives.

    Args:
      abstract_params: The parameters' shapes.
      logical_axes: The parameters' tuples of logical names.
      stacked: As for `create`.

    Raises:
      UserError: Groups do not fit the parameters.
    """
    import jax

    plan = groups_lib.Plan(abstract_params, stacked, self.groups)
    trained, names = plan.trained(abstract_params), plan.trained(logical_axes)
    moments = jax.eval_shape(self.direction(trained, plan).init, trained)
    return State(
        count=(),
        moments=self.moment_axes(moments, trained, names, plan),
        average=None if self.ema_decay is None else names,
    )

  def _clipped(self, gradients: Any, plan: groups_lib.Plan) -> Any:
    """Returns the gradient of what is trained, float32, clipped."""
    import jax
    import jax.numpy as jnp
    import optax

    def one(leaf: groups_lib.Leaf, gradient: Any) -> Any:
      gradient = gradient.astype(jnp.float32)
      moves = [g is None or not g.frozen for g in leaf.groups]
      if all(moves) or not any(moves):
        return gradient
      return gradient * _by_layer([float(m) for m in moves], gradient.ndim)

    gradients = plan.trained(
        plan.tree(list(map(one, plan.leaves, jax.tree.leaves(gradients))))
    )
    if self.clip_norm is not None:
      clip = optax.clip_by_global_norm(self.clip_norm)
      gradients, _ = clip.update(gradients, clip.init(gradients))
    return gradients

  def _updates(
      self,
      directions: Any,
      params: Any,
      learning_rate: schedules.Schedule,
      count: Any,
      plan: groups_lib.Plan,
  ) -> Any:
    """Returns what is added to each parameter, 0 where it is frozen."""
    import jax
    import jax.numpy as jnp

    own = {
        id(group): group.rate_factor * (group.schedule or learning_rate)(count)
        for group in self.groups
    }
    common = learning_rate(count)
    following = iter(jax.tree.leaves(directions))
    updates = []
    for leaf, param in zip(plan.leaves, jax.tree.leaves(params), strict=True):
      if leaf.frozen:
        updates.append(jnp.zeros_like(param))
        continue
      step = next(following)
      rate = _by_layer(
          [
              common
              if group is None
              else 0.0
              if group.frozen
              else own[id(group)]
              for group in leaf.groups
          ],
          param.ndim,
      )
      decays = [
          self._decay(*each)
          for each in zip(leaf.names, leaf.groups, strict=True)
      ]
      if not any(decays):
        updates.append(-rate * step)
        continue
      decay = _by_layer(decays, param.ndim) * param
      updates.append(
          -rate * (step + decay)
          if self._decay_has_rate
          else -rate * step - decay
      )
    return plan.tree(updates)

  def _decay(self, name: str, group: groups_lib.ParameterGroup | None) -> float:
    if group is not None and group.frozen:
      return 0.0
    if group is not None and group.weight_decay is not None:
      return group.weight_decay
    if re.fullmatch(self.weight_decay_except, name):
      return 0.0
    return self.weight_decay or 0.0

  def _averaged(
      self, state: State, params: Any, updates: Any, plan: groups_lib.Plan
  ) -> Any:
    import jax
    import jax.numpy as jnp

    if self.ema_decay is None:
      return None
    count = state.count.astype(jnp.float32)
    kept = jnp.minimum(self.ema_decay, (1 + count) / (10 + count))
    return jax.tree.map(
        lambda average, param, update: (
            kept * average + (1 - kept) * (param + update)
        ),
        state.average,
        plan.trained(params),
        plan.trained(updates),
    )


def averaged(state: Any, params: Any) -> Any | None:
  """Returns the parameters with what is averaged in its place.

  Args:
    state: An optimizer's state; where it is no `State`, there is no average.
    params: The parameters.

  Returns:
    A tree like `params`, or None where no average is kept.
  """
  import jax
  import optax

  average = getattr(state, 'average', None)
  if average is None:
    return None

  def is_masked(leaf: Any) -> bool:
    return isinstance(leaf, optax.MaskedNode)

  return jax.tree.map(
      lambda mean, param: param if is_masked(mean) else mean,
      average,
      params,
      is_leaf=is_masked,
  )


def _by_layer(values: Sequence[Any], ndim: int) -> Any:
  """Returns a value that all share, or one a layer: [layers, 1, ...]."""
  import jax.numpy as jnp

  first = values[0]
  if all(value is first for value in values):
    return first
  return jnp.stack(list(map(jnp.float32, values))).reshape(
      (-1,) + (1,) * (ndim - 1)
  )
