"""How long the command line takes to answer, and training to begin.

  python benchmarks/startup.py [--runs 5] [--no_train]

Whole processes, wall-clock seconds, median of several runs. The peer of the
quick commands is `import seqio`, which T5X's tools do before they answer;
training starts with an empty compilation cache and ends with the first step.
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


def _first_step_seconds() -> float:
  """Returns seconds from the command to the first finished training step."""
  with tempfile.TemporaryDirectory() as folder:
    begin = time.time()
    subprocess.run(
        [sys.executable, '-m', 'flan_jax', 'train']
        + ['--gin_file=gin/examples/mini.gin', f'--gin.MODEL_DIR={folder}/run']
        + ['--gin.TRAIN_STEPS=1', f'--cache_dir={folder}/cache'],
        env={**os.environ, 'FLAN_JAX_CACHE': f'{folder}/cache'},
        capture_output=True,
        check=True,
    )
    lines = pathlib.Path(folder, 'run', 'metrics.jsonl').read_text()
    record = json.loads(lines.splitlines()[0])
    return record['time'] - begin


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
    _row(
        'flan-jax train, to the first finished step',
        [_first_step_seconds() for _ in range(args.runs)],
    )


def _row(name: str, times: list[float]) -> None:
  print(
      f'| {name} | {statistics.median(times):.2f} | {min(times):.2f} |'
      f' {max(times):.2f} |'
  )


if __name__ == '__main__':
  main()
