"""How long all names of FLAN 2021 take, and how much memory.

  python benchmarks/names.py [--runs 5]

Each run is a process of its own: it finds the declarations, resolves flan2021,
every leave-out and every ablation with what they hold out, and makes each
dataset's tasks under all settings but shots. Seconds and memory are over the
bare import of `flan_jax.data.mixtures`; medians. The peer is google-research/
FLAN, whose import registers 10,984 SeqIO tasks and 1,876 mixtures: measured
apart, 9 to 26 s and 1.0 GB.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from typing import Any


def _measure() -> dict[str, float]:
  """Returns seconds, megabytes and counts of one process."""
  from flan_jax.data import catalogue
  from flan_jax.data import listing
  from flan_jax.data import mixtures

  before = _peak()
  begin = time.perf_counter()
  found = catalogue.Catalogue()
  names = [n for n in found.mixture_names() if n.startswith('flan2021')]
  mixtures.resolve(found, 'flan2021')
  first = time.perf_counter()
  names += found.leave_out_names('flan2021')
  members = 0
  for name in names:
    members += _count(found, name)
    if found.mixture(name).held_out:
      members += _count(found, f'{name}:held_out')
  resolved = time.perf_counter()
  counts = listing.count_tasks(found)
  counted = time.perf_counter()
  return {
      'flan2021 alone': first - begin,
      'all mixtures': resolved - begin,
      'and all settings': counted - begin,
      'megabytes': _peak() - before,
      'mixtures': len(names),
      'members': members,
      'tasks': counts['tasks'],
  }


def _count(found: Any, name: str) -> int:
  from flan_jax.data import mixtures

  return len(mixtures.as_mixture(mixtures.resolve(found, name)).members)


def _peak() -> float:
  """Returns the most memory that this process has had, in megabytes."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--runs', type=int, default=5)
  parser.add_argument('--one', action='store_true', help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.one:
    print(json.dumps(_measure()))
    return
  command = [sys.executable, __file__, '--one']
  runs = [
      json.loads(
          subprocess.run(command, capture_output=True, check=True).stdout
      )
      for _ in range(args.runs)
  ]
  last = runs[-1]
  print(
      f'{last["mixtures"]} mixtures with {last["members"]:,} members,'
      f' {last["tasks"]:,} tasks\n'
  )
  print('| what | median | lowest | highest |\n|---|---|---|---|')
  for name, unit in (
      ('flan2021 alone', 's'),
      ('all mixtures', 's'),
      ('and all settings', 's'),
      ('megabytes', 'MB'),
  ):
    values = [run[name] for run in runs]
    cells = (statistics.median(values), min(values), max(values))
    print(f'| {name}, {unit} | ' + ' | '.join(f'{v:.3f}' for v in cells) + ' |')


if __name__ == '__main__':
  main()
