"""What a training step costs on a CPU: time beside `transformers`, and memory.

  python benchmarks/training.py --peer=ANOTHER_VENV/bin/python
  python benchmarks/training.py --only=memory

The step is of T5 1.1 with d_model 256, 4 heads of 64, d_ff 1,024, 4 + 4 layers
and 32,128 tokens, float32, 8 full rows of 512 and 128 tokens, AdamW, no
dropout. The peer is T5ForConditionalGeneration under PyTorch, of the same sizes
and on the same rows; `--peer` names a Python that has torch and transformers.
The two run by turns, a process each; a row of the table is of all their steps.
CPU seconds are those of all threads: on a shared machine they tell most.

Memory is what XLA plans for temporary arrays (gradients are among them), from
compiling alone: T5 1.1 base with 8 rows of 512 and 128 tokens.
"""

import argparse
import functools
import json
import statistics
import subprocess
import sys
import time

SIZES = {
    'vocab_size': 32128,
    'emb_dim': 256,
    'num_heads': 4,
    'head_dim': 64,
    'mlp_dim': 1024,
    'num_encoder_layers': 4,
    'num_decoder_layers': 4,
}
BASE = {
    'vocab_size': 32128,
    'emb_dim': 768,
    'num_heads': 12,
    'head_dim': 64,
    'mlp_dim': 2048,
    'num_encoder_layers': 12,
    'num_decoder_layers': 12,
}
ROWS, INPUTS, TARGETS = 8, 512, 128
TOKENS = ROWS * (INPUTS + TARGETS)

# The peer's process. It has another Python, which need not have our package.
_PEER = """
import json, sys, time
import numpy, torch, transformers
sizes, rows, inputs, targets, steps = json.loads(sys.argv[1])
torch.manual_seed(0)
model = transformers.T5ForConditionalGeneration(transformers.T5Config(
    vocab_size=sizes['vocab_size'], d_model=sizes['emb_dim'],
    d_kv=sizes['head_dim'], d_ff=sizes['mlp_dim'],
    num_layers=sizes['num_encoder_layers'],
    num_decoder_layers=sizes['num_decoder_layers'],
    num_heads=sizes['num_heads'], feed_forward_proj='gated-gelu',
    tie_word_embeddings=False, dropout_rate=0.0, use_cache=False,
    pad_token_id=0, decoder_start_token_id=0))
if model.lm_head.weight is model.shared.weight:
  # Some versions tie them all the same.
  own = model.shared.weight.detach().clone()
  model.lm_head.weight = torch.nn.Parameter(own)
model.train()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-4)
rng = numpy.random.default_rng(0)
ids = torch.tensor(rng.integers(3, 32000, (rows, inputs)))
labels = torch.tensor(rng.integers(3, 32000, (rows, targets)))
mask = torch.ones_like(ids)
def step():
  optimizer.zero_grad(set_to_none=True)
  loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
  loss.backward()
  optimizer.step()
  return loss.item()
step()
for _ in range(steps):
  cpu, wall = time.process_time(), time.perf_counter()
  step()
  print(json.dumps([time.perf_counter() - wall, time.process_time() - cpu]))
"""


def _ours(changes: dict, steps: int) -> None:
  """Prints the wall and CPU seconds of each step."""
  from flan_jax import heap

  heap.keep()  # As `flan-jax train` does on a CPU.

  import jax
  import numpy as np

  compiled, state = _compiled({**SIZES, **changes}, with_state=True)
  rng = np.random.default_rng(0)
  batch = {
      name: (
          rng.integers(3, 32000, shape.shape, np.int32)
          if name.endswith('tokens')
          else np.ones(shape.shape, np.int32)
      )
      for name, shape in _batch().items()
  }
  for i in range(steps + 1):
    cpu, wall = time.process_time(), time.perf_counter()
    state, _ = compiled(state, batch)
    jax.block_until_ready(state)
    if i:
      times = [time.perf_counter() - wall, time.process_time() - cpu]
      print(json.dumps(times), flush=True)


def _batch() -> dict:
  import jax
  import jax.numpy as jnp

  inputs = jax.ShapeDtypeStruct((ROWS, INPUTS), jnp.int32)
  targets = jax.ShapeDtypeStruct((ROWS, TARGETS), jnp.int32)
  return {
      'encoder_input_tokens': inputs,
      'encoder_segment_ids': inputs,
      'decoder_input_tokens': targets,
      'decoder_target_tokens': targets,
      'decoder_segment_ids': targets,
      'decoder_loss_weights': targets,
  }


