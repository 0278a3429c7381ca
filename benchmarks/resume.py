"""What it costs to go on: early, late, and on another number of hosts.

  python benchmarks/resume.py [--late 10000] [--runs 5]

A small model is trained to step 100 and on to step 10,000. Each of the two is
then gone on with for one step, in turn, several times, on one host and on two
(processes that talk through jax.distributed): seconds from the start of the
process until the step is done, and CPU-seconds of all processes from start to
end; medians. The data position of a checkpoint is a few integers, so the ratio
ought to be 1.

The peer is a pipeline that has no position and reads its data again up to where
it was, as one does with `skip`: ours, from the first batch on.

Nothing else should run beside it.
"""

import argparse
import json
import os
import pathlib
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

_EARLY = 100
_HOST = """
import sys
import jax
address, count, index, *arguments = sys.argv[1:]
if int(count) > 1:
  jax.config.update('jax_cpu_collectives_implementation', 'gloo')
  jax.distributed.initialize(address, int(count), int(index))
from flan_jax import cli
sys.exit(cli.main(arguments))
"""
_READ = """
import sys, time
from flan_jax import vocabularies
from flan_jax.data import catalogue, mixtures, pipeline, rows
batches, cache = int(sys.argv[1]), sys.argv[2]
running = pipeline.TrainPipeline(
    mixtures.as_mixture(mixtures.resolve(catalogue.Catalogue(), 'mini')),
    'train',
    vocabularies.load('mixtures/mini/mini.model'),
    rows.RowStore(cache),
    pipeline.PipelineConfig(
        lengths={'inputs': 64, 'targets': 16}, batch_size=4
    ),
)
next(running)
begin = time.process_time()
for _ in range(batches):
  next(running)
print(time.process_time() - begin)
"""
_SETTINGS = {
    'TASK_FEATURE_LENGTHS': "{'inputs': 64, 'targets': 16}",
    'BATCH_SIZE': 4,
    'EVAL_PERIOD': 0,
    'LOG_PERIOD': 1000,
    'CHECKPOINT_PERIOD': 0,
    'EncoderDecoderConfig.emb_dim': 32,
    'EncoderDecoderConfig.mlp_dim': 64,
    'EncoderDecoderConfig.num_encoder_layers': 1,
    'EncoderDecoderConfig.num_decoder_layers': 1,
}


def _train(
    run: pathlib.Path, steps: int, hosts: int = 1
) -> tuple[float, float]:
  """Trains up to a step; returns when it was done, and CPU-seconds."""
  with socket.socket() as free:
    free.bind(('localhost', 0))
    address = f'localhost:{free.getsockname()[1]}'
  settings = _SETTINGS | {'MODEL_DIR': run, 'TRAIN_STEPS': steps}
  arguments = ['train', '--gin_file=gin/examples/mini.gin']
  arguments += [f'--cache_dir={run.parent / "cache"}']
  arguments += [f'--gin.{name}={value}' for name, value in settings.items()]
  processes = [
      subprocess.Popen(
          [sys.executable, '-c', _HOST, address, str(hosts), str(host)]
          + arguments,
          env={**os.environ, 'XLA_FLAGS': ''},
          stderr=subprocess.PIPE,
          text=True,
      )
      for host in range(hosts)
  ]
  cpu_before = _cpu_of_children()
  for process in processes:
    error = process.communicate()[1]
    if process.returncode:
      sys.exit(error)
  with open(run / 'metrics.jsonl', encoding='utf-8') as file:
    last = json.loads(file.readlines()[-1])
  assert last['step'] == steps
  return last['time'], _cpu_of_children() - cpu_before


def _cpu_of_children() -> float:
  """Returns the CPU-seconds of all processes that were waited for."""
  used = resource.getrusage(resource.RUSAGE_CHILDREN)
  return used.ru_utime + used.ru_stime


def _seconds_to_go_on(
    saved: pathlib.Path, step: int, hosts: int
) -> tuple[float, float]:
  """Goes on with a copy of a run for one step; seconds and CPU-seconds."""
  run = saved.parent / 'copy'
  shutil.copytree(saved, run)
  begin = time.time()
  done, cpu = _train(run, step + 1, hosts)
  shutil.rmtree(run)
  return done - begin, cpu


def _seconds_to_read(batches: int, cache: pathlib.Path) -> float:
  """Reads batches, and throws them away; CPU-seconds."""
  done = subprocess.run(
      [sys.executable, '-c', _READ, str(batches), str(cache)],
      capture_output=True,
      text=True,
      check=True,
  )
  return float(done.stdout)


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--late', type=int, default=10_000)
  parser.add_argument('--runs', type=int, default=5)
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    for step in (_EARLY, args.late):
      _train(folder / 'run', step)
      shutil.copytree(folder / 'run', folder / f'run_{step}')
    print(
        f'| | to step {_EARLY + 1:,} |'
        f' to step {args.late + 1:,} | ratio |\n| --- | ---: | ---: | ---: |'
    )
    for hosts in (1, 2):
      found: dict[int, list[tuple[float, float]]]
      found = {_EARLY: [], args.late: []}
      # The first time on these hosts the step is compiled.
      _seconds_to_go_on(folder / f'run_{_EARLY}', _EARLY, hosts)
      for _ in range(args.runs):
        for step, times in found.items():
          saved = folder / f'run_{step}'
          times.append(_seconds_to_go_on(saved, step, hosts))
      name = f'going on, {hosts} host{"s" if hosts > 1 else ""}'
      for unit, of in (('seconds', 0), ('CPU-seconds', 1)):
        _row(
            f'{name}, {unit}',
            {step: [pair[of] for pair in t] for step, t in found.items()},
        )
    read: dict[int, list[float]] = {_EARLY: [], args.late: []}
    for _ in range(args.runs):
      for step, times in read.items():
        times.append(_seconds_to_read(step, folder / 'cache'))
    _row('the peer: reading again, and nothing else, CPU-seconds', read)
    path = folder / f'run_{args.late}' / f'checkpoint_{args.late}' / 'position'
    size = (path / 'metadata').stat().st_size
    print(f'\nThe position takes {size:,} bytes at step {args.late:,}.')


def _row(name: str, found: dict[int, list[float]]) -> None:
  early, late = (statistics.median(times) for times in found.values())
  cells = (
      f'{statistics.median(times):.2f} ({min(times):.2f} to {max(times):.2f})'
      for times in found.values()
  )
  print(f'| {name} | {" | ".join(cells)} | {late / early:.2f} |', flush=True)


if __name__ == '__main__':
  main()
