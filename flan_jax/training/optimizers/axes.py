"""How an optimizer's state is shared over a mesh: as the parameters are."""

from typing import Any

from flan_jax import partitioning


def of_state(state: Any, params: Any, logical_axes: Any) -> Any:
  """Returns the logical axes of each array of a state.

  What a state keeps for a parameter stands at the parameter's own path in some
  branch of the state, and has its shape: so it has its axes. What is at no
  parameter's path (a count, a table of coefficients) is whole on every device.

  Args:
    state: Any optax state, of `jax.ShapeDtypeStruct`.
    params: The parameters that it was made for, of the same; where some are
      left out (`optax.MaskedNode`), the state has nothing for them.
    logical_axes: The parameters' tuples of logical names.

  Returns:
    The state's tree with a tuple of names for each array.

  Raises:
    ValueError: An array at a parameter's path has another shape: the optimizer
      has to say itself how it is shared.
  """
  import jax

  paths, _ = jax.tree_util.tree_flatten_with_path(params)
  names = jax.tree.leaves(logical_axes, is_leaf=partitioning.is_names)
  known = {
      path: (leaf.shape, axes)
      for (path, leaf), axes in zip(paths, names, strict=True)
  }

  def one(path: tuple, leaf: Any) -> tuple:
    for start in range(len(path)):
      if path[start:] in known:
        shape, axes = known[path[start:]]
        if shape != leaf.shape:
          raise ValueError(
              f'{jax.tree_util.keystr(path)} is {leaf.shape}, and its parameter'
              f' is {shape}: the optimizer must name its axes.'
          )
        return axes
    return (None,) * len(leaf.shape)

  return jax.tree_util.tree_map_with_path(one, state)
