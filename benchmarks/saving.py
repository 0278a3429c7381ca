"""How long training stands still for a checkpoint.

  python benchmarks/saving.py [--model tiny] [--runs 5]

The state of a T5 1.1 (parameters and Adafactor's moments, float32) is saved,
in turn, in the background as training does it, and with the peer's way: wait
until it is on the disk. Seconds that the loop stands still, median of several;
and how long the background took. Nothing else should run beside it.
"""

import argparse
import pathlib
import statistics
import tempfile
import time

from flan_jax import partitioning
from flan_jax import train
from flan_jax.checkpoints import native
from flan_jax.models import interface
from flan_jax.training import trainer as trainer_lib
import jax


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--model', default='tiny', help='of gin/models/t5_1_1')
  parser.add_argument('--runs', type=int, default=5)
  args = parser.parse_args()
  settings = train.load(
      ['gin/examples/mini.gin', f'gin/models/t5_1_1/{args.model}.gin'],
      ['MODEL_DIR=unused', 'EncoderDecoderConfig.vocab_size=32128'],
      [],
  ).settings
  mesh = partitioning.make_mesh(settings.mesh)
  stalls, waits, blocked = [], [], []
  with partitioning.use(mesh), tempfile.TemporaryDirectory() as folder:
    model = interface.create(settings.model)
    state = trainer_lib.Trainer(settings, model, mesh).new_state()
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    with native.Checkpointer(folder, keep=1) as checkpointer:

      def save(step: int, block: bool) -> float:
        begin = time.perf_counter()
        checkpointer.save(step, state.params, state.optimizer, {}, block=block)
        return time.perf_counter() - begin

      save(1, True)  # Compiles what takes layers apart.
      for run in range(args.runs):
        stalls.append(save(2 * run + 2, False))
        begin = time.perf_counter()
        checkpointer.wait()
        waits.append(time.perf_counter() - begin)
        blocked.append(save(2 * run + 3, True))
      files = pathlib.Path(folder).rglob('*')
      written = sum(path.stat().st_size for path in files if path.is_file())
  print(
      f'{args.model}: a state of {size / 2**20:,.0f} MiB,'
      f' {written / 2**20:,.0f} MiB on the disk\n'
  )
  print('| | median | lowest | highest |\n| --- | ---: | ---: | ---: |')
  for name, times in (
      ('the loop stands still', stalls),
      ('then written in the background', waits),
      ('the peer: waiting for the disk', blocked),
  ):
    print(
        f'| {name} | {statistics.median(times):.2f} | {min(times):.2f} |'
        f' {max(times):.2f} |'
    )
  ratio = statistics.median(blocked) / statistics.median(stalls)
  print(f'\nThe peer stands still {ratio:.1f} times as long.')


if __name__ == '__main__':
  main()
