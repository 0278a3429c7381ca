"""Names and shapes of T5X's parameters, and ours for the same.

Without a scan T5X's names are ours. With one (its `scalable_t5`), all layers of
a stack are one array, named 'encoder/encoder/...' with the layers along one
axis, 1 unless `param_scan_axis` says otherwise; and kernels of attention have
heads and their width apart, [embed, heads, width], where ours have them joined.
"""

from collections.abc import Iterable, Mapping
import math
import re
from typing import Literal, NamedTuple

from flan_jax import errors
from flan_jax.checkpoints.t5x import arrays
import numpy as np

Shape = tuple[int, ...]

_STACK = re.compile(r'(encoder|decoder)/(?:\1|layers)/(.+)')
_SCALE = re.compile(r'.*/pre_\w+_layer_norm/scale')
_EMBEDDINGS = (
    'token_embedder/embedding',
    'decoder/token_embedder/embedding',
)


class Place(NamedTuple):
  """Where a parameter of ours is.

  Attributes:
    name: T5X's name.
    layer: Which layer of that array it is, if that is a stack.
    heads: Which end of the array without layers has heads and width apart.
  """

  name: str
  layer: int | None = None
  heads: Literal['first', 'last'] | None = None


class Layout:
  """Where each parameter of ours is among T5X's.

  Attributes:
    axis: The axis of layers in stacks; 0 where there are none.
    places: By our names.
  """

  def __init__(self, shapes: Mapping[str, Shape]):
    """Finds out.

    Args:
      shapes: T5X's parameters by name, without 'target/'.

    Raises:
      UserError: There is no embedding, or no axis of a stack can be that of the
        layers.
    """
    self._shapes = shapes
    self.embedding = self._find_embedding()
    self.axis = self._find_axis()
    self.places: dict[str, Place] = {}
    for name, shape in shapes.items():
      match = _STACK.fullmatch(name)
      heads = _heads(name, len(shape) - bool(match))
      if not match:
        self.places[name] = Place(name, None, heads)
        continue
      side, rest = match.groups()
      for layer in range(shape[self.axis]):
        ours = f'{side}/layers_{layer}/{rest}'
        self.places[ours] = Place(name, layer, heads)

  def shape(self, name: str) -> Shape:
    """Returns the shape of a parameter of ours."""
    place = self.places[name]
    return _joined(self._one(place), place)

  def read(
      self, array: arrays.Array, name: str, index: arrays.Index | None
  ) -> np.ndarray:
    """Returns a parameter of ours, or a part of it.

    Args:
      array: T5X's array of that place.
      name: Our name.
      index: A slice for each axis of ours.
    """
    place = self.places[name]
    one = self._one(place)
    shape = _joined(one, place)
    bounds = [
        each.indices(size)[:2]
        for each, size in zip(
            index or [slice(None)] * len(shape), shape, strict=True
        )
    ]
    wanted = [slice(*each) for each in bounds]
    cut: slice | None = None
    if place.heads:
      # Whole heads are read, and what is too much of the two is cut off.
      at = 0 if place.heads == 'first' else -1
      width = one[1] if place.heads == 'first' else one[-1]
      begin, end = bounds[at]
      heads = slice(begin // width, math.ceil(end / width))
      cut = slice(begin - heads.start * width, end - heads.start * width)
      both = [heads, slice(None)]
      wanted = both + wanted[1:] if at == 0 else wanted[:-1] + both
    if place.layer is not None:
      wanted.insert(self.axis, slice(place.layer, place.layer + 1))
    found = array.read(tuple(wanted))
    if place.layer is not None:
      found = found.squeeze(self.axis)
    if place.heads == 'first':
      found = found.reshape(-1, *found.shape[2:])[cut]
    elif place.heads == 'last':
      found = found.reshape(*found.shape[:-2], -1)[..., cut]
    return np.ascontiguousarray(found)

  def _one(self, place: Place) -> Shape:
    """Returns the shape of one layer of T5X's array."""
    shape = self._shapes[place.name]
    if place.layer is None:
      return shape
    return shape[: self.axis] + shape[self.axis + 1 :]

  def _find_embedding(self) -> Shape:
    for name in _EMBEDDINGS:
      if len(self._shapes.get(name, ())) == 2:
        return self._shapes[name]
    raise errors.UserError(
        'the parameters of no T5 (there is no token_embedder/embedding; there'
        f' are {listed(self._shapes)})'
    )

  def _find_axis(self) -> int:
    stacks = [name for name in self._shapes if _STACK.fullmatch(name)]
    if not stacks:
      return 0
    width = self.embedding[1]
    # A scale is [width], so a stack of them shows which axis is the other.
    for name in filter(_SCALE.fullmatch, stacks):
      shape = self._shapes[name]
      if len(shape) == 2 and width in shape:
        return 1 if shape[0] == width else 0
    raise errors.UserError(
        f'{stacks[0]}, which looks like a stack of layers, and no'
        ' pre_mlp_layer_norm/scale that shows along which axis'
    )


def listed(names: Iterable[str]) -> str:
  """Returns the first names, and how many more there are."""
  found = sorted(names)
  more = f' and {len(found) - 3} more' if len(found) > 3 else ''
  return (', '.join(found[:3]) or 'none') + more


def _heads(name: str, axes: int) -> Literal['first', 'last'] | None:
  """Returns where one layer's kernel has heads and width apart, if it has."""
  if axes != 3:
    return None
  return 'first' if name.endswith('/out/kernel') else 'last'


def _joined(shape: Shape, place: Place) -> Shape:
  if place.heads == 'first':
    return (shape[0] * shape[1], *shape[2:])
  if place.heads == 'last':
    return (*shape[:-2], shape[-2] * shape[-1])
  return shape
