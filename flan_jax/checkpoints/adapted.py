"""Loads what a run trained alone, and puts it into the model it belongs to."""

from collections.abc import Callable
import dataclasses
import pathlib
from typing import Any

from flan_jax import errors
from flan_jax import partitioning
from flan_jax.checkpoints import bases
from flan_jax.checkpoints import integrity
from flan_jax.checkpoints import layout
from flan_jax.checkpoints import reading
from flan_jax.models import adapters
from flan_jax.models import interface
import jax

_PARAMS, _OPTIMIZER = integrity.ARRAYS


class Bases:
  """The base that was read last, for the adapters that follow on it.

  Models share its arrays: each has of its own only what its adapters change.
  """

  def __init__(self):
    self._fingerprint = ''
    self._params: Any = None

  def params(self, base: bases.Base, load: Callable[[str], Any]) -> Any:
    """Returns a base's parameters, by `load` unless it has them."""
    if self._params is None or self._fingerprint != base.fingerprint:
      self._params = None  # Two may not fit.
      self._params = load(base.path)
      self._fingerprint = base.fingerprint
    return self._params

  def forget(self) -> None:
    """Gives the memory back, once no model needs it."""
    self._params = None


def load(
    folder: pathlib.Path,
    adapter: bases.Adapter,
    model: interface.Model,
    mesh: jax.sharding.Mesh,
    use_ema: bool,
    base: Callable[[], Any],
) -> Any:
  """Returns a model's parameters, float32, with all that was trained in them.

  Args:
    folder: The checkpoint.
    adapter: What its run says.
    model: The model without adapters.
    mesh: Where its parameters go.
    use_ema: Whether to take the average of what was trained.
    base: Loads the base's parameters.

  Raises:
    UserError: Either of the two is of another model; the base is not what it
      was; there is no average.
  """
  adapter.base.check(folder.parent)
  split = split_of(model, adapter)
  trained = read(folder, split, mesh, use_ema)
  params = split.join(trained, split.divide(base())[1])
  if adapter.lora is not None:
    params = adapters.merged(params, adapter.lora)
  shapes = partitioning.placed(
      model.abstract_params(), model.logical_axes(), mesh
  )
  return jax.tree.map(_in_place, params, shapes)


def _in_place(array: jax.Array, like: jax.ShapeDtypeStruct) -> jax.Array:
  """Returns an array where it is to be, if XLA put it elsewhere."""
  if array.sharding.is_equivalent_to(like.sharding, array.ndim):
    return array
  return jax.jit(lambda x: x, out_shardings=like.sharding)(array)


def split_of(model: interface.Model, adapter: bases.Adapter) -> adapters.Split:
  """Returns what of a model, given without adapters, was trained."""
  config = dataclasses.replace(model.config, lora=adapter.lora)
  return adapters.Split(interface.create(config), adapter.trained)


def read(
    folder: pathlib.Path,
    split: adapters.Split,
    mesh: jax.sharding.Mesh,
    use_ema: bool = False,
) -> Any:
  """Returns what a checkpoint holds: the trained part of a model.

  Raises:
    UserError: It is of another model, or keeps no average.
  """
  like = partitioning.placed(split.trained, split.trained_axes, mesh)
  reading.check(folder / _PARAMS, like)
  if use_ema:
    return averaged(folder, like)
  return reading.restore(folder / _PARAMS, like)


def averaged(folder: pathlib.Path, like: Any) -> Any:
  """Returns a checkpoint's parameters with the average of those that have one.

  Those that were frozen have none, and need none.

  Raises:
    UserError: None has one.
  """
  saved = reading.names(folder / _OPTIMIZER)
  wanted = layout.flatten(like)
  means = {
      f'{layout.AVERAGE}/{name}': leaf
      for name, leaf in wanted.items()
      if f'{layout.AVERAGE}/{name}' in saved
  }
  if not means:
    raise errors.UserError(
        f'{folder}: keeps no average of the parameters: it was trained without'
        ' EMA_DECAY'
    )
  flat = reading.restore_named(folder / _OPTIMIZER, means)
  flat = {name.split('/', 1)[1]: array for name, array in flat.items()}
  rest = {name: leaf for name, leaf in wanted.items() if name not in flat}
  if rest:
    flat |= reading.restore_named(folder / _PARAMS, rest)
  return reading.stacked(flat, like)
