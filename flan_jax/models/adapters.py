"""Parameters in two parts: what a run trains, and what stays as it was.

What stays is not differentiated, and has neither gradient nor optimizer state.
What is trained may be adapters (`config.Lora`), parameters of the model, or
both.
"""

from collections.abc import Mapping, Sequence
import re
from typing import Any

from flan_jax import errors
from flan_jax import partitioning
from flan_jax.models import config as config_lib
from flan_jax.models import interface
from flan_jax.models import naming
import jax
import jax.numpy as jnp

# T5X's names of adapters, beside 'kernel'.
_A, _B = 'lora_a', 'lora_b'
_ADAPTERS = f'.*/({_A}|{_B})'


class Split:
  """Which of a model's parameters are trained.

  Trees of either part have the model's names. Where only some layers of a
  stack are trained, these have T5X's names in the trained part, one array a
  layer; and the whole stack is in the frozen part, where their places mean
  nothing.

  Attributes:
    trained: Shapes and dtypes of what is trained (`jax.ShapeDtypeStruct`).
    frozen: The same of what is not: its kernels are kept in what they are
      multiplied in.
    trained_axes: Logical axes of `trained`.
    frozen_axes: Logical axes of `frozen`.
  """

  def __init__(
      self, model: interface.Model, patterns: Sequence[str] | None = None
  ):
    """Finds what is trained; computes nothing.

    Args:
      model: The model, with its adapters if it is to have some.
      patterns: Regular expressions; what has one that matches the whole of
        T5X's name is trained. Adapters always are. None is: adapters alone
        where the model has some, otherwise everything.

    Raises:
      UserError: A pattern matches nothing, or an adapter has no kernel.
    """
    lora = model.config.lora
    self._abstract = model.abstract_params()
    flat = naming.flatten(self._abstract)
    if lora is not None:
      _check_targets(lora, flat)
      patterns = (_ADAPTERS, *(patterns or ()))
    self._whole = patterns is None
    # By stacked name, the layers that are trained; None is all there is.
    self._layers: dict[str, tuple[int, ...] | None] = {
        name: _trained_layers(name, leaf, patterns)
        for name, leaf in flat.items()
    }
    _check_patterns(patterns or (), flat)
    self.trained, frozen = self.divide(self._abstract)
    self.trained_axes, self.frozen_axes = self.divide(model.logical_axes())
    self.frozen = naming.unflatten({
        name: jax.ShapeDtypeStruct(leaf.shape, _kept(name, leaf, model.config))
        for name, leaf in naming.flatten(frozen).items()
    })

  @property
  def whole(self) -> bool:
    """Whether all of the model is trained."""
    return self._whole

  @property
  def share(self) -> float:
    """Which part of all parameters is trained."""
    return self.count / _size(self._abstract)

  @property
  def count(self) -> int:
    """How many parameters are trained."""
    return _size(self.trained)

  def stacked(self) -> Any:
    """Returns `trained`'s tree with True where axis 0 counts layers."""
    return naming.unflatten(
        {name: naming.is_stacked(name) for name in naming.flatten(self.trained)}
    )

  def base(self) -> Any:
    """Returns the shapes and dtypes to read the model without adapters in.

    What is trained in part is there in full precision.
    """
    frozen = naming.flatten(self.frozen)
    return naming.unflatten({
        name: leaf if self._layers[name] != () else frozen[name]
        for name, leaf in naming.flatten(self._abstract).items()
        if not re.fullmatch(_ADAPTERS, name)
    })

  def divide(self, tree: Any) -> tuple[Any, Any]:
    """Returns the trained and the frozen part of a tree like the parameters'.

    Args:
      tree: Of arrays, `jax.ShapeDtypeStruct` or logical axes; adapters may be
        missing.
    """
    trained, frozen = {}, {}
    for name, leaf in naming.flatten(tree, partitioning.is_names).items():
      layers = self._layers[name]
      if layers is None:
        trained[name] = leaf
        continue
      frozen[name] = leaf
      names = _names(name, self._abstract_leaf(name))
      for layer in layers:
        trained[names[layer]] = (
            leaf[1:]
            if partitioning.is_names(leaf)
            else naming.layer_of(leaf, layer)
        )
    return naming.unflatten(trained), naming.unflatten(frozen)

  def join(self, trained: Any, frozen: Any) -> Any:
    """Returns the model's parameters of both parts. It may be jitted."""
    if self._whole:
      return trained
    own, joined = naming.flatten(trained), dict(naming.flatten(frozen))
    for name, layers in self._layers.items():
      if layers is None:
        joined[name] = own[name]
        continue
      names = _names(name, self._abstract_leaf(name))
      for layer in layers:
        array = own[names[layer]].astype(joined[name].dtype)
        joined[name] = joined[name].at[layer].set(array)
    return naming.unflatten(joined)

  def _abstract_leaf(self, name: str) -> Any:
    return naming.flatten(self._abstract)[name]


