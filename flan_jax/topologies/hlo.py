"""Reads a compiled program's text: XLA's optimised HLO, as it is printed.

Only what the counting in cost.py needs: computations, their instructions, the
arrays that those take and make, and where the arrays lie.
"""

from collections.abc import Iterator
import dataclasses
import functools
import math
import re

_ITEM_BITS = {'pred': 8, 'token': 0, 'opaque': 0}
_ARRAY = re.compile(r'([a-z]+[0-9a-z]*)\[([0-9,<= ]*)\](\{[^{}]*\})?')
_SPACE = re.compile(r'S\((\d+)\)')
_COMMENT = re.compile(r'/\*.*?\*/')
_NAME = re.compile(r'%([\w.\-]+)')
_CALLS = re.compile(
    r'(calls|to_apply|body|condition|true_computation|false_computation)'
    r'=%?([\w.\-]+)'
)
_BRANCHES = re.compile(r'branch_computations=\{([^}]*)\}')


@dataclasses.dataclass(frozen=True)
class Array:
  """An array that an instruction takes or makes, on one device.

  Attributes:
    dtype: XLA's name, such as 'bf16'.
    dims: Its sizes.
    space: The memory that it lies in: 0 is the device's own (HBM); the others
      are on the chip (on a TPU 1 is VMEM), or the host's (5).
  """

  dtype: str
  dims: tuple[int, ...]
  space: int = 0

  @property
  def size(self) -> int:
    """The number of items."""
    return math.prod(self.dims)

  @property
  def bytes(self) -> int:
    """What the items take, without padding."""
    return (self.size * _bits(self.dtype) + 7) // 8


@functools.cache
def _bits(dtype: str) -> int:
  if dtype in _ITEM_BITS:
    return _ITEM_BITS[dtype]
  digits = re.search(r'\d+', dtype)
  return int(digits.group(0)) if digits else 8


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One line of a computation.

  Attributes:
    name: Its name, which is its own in the whole program.
    opcode: Such as 'fusion'.
    arrays: What it makes: one array, or those of a tuple, however nested.
    operands: The names of the instructions whose results it takes.
    arguments: What stands between the brackets, as it is printed.
    attributes: What stands behind them.
    root: Whether it is the computation's result.
  """

  name: str
  opcode: str
  arrays: tuple[Array, ...]
  operands: tuple[str, ...]
  arguments: str
  attributes: str
  root: bool

  def calls(self, kind: str) -> str:
    """Returns the computation that it names as 'calls', 'body' and so on."""
    return dict(_CALLS.findall(self.attributes)).get(kind, '')

  def called(self) -> list[str]:
    """Returns all computations that it names."""
    found = [name for _, name in _CALLS.findall(self.attributes)]
    for group in _BRANCHES.findall(self.attributes):
      found += _NAME.findall(group)
    return found

  def attribute(self, name: str) -> str:
    """Returns `name`=this; '' where there is none."""
    match = re.search(rf'[ ,]{name}=(\{{[^{{}}]*\}}|[^ ,]+)', self.attributes)
    return match.group(1) if match else ''

  @property
  def index(self) -> int | None:
    """Of a parameter or a get-tuple-element, which one it is."""
    if self.opcode == 'parameter':
      return int(self.arguments)
    given = self.attribute('index')
    return int(given) if given else None


class Computation:
  """A function of the program, its instructions in order.

  Attributes:
    name: Its name.
    instructions: By name.
  """

  def __init__(self, name: str):
    self.name = name
    self.instructions: dict[str, Instruction] = {}

  def __iter__(self) -> Iterator[Instruction]:
    return iter(self.instructions.values())

  @functools.cached_property
  def root(self) -> Instruction:
    """The instruction that makes the result."""
    return next(i for i in self if i.root)

  @functools.cached_property
  def users(self) -> dict[str, list[Instruction]]:
    """Of each instruction, those that take its result."""
    users: dict[str, list[Instruction]] = {}
    for instruction in self:
      for operand in instruction.operands:
        users.setdefault(operand, []).append(instruction)
    return users

  def parameters(self) -> list[Instruction]:
    """Returns what it is given, in order."""
    found = [i for i in self if i.opcode == 'parameter']
    return sorted(found, key=lambda i: i.index or 0)


@dataclasses.dataclass(frozen=True)
class Module:
  """A compiled program.

  Attributes:
    computations: By name.
    entry: Where it begins.
  """

  computations: dict[str, Computation]
  entry: Computation


def parse(text: str) -> Module:
  """Reads what `jax.stages.Compiled.as_text` returns.

  Raises:
    ValueError: It is not like that.
  """
  computations: dict[str, Computation] = {}
  entry = current = None
  for line in text.splitlines():
    if line.endswith('{') and not line.startswith((' ', 'HloModule')):
      is_entry = line.startswith('ENTRY ')
      name = line.removeprefix('ENTRY ').split(' ', 1)[0].lstrip('%')
      current = computations[name] = Computation(name)
      entry = current if is_entry else entry
    elif current is not None and ' = ' in line and line.startswith(' '):
      instruction = _instruction(line.strip())
      current.instructions[instruction.name] = instruction
  if entry is None:
    raise ValueError('There is no ENTRY computation in the HLO text.')
  return Module(computations, entry)


def _instruction(line: str) -> Instruction:
  root = line.startswith('ROOT ')
  name, rest = line.removeprefix('ROOT ').split(' = ', 1)
  rest = _COMMENT.sub('', rest)
  # The type is a tuple in brackets, or has no blank in it.
  end = _closing(rest, 0) + 1 if rest.startswith('(') else rest.index(' ')
  opcode, tail = rest[end:].lstrip().split('(', 1)
  close = _closing(tail, 0, depth=1)
  arguments = tail[:close]
  return Instruction(
      name=name.lstrip('%'),
      opcode=opcode,
      arrays=arrays(rest[:end]),
      operands=tuple(_NAME.findall(arguments)),
      arguments=arguments,
      attributes=tail[close + 1 :],
      root=root,
  )


def arrays(text: str) -> tuple[Array, ...]:
  """Returns the arrays of a printed type, a tuple's in order."""
  found = []
  for dtype, dims, layout in _ARRAY.findall(text):
    sizes = tuple(int(n.strip(' <=')) for n in dims.split(',') if n.strip())
    space = _SPACE.search(layout)
    found.append(Array(dtype, sizes, int(space.group(1)) if space else 0))
  return tuple(found)


def _closing(text: str, start: int, depth: int = 0) -> int:
  """Returns where the bracket closes that is open at `start`."""
  for place in range(start, len(text)):
    if text[place] == '(':
      depth += 1
    elif text[place] == ')':
      depth -= 1
      if not depth:
        return place
  raise ValueError(f'A bracket is not closed: {text[:80]}')
