"""Brings a foreign checkpoint's parameters onto devices, slice by slice.

Each process asks for the slices that its own devices hold, and for each of them
once; what is read is their bytes alone, where the file has a memory map. Of
the whole model a host never has more in its memory than one parameter of its
devices' share, and what has gone to them.
"""

from collections.abc import Callable, Mapping, Sequence
import functools
from typing import Any, Protocol

from flan_jax import storage
from flan_jax.checkpoints import foreign
from flan_jax.models import interface
from flan_jax.models import naming
import jax
import numpy as np

# Where a part of an array begins and ends, along each axis.
_Bounds = tuple[tuple[int, int], ...]


def load(
    source: foreign.Source,
    model: interface.Model,
    like: Any,
    allow_missing: bool = False,
) -> Any:
  """Returns a model's parameters, float32, from a checkpoint.

  Args:
    source: The checkpoint.
    model: The model.
    like: Its parameters' tree of `jax.ShapeDtypeStruct`, with shardings.
    allow_missing: Whether parameters that the checkpoint lacks are drawn as for
      a new model, and what it has beyond the model is left out.

  Raises:
    UserError: The checkpoint is of another model.
  """
  foreign.check_config(source, model.config)
  source = complete(source, model, allow_missing)
  flat = {
      name: array(source, name, leaf, storage.is_address(source.path))
      for name, leaf in naming.flatten(like).items()
  }
  return naming.unflatten(flat)


def complete(
    source: foreign.Source, model: interface.Model, allow_missing: bool = False
) -> foreign.Source:
  """Returns a source that has the parameters of a model, whole.

  Args:
    source: The checkpoint.
    model: The model.
    allow_missing: See `load`.

  Raises:
    UserError: The source has not.
  """
  wanted = model.unstack(model.abstract_params())
  found = foreign.check(source, wanted, allow_missing)
  if not (found.missing or found.unexpected):
    return source
  return _Filled(source, model, found)


class _Filled:
  """A source with new parameters where it had none; see `foreign.Source`."""

  def __init__(
      self,
      source: foreign.Source,
      model: interface.Model,
      found: foreign.Differences,
  ):
    self._source = source
    self._model = model
    wanted = model.unstack(model.abstract_params())
    self._missing = frozenset(found.missing)
    self.shapes: Mapping[str, tuple[foreign.Shape, np.dtype]] = {
        name: source.shapes.get(name, (leaf.shape, np.dtype(leaf.dtype)))
        for name, leaf in wanted.items()
    }
    self._fresh = functools.lru_cache(maxsize=1)(self._new)

  def __getattr__(self, name: str) -> Any:
    return getattr(self._source, name)

  def read(self, name: str, index: foreign.Index | None = None) -> np.ndarray:
    """Reads a parameter of the source, or draws it."""
    if name not in self._missing:
      return self._source.read(name, index)
    stack, layer = naming.stack_of(name)
    whole = self._fresh(stack)
    whole = whole if layer is None else whole[layer]
    return whole if index is None else whole[index]

  def _new(self, name: str) -> np.ndarray:
    """Draws a parameter, of all layers, by its stacked name; no other."""
    draw = jax.jit(lambda rng: naming.flatten(self._model.init(rng))[name])
    return np.asarray(draw(jax.random.key(0)))


class Readable(Protocol):
  """What arrays are read from: a source, or what an optimizer keeps."""

  def read(self, name: str, index: foreign.Index | None = None) -> np.ndarray:
    """Reads an array, or a part of it, by its name of one layer."""


def array(
    source: Readable,
    name: str,
    leaf: jax.ShapeDtypeStruct,
    whole: bool = False,
) -> jax.Array:
  """Returns one array, which may be of all layers, over its devices.

  Args:
    source: What has it.
    name: Its name, of all layers.
    leaf: Its shape, dtype and sharding.
    whole: Whether to read what all devices need together, and but once, where
      reading a part costs as much as reading all.
  """
  if naming.is_stacked(name):
    names = naming.layer_names(name, leaf.shape[0])
  else:
    names = (name,)

  def read(bounds: _Bounds) -> np.ndarray:
    index = tuple(slice(begin, end) for begin, end in bounds)
    shape = tuple(end - begin for begin, end in bounds)
    if not naming.is_stacked(name):
      return source.read(name, index).astype(leaf.dtype, copy=False)
    part = np.empty(shape, leaf.dtype)
    for place, layer in enumerate(names[index[0]]):
      part[place] = source.read(layer, index[1:])
    return part

  here = [
      _bounds(index, leaf.shape)
      for index in leaf.sharding.addressable_devices_indices_map(
          leaf.shape
      ).values()
  ]
  once = functools.cache(  # Devices may hold the same slice.
      _cut_from(_around(here), read) if whole else read
  )
  return jax.make_array_from_callback(
      leaf.shape,
      leaf.sharding,
      lambda index: once(_bounds(index, leaf.shape)),
      dtype=leaf.dtype,
  )


def _around(parts: Sequence[_Bounds]) -> _Bounds:
  """Returns the least part that has all of these in it."""
  return tuple(
      (min(begin for begin, _ in axis), max(end for _, end in axis))
      for axis in zip(*parts, strict=True)
  )


def _cut_from(
    whole: _Bounds, read: Callable[[_Bounds], np.ndarray]
) -> Callable[[_Bounds], np.ndarray]:
  """Returns what reads once, and gives parts of that."""
  block = read(whole)

  def cut(bounds: _Bounds) -> np.ndarray:
    return block[
        tuple(
            slice(begin - first, end - first)
            for (begin, end), (first, _) in zip(bounds, whole, strict=True)
        )
    ]

  return cut


def _bounds(index: foreign.Index | None, shape: tuple[int, ...]) -> _Bounds:
  """Returns where the slices of an index begin and end."""
  assert index is not None
  return tuple(
      each.indices(size)[:2] for each, size in zip(index, shape, strict=True)
  )
