"""What converting a model of three billion parameters takes: memory and time.

    python benchmarks/converting.py --folder=/tmp/converting

It makes a Hugging Face folder with the sizes of T5 1.1 XL in bfloat16, whose
tensors are all zero (files with holes, that take no space), and converts it
there and back in processes of their own, whose peak resident memory the system
tells. Memory-mapped files count as resident where they have been read.
"""

import argparse
import json
import math
import pathlib
import shutil
import subprocess
import sys
import time

from flan_jax.checkpoints import formats
from flan_jax.checkpoints.huggingface import architectures
from flan_jax.checkpoints.huggingface import safetensors
from flan_jax.models import config as model_config
from flan_jax.models import interface
import ml_dtypes
import numpy as np

_KIND = 'T5ForConditionalGeneration'
_SHARD_BYTES = 5 * 10**9
# A process of its own, so that its children's peak is that of one command.
_MEASURED = (
    'import resource, subprocess, sys\n'
    'code = subprocess.run(sys.argv[1:]).returncode\n'
    'print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n'
    'sys.exit(code)\n'
)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--folder', type=pathlib.Path, required=True)
  parser.add_argument('--layers', type=int, default=24)
  args = parser.parse_args()
  folder: pathlib.Path = args.folder
  if folder.exists():
    parser.error(f'{folder} exists')
  config = model_config.EncoderDecoderConfig(
      emb_dim=2048,
      num_heads=32,
      head_dim=64,
      mlp_dim=5120,
      num_encoder_layers=args.layers,
      num_decoder_layers=args.layers,
  )
  try:
    _make(folder / 'source', config)
    _report(folder)
  finally:
    shutil.rmtree(folder)


def _make(folder: pathlib.Path, config: model_config.EncoderDecoderConfig):
  """Makes the folder, of files with holes."""
  architecture = architectures.ALL[_KIND]
  folder.mkdir(parents=True)
  model = interface.create(config)
  shapes = model.unstack(model.abstract_params())
  dtype = np.dtype(ml_dtypes.bfloat16)
  shards: list[dict[str, tuple[tuple[int, ...], np.dtype]]] = [{}]
  size = 0
  for entry in architecture.names(config):
    shape = entry.whole(shapes[entry.ours].shape)
    count = math.prod(shape) * dtype.itemsize
    if size + count > _SHARD_BYTES:
      shards.append({})
      size = 0
    shards[-1][entry.theirs] = shape, dtype
    size += count
  places = {}
  for number, shard in enumerate(shards, start=1):
    name = f'model-{number:05}-of-{len(shards):05}.safetensors'
    header = safetensors.header(shard)
    with (folder / name).open('wb') as file:
      file.write(header)
      file.truncate(
          len(header)
          + sum(
              math.prod(shape) * dtype.itemsize for shape, _ in shard.values()
          )
      )
    places |= dict.fromkeys(shard, name)
  (folder / safetensors.INDEX).write_text(json.dumps({'weight_map': places}))
  (folder / 'config.json').write_text(
      json.dumps({**architecture.to_json(config), 'architectures': [_KIND]})
  )


def _report(folder: pathlib.Path) -> None:
  """Converts, and prints a table."""
  source = formats.open_source(folder / 'source')
  sizes = [math.prod(shape) for shape, _ in source.shapes.values()]
  print(
      f'{sum(sizes) / 1e9:.2f} billion parameters in bfloat16:'
      f' {sum(sizes) * 2 / 1e9:.2f} GB; largest tensor'
      f' {max(sizes) * 2 / 1e6:.0f} MB'
  )
  print(
      f'imports alone: {_run("-c", "import flan_jax.checkpoints.sharded")[1]}'
  )
  print('| from | to | peak memory | seconds |\n|---|---|---|---|')
  for start, end, where, to in (
      ('Hugging Face', 'native', 'source', 'native'),
      ('native', 'Hugging Face', 'native', 'huggingface'),
      ('Hugging Face', 'T5X', 'source', 't5x'),
      ('T5X', 'native', 't5x', 'native'),
  ):
    target = folder / ('again' if where == 't5x' else to)
    seconds, peak = _run(
        *('-m', 'flan_jax', 'convert', str(folder / where), str(target)),
        *(f'--to={to}', '--vocabulary=bytes'),
    )
    print(f'| {start} | {end} | {peak} | {seconds:.0f} |', flush=True)


def _run(*command: str) -> tuple[float, str]:
  """Runs Python; returns seconds and the peak of its memory."""
  start = time.perf_counter()
  done = subprocess.run(
      [sys.executable, '-c', _MEASURED, sys.executable, *command],
      capture_output=True,
      text=True,
  )
  if done.returncode:
    raise SystemExit(done.stderr)
  unit = 1 if sys.platform == 'darwin' else 1024
  peak = int(done.stdout.split()[-1]) * unit
  return time.perf_counter() - start, f'{peak / 1e9:.2f} GB'


if __name__ == '__main__':
  main()
