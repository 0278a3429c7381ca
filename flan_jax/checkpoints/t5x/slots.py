"""What T5X's Adafactor keeps for each parameter, under our names.

Ours are those of a checkpoint's optimizer: 'moments/v_row/encoder/...', see
`training.optimizers.adafactor`. T5X has four arrays a parameter: `v`, or
`v_row` and `v_col` where a kernel is factored, and `m`, with momentum alone; a
single zero stands for what is not used. The values are the same, but for one
thing: of a scanned layer's kernel T5X's `v_row` always belongs to the axis
'embed', and ours to the shorter one.
"""

from collections.abc import Mapping
from typing import Any

from flan_jax.checkpoints import foreign
from flan_jax.checkpoints.t5x import arrays
from flan_jax.checkpoints.t5x import reading
import numpy as np

MOMENTS = 'moments'
_COUNT = f'{MOMENTS}/count'
KINDS = ('v_row', 'v_col', 'v')
_UNUSED = (1,)
# Kernels whose second axis is 'embed'.
_OUTWARD = ('/out/kernel', '/wo/kernel')


class Slots:
  """The moments of a checkpoint, to be read by our names."""

  def __init__(self, checkpoint: reading.Checkpoint):
    """Reads nothing yet."""
    self._layout = checkpoint.layout
    self._slots = checkpoint.slots
    self._step = checkpoint.step
    self.path = checkpoint.path

  def unfit(self, wanted: Mapping[str, Any]) -> str | None:
    """Says why an optimizer cannot go on with them; None where it can.

    Args:
      wanted: The optimizer's moments by our names, one entry a layer; anything
        with a shape.
    """
    if not self._slots:
      return 'the checkpoint holds no state of an optimizer'
    if self._momentum():
      return 'its Adafactor has momentum, which ours has not'
    for name, leaf in wanted.items():
      if name == _COUNT:
        continue
      kind, _, param = name.removeprefix(f'{MOMENTS}/').partition('/')
      if kind not in KINDS:
        return f"its state is Adafactor's, and OPTIMIZER keeps {kind}"
      if param not in self._layout.places:
        return f'it has no {param}'
      found = self._shape(kind, param)
      if found != tuple(leaf.shape):
        return (
            f'{kind} of {param} is {list(found or ())} there and'
            f' {list(leaf.shape)} here'
        )
    return None

  def whole(self) -> bool:
    """Whether it has Adafactor's means of every parameter, and no momentum."""
    return not self._momentum() and all(
        self._array(kind, name) is not None
        for name in self._layout.places
        for kind in KINDS
    )

  def _momentum(self) -> bool:
    return any(
        name.endswith('/m') and array.shape != _UNUSED
        for name, array in self._slots.items()
    )

  def read(self, name: str, index: foreign.Index | None = None) -> np.ndarray:
    """Reads one of the moments that fit; see `foreign.Source.read`."""
    if name == _COUNT:
      return np.asarray(self._step, np.int32)
    kind, _, param = name.removeprefix(f'{MOMENTS}/').partition('/')
    array = self._array(kind, param)
    assert array is not None
    if array.shape == _UNUSED:
      found = array.read()
    elif kind == 'v':
      return self._layout.read(array, param, index)
    else:
      found = self._vector(array, self._kept(kind, param), param)
    return found if index is None else found[index]

  def _shape(self, kind: str, param: str) -> tuple[int, ...] | None:
    array = self._array(kind, param)
    if array is None:
      return None
    if array.shape == _UNUSED:
      return _UNUSED
    shape = self._layout.shape(param)
    return shape if kind == 'v' else (shape[self._kept(kind, param)],)

  def _array(self, kind: str, param: str) -> arrays.Array | None:
    """Returns T5X's array for one of ours."""
    place = self._layout.places[param]
    if place.layer is not None and kind != 'v':
      embed = self._kept(kind, param) == _embed(param)
      kind = 'v_row' if embed else 'v_col'
    return self._slots.get(f'{place.name}/{kind}')

  def _kept(self, kind: str, param: str) -> int:
    """Returns the axis of a kernel that our mean of a kind belongs to."""
    shape = self._layout.shape(param)
    if len(shape) != 2:
      return 0
    shorter = 0 if shape[0] <= shape[1] else 1
    return shorter if kind == 'v_row' else 1 - shorter

  def _vector(self, array: arrays.Array, axis: int, param: str) -> np.ndarray:
    """Returns the mean of one layer's kernel along all axes but one."""
    found = array.read()
    place = self._layout.places[param]
    if place.layer is None:
      return found
    # The axis of layers stands where it does in the kernel, less the axes
    # before it that the mean is over.
    before = self._layout.axis if axis == 0 else 0
    return np.take(found, place.layer, axis=before).reshape(-1)


def _embed(param: str) -> int:
  return 1 if param.endswith(_OUTWARD) else 0
