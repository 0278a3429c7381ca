"""Runs side by side: `flan-jax compare`.

flan-jax compare runs/a runs/b --output=compare.html
"""

import argparse
from collections.abc import Sequence
import pathlib
from typing import Any

from flan_jax import errors
from flan_jax import storage
from flan_jax.training.comparison import chart
from flan_jax.training.comparison import page
from flan_jax.training.comparison import runs as runs_lib

# On the terminal; the page has all.
_MOST_SETTINGS = 20
_WIDEST = 32


def main(args: argparse.Namespace) -> int:
  """Prints a table of runs and writes the page with their curves.

  Raises:
    UserError: One is no run, or the page cannot be written.
  """
  runs = runs_lib.load(args.runs)
  text = page.render(runs)
  print(_summary(runs))
  print(_settings(runs))
  _write(pathlib.Path(args.output).expanduser(), text)
  print(f'curves: {args.output}')
  return 0


def _summary(runs: Sequence[runs_lib.Run]) -> str:
  summaries = [run.summary() for run in runs]
  names = ['steps', 'loss']
  evaluated = {n for s in summaries for n in s if n.startswith('eval/')}
  names += sorted(name for name in evaluated if name.endswith('loss'))
  names += ['tokens_per_second']
  rows = [
      ['run', *(n.replace('_per_', '/').replace('second', 's') for n in names)]
  ]
  for run, summary in zip(runs, summaries, strict=True):
    cells = [chart.label(summary[n]) if n in summary else '-' for n in names]
    rows.append([run.name, *cells])
  return _aligned(rows)


def _settings(runs: Sequence[runs_lib.Run]) -> str:
  differing = runs_lib.differing(runs)
  if len(runs) == 1:
    return ''
  if not differing:
    return '\nsettings: the same\n'
  rows = [['what differs', *(run.name for run in runs)]]
  for name, values in list(differing.items())[:_MOST_SETTINGS]:
    rows.append([name, *map(_short, values)])
  left = len(differing) - _MOST_SETTINGS
  more = f'and {left} more, which are in the page\n' if left > 0 else ''
  return f'\n{_aligned(rows)}\n{more}'


def _short(value: Any) -> str:
  text = '-' if value is None else str(value)
  return text if len(text) <= _WIDEST else f'{text[: _WIDEST - 3]}...'


def _aligned(rows: Sequence[Sequence[str]]) -> str:
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  return '\n'.join(
      '  '.join(
          cell.rjust(width) if place else cell.ljust(width)
          for place, (cell, width) in enumerate(zip(row, widths, strict=True))
      )
      for row in rows
  )


def _write(path: pathlib.Path, text: str) -> None:
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    storage.write(path, text)
  except OSError as error:
    raise errors.UserError(
        f'--output: {path}: cannot be written ({error.strerror})'
    ) from error
