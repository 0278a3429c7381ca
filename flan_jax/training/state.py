"""What a step of training changes, and where each array of it lies."""

from typing import Any, NamedTuple

from flan_jax import partitioning
from flan_jax.models import interface
import jax
import jax.numpy as jnp
import optax


class TrainState(NamedTuple):
  """Everything that a checkpoint must hold, but for the data position.

  Random numbers are not part of it: they follow from the seed and the step.

  Attributes:
    step: int32 scalar, the number of steps done.
    params: The model's parameters, float32.
    optimizer: The optimizer's state.
  """

  step: jax.Array
  params: Any
  optimizer: Any


def abstract(
    model: interface.Model,
    optimizer: optax.GradientTransformation,
    mesh: jax.sharding.Mesh,
) -> TrainState:
  """Returns shapes, dtypes and shardings (`jax.ShapeDtypeStruct`).

  What the optimizer keeps in the shape of a parameter is sharded like it. The
  rest (Adafactor's row and column statistics, counts) is small, and every
  device has it whole.

  Raises:
    UserError: A size does not divide over the mesh.
  """
  axes = model.logical_axes()
  shapes = model.abstract_params()
  params = jax.tree.map(
      _placed, shapes, partitioning.shardings(mesh, axes, shapes)
  )
  whole = partitioning.replicated(mesh)
  structure: Any = jax.tree.structure(shapes)

  def is_like_params(node: Any) -> bool:
    return jax.tree.structure(node) == structure

  def place(node: Any) -> Any:
    if not is_like_params(node):
      return _placed(node, whole)
    return jax.tree.map(
        lambda kept, param: _placed(
            kept, param.sharding if kept.shape == param.shape else whole
        ),
        node,
        params,
    )

  step: Any = _placed(jax.ShapeDtypeStruct((), jnp.int32), whole)
  return TrainState(
      step=step,
      params=params,
      optimizer=jax.tree.map(
          place,
          jax.eval_shape(optimizer.init, shapes),
          is_leaf=is_like_params,
      ),
  )


def create(
    model: interface.Model,
    optimizer: optax.GradientTransformation,
    like: TrainState,
    seed: int,
) -> TrainState:
  """Returns the state before the first step, sharded as `like`."""

  def init(key: jax.Array) -> TrainState:
    params = model.init(key)
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))

  return jax.jit(init, out_shardings=shardings(like))(jax.random.key(seed))


def with_params(
    optimizer: optax.GradientTransformation, like: TrainState, params: Any
) -> TrainState:
  """Returns the state before the first step, from given parameters."""

  def init(params: Any) -> TrainState:
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))

  return jax.jit(init, out_shardings=shardings(like))(params)


def shardings(like: TrainState) -> TrainState:
  """Returns the tree of shardings of what `abstract` returned."""
  return jax.tree.map(lambda leaf: leaf.sharding, like)


def _placed(
    leaf: jax.ShapeDtypeStruct, sharding: jax.sharding.Sharding
) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
