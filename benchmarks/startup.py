"""How long the command line takes to answer, and training to begin.

  python benchmarks/startup.py [--runs 5] [--no_train]

Whole processes, wall-clock seconds, median of several runs. The peer of the
quick commands is `import seqio`, which T5X's tools do before they answer;
training ends with the first step. It starts cold, with empty caches of rows and
of compiled programs, and then warm, with those of the run before. What training
imports is timed apart: cold less warm is compiling (and writing rows), warm
less imports is looking up names, tracing, state, data and the step itself.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time


def _seconds(command: list[str], **environment: str) -> float:
  begin = time.perf_counter()
  subprocess.run(
      command,
      env={**os.environ, **environment},
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
      check=False,
  )
  return time.perf_counter() - begin


# What `flan-jax train` imports before it can compile.
_IMPORTS = (
    'from flan_jax.training import trainer, loop, metrics;'
    ' from flan_jax.data import pipeline; import tensorboardX'
)


def _first_step_seconds(run: str, cache: str) -> float:
  """Returns seconds from the command to the first finished training step."""
  begin = time.time()
  subprocess.run(
      [sys.executable, '-m', 'flan_jax', 'train']
      + ['--gin_file=gin/examples/mini.gin', f'--gin.MODEL_DIR={run}']
      + ['--gin.TRAIN_STEPS=1', f'--cache_dir={cache}'],
      env={**os.environ, 'FLAN_JAX_CACHE': cache},
      capture_output=True,
      check=True,
  )
  lines = pathlib.Path(run, 'metrics.jsonl').read_text()
  return json.loads(lines.splitlines()[0])['time'] - begin


def _training(runs: int) -> dict[str, list[float]]:
  """Returns the seconds of cold and of warm runs, by turns."""
  times: dict[str, list[float]] = {'cold': [], 'warm': []}
  for _ in range(runs):
    with tempfile.TemporaryDirectory() as folder:
      for kind, found in times.items():
        found.append(_first_step_seconds(f'{folder}/{kind}', f'{folder}/cache'))
  return times


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--runs', type=int, default=5)
  parser.add_argument('--no_train', action='store_true')
  args = parser.parse_args()
  program = [sys.executable, '-m', 'flan_jax']
  commands = {
      'flan-jax --help': [*program, '--help'],
      'flan-jax tasks': [*program, 'tasks'],
      'flan-jax train --wrong_flag': [*program, 'train', '--wrong_flag'],
      'import seqio (the peer)': [sys.executable, '-c', 'import seqio'],
  }
  print('| what | seconds, median | lowest | highest |\n|---|---|---|---|')
  for name, command in commands.items():
    _seconds(command)  # The first one reads files from the disk.
    times = [_seconds(command) for _ in range(args.runs)]
    _row(name, times)
  if not args.no_train:
    imports = [sys.executable, '-c', _IMPORTS]
    _row('what training imports', [_seconds(imports) for _ in range(args.runs)])
    for kind, times in _training(args.runs).items():
      _row(f'flan-jax train, to the first finished step, {kind}', times)


def _row(name: str, times: list[float]) -> None:
  print(
      f'| {name} | {statistics.median(times):.2f} | {min(times):.2f} |'
      f' {max(times):.2f} |'
  )


if __name__ == '__main__':
  main()
