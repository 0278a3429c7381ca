"""A table of a model's parameters, for people."""

import math
from typing import Any

from flan_jax import partitioning
from flan_jax.models import naming
import jax

_HEAD = ('parameter', 'shape', 'axes', 'partition', 'count', 'a device')


def render(params: Any, logical_axes: Any, trained: Any = None) -> str:
  """Returns a line for each parameter, and their sums by part of the model.

  Args:
    params: The tree of `jax.ShapeDtypeStruct`, with shardings.
    logical_axes: The same tree of tuples of logical names.
    trained: What of it is trained, where that is not all.

  Returns:
    Lines with name, shape, logical axes, the mesh axes that share each array
    axis ('-' for none), the number of entries, and how many of them a device
    has.
  """
  leaves = naming.flatten(params)
  axes = naming.flatten(logical_axes, is_leaf=partitioning.is_names)
  rows: list[tuple[str, ...]] = []
  sums: dict[str, int] = {}
  whole = held = 0
  for name in sorted(leaves):
    leaf = leaves[name]
    count = math.prod(leaf.shape)
    part = math.prod(leaf.sharding.shard_shape(leaf.shape))
    rows.append((
        name,
        ' x '.join(map(str, leaf.shape)),
        ','.join(axes[name]),
        _partition(leaf.sharding.spec, len(leaf.shape)),
        f'{count:,}',
        f'{part:,}',
    ))
    group = name.split('/')[0]
    sums[group] = sums.get(group, 0) + count
    whole, held = whole + count, held + part
  for group, count in sums.items():
    rows.append((f'all of {group}', '', '', '', f'{count:,}', ''))
  rows.append(('all', '', '', '', f'{whole:,}', f'{held:,}'))
  if trained is not None:
    some = jax.tree.leaves(trained)
    count = sum(math.prod(leaf.shape) for leaf in some)
    part = sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) for leaf in some
    )
    rows.append(('trained', '', '', '', f'{count:,}', f'{part:,}'))
  return _aligned([_HEAD, *rows])


def _partition(spec: Any, rank: int) -> str:
  parts = [*spec, *[None] * (rank - len(spec))]
  return ','.join(
      '-' if part is None else part if isinstance(part, str) else '+'.join(part)
      for part in parts
  )


def _aligned(rows: list[tuple[str, ...]]) -> str:
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  lines = []
  for row in rows:
    cells = [
        cell.rjust(width) if place >= len(_HEAD) - 2 else cell.ljust(width)
        for place, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    lines.append('  '.join(cells).rstrip())
  return '\n'.join(lines) + '\n'
