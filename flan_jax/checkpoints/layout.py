"""Names of a state's arrays in a checkpoint: T5X's, one entry a layer.

A model may keep the parameters of all layers stacked in one array; a checkpoint
never shows it. What an optimizer keeps for a parameter is named after it, so
the same holds for an optimizer's state.
"""

from collections.abc import Mapping
from typing import Any

from flan_jax.models import naming
import jax

# The branch of an optimizer's state that averages the parameters.
AVERAGE = 'average'


def flatten(tree: Any) -> dict[str, Any]:
  """Returns the arrays of a tree by name.

  Args:
    tree: A model's parameters, or an optimizer's state that holds branches of
      their structure; of arrays, traced ones or `jax.ShapeDtypeStruct`, whose
      shardings are kept.

  Returns:
    Names such as 'encoder/layers_0/mlp/wo/kernel'. In an optimizer's state the
    way to the branch stands before: 'moments/v_row/encoder/layers_0/...'.
  """
  return naming.unstack(_nested(tree))


def unflatten(flat: Mapping[str, Any], like: Any) -> Any:
  """Returns the tree of the structure of `like`; undoes `flatten`.

  Raises:
    UserError: An array is missing, is one too many, or has another shape.
  """
  by_name = naming.flatten(naming.stack(flat, _nested(like)))
  return jax.tree.unflatten(
      jax.tree.structure(like), [by_name[name] for name in _names(like)]
  )


def by_name(tree: Any) -> dict[str, Any]:
  """Returns the leaves of a tree by name, those of all layers as one."""
  return dict(zip(_names(tree), jax.tree.leaves(tree), strict=True))


def replaced(tree: Any, leaves: Mapping[str, Any]) -> Any:
  """Returns a tree with some leaves replaced, by their names of `by_name`."""
  found = by_name(tree) | dict(leaves)
  return jax.tree.unflatten(jax.tree.structure(tree), list(found.values()))


def _nested(tree: Any) -> dict[str, Any]:
  """Returns the tree as nested dicts, whatever kinds of node it has."""
  return naming.unflatten(by_name(tree))


def _names(tree: Any) -> list[str]:
  paths, _ = jax.tree_util.tree_flatten_with_path(tree)
  return [
      jax.tree_util.keystr(path, simple=True, separator='/')
      for path, _ in paths
  ]
