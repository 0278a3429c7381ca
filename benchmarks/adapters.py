"""What a training step of adapters, or of chosen parameters, needs and costs.

  python benchmarks/adapters.py
  python benchmarks/adapters.py --only=time --steps=20

Memory is of T5 1.1 large (783 million parameters), 8 rows of 512 and 128
tokens, AdamW, `remat` 'full', from compiling alone. The state is parameters and
what the optimizer keeps of them; in bfloat16, kernels that are not trained take
half. Temporaries, gradients among them, are what XLA plans in float32: on a CPU
it computes bfloat16 in float32, and plans copies that an accelerator has not.

Time is of T5 1.1 with d_model 256, 4 heads of 64, d_ff 1,024, 4 + 4 layers and
32,128 tokens, float32, 8 full rows of 512 and 128 tokens, AdamW: all ways in
one process, by turns, a step each. CPU seconds are those of all threads: on a
shared machine they tell most. A ratio is the median over turns.
"""

import argparse
import dataclasses
import math
import statistics
import time
from typing import Any

SMALL = {
    'vocab_size': 32128,
    'emb_dim': 256,
    'num_heads': 4,
    'head_dim': 64,
    'mlp_dim': 1024,
    'num_encoder_layers': 4,
    'num_decoder_layers': 4,
}
LARGE = {
    'vocab_size': 32128,
    'emb_dim': 1024,
    'num_heads': 16,
    'head_dim': 64,
    'mlp_dim': 2816,
    'num_encoder_layers': 24,
    'num_decoder_layers': 24,
    'remat': 'full',
}
EVERY_KERNEL = ('query', 'key', 'value', 'out', 'wi_0', 'wi_1', 'wo')
# What is trained: the name, LORA, TRAINED.
WAYS: dict[str, tuple[dict[str, Any] | None, list[str] | None]] = {
    'all': (None, None),
    'LoRA, rank 8, query and value': ({'rank': 8}, None),
    'LoRA, rank 16, every kernel': (
        {'rank': 16, 'targets': EVERY_KERNEL},
        None,
    ),
    'the decoder': (None, ['decoder/.*']),
    'attention': (None, ['.*attention/(query|key|value|out)/kernel']),
    'norms and position biases': (None, ['.*/(scale|rel_embedding)']),
    'the last quarter of the layers': (None, []),  # Filled in by `_last`.
}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--only', choices=('memory', 'time'))
  parser.add_argument('--steps', type=int, default=8)
  args = parser.parse_args()
  if args.only != 'time':
    _memory()
  if args.only != 'memory':
    _time(args.steps)


def _trainer(sizes: dict[str, Any], name: str, dtype: str = 'float32') -> Any:
  """Returns what trains a model in one of the ways."""
  from flan_jax import partitioning
  from flan_jax.models import config
  from flan_jax.models import interface
  from flan_jax.training import optimizers
  from flan_jax.training import schedules
  from flan_jax.training import settings
  from flan_jax.training import trainer
  import jax

  lora, trained = WAYS[name]
  if trained == []:
    trained = _last(sizes['num_encoder_layers'])
  chosen = settings.Train(
      model_dir='none',
      mixture_or_task_name='none',
      task_feature_lengths={'inputs': 512, 'targets': 128},
      vocabulary='bytes',
      model=config.EncoderDecoderConfig(**sizes, dtype=dtype),
      optimizer=optimizers.AdamW(),
      schedule=schedules.Constant(value=1e-3),
      train_steps=1,
      batch_size=8,
      initial_checkpoint_path='none',
      lora=None if lora is None else config.Lora(**lora),
      trained=trained,
  )
  mesh = partitioning.make_mesh(
      partitioning.MeshConfig(data=1), jax.devices()[:1]
  )
  model = interface.create(chosen.training_model)
  return trainer.Trainer(chosen, model, mesh)


def _last(layers: int) -> list[str]:
  """Returns patterns of the last quarter of both stacks."""
  places = '|'.join(str(n) for n in range(layers - layers // 4, layers))
  return [f'.*/layers_({places})/.*']


def _memory() -> None:
  import jax

  print('| what is trained | trained | state | in bfloat16 | temporaries |')
  for name in WAYS:
    made, half = (_trainer(LARGE, name, d) for d in ('float32', 'bfloat16'))
    planned = made.compiled_step().memory_analysis()
    count = sum(
        math.prod(leaf.shape) for leaf in jax.tree.leaves(made.split.trained)
    )
    sizes = (_state(made), _state(half), planned.temp_size_in_bytes)
    cells = ' | '.join(f'{size / 2**30:.2f}' for size in sizes)
    print(f'| {name} | {count:,} | {cells} |', flush=True)


def _state(made: Any) -> int:
  """Returns the bytes of parameters and of what the optimizer keeps."""
  import jax

  return sum(
      math.prod(leaf.shape) * leaf.dtype.itemsize
      for leaf in jax.tree.leaves((made._like, made._frozen_like))
  )


@dataclasses.dataclass
class _Way:
  """A step that can be taken."""

  compiled: Any
  state: Any
  rest: tuple

  def step(self, batch: Any) -> tuple[float, float]:
    """Takes it; returns wall and CPU seconds."""
    import jax

    cpu, wall = time.process_time(), time.perf_counter()
    self.state, _ = self.compiled(self.state, batch, *self.rest)
    jax.block_until_ready(self.state)
    return time.perf_counter() - wall, time.process_time() - cpu


def _way(name: str) -> _Way:
  from flan_jax import partitioning
  from flan_jax.training import state as state_lib
  import jax

  made = _trainer(SMALL, name)
  with partitioning.use(made.mesh):
    params = jax.jit(made.model.init)(jax.random.key(0))
    trained, frozen = made.split.divide(params)
    state = state_lib.with_params(made._optimizer, made._like, trained)
    rest = () if made.split.whole else (frozen,)
    return _Way(made.compiled_step(), state, rest)


def _time(steps: int) -> None:
  from flan_jax import heap

  heap.keep()  # As `flan-jax train` does on a CPU.

  import jax
  import numpy as np

  rng = np.random.default_rng(0)

  def rows(length: int, tokens: bool) -> Any:
    shape = (8, length)
    return jax.numpy.asarray(
        rng.integers(3, 32000, shape, np.int32)
        if tokens
        else np.ones(shape, np.int32)
    )

  batch = {
      f'{side}_{name}': rows(length, name.endswith('tokens'))
      for side, length, names in (
          ('encoder', 512, ('input_tokens',)),
          ('decoder', 128, ('input_tokens', 'target_tokens', 'loss_weights')),
      )
      for name in (*names, 'segment_ids', 'positions')
  }
  ways = {name: _way(name) for name in WAYS}
  taken: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
  for turn in range(steps + 1):
    for name, way in ways.items():
      seconds = way.step(batch)
      if turn:
        taken[name].append(seconds)
  print('\n| what is trained | wall s | CPU s | CPU, of all |')
  for name, found in taken.items():
    wall, cpu = (statistics.median(each) for each in zip(*found, strict=True))
    ratio = statistics.median(
        one[1] / whole[1]
        for one, whole in zip(found, taken['all'], strict=True)
    )
    print(f'| {name} | {wall:.2f} | {cpu:.2f} | {ratio:.2f} |')


if __name__ == '__main__':
  main()
