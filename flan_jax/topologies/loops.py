"""How often the loops of a compiled program go round.

XLA's cost analysis counts a loop's body once, and the layers of a model are a
loop: what a step costs cannot be known without their number.
"""

from typing import NamedTuple

from flan_jax.topologies import hlo

_PASSING_ON = ('copy', 'bitcast', 'convert', 'reshape', 'copy-done')


def rounds(
    module: hlo.Module, computation: hlo.Computation, loop: hlo.Instruction
) -> int | None:
  """Returns how often a 'while' of `computation` goes round.

  Its condition must compare a counter, which starts at a constant and goes on
  by a constant, with a constant. All loops of `jax.lax.scan` and those that XLA
  makes itself are so.

  Returns:
    The number, or None where the loop is of another kind.
  """
  condition = module.computations[loop.calls('condition')]
  body = module.computations[loop.calls('body')]
  test = _comparison(module, condition)
  if test is None:
    return None
  counter, other = (_place(condition, name) for name in test.sides)
  flipped = counter is None
  index = other if flipped else counter
  if index is None:
    return None
  bound = test.sides[0 if flipped else 1]
  limit = _constant(condition, bound)
  if limit is None:
    limit = _initial(computation, loop, _place(condition, bound))
  start = _initial(computation, loop, index)
  step = _step(module, body, index)
  if limit is None or start is None or not step:
    return None
  direction = test.direction
  if flipped:
    direction = {'LT': 'GT', 'GT': 'LT', 'LE': 'GE', 'GE': 'LE'}.get(
        direction, direction
    )
  # Up to and with the limit is one further.
  further = {'LE': 1, 'GE': -1}.get(direction, 0)
  if direction == 'EQ' or (direction[0] == 'L') != (step > 0):
    if direction != 'NE':
      return None
  return max(-(-(limit + further - start) // step), 0)


class _Comparison(NamedTuple):
  sides: tuple[str, str]
  direction: str


def _comparison(
    module: hlo.Module, condition: hlo.Computation
) -> _Comparison | None:
  """Returns what the condition compares, by names in `condition`."""
  root = condition.root
  if root.opcode == 'compare':
    return _Comparison(root.operands[:2], root.attribute('direction'))  # type: ignore[arg-type]
  if root.opcode != 'fusion':
    return None
  fused = module.computations[root.calls('calls')]
  inner = fused.root
  if inner.opcode != 'compare':
    return None
  names = []
  for name in inner.operands:
    operand = fused.instructions[name]
    if operand.opcode != 'parameter':
      return None
    names.append(root.operands[operand.index or 0])
  return _Comparison(tuple(names), inner.attribute('direction'))  # type: ignore[arg-type]


def _source(computation: hlo.Computation, name: str) -> hlo.Instruction | None:
  """Returns where a value comes from, past copies of it."""
  found = computation.instructions.get(name)
  while found is not None:
    if found.opcode in _PASSING_ON or found.opcode == 'copy-start':
      found = computation.instructions.get(found.operands[0])
    elif found.opcode == 'get-tuple-element':
      inner = computation.instructions.get(found.operands[0])
      if inner is None or inner.opcode != 'tuple':
        return found
      found = computation.instructions.get(inner.operands[found.index or 0])
    else:
      return found
  return None


def _constant(computation: hlo.Computation, name: str) -> int | None:
  source = _source(computation, name)
  if source is None or source.opcode != 'constant':
    return None
  try:
    return int(source.arguments)
  except ValueError:
    return None


def _place(computation: hlo.Computation, name: str) -> int | None:
  """Returns which item of the loop's state a value is."""
  source = _source(computation, name)
  if source is None or source.opcode != 'get-tuple-element':
    return None
  operand = computation.instructions[source.operands[0]]
  return source.index if operand.opcode == 'parameter' else None


def _initial(
    computation: hlo.Computation, loop: hlo.Instruction, index: int | None
) -> int | None:
  """Returns the constant that an item of the loop's state starts as."""
  state = _source(computation, loop.operands[0])
  if index is None or state is None or state.opcode != 'tuple':
    return None
  return _constant(computation, state.operands[index])


def _step(module: hlo.Module, body: hlo.Computation, index: int) -> int | None:
  """Returns what a round adds to the counter."""
  root = body.root
  if root.opcode != 'tuple':
    return None
  new = _source(body, root.operands[index])
  if new is None:
    return None
  if new.opcode == 'fusion':
    fused = module.computations[new.calls('calls')]
    addition, outer = fused.root, new.operands
  else:
    fused, addition, outer = body, new, ()
  if addition.opcode not in ('add', 'subtract'):
    return None
  sign = 1 if addition.opcode == 'add' else -1
  steps = []
  for name in addition.operands:
    operand = fused.instructions[name]
    if operand.opcode == 'parameter' and outer:
      steps.append(_constant(body, outer[operand.index or 0]))
    else:
      steps.append(_constant(fused, name))
  known = [step for step in steps if step is not None]
  return sign * known[0] if len(known) == 1 else None
