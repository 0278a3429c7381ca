"""Names of a state's arrays in a checkpoint: T5X's, one entry a layer.

A model may keep the parameters of all layers stacked in one array; a checkpoint
never shows it. What an optimizer keeps for each parameter is named after it, so
it can be read with layers stacked or not as well.
"""

from collections.abc import Mapping
from typing import Any

from flan_jax.models import interface
import jax
import numpy as np


def flatten(model: interface.Model, tree: Any) -> dict[str, Any]:
  """Returns the arrays of a tree by name.

  Args:
    model: The model, which knows how its parameters are stacked.
    tree: Its parameters, or any tree with branches of their structure (an
      optimizer's state); arrays, traced ones or `jax.ShapeDtypeStruct`.

  Returns:
    Names such as 'encoder/layers_0/mlp/wo/kernel'. A branch's names stand
    after its own path: '0/v_row/encoder/...'.
  """
  flat = {}
  for prefix, branch in _branches(model, tree):
    if _is_like_params(model, branch):
      for name, array in model.unstack(branch).items():
        flat[f'{prefix}/{name}' if prefix else name] = array
    else:
      flat[prefix] = branch
  return flat


def unflatten(
    model: interface.Model, flat: Mapping[str, Any], like: Any
) -> Any:
  """Returns the tree of the structure of `like`; undoes `flatten`."""
  leaves = []
  for prefix, branch in _branches(model, like):
    if _is_like_params(model, branch):
      start = f'{prefix}/' if prefix else ''
      leaves.append(
          model.stack({
              name.removeprefix(start): array
              for name, array in flat.items()
              if name.startswith(start)
          })
      )
    else:
      leaves.append(flat[prefix])
  structure = jax.tree.structure(
      like, is_leaf=lambda node: _is_like_params(model, node)
  )
  return jax.tree.unflatten(structure, leaves)


def abstract(
    model: interface.Model, tree: Any
) -> dict[str, jax.ShapeDtypeStruct]:
  """Returns shapes, dtypes and shardings by name.

  Args:
    model: The model.
    tree: As in `flatten`, of `jax.ShapeDtypeStruct` with a NamedSharding each.

  Returns:
    Of a stacked array, each layer's entry, without the axis of layers.
  """
  leaves, structure = jax.tree.flatten(tree)
  stacked = _stacked(model, tree)
  # Each array is stood in for by its own number, which is then seen under the
  # names that the array goes by.
  numbers = [
      np.full(leaf.shape[:1] if layered else (), index, np.int32)
      for index, (leaf, layered) in enumerate(zip(leaves, stacked, strict=True))
  ]
  flat = flatten(model, jax.tree.unflatten(structure, numbers))
  named = {}
  for name, number in flat.items():
    leaf, layered = leaves[int(number)], stacked[int(number)]
    named[name] = _without_layers(leaf) if layered else leaf
  return named


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
  """Turns 'a/b' into {'a': {'b': ...}}, the form that Orbax writes."""
  tree: dict[str, Any] = {}
  for name, value in flat.items():
    *parents, last = name.split('/')
    node = tree
    for parent in parents:
      node = node.setdefault(parent, {})
    node[last] = value
  return tree


def unnest(tree: Mapping[str, Any]) -> dict[str, Any]:
  """Undoes `nest`; leaves are whatever is no mapping."""
  flat = {}
  for name, value in tree.items():
    if isinstance(value, Mapping):
      flat.update({f'{name}/{k}': v for k, v in unnest(value).items()})
    else:
      flat[name] = value
  return flat


def _is_like_params(model: interface.Model, node: Any) -> bool:
  structure: Any = jax.tree.structure(model.stacked())
  return jax.tree.structure(node) == structure


def _branches(model: interface.Model, tree: Any) -> list[tuple[str, Any]]:
  """Returns branches that look like parameters, and all other leaves."""
  found, _ = jax.tree_util.tree_flatten_with_path(
      tree, is_leaf=lambda node: _is_like_params(model, node)
  )
  return [
      (jax.tree_util.keystr(path, simple=True, separator='/'), branch)
      for path, branch in found
  ]


def _stacked(model: interface.Model, tree: Any) -> list[bool]:
  """Returns for each leaf of the tree whether axis 0 counts layers."""
  flags = jax.tree.leaves(model.stacked())
  result: list[bool] = []
  for _, branch in _branches(model, tree):
    result += flags if _is_like_params(model, branch) else [False]
  return result


def _without_layers(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
  sharding = leaf.sharding
  if isinstance(sharding, jax.sharding.NamedSharding):
    spec = jax.sharding.PartitionSpec(*sharding.spec[1:])
    sharding = jax.sharding.NamedSharding(sharding.mesh, spec)
  return jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype, sharding=sharding)
