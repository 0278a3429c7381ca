"""What one device does in a compiled step: FLOPs, bytes, what it sends.

Counted from the optimised program, with loops as often as they go round:

  - FLOPs are those of matrix products, 2 for a multiplication and addition;
    what rematerialisation computes again and what several devices compute alike
    is in it. All else is little beside them and does not use the matrix units.
  - Bytes are those between the device and its own memory (HBM). What the
    compiler keeps on the chip costs none; of an array that a fused slice reads,
    the slice counts.
  - Sent are the bytes that the device must send in a collective over n devices,
    of an array of b bytes: b (n - 1) / n of the whole one in an all-gather, a
    reduce-scatter and an all-to-all, twice that in an all-reduce, and b in a
    permutation (Rabenseifner's bounds, which rings reach).
"""

import collections
from collections.abc import Mapping
import dataclasses
import functools
import math
import re

from flan_jax.topologies import hlo
from flan_jax.topologies import loops
import numpy as np

COLLECTIVES = (
    'all-gather',
    'reduce-scatter',
    'all-reduce',
    'all-to-all',
    'collective-permute',
)
# Instructions that move nothing themselves.
_FREE = {
    'parameter',
    'constant',
    'tuple',
    'get-tuple-element',
    'bitcast',
    'after-all',
    'opt-barrier',
    'partition-id',
    'replica-id',
    'add-dependency',
}
_SLICES = ('dynamic-slice', 'slice', 'gather')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rates:
  """What the device can do in a second: FLOPs, and bytes from its memory."""

  flops: float
  bandwidth: float


@dataclasses.dataclass(kw_only=True)
class Cost:
  """What a program costs one device.

  Attributes:
    flops: Of matrix products.
    bytes: Read from and written to its memory.
    seconds: What the instructions take, one after the other, each as long as
      its FLOPs or its bytes need, whichever is more. Copies that run beside
      others are left out.
    sent: Bytes by collective.
    collectives: How many of each it takes part in.
    unknown_loops: Loops whose number of rounds could not be read off; their
      bodies count once.
  """

  flops: float = 0.0
  bytes: float = 0.0
  seconds: float = 0.0
  sent: collections.Counter[str] = dataclasses.field(
      default_factory=collections.Counter
  )
  collectives: collections.Counter[str] = dataclasses.field(
      default_factory=collections.Counter
  )
  unknown_loops: int = 0

  def add(self, other: 'Cost', times: int = 1) -> None:
    """Adds `times` times another cost to this one."""
    self.flops += other.flops * times
    self.bytes += other.bytes * times
    self.seconds += other.seconds * times
    for kind, sent in other.sent.items():
      self.sent[kind] += sent * times
    for kind, count in other.collectives.items():
      self.collectives[kind] += count * times
    self.unknown_loops += other.unknown_loops


def count(text: str, devices: int, rates: Rates) -> Cost:
  """Counts what a compiled program costs one device.

  Args:
    text: What `jax.stages.Compiled.as_text` returns.
    devices: How many devices it runs on.
    rates: What one of them can do.

  Raises:
    ValueError: The text is not understood.
  """
  counter = _Counter(hlo.parse(text), devices, rates)
  return counter.computation(counter.module.entry.name)


