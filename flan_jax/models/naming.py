"""Parameter names: layers stacked for the scan, or one by one as T5X has them.

Stacked: params['encoder']['layers']['mlp']['wo']['kernel'], [layers, M, E].
T5X: 'encoder/layers_0/mlp/wo/kernel', 'encoder/layers_1/...', each [M, E].
"""

from collections.abc import Mapping
import re
from typing import Any

from flan_jax import errors
import jax
import jax.numpy as jnp
import numpy as np

STACK = 'layers'
_LAYER = re.compile(rf'{STACK}_(\d+)')


def flatten(tree: Mapping[str, Any], is_leaf: Any = None) -> dict[str, Any]:
  """Returns a nested dict's leaves under their keys joined by '/'."""
  leaves = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_leaf)[0]
  return {'/'.join(entry.key for entry in path): leaf for path, leaf in leaves}


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
  """Undoes `flatten`."""
  tree: dict[str, Any] = {}
  for name, leaf in flat.items():
    *branches, last = name.split('/')
    node = tree
    for branch in branches:
      node = node.setdefault(branch, {})
    node[last] = leaf
  return tree


def is_stacked(name: str) -> bool:
  """Whether axis 0 of the parameter of this (stacked) name counts layers."""
  return STACK in name.split('/')


def layer_names(name: str, count: int) -> tuple[str, ...]:
  """Returns T5X's names of the layers of a stack, from the stack's name."""
  parts = name.split('/')
  return tuple(
      '/'.join(f'{STACK}_{layer}' if p == STACK else p for p in parts)
      for layer in range(count)
  )


def stack_of(name: str) -> tuple[str, int | None]:
  """Returns the stacked name of T5X's name, and which layer of it this is.

  Undoes `layer_names`; a parameter that is not a layer's has no number.
  """
  match = _LAYER.search(name)
  if match is None:
    return name, None
  return name.replace(match.group(0), STACK, 1), int(match.group(1))


def unstack(params: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the per-layer arrays under T5X's names.

  Args:
    params: Stacked parameters: arrays of JAX or numpy, or ShapeDtypeStructs,
      whose shardings are kept.
  """
  flat = {}
  for name, leaf in flatten(params).items():
    if not is_stacked(name):
      flat[name] = leaf
      continue
    for layer, layer_name in enumerate(layer_names(name, leaf.shape[0])):
      flat[layer_name] = layer_of(leaf, layer)
  return flat


def stack(flat: Mapping[str, Any], abstract: Mapping[str, Any]) -> Any:
  """Returns stacked parameters from per-layer arrays under T5X's names.

  Args:
    flat: What `unstack` gives. Arrays keep their dtype and kind.
    abstract: The stacked parameters' shapes that are wanted.

  Raises:
    UserError: A parameter is missing, is one too many, or has another shape.
  """
  wanted = unstack(abstract)
  for name, leaf in wanted.items():
    if name not in flat:
      raise errors.UserError(
          f'parameters: {name} {leaf.shape} is missing.'
          f'{errors.nearest(name, list(flat), limit=1)}'
      )
    if tuple(flat[name].shape) != tuple(leaf.shape):
      raise errors.UserError(
          f'parameters: {name} is {tuple(flat[name].shape)} there and'
          f' {tuple(leaf.shape)} in this model.'
      )
  for name in flat:
    if name not in wanted:
      raise errors.UserError(f'parameters: this model has no {name}.')
  stacked = {}
  for name, leaf in flatten(abstract).items():
    if is_stacked(name):
      stacked[name] = _stack(
          [flat[n] for n in layer_names(name, leaf.shape[0])]
      )
    else:
      stacked[name] = flat[name]
  return unflatten(stacked)


def layer_of(leaf: Any, layer: int) -> Any:
  """Returns one layer of a stack: an array, or a ShapeDtypeStruct."""
  if not isinstance(leaf, jax.ShapeDtypeStruct):
    return leaf[layer]
  return jax.ShapeDtypeStruct(
      leaf.shape[1:], leaf.dtype, sharding=_moved(leaf.sharding, drop=True)
  )


def _stack(leaves: list[Any]) -> Any:
  first = leaves[0]
  if isinstance(first, jax.ShapeDtypeStruct):
    return jax.ShapeDtypeStruct(
        (len(leaves), *first.shape),
        first.dtype,
        sharding=_moved(first.sharding, drop=False),
    )
  if isinstance(first, jax.Array):
    return jnp.stack(leaves)
  return np.stack(leaves)


def _moved(sharding: Any, *, drop: bool) -> Any:
  """Returns the sharding without the axis of layers, or with one in front."""
  if not isinstance(sharding, jax.sharding.NamedSharding):
    return sharding
  parts = tuple(sharding.spec)
  parts = parts[1:] if drop else (None, *parts)
  return jax.sharding.NamedSharding(
      sharding.mesh, jax.sharding.PartitionSpec(*parts)
  )
