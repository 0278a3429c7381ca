"""What is said about a program that was compiled for a slice."""

from collections.abc import Mapping
import dataclasses
import math
from typing import Any

from flan_jax.topologies import chips
from flan_jax.topologies import cost as cost_lib

_GIB = 2**30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
  """A step's memory and work on each chip, and what they allow.

  Attributes:
    slice: The chips.
    mesh: Devices along each axis.
    parameters: Of the model.
    rows: Rows of a global batch.
    lengths: Tokens in a row.
    model_flops: What the model itself needs for a step, all chips together, if
      every position holds a token.
    compile_seconds: How long the compiler took.
    effort: How hard it tried; see `compiler.build`.
    memory: Bytes a chip: 'arguments', 'outputs', 'shared' (outputs that take
      the place of arguments), 'temporaries', 'program' and 'peak'.
    cost: Work a chip.
  """

  slice: chips.Slice
  mesh: Mapping[str, int]
  parameters: int
  rows: int
  lengths: Mapping[str, int]
  model_flops: float
  compile_seconds: float
  effort: float
  memory: Mapping[str, int]
  cost: cost_lib.Cost

  @property
  def seconds(self) -> dict[str, float]:
    """What each part would take alone, at the chip's published peaks."""
    chip = self.slice.chip
    return {
        'compute': self.cost.flops / chip.flops,
        'memory': self.cost.bytes / chip.hbm_bandwidth,
        'network': sum(self.cost.sent.values()) / chip.link_bandwidth,
    }

  @property
  def bound(self) -> str:
    """The part that takes longest."""
    return max(self.seconds, key=lambda part: self.seconds[part])

  @property
  def step_seconds(self) -> float:
    """The estimate of a step's time.

    Instructions run one after the other, each at the rate of what it needs
    most; copies and collectives run beside them.
    """
    return max(self.cost.seconds, *self.seconds.values())

  @property
  def mfu(self) -> float:
    """The share of the chips' peak that the model itself would use."""
    peak = self.slice.chip.flops * self.slice.size
    return self.model_flops / (self.step_seconds * peak)

  def as_json(self) -> dict[str, Any]:
    """Returns all numbers: bytes, FLOPs and seconds, a chip's unless named."""
    chip = self.slice.chip
    return {
        'topology': self.slice.name,
        'accelerator_type': self.slice.accelerator_type,
        'chips': self.slice.size,
        'mesh': dict(self.mesh),
        'parameters': self.parameters,
        'batch_size': self.rows,
        'lengths': dict(self.lengths),
        'compile_seconds': round(self.compile_seconds, 1),
        'effort': self.effort,
        'memory': {**self.memory, 'hbm': chip.hbm},
        'flops': self.cost.flops,
        'model_flops_all_chips': self.model_flops,
        'hbm_bytes': self.cost.bytes,
        'sent_bytes': dict(self.cost.sent),
        'collectives': dict(self.cost.collectives),
        'loops_counted_once': self.cost.unknown_loops,
        'seconds': {**self.seconds, 'step': self.step_seconds},
        'bound': self.bound,
        'mfu': self.mfu,
        'examples_per_second': self.rows / self.step_seconds,
    }

  def as_text(self) -> str:
    """Returns it for the terminal."""
    return '\n'.join([
        *self._head(),
        '',
        *self._memory_lines(),
        '',
        *self._work_lines(),
        '',
        *self._time_lines(),
    ])

  def _head(self) -> list[str]:
    mesh = ', '.join(f'{name}={size}' for name, size in self.mesh.items())
    lengths = ' + '.join(f'{n:,} {side}' for side, n in self.lengths.items())
    effort = f', effort {self.effort:g}' if self.effort else ''
    return [
        (
            f'{self.slice.name} ({self.slice.accelerator_type}):'
            f' {self.slice.size} chips of {self.slice.chip.hbm / _GIB:g} GiB;'
            f' mesh {mesh}'
        ),
        (
            f'model of {self.parameters / 1e6:,.1f} million parameters; batch'
            f' of {self.rows:,} rows, each {lengths} tokens'
        ),
        f'compiled in {self.compile_seconds:.0f} s{effort}',
    ]

  def _memory_lines(self) -> list[str]:
    hbm = self.slice.chip.hbm
    peak = self.memory['peak']
    notes = {
        'arguments': 'parameters, optimizer state, batch',
        'outputs': f'{_gib(self.memory["shared"])} in the arguments\' place',
        'peak': f'{peak / hbm:.1%} of {_gib(hbm)}; {_gib(hbm - peak)} are left',
    }
    names = ('arguments', 'outputs', 'temporaries', 'program', 'peak')
    return ['memory of a chip'] + [
        _line(name, _gib(self.memory[name]), notes.get(name, ''))
        for name in names
    ]

  def _work_lines(self) -> list[str]:
    cost = self.cost
    share = self.model_flops / self.slice.size / max(cost.flops, 1.0)
    lines = [
        'a chip in a step',
        _line(
            'FLOPs',
            f'{cost.flops / 1e12:,.3f} T',
            f'the model itself needs {share:.1%} of them',
        ),
        _line('HBM', _gib(cost.bytes), 'read and written'),
    ]
    for kind in cost_lib.COLLECTIVES:
      if cost.collectives[kind]:
        lines.append(
            _line(kind, _gib(cost.sent[kind]), f'{cost.collectives[kind]:,}')
        )
    if not cost.collectives:
      lines.append(_line('collectives', 'none'))
    if cost.unknown_loops:
      lines.append(
          f'  {cost.unknown_loops} loops are counted once: how often they go'
          ' round could not be read off'
      )
    return lines

  def _time_lines(self) -> list[str]:
    seconds = self.seconds
    return [
        "time at the chip's published peaks (a floor: nothing waits)",
        *(_line(part, _time(seconds[part])) for part in seconds),
        _line('a step', _time(self.step_seconds), f'bound by {self.bound}'),
        _line('MFU', f'{self.mfu:.1%}'),
        _line('examples', f'{self.rows / self.step_seconds:,.0f} rows/s'),
    ]


def _line(name: str, value: str, note: str = '') -> str:
  return f'  {name:<20}{value:>12}  {note}'.rstrip()


def _gib(count: float) -> str:
  if not count:
    return '0'
  unit, size = ('GiB', _GIB) if count >= _GIB / 10 else ('MiB', 2**20)
  digits = max(0, 2 - int(math.log10(max(count / size, 1))))
  return f'{count / size:,.{digits}f} {unit}'


def _time(seconds: float) -> str:
  return f'{seconds * 1e3:,.1f} ms'