class _Counter:
  """Counts computations, each once."""

  def __init__(self, module: hlo.Module, devices: int, rates: Rates):
    self.module = module
    self._devices = devices
    self._rates = rates
    self._known: dict[str, Cost] = {}

  def computation(self, name: str) -> Cost:
    """Returns what one call costs."""
    if name not in self._known:
      total = Cost()
      computation = self.module.computations[name]
      for instruction in computation:
        total.add(self._instruction(computation, instruction))
      self._known[name] = total
    return self._known[name]

  def _instruction(
      self, computation: hlo.Computation, instruction: hlo.Instruction
  ) -> Cost:
    opcode = instruction.opcode
    if opcode in _FREE:
      return Cost()
    if opcode == 'while':
      return self._loop(computation, instruction)
    if opcode == 'conditional':
      branches = [self.computation(n) for n in instruction.called()]
      return max(branches, key=lambda cost: cost.seconds)
    if opcode in ('call', 'async-start'):
      return self.computation(
          instruction.calls('to_apply') or instruction.calls('calls')
      )
    if opcode in ('async-update', 'async-done'):
      return Cost()
    if '"AllocateBuffer"' in instruction.attributes:
      return Cost()
    cost = Cost(
        flops=self._flops(computation, instruction),
        bytes=self._bytes(computation, instruction),
    )
    if not opcode.endswith(('-start', '-done')):
      cost.seconds = max(
          cost.flops / self._rates.flops, cost.bytes / self._rates.bandwidth
      )
    self._collect(computation, instruction, cost)
    return cost

  def _loop(self, computation: hlo.Computation, loop: hlo.Instruction) -> Cost:
    cost = Cost()
    rounds = loops.rounds(self.module, computation, loop)
    if rounds is None:
      cost.unknown_loops += 1
    cost.add(
        self.computation(loop.calls('body')), 1 if rounds is None else rounds
    )
    return cost

  def _flops(
      self, computation: hlo.Computation, instruction: hlo.Instruction
  ) -> float:
    if instruction.opcode == 'fusion':
      fused = self.module.computations[instruction.calls('calls')]
      return sum(self._flops(fused, inner) for inner in fused)
    if instruction.opcode not in ('convolution', 'dot'):
      return 0.0
    sides = [
        computation.instructions[name].arrays[0]
        for name in instruction.operands[:2]
    ]
    if instruction.opcode == 'dot':
      return _dot_flops(instruction, sides[0])
    return _convolution_flops(instruction, sides[0], sides[1])

  def _bytes(
      self, computation: hlo.Computation, instruction: hlo.Instruction
  ) -> int:
    opcode = instruction.opcode
    written = sum(_stored(array) for array in instruction.arrays)
    operands = [computation.instructions[n] for n in instruction.operands]
    if opcode.endswith('-done'):
      return written  # What it reads, its start has counted.
    if opcode == 'slice-start':
      # Its result is a tuple: what it is given, then the slice.
      return (
          instruction.arrays[1].bytes if _stored(operands[0].arrays[0]) else 0
      )
    if opcode.endswith('-start'):
      written = 0
    if opcode in _SLICES:
      return written + min(
          _stored(operands[0].arrays[0]), instruction.arrays[0].bytes
      )
    if opcode in ('dynamic-update-slice', 'scatter'):
      update = operands[1 if opcode == 'dynamic-update-slice' else 2].arrays[0]
      return _stored(update) + (update.bytes if written else 0)
    if opcode == 'fusion':
      return self._fusion_bytes(instruction, operands)
    return written + sum(
        _stored(array) for operand in operands for array in operand.arrays
    )

  def _fusion_bytes(
      self, fusion: hlo.Instruction, operands: list[hlo.Instruction]
  ) -> int:
    fused = self.module.computations[fusion.calls('calls')]
    total = 0
    for parameter, operand in zip(fused.parameters(), operands, strict=True):
      stored = sum(_stored(array) for array in operand.arrays)
      if stored:
        total += min(stored, self._read(fused, parameter))
    results = [fused.root]
    if fused.root.opcode == 'tuple':
      results = [fused.instructions[name] for name in fused.root.operands]
    if len(results) != len(fusion.arrays):
      return total + sum(_stored(array) for array in fusion.arrays)
    for result, array in zip(results, fusion.arrays, strict=True):
      if _stored(array):
        total += min(array.bytes, self._made(fused, result))
    return total

  def _read(
      self, computation: hlo.Computation, instruction: hlo.Instruction
  ) -> int:
    """Returns how many of a value's bytes its users read."""
    total = 0
    for user in computation.users.get(instruction.name, []):
      places = [
          place
          for place, name in enumerate(user.operands)
          if name == instruction.name
      ]
      if user.opcode in ('bitcast', 'reshape'):
        total += self._read(computation, user)
      elif user.opcode in _SLICES and places == [0]:
        total += user.arrays[0].bytes
      elif user.opcode == 'dynamic-update-slice' and places == [0]:
        pass  # In place: what is not updated is not touched.
      elif user.opcode == 'fusion':
        inner = self.module.computations[user.calls('calls')]
        parameters = inner.parameters()
        total += sum(self._read(inner, parameters[p]) for p in places)
      else:
        return sum(array.bytes for array in instruction.arrays)
    return total

  def _made(
      self, computation: hlo.Computation, instruction: hlo.Instruction
  ) -> int:
    """Returns how many of a result's bytes are written."""
    if instruction.opcode in ('bitcast', 'reshape'):
      operand = computation.instructions[instruction.operands[0]]
      return self._made(computation, operand)
    if instruction.opcode == 'fusion':
      inner = self.module.computations[instruction.calls('calls')]
      return self._made(inner, inner.root)
    if instruction.opcode == 'dynamic-update-slice':
      update = computation.instructions[instruction.operands[1]]
      return update.arrays[0].bytes
    return sum(array.bytes for array in instruction.arrays)

  def _collect(
      self,
      computation: hlo.Computation,
      instruction: hlo.Instruction,
      cost: Cost,
      within: str = '',
  ) -> None:
    """Adds what a collective sends, also of those in a fusion."""
    if instruction.opcode == 'fusion':
      name = instruction.calls('calls')
      fused = self.module.computations[name]
      for inner in fused:
        self._collect(fused, inner, cost, name)
      return
    kind = instruction.opcode.removesuffix('-start')
    if kind not in COLLECTIVES:
      return
    given = sum(
        array.bytes
        for name in instruction.operands
        for array in computation.instructions[name].arrays
    )
    # A TPU's compiler writes a reduce-scatter as an all-reduce whose result is
    # sliced in the same fusion.
    if kind == 'all-reduce' and 'reduce-scatter' in f'{within} '.replace(
        'all-reduce-scatter', 'reduce-scatter'
    ):
      kind = 'reduce-scatter'
    group = _group_size(instruction.attributes, self._devices)
    cost.collectives[kind] += 1
    cost.sent[kind] += _sent(kind, given, group)