def _size(tree: Any) -> int:
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


def merged(params: Any, lora: config_lib.Lora) -> Any:
  """Returns parameters whose kernels hold what their adapters add.

  Arrays of modules without adapter are the given ones, not copies.

  Args:
    params: Parameters with adapters, of arrays.
    lora: What they were trained as.
  """
  flat = dict(naming.flatten(params))
  for module in [
      n.removesuffix(f'/{_A}') for n in flat if n.endswith(f'/{_A}')
  ]:
    a, b = flat.pop(f'{module}/{_A}'), flat.pop(f'{module}/{_B}')
    kernel = flat[f'{module}/kernel']
    flat[f'{module}/kernel'] = _added(kernel, a, b, lora.scale)
  return naming.unflatten(flat)


@jax.jit
def _added(
    kernel: jax.Array, a: jax.Array, b: jax.Array, scale: float
) -> jax.Array:
  """Returns [(layers,) in, out] with the adapter's product added."""
  product = jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
  return (kernel + product * scale).astype(kernel.dtype)


def _names(name: str, leaf: Any) -> tuple[str, ...]:
  """Returns T5X's names of an array."""
  if naming.is_stacked(name):
    return naming.layer_names(name, leaf.shape[0])
  return (name,)


def _trained_layers(
    name: str, leaf: Any, patterns: Sequence[str] | None
) -> tuple[int, ...] | None:
  """Returns which layers of an array are trained; None is all there is."""
  if patterns is None:
    return None
  names = _names(name, leaf)
  found = tuple(
      place
      for place, each in enumerate(names)
      if any(re.fullmatch(pattern, each) for pattern in patterns)
  )
  return None if len(found) == len(names) else found


def _check_patterns(patterns: Sequence[str], flat: Mapping[str, Any]) -> None:
  names = [each for name, leaf in flat.items() for each in _names(name, leaf)]
  for pattern in patterns:
    if not any(re.fullmatch(pattern, name) for name in names):
      raise errors.UserError(
          f'TRAINED: {pattern!r} matches none of the {len(names)} parameters,'
          f' such as {names[0]}'
      )


def _check_targets(lora: config_lib.Lora, flat: Mapping[str, Any]) -> None:
  modules = [n.removesuffix(f'/{_A}') for n in flat if n.endswith(f'/{_A}')]
  kernels = {
      name.split('/')[-2]
      for name in flat
      if name.endswith('/kernel') and naming.is_stacked(name)
  }
  for target in lora.targets:
    if not any(f'/{module}'.endswith(f'/{target}') for module in modules):
      raise errors.UserError(
          f'Lora.targets: {target!r} is no module of this model that can have'
          f' an adapter; there are {", ".join(sorted(kernels))}'
      )


def _kept(name: str, leaf: Any, config: config_lib.ModelConfig) -> Any:
  """Returns the dtype that a frozen parameter is kept in.

  Kernels of layers are cast to the model's dtype wherever they are used, so
  nothing changes where they are kept in it. All else is used in float32.
  """
  if naming.is_stacked(name) and name.endswith('/kernel'):
    return jnp.dtype(config.dtype)
  return leaf.dtype