def _compiled(sizes: dict, with_state: bool = False) -> tuple:
  """Returns the compiled step, and a state for it if wanted."""
  from flan_jax.models import config
  from flan_jax.models import interface
  from flan_jax.training import state as state_lib
  from flan_jax.training import step
  import jax
  import jax.numpy as jnp
  import optax

  model = interface.create(config.EncoderDecoderConfig(**sizes))
  optimizer = optax.adamw(1e-3)

  def start() -> state_lib.TrainState:
    params = model.init(jax.random.key(0))
    zero = jnp.zeros((), jnp.int32)
    return state_lib.TrainState(zero, params, optimizer.init(params))

  train_step = jax.jit(
      functools.partial(
          step.train_step,
          model=model,
          optimizer=optimizer,
          learning_rate=optax.constant_schedule(1e-3),
          config=step.StepConfig(seed=0),
      ),
      donate_argnums=0,
  )
  compiled = train_step.lower(jax.eval_shape(start), _batch()).compile()
  return compiled, jax.jit(start)() if with_state else None


def _memory(sizes: dict) -> None:
  """Prints the bytes of temporary arrays, and the seconds of compiling."""
  begin = time.perf_counter()
  compiled, _ = _compiled(sizes)
  seconds = time.perf_counter() - begin
  print(json.dumps([compiled.memory_analysis().temp_size_in_bytes, seconds]))


def _lines(command: list[str]) -> list[list[float]]:
  done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
  return [json.loads(line) for line in done.stdout.splitlines()]


def _worker(kind: str, *arguments) -> list[list[float]]:
  return _lines(
      [sys.executable, __file__, '--worker', kind, json.dumps(arguments)]
  )


def _time_table(peer: str | None, rounds: int, steps: int) -> None:
  """Prints the table of steps."""
  ours = {
      'flan_jax': {},
      'flan_jax, loss_chunks 4': {'loss_chunks': 4},
      "flan_jax, remat 'minimal'": {'remat': 'minimal'},
      "flan_jax, remat 'full'": {'remat': 'full'},
  }
  found: dict[str, list[list[float]]] = {}
  for _ in range(rounds):
    if peer:
      asked = json.dumps([SIZES, ROWS, INPUTS, TARGETS, steps])
      lines = _lines([peer, '-c', _PEER, asked])
      found.setdefault('transformers, PyTorch', []).extend(lines)
    for name, changes in ours.items():
      found.setdefault(name, []).extend(_worker('ours', changes, steps))
  print(
      '| step | seconds, median | lowest | CPU seconds, median | tokens/s |\n'
      '| --- | ---: | ---: | ---: | ---: |'
  )
  for name, times in found.items():
    wall, cpu = zip(*times, strict=True)
    middle = statistics.median(wall)
    print(
        f'| {name} | {middle:.2f} | {min(wall):.2f} |'
        f' {statistics.median(cpu):.2f} | {TOKENS / middle:,.0f} |'
    )


def _memory_table() -> None:
  """Prints the table of memory."""
  print('\n| T5 1.1 base | temporary arrays, GB | compiling, s |')
  print('| --- | ---: | ---: |')
  for remat in ('none', 'minimal', 'full'):
    for chunks in (1, 8):
      changes = {'remat': remat, 'loss_chunks': chunks}
      ((size, seconds),) = _worker('memory', {**BASE, **changes})
      print(
          f'| remat {remat!r}, loss_chunks {chunks} | {size / 1e9:.2f} |'
          f' {seconds:.1f} |',
          flush=True,
      )


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument('--peer', help='a Python with torch and transformers')
  parser.add_argument('--rounds', type=int, default=3)
  parser.add_argument('--steps', type=int, default=5, help='timed, a process')
  parser.add_argument('--only', choices=('time', 'memory'))
  parser.add_argument('--worker', nargs=2, help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.worker:
    kind, arguments = args.worker
    {'ours': _ours, 'memory': _memory}[kind](*json.loads(arguments))
    return
  if args.only != 'memory':
    _time_table(args.peer, args.rounds, args.steps)
  if args.only != 'time':
    _memory_table()


if __name__ == '__main__':
  main()
