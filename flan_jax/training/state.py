"""What a step of training changes, and where each array of it lies."""

from typing import Any, NamedTuple

from flan_jax import partitioning
from flan_jax.models import adapters
from flan_jax.models import interface
import jax
import jax.numpy as jnp
import optax


class TrainState(NamedTuple):
  """Everything that a checkpoint must hold, but for the data position.

  Random numbers are not part of it: they follow from the seed and the step.

  Attributes:
    step: int32 scalar, the number of steps done.
    params: The parameters that are trained, float32: the model's, unless
      others stay as they were (`adapters.Split`).
    optimizer: The optimizer's state.
  """

  step: jax.Array
  params: Any
  optimizer: Any


def abstract(
    model: interface.Model,
    optimizer: optax.GradientTransformation,
    optimizer_axes: Any,
    mesh: jax.sharding.Mesh,
    split: adapters.Split | None = None,
) -> TrainState:
  """Returns shapes, dtypes and shardings (`jax.ShapeDtypeStruct`).

  Args:
    model: The model.
    optimizer: The optimizer.
    optimizer_axes: The tree of the optimizer's state, with a tuple of logical
      axis names for each array.
    mesh: Where the state is to lie.
    split: What is trained; by default all of the model.

  Raises:
    UserError: A size does not divide over the mesh.
  """
  split = split or adapters.Split(model)
  params = split.trained
  trees: Any = TrainState(
      step=jax.ShapeDtypeStruct((), jnp.int32),  # type: ignore[arg-type]
      params=params,
      optimizer=jax.eval_shape(optimizer.init, params),
  )
  axes: Any = TrainState(
      step=(),  # type: ignore[arg-type]
      params=split.trained_axes,
      optimizer=optimizer_axes,
  )
  return partitioning.placed(trees, axes, mesh)


def create(
    model: interface.Model,
    optimizer: optax.GradientTransformation,
    like: TrainState,
    seed: int,
) -> TrainState:
  """Returns the state before the first step of all of a model, as `like`."""

  def init(key: jax.Array) -> TrainState:
    params = model.init(key)
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))

  return jax.jit(init, out_shardings=shardings(like))(jax.random.key(seed))


def with_params(
    optimizer: optax.GradientTransformation,
    like: TrainState,
    params: Any,
    step: int = 0,
) -> TrainState:
  """Returns the state after `step` with an optimizer that starts afresh.

  Where the optimizer counts updates for its schedule (a field `count`), the
  schedule is the one thing that goes on from `step`.
  """

  def init(params: Any) -> TrainState:
    kept = optimizer.init(params)
    if hasattr(kept, 'count'):
      kept = kept._replace(count=jnp.full((), step, jnp.int32))
    return TrainState(jnp.full((), step, jnp.int32), params, kept)

  return jax.jit(init, out_shardings=shardings(like))(params)


def shardings(like: TrainState) -> TrainState:
  """Returns the tree of shardings of what `abstract` returned."""
  return jax.tree.map(lambda leaf: leaf.sharding, like)