def _stored(array: hlo.Array) -> int:
  """Returns an array's bytes if they are in the device's memory, else 0."""
  return array.bytes if array.space == 0 else 0


def _sent(kind: str, given: int, group: int) -> int:
  """Returns the bytes that a device sends of `given` bytes of its own."""
  if kind == 'collective-permute':
    return given
  if kind == 'all-gather':
    return given * (group - 1)
  share = given * (group - 1) // group
  return 2 * share if kind == 'all-reduce' else share


def _group_size(attributes: str, devices: int) -> int:
  """Returns over how many devices a collective goes.

  Groups are printed in three ways: all of them, `{{0,1},{2,3}}`; their number
  and size, `[2,2]<=[4]`; or axes of a mesh, `mesh['a'=2,'b'=2] {'b'}`, where
  `'b':(1)2` is a part of an axis, of size 2.
  """
  start = attributes.find('replica_groups=')
  text = attributes[start:].removeprefix('replica_groups=')
  if start < 0 or text.startswith('{}'):
    return devices
  if text.startswith('{{'):
    return text[: text.index('}')].count(',') + 1
  if text.startswith('['):
    return int(_numbers(text[: text.index(']')])[1])
  mesh = re.match(r'mesh\[([^\]]*)\][^{]*\{([^}]*)\}', text)
  if mesh is None:
    raise ValueError(f'These groups are not understood: {text[:80]}')
  sizes = dict(re.findall(r"'([^']+)'=(\d+)", mesh.group(1)))
  parts = re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", mesh.group(2))
  return math.prod(int(part or sizes[name]) for name, part in parts)


def _numbers(text: str) -> list[int]:
  return [int(n) for n in re.findall(r'\d+', text)]


def _dot_flops(instruction: hlo.Instruction, left: hlo.Array) -> float:
  contracted = _numbers(instruction.attribute('lhs_contracting_dims'))
  inner = math.prod(left.dims[axis] for axis in contracted)
  return 2.0 * instruction.arrays[0].size * inner


def _convolution_flops(
    instruction: hlo.Instruction, left: hlo.Array, right: hlo.Array
) -> float:
  """Returns a convolution's FLOPs; on a TPU all products are written as one.

  Axes of a batch become windows with holes or padding, so only places count
  where the window meets an item (as in XLA's HloCostAnalysis).
  """
  labels = re.search(r'dim_labels=(\w+)_(\w+)->(\w+)', instruction.attributes)
  if labels is None:
    raise ValueError(f'{instruction.name}: a convolution without dim_labels.')
  lhs, rhs, out = labels.groups()
  result = instruction.arrays[0]
  window = _window(instruction.attribute('window'))
  places = 1
  for label in (c for c in out if c.isdigit()):
    axis = int(label)
    places *= _meetings(
        left.dims[lhs.index(label)],
        right.dims[rhs.index(label)],
        result.dims[out.index(label)],
        window.get('stride', {}).get(axis, 1),
        window.get('pad', {}).get(axis, 0),
        window.get('lhs_dilate', {}).get(axis, 1),
        window.get('rhs_dilate', {}).get(axis, 1),
    )
  batch = result.dims[out.index('b')]
  features = result.dims[out.index('f')]
  inner = right.dims[rhs.index('i')]  # Of one group.
  return 2.0 * batch * features * inner * places


def _window(text: str) -> Mapping[str, Mapping[int, int]]:
  """Reads 'size=3x3 pad=1_1x0_0'; of padding, what is before the first item."""
  found = {}
  for name, values in re.findall(r'(\w+)=([\-\dx_]+)', text):
    found[name] = {
        axis: int(value.split('_')[0])
        for axis, value in enumerate(values.split('x'))
    }
  return found


@functools.cache
def _meetings(
    size: int,
    kernel: int,
    out: int,
    stride: int,
    pad: int,
    dilation: int,
    kernel_dilation: int,
) -> int:
  """Returns how often, along one axis, the window meets an item."""
  meetings = 0
  positions = np.arange(out, dtype=np.int64) * stride - pad
  for offset in range(kernel):
    at = positions + offset * kernel_dilation
    inside = (at >= 0) & (at <= (size - 1) * dilation) & (at % dilation == 0)
    meetings += int(inside.sum())
  return meetings
