"""Compiles gin/pods/*.gin for their slices; fills in docs/scaling.md.

    python benchmarks/scaling.py --output=runs/scaling         # what is missing
    python benchmarks/scaling.py --output=runs/scaling --table # docs/scaling.md

Each cell is one `flan-jax compile --json`, kept in OUTPUT/<gin>.json, so the
script goes on where it stopped. A cell takes minutes and 2 GB.
"""

import argparse
import json
import pathlib
import subprocess
import sys
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
SIZES = ('base', 'large', 'xl', 'xxl')
SLICES = ('v4-8', 'v5e-16', 'v5e-256', 'v5p-128', 'v6e-64')
BEGIN = '<!-- The table is written by benchmarks/scaling.py --table. -->'
END = '<!-- Here it ends. -->'
HEAD = (
    '| model | slice | mesh | batch (a chip) | arguments | temporaries | peak |'
    ' of HBM | FLOPs a chip | HBM bytes | sent | step, at least | bound | MFU,'
    ' at most | effort |'
)


def _stem(size: str, slice_: str) -> str:
  return f'{size}_{slice_.replace("-", "_")}'


def compile_cell(
    size: str, slice_: str, output: pathlib.Path, effort: str
) -> None:
  """Compiles one cell, unless it is there; says what went wrong with it."""
  stem = _stem(size, slice_)
  path = output / f'{stem}.json'
  if path.exists():
    return
  done = subprocess.run(
      [
          *(sys.executable, '-m', 'flan_jax', 'compile', '--json'),
          f'--gin_file=gin/pods/{stem}.gin',
          f'--topology={slice_}',
          f'--effort={effort}',
      ],
      cwd=ROOT,
      capture_output=True,
      text=True,
  )
  if done.returncode:
    print(f'{stem}: {done.stderr.strip().splitlines()[-1]}', flush=True)
    return
  temporary = path.with_suffix('.tmp')
  temporary.write_text(done.stdout)
  temporary.replace(path)
  report = json.loads(done.stdout)
  print(f'{stem}: {report["compile_seconds"]} s', flush=True)


def row(size: str, slice_: str, report: dict[str, Any] | None) -> str:
  """Returns a line of the table."""
  if report is None:
    return _cells([size, slice_, 'not measured', *[''] * 12])
  memory = report['memory']
  sent = sum(report['sent_bytes'].values())
  mesh = ', '.join(f'{k} {v}' for k, v in report['mesh'].items() if v > 1)
  return _cells([
      size,
      slice_,
      mesh,
      f'{report["batch_size"]:,} ({report["batch_size"] / report["chips"]:g})',
      _gib(memory['arguments']),
      _gib(memory['temporaries']),
      _gib(memory['peak']),
      f'{memory["peak"] / memory["hbm"]:.0%}',
      f'{report["flops"] / 1e12:,.1f} T',
      _gib(report['hbm_bytes']),
      _gib(sent),
      f'{report["seconds"]["step"] * 1e3:,.0f} ms',
      report['bound'],
      f'{report["mfu"]:.0%}',
      f'{report["effort"]:g}',
  ])


def _cells(cells: list[str]) -> str:
  return f'| {" | ".join(cells)} |'


def _gib(count: float) -> str:
  return f'{count / 2**30:,.1f} GiB'


def table(output: pathlib.Path) -> str:
  """Returns the whole table."""
  lines = [HEAD, '|---' * (HEAD.count('|') - 1) + '|']
  for size in SIZES:
    for slice_ in SLICES:
      path = output / f'{_stem(size, slice_)}.json'
      report = json.loads(path.read_text()) if path.exists() else None
      lines.append(row(size, slice_, report))
  return '\n'.join(lines)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--output', type=pathlib.Path, required=True)
  parser.add_argument('--effort', default='-1')
  parser.add_argument('--sizes', default=','.join(SIZES))
  parser.add_argument('--slices', default=','.join(SLICES))
  parser.add_argument('--table', action='store_true', help='write the table')
  args = parser.parse_args()
  args.output.mkdir(parents=True, exist_ok=True)
  if args.table:
    page = ROOT / 'docs' / 'scaling.md'
    before, rest = page.read_text().split(BEGIN)
    after = rest.split(END)[1]
    page.write_text(f'{before}{BEGIN}\n\n{table(args.output)}\n\n{END}{after}')
    return
  for slice_ in args.slices.split(','):
    for size in args.sizes.split(','):
      compile_cell(size, slice_, args.output, args.effort)


if __name__ == '__main__':
  main()
