"""TPU chips as published, and the slices that are made of them.

The figures are those of docs.cloud.google.com/tpu/docs/v4, /v5e, /v5p and /v6e,
read in September 2026. The links of a v4 chip are not there: six of 50 GB/s
each way, says its paper (arXiv 2304.01433, table 4).
"""

import dataclasses
import math
import re

from flan_jax import errors

_2D = ('1x1', '2x2', '2x4', '4x4', '4x8', '8x8', '8x16', '16x16')
_3D = (
    '2x2x1',
    '2x2x2',
    '2x2x4',
    '2x4x4',
    '4x4x4',
    '4x4x8',
    '4x8x8',
    '8x8x8',
    '8x8x16',
    '8x16x16',
    '16x16x16',
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chip:
  """One generation of TPU; JAX sees each of its chips as one device.

  Attributes:
    name: As in 'v5e:4x4'.
    kind: JAX's `device_kind`.
    flops: Peak bfloat16 FLOP/s.
    hbm: Bytes of memory.
    hbm_bandwidth: Bytes/s between the chip and its memory.
    link_bandwidth: Bytes/s that the chip can send to its neighbours, over all
      its links together; half of the published figure of both directions.
    shapes: The slices that can be had.
    cores: TensorCores that accelerator types count: 'v4-8' is four chips.
    accelerator: What accelerator types begin with.
  """

  name: str
  kind: str
  flops: float
  hbm: int
  hbm_bandwidth: float
  link_bandwidth: float
  shapes: tuple[str, ...]
  cores: int = 1
  accelerator: str = ''


CHIPS = (
    Chip(
        name='v4',
        kind='TPU v4',
        flops=275e12,
        hbm=32 * 2**30,
        hbm_bandwidth=1200e9,
        link_bandwidth=300e9,
        shapes=_3D,
        cores=2,
    ),
    Chip(
        name='v5e',
        kind='TPU v5 lite',
        flops=197e12,
        hbm=16 * 2**30,
        hbm_bandwidth=819e9,
        link_bandwidth=200e9,
        shapes=_2D,
        accelerator='v5litepod',
    ),
    Chip(
        name='v5p',
        kind='TPU v5',
        flops=459e12,
        hbm=95 * 2**30,
        hbm_bandwidth=2765e9,
        link_bandwidth=600e9,
        shapes=_3D,
        cores=2,
    ),
    Chip(
        name='v6e',
        kind='TPU v6 lite',
        flops=918e12,
        hbm=32 * 2**30,
        hbm_bandwidth=1638e9,
        link_bandwidth=400e9,
        shapes=_2D,
    ),
)


@dataclasses.dataclass(frozen=True)
class Slice:
  """Chips that are connected with each other.

  Attributes:
    chip: What they are.
    shape: How they lie, such as (4, 4).
  """

  chip: Chip
  shape: tuple[int, ...]

  @property
  def size(self) -> int:
    """The number of chips."""
    return math.prod(self.shape)

  @property
  def name(self) -> str:
    """As in 'v5e:4x4'."""
    return f'{self.chip.name}:{"x".join(map(str, self.shape))}'

  @property
  def accelerator_type(self) -> str:
    """What Google Cloud calls it: 'v5litepod-16', 'v4-8'."""
    chip = self.chip
    return f'{chip.accelerator or chip.name}-{self.size * chip.cores}'


def slices() -> list[Slice]:
  """Returns all slices that are known, by chip and size."""
  return [
      Slice(chip, tuple(int(n) for n in shape.split('x')))
      for chip in CHIPS
      for shape in chip.shapes
  ]


def find(topology: str) -> Slice:
  """Returns the slice that a name means: 'v5e:4x4', 'v5e-16' or 'v4-8'.

  Numbers after a hyphen are those of Google's accelerator types: chips, and of
  v4 and v5p cores, which are two to a chip.

  Raises:
    UserError: There is none; those that there are, are named.
  """
  for known in slices():
    cores = known.size * known.chip.cores
    if topology.lower() in (
        known.name,
        known.accelerator_type,
        f'{known.chip.name}-{cores}',
    ):
      return known
  raise errors.UserError(f'--topology: {topology!r} {_what_is_known(topology)}')


def _what_is_known(topology: str) -> str:
  match = re.match(r'v\d+[a-z]*', topology.lower())
  generation = match.group(0).replace('v5litepod', 'v5e') if match else ''
  for chip in CHIPS:
    if chip.name == generation:
      return f'is no slice of {chip.name}; there are {_shapes(chip)}'
  every = '; '.join(_shapes(chip) for chip in CHIPS)
  return f'is no TPU slice that is known; there are {every}'


def _shapes(chip: Chip) -> str:
  return f'{chip.name}:' + ', '.join(chip.shapes)
