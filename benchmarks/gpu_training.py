"""Examples a second and MFU of whole training runs on a GPU.

  python benchmarks/gpu_training.py --out=/tmp/gpu_training

T5 1.1 large and xl, bfloat16, Adafactor, rows of 512/128 and 1,024/256 tokens,
packed, from the mixture `mini` (its text is made up, its tokens are real: rows
are as full as packing makes them, and padding counts as no work). Each line is
a run of `flan-jax train` as anyone would start it, by its metrics.jsonl: the
median of all logging periods but the first, which holds the compiling.

MFU is the model's own FLOPs (flan_jax/models/flops.py: about 3N a token) over
the peak of one GPU in bfloat16; what rematerialisation computes again does not
count. Batch sizes are meant for 80 GB; --rows overrides them.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys

# Model, inputs, targets, rows, microbatches, remat.
RUNS = (
    ('large', 512, 128, 128, 2, 'minimal'),
    ('large', 1024, 256, 64, 2, 'minimal'),
    ('xl', 512, 128, 64, 4, 'minimal'),
    ('xl', 1024, 256, 32, 4, 'full'),
)
_GIN = """
include 'gin/runs/train.gin'
include 'gin/models/t5_1_1/{size}.gin'
include 'gin/optimizers/adafactor.gin'
include 'gin/meshes/data.gin'
MIXTURE_OR_TASK_NAME = '{mixture}'
VOCABULARY = '{vocabulary}'
TASK_FEATURE_LENGTHS = {{'inputs': {inputs}, 'targets': {targets}}}
BATCH_SIZE = {rows}
NUM_MICROBATCHES = {microbatches}
TRAIN_STEPS = {steps}
LOG_PERIOD = {period}
EVAL_PERIOD = 0
CHECKPOINT_PERIOD = 0
DROPOUT_RATE = 0.0
EncoderDecoderConfig.dtype = 'bfloat16'
EncoderDecoderConfig.remat = '{remat}'
"""


def _periods(model_dir: pathlib.Path) -> list[dict[str, float]]:
  lines = (model_dir / 'metrics.jsonl').read_text().splitlines()
  found = [json.loads(line) for line in lines]
  return [line['period'] for line in found if 'period' in line][1:]


def _run(name: str, gin: str, out: pathlib.Path) -> list[dict[str, float]]:
  """Trains, and returns what each logging period but the first says."""
  folder = out / name
  folder.mkdir(parents=True, exist_ok=True)
  file = folder / 'run.gin'
  file.write_text(gin)
  with open(folder / 'log.txt', 'w') as log:
    done = subprocess.run(
        [sys.executable, '-m', 'flan_jax', 'train', f'--gin_file={file}']
        + [f'--gin.MODEL_DIR={folder / "run"}'],
        stdout=log,
        stderr=subprocess.STDOUT,
        check=False,
    )
  if done.returncode:
    raise SystemExit(f'{name}: the run failed; see {folder / "log.txt"}')
  return _periods(folder / 'run')


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument('--out', type=pathlib.Path, required=True)
  parser.add_argument('--sizes', nargs='*', default=['large', 'xl'])
  parser.add_argument('--mixture', default='mini')
  parser.add_argument('--vocabulary', default='mixtures/mini/mini.model')
  parser.add_argument('--rows', type=int, help='of a batch, in place of ours')
  parser.add_argument('--steps', type=int, default=60)
  args = parser.parse_args()
  period = max(args.steps // 6, 1)
  print(
      '| model | lengths | rows | remat | examples/s | rows/s | tokens/s | MFU'
      ' | waiting for data |\n'
      '| --- | --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |'
  )
  for size, inputs, targets, rows, microbatches, remat in RUNS:
    if size not in args.sizes:
      continue
    rows = args.rows or rows
    gin = _GIN.format(
        size=size,
        inputs=inputs,
        targets=targets,
        rows=rows,
        microbatches=1 if args.rows else microbatches,
        remat=remat,
        mixture=args.mixture,
        vocabulary=args.vocabulary,
        steps=args.steps,
        period=period,
    )
    found = _run(f'{size}_{inputs}', gin, args.out)

    def median(name: str, found=found) -> float:
      return statistics.median(each.get(name, float('nan')) for each in found)

    print(
        f'| {size} | {inputs}/{targets} | {rows} | {remat} |'
        f' {median("examples_per_second"):,.1f} |'
        f' {rows * median("steps_per_second"):,.1f} |'
        f' {median("tokens_per_second"):,.0f} | {median("mfu"):.1%} |'
        f' {median("data_wait"):.1%} |',
        flush=True,
    )


if __name__ == '__main__':
  main()
