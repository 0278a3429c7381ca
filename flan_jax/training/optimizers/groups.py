"""Which parameters are treated how: by regular expressions over T5X's names.

A name is that of one layer's array, 'encoder/layers_0/mlp/wo/kernel', whether
the layers are stacked in one array or not. So some layers of a stack may be in
one group and some in another.
"""

from collections.abc import Callable, Sequence
import dataclasses
import functools
import re
from typing import Any, NamedTuple

from flan_jax import errors
from flan_jax.training import schedules

# A tree of bool like the parameters', or a function of a parameter's name
# ('encoder/layers/mlp/wo/kernel').
Stacked = Any | Callable[[str], bool]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParameterGroup:
  """Parameters that are trained otherwise than the rest.

  Attributes:
    pattern: A regular expression that matches the whole of T5X's name, such as
      'encoder/.*' or '.*/layers_[0-3]/.*'.
    frozen: Whether they stay as they are. They need no optimizer state, unless
      only some layers of a stack are frozen: then the stack has its state.
    rate_factor: The learning rate is so many times the others'.
    schedule: Their own learning rate; None is that of all.
    weight_decay: Their own weight decay, names that are excepted or not; None
      is that of all.
  """

  pattern: str
  frozen: bool = False
  rate_factor: float = 1.0
  schedule: schedules.Schedule | None = None
  weight_decay: float | None = None

  def __post_init__(self):
    check_pattern('ParameterGroup.pattern', self.pattern)
    if not isinstance(self.frozen, bool):
      raise errors.UserError(
          f'ParameterGroup.frozen: must be True or False, not {self.frozen!r}.'
      )
    check_number('ParameterGroup.rate_factor', self.rate_factor, 0.0)
    if self.weight_decay is not None:
      check_number('ParameterGroup.weight_decay', self.weight_decay, 0.0)
    if self.schedule is not None and not callable(self.schedule):
      raise errors.UserError(
          'ParameterGroup.schedule: must be made by a configurable such as'
          f' @Constant(), or None, not {self.schedule!r}.'
      )


class Leaf(NamedTuple):
  """One array of the parameters.

  Attributes:
    names: T5X's, one a layer; a single one where the array is no stack.
    stacked: Whether axis 0 counts layers.
    groups: The group of each name, None for those in none.
  """

  names: tuple[str, ...]
  stacked: bool
  groups: tuple[ParameterGroup | None, ...]

  @property
  def frozen(self) -> bool:
    """Whether nothing of the array is trained."""
    return all(group is not None and group.frozen for group in self.groups)


class Plan:
  """Who is in which group, for the parameters of one model."""

  def __init__(
      self, params: Any, stacked: Stacked, groups: Sequence[ParameterGroup]
  ):
    """Finds each parameter's group: the first one whose pattern matches.

    Args:
      params: Arrays, traced ones, or `jax.ShapeDtypeStruct`.
      stacked: Where axis 0 counts layers.
      groups: The groups.

    Raises:
      UserError: A group has no parameters, or all are frozen.
    """
    import jax

    paths, self._structure = jax.tree_util.tree_flatten_with_path(params)
    names = [
        '/'.join(str(getattr(entry, 'key', entry)) for entry in path)
        for path, _ in paths
    ]
    flags = (
        [stacked(name) for name in names]
        if callable(stacked)
        else jax.tree.leaves(stacked)
    )
    self.leaves = [
        _leaf(name, array, flag, groups)
        for name, (_, array), flag in zip(names, paths, flags, strict=True)
    ]
    self._check(groups)

  def _check(self, groups: Sequence[ParameterGroup]) -> None:
    known = [name for leaf in self.leaves for name in leaf.names]
    for group in groups:
      if not any(re.fullmatch(group.pattern, name) for name in known):
        raise errors.UserError(
            f'ParameterGroup.pattern: {group.pattern!r} matches none of the'
            f' {len(known)} parameters, such as {known[0]}.'
        )
    if known and all(leaf.frozen for leaf in self.leaves):
      raise errors.UserError('ParameterGroup.frozen: leaves nothing to train.')

  def trained(self, tree: Any) -> Any:
    """Returns a tree like the parameters' without what is wholly frozen."""
    import jax
    import optax

    frozen = jax.tree.unflatten(
        self._structure, [leaf.frozen for leaf in self.leaves]
    )
    return jax.tree.map(
        lambda gone, leaf: optax.MaskedNode() if gone else leaf, frozen, tree
    )

  def tree(self, values: Sequence[Any]) -> Any:
    """Returns a tree like the parameters' of one value an array."""
    import jax

    return jax.tree.unflatten(self._structure, values)

  @functools.cached_property
  def stacked(self) -> Any:
    """The tree of which arrays are stacks."""
    return self.tree([leaf.stacked for leaf in self.leaves])


def _leaf(
    name: str, array: Any, stacked: bool, groups: Sequence[ParameterGroup]
) -> Leaf:
  from flan_jax.models import naming  # It imports jax.

  names = naming.layer_names(name, array.shape[0]) if stacked else (name,)

  def group_of(name: str) -> ParameterGroup | None:
    matching = (g for g in groups if re.fullmatch(g.pattern, name))
    return next(matching, None)

  return Leaf(names, stacked, tuple(map(group_of, names)))


def check_pattern(field: str, pattern: Any) -> None:
  """Raises a UserError unless `pattern` is a regular expression."""
  try:
    re.compile(pattern)
  except (re.error, TypeError) as error:
    raise errors.UserError(
        f'{field}: {pattern!r} is no regular expression: {error}.'
    ) from error


def check_number(
    field: str, value: Any, least: float, most: float | None = None
) -> None:
  """Raises a UserError unless `value` is a number within the bounds."""
  number = isinstance(value, (int, float)) and not isinstance(value, bool)
  if not number or not least <= value or (most is not None and value > most):
    bounds = f'of at least {least:g}'
    if most is not None:
      bounds = f'from {least:g} to {most:g}'
    raise errors.UserError(
        f'{field}: must be a number {bounds}, not {value!r}.'
    )
