"""Names and shapes of T5X's parameters, and ours for the same.

Without a scan T5X's names are ours. With one (its `scalable_t5`), all layers of
a stack are one array, named 'encoder/encoder/...' with the layers along one
axis, 1 unless `param_scan_axis` says otherwise.
"""

from collections.abc import Iterable, Mapping
import re

from flan_jax import errors

Shape = tuple[int, ...]
Place = tuple[str, int | None]  # Their name, and the layer where it is a stack.

_STACK = re.compile(r'(encoder|decoder)/(?:\1|layers)/(.+)')
_SCALE = re.compile(r'.*/pre_\w+_layer_norm/scale')
EMBEDDINGS = ('token_embedder/embedding', 'decoder/token_embedder/embedding')


class Layout:
  """Where each parameter of ours is among T5X's.

  Attributes:
    axis: The axis of layers in stacks, None where there are none.
    places: Their name by ours, and the layer in it.
  """

  def __init__(self, shapes: Mapping[str, Shape]):
    """Finds out.

    Args:
      shapes: T5X's parameters by name, without 'target/'.

    Raises:
      UserError: No axis of a stack can be that of the layers.
    """
    self._shapes = shapes
    self.axis = self._find_axis()
    self.places: dict[str, Place] = {}
    for name, shape in shapes.items():
      match = _STACK.fullmatch(name)
      if not match or self.axis is None:
        self.places[name] = name, None
        continue
      side, rest = match.groups()
      for layer in range(shape[self.axis]):
        self.places[f'{side}/layers_{layer}/{rest}'] = name, layer

  def shape(self, name: str) -> Shape:
    """Returns the shape of a parameter of ours."""
    theirs, layer = self.places[name]
    shape = self._shapes[theirs]
    if layer is None:
      return shape
    return tuple(s for i, s in enumerate(shape) if i != self.axis)

  def is_stack(self, name: str) -> bool:
    """Whether a parameter of theirs is a stack of layers."""
    return self.axis is not None and _STACK.fullmatch(name) is not None

  def _find_axis(self) -> int | None:
    stacks = [name for name in self._shapes if _STACK.fullmatch(name)]
    if not stacks:
      return None
    width = embedding(self._shapes)[1]
    # A scale is [width], so a stack of them shows which axis is the other.
    for name in filter(_SCALE.fullmatch, stacks):
      shape = self._shapes[name]
      if len(shape) == 2 and width in shape:
        return 1 if shape[0] == width else 0
    raise errors.UserError(
        f'{stacks[0]}: looks like a stack of layers, and no'
        ' pre_mlp_layer_norm/scale shows along which axis'
    )


def embedding(shapes: Mapping[str, Shape]) -> Shape:
  """Returns the shape of the embedding.

  Raises:
    UserError: There is none.
  """
  for name in EMBEDDINGS:
    if len(shapes.get(name, ())) == 2:
      return shapes[name]
  raise errors.UserError(
      'the parameters of no T5 (there is no token_embedder/embedding; there'
      f' are {listed(shapes)})'
  )


def listed(names: Iterable[str]) -> str:
  """Returns the first names, and how many more there are."""
  found = sorted(names)
  more = f' and {len(found) - 3} more' if len(found) > 3 else ''
  return (', '.join(found[:3]) or 'none') + more
