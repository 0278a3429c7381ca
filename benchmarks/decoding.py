"""What writing answers costs on a CPU, beside `transformers`.

  python benchmarks/decoding.py --peer=ANOTHER_VENV/bin/python

The model is T5 1.1 with d_model 256, 4 heads of 64, d_ff 1,024, 4 + 4 layers
and 32,128 tokens, float32, with random parameters; batches of 16 inputs of 512
tokens, 64 new tokens each (the end does not end them). Ours are written by the
`Generator` of `flan-jax infer`, which has two batches at work on a CPU; `alone`
is one batch at a time. Seconds are those of a batch, of the time of 8. The peer
is T5ForConditionalGeneration.generate under PyTorch with the same parameters;
`--peer` names a Python that has torch and transformers. The two run by turns, a
process each, and must write the same tokens. Sampling and beams are ours alone.

`uneven` answers have 1 to 64 tokens, evenly: an end is put after as many as a
row's first input says. They are written in batches that end with their longest,
and with rows that are replaced when they have ended, as the `Generator` does
where more wait than are at work.

CPU seconds are those of all threads: on a shared machine they tell most.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
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
TINY = SIZES | {
    'vocab_size': 256,
    'emb_dim': 32,
    'head_dim': 8,
    'mlp_dim': 64,
    'num_encoder_layers': 2,
    'num_decoder_layers': 2,
}
ROWS, INPUTS, WRITTEN, BATCHES = 16, 512, 64, 8
UNEVEN_BATCHES = 16
# What is measured of ours, and what the table calls it.
WAYS = {
    'greedy': 'greedy',
    'alone': 'greedy, a batch alone',
    'sample': 'drawn, top-k 40, top-p 0.9',
    'beam': '4 beams',
    'uneven batches': 'greedy, uneven, whole batches',
    'uneven': 'greedy, uneven, rows replaced',
}
_END = 1

# The peer's process. It has another Python, which need not have our package.
_PEER = """
import json, sys, time
import numpy, torch, transformers
sizes, folder, written, repeats = json.loads(sys.argv[1])
arrays = numpy.load(folder + '/params.npz')
model = transformers.T5ForConditionalGeneration(transformers.T5Config(
    vocab_size=sizes['vocab_size'], d_model=sizes['emb_dim'],
    d_kv=sizes['head_dim'], d_ff=sizes['mlp_dim'],
    num_layers=sizes['num_encoder_layers'],
    num_decoder_layers=sizes['num_decoder_layers'],
    num_heads=sizes['num_heads'], feed_forward_proj='gated-gelu',
    tie_word_embeddings=False, dropout_rate=0.0, pad_token_id=0,
    decoder_start_token_id=0)).eval()
if model.lm_head.weight is model.shared.weight:
  # Some versions tie them all the same.
  own = model.shared.weight.detach().clone()
  model.lm_head.weight = torch.nn.Parameter(own)
state = model.state_dict()
def put(name, array, flip=True):
  value = torch.tensor(array.T.copy() if flip else array)
  assert state[name].shape == value.shape, name
  state[name].copy_(value)
def block(ours, theirs, names):
  for our, their in names:
    scale = our.endswith('scale')
    put(theirs + their + '.weight', arrays[ours + our], flip=not scale)
def attention(our, their):
  return [(f'{our}/{a}/kernel', f'{their}.{b}') for a, b in zip(
      ('query', 'key', 'value', 'out'), 'qkvo')]
def mlp(layer):
  return [('mlp/wi_0/kernel', f'{layer}.DenseReluDense.wi_0'),
          ('mlp/wi_1/kernel', f'{layer}.DenseReluDense.wi_1'),
          ('mlp/wo/kernel', f'{layer}.DenseReluDense.wo'),
          ('pre_mlp_layer_norm/scale', f'{layer}.layer_norm')]
with torch.no_grad():
  put('shared.weight', arrays['token_embedder/embedding'], flip=False)
  for stack in ('encoder', 'decoder'):
    put(f'{stack}.embed_tokens.weight', arrays['token_embedder/embedding'],
        flip=False)
    put(f'{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight',
        arrays[f'{stack}/relpos_bias/rel_embedding'])
    put(f'{stack}.final_layer_norm.weight',
        arrays[f'{stack}/{stack}_norm/scale'], flip=False)
  for i in range(sizes['num_encoder_layers']):
    block(f'encoder/layers_{i}/', f'encoder.block.{i}.layer.', [
        *attention('attention', '0.SelfAttention'),
        ('pre_attention_layer_norm/scale', '0.layer_norm'), *mlp(1)])
  for i in range(sizes['num_decoder_layers']):
    block(f'decoder/layers_{i}/', f'decoder.block.{i}.layer.', [
        *attention('self_attention', '0.SelfAttention'),
        ('pre_self_attention_layer_norm/scale', '0.layer_norm'),
        *attention('encoder_decoder_attention', '1.EncDecAttention'),
        ('pre_cross_attention_layer_norm/scale', '1.layer_norm'), *mlp(2)])
  put('lm_head.weight', arrays['decoder/logits_dense/kernel'])
model.generation_config.eos_token_id = None
model.config.eos_token_id = None
ids = torch.tensor(numpy.load(folder + '/inputs.npy')).long()
mask = torch.ones_like(ids)
def encode():
  return model.encoder(input_ids=ids, attention_mask=mask)
def write():
  return model.generate(input_ids=ids, attention_mask=mask, do_sample=False,
                        num_beams=1, max_new_tokens=written)
def timed(work):
  cpu, wall = time.process_time(), time.perf_counter()
  found = work()
  return found, [time.perf_counter() - wall, time.process_time() - cpu]
with torch.no_grad():
  encode()
  tokens = write()[:, 1:]
  assert tokens.shape == (len(ids), written), tokens.shape
  numpy.save(folder + '/peer.npy', tokens.numpy())
  for _ in range(repeats):
    print(json.dumps({'encoder': timed(encode)[1], 'whole': timed(write)[1]}))
"""


def _model(sizes: dict):
  from flan_jax.models import config
  from flan_jax.models import interface

  return interface.create(config.EncoderDecoderConfig(**sizes))


def _prepare(sizes: dict, folder: str, rows: int, inputs: int) -> None:
  """Writes parameters under T5X's names, and inputs."""
  import jax
  import numpy as np

  model = _model(sizes)
  flat = model.unstack(jax.jit(model.init)(jax.random.key(0)))
  np.savez(f'{folder}/params.npz', **flat)
  rng = np.random.default_rng(0)
  tokens = rng.integers(3, sizes['vocab_size'], (rows, inputs), np.int32)
  np.save(f'{folder}/inputs.npy', tokens)


class _Uneven:
  """A model whose rows end after as many tokens as their first input says."""

  def __init__(self, model):
    self._model = model

  def __getattr__(self, name: str):
    return getattr(self._model, name)

  def encode(self, params, tokens_BxS):
    import jax.numpy as jnp

    context = self._model.encode(params, tokens_BxS)
    lengths_Bx1 = tokens_BxS[:, :1].astype(jnp.float32)
    return context._replace(logits_BxV=lengths_Bx1)

  def start(self, steps, cache):
    logits_Bx1xV, cache = self._model.start(steps, cache)
    return self._ended(steps, logits_Bx1xV, cache), cache

  def decode_step(self, steps, cache, *more):
    logits_BxKxV, cache = self._model.decode_step(steps, cache, *more)
    return self._ended(steps, logits_BxKxV, cache), cache

  def _ended(self, steps, logits_BxKxV, cache):
    import jax.numpy as jnp

    ends_Bx1 = cache.position >= steps.logits_BxV
    end_Bx1 = jnp.where(ends_Bx1, 1e4, -1e4)
    return logits_BxKxV.at[..., _END].set(end_Bx1)


def _ours(sizes: dict, folder: str, written: int, repeats: int, kind: str):
  """Prints the wall and CPU seconds of each run."""
  from flan_jax import heap

  heap.keep()  # As `flan-jax infer` does on a CPU.

  import types

  from flan_jax import partitioning
  from flan_jax.inference import generating
  from flan_jax.inference import running
  from flan_jax.inference import settings
  import jax
  import jax.numpy as jnp
  import numpy as np

  model = _model(sizes)
  with np.load(f'{folder}/params.npz') as arrays:
    params = jax.tree.map(jnp.asarray, model.stack(dict(arrays)))
  tokens = np.load(f'{folder}/inputs.npy')
  rows, inputs = tokens.shape
  uneven = kind.startswith('uneven')
  batches = UNEVEN_BATCHES if uneven else BATCHES
  tokens = np.tile(tokens, (batches, 1))
  if uneven:
    model = _Uneven(model)
    rng = np.random.default_rng(1)
    tokens[:, 0] = rng.integers(1, written + 1, len(tokens))
  asked_of = tokens.tolist()
  method = kind if kind in ('sample', 'beam') else 'greedy'
  draw = {'top_k': 40, 'top_p': 0.9} if kind == 'sample' else {}
  generator = generating.Generator(
      model,
      types.SimpleNamespace(
          size=sizes['vocab_size'],
          # No token ends an answer, unless answers are to be uneven.
          eos_id=_END if uneven else -1,
          pad_id=0,
      ),
      runner=running.Runner(
          partitioning.make_mesh(partitioning.MeshConfig()), batch_size=rows
      ),
      lengths={'inputs': inputs, 'targets': written},
  )
  asked = settings.Decoding(method=method, **draw)
  encode = jax.jit(model.encode)
  on_device = jnp.asarray(tokens[:rows])
  # Rows are replaced where there are more batches than two.
  together = {'alone': 1, 'uneven batches': 2}.get(kind, batches) * rows

  def write() -> list[generating.Generated]:
    found = []
    for first in range(0, len(tokens), together):
      some = asked_of[first : first + together]
      keys = [str(first + i) for i in range(len(some))]
      found += generator.generate(params, some, asked, keys)
    return found

  def read() -> None:
    for _ in range(BATCHES):
      jax.block_until_ready(encode(params, on_device))

  def timed(work, batches: int) -> list[float]:
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return [wall / batches, cpu / batches]

  read()
  said = write()
  if uneven:
    assert [len(each.tokens) for each in said] == tokens[:, 0].tolist()
  else:
    first = [each.tokens for each in said[:rows]]
    np.save(f'{folder}/{kind}.npy', np.asarray(first))
  count = sum(len(each.tokens) for each in said) / batches
  for _ in range(repeats):
    times = {
        'encoder': timed(read, BATCHES),
        'whole': timed(write, batches),
        'tokens': count,
    }
    print(json.dumps(times), flush=True)


def _lines(command: list[str]) -> list[dict]:
  done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
  return [json.loads(line) for line in done.stdout.splitlines()]


def _row(name: str, times: list[dict], tokens: float) -> str:
  wall, cpu = zip(*(each['whole'] for each in times), strict=True)
  encoder = statistics.median(each['encoder'][0] for each in times)
  middle = statistics.median(wall)
  tokens = times[0].get('tokens', tokens)
  return (
      f'| {name} | {tokens / middle:,.0f} | {middle:.2f} | {min(wall):.2f} |'
      f' {encoder:.2f} | {statistics.median(cpu):.2f} |'
  )


def _table(args: argparse.Namespace, folder: str) -> None:
  """Runs everything by turns and prints the table."""
  import numpy as np

  sizes = TINY if args.tiny else SIZES
  rows, inputs, written = (2, 16, 8) if args.tiny else (ROWS, INPUTS, WRITTEN)
  worker = [sys.executable, __file__, '--worker']
  prepare = json.dumps([sizes, folder, rows, inputs])
  subprocess.run([*worker, 'prepare', prepare], check=True)
  found: dict[str, list[dict]] = {}
  for _ in range(args.rounds):
    if args.peer:
      asked = json.dumps([sizes, folder, written, args.repeats])
      lines = _lines([args.peer, '-c', _PEER, asked])
      found.setdefault('transformers, PyTorch, greedy', []).extend(lines)
    for kind in args.only:
      asked = json.dumps([sizes, folder, written, args.repeats, kind])
      lines = _lines([*worker, 'ours', asked])
      found.setdefault(f'flan_jax, {WAYS[kind]}', []).extend(lines)
  if args.peer and 'greedy' in args.only:
    ours, theirs = (
        np.load(f'{folder}/{name}.npy') for name in ('greedy', 'peer')
    )
    print(f'{(ours == theirs).mean():.2%} of tokens are equal\n')
  print(
      '| | new tokens/s | seconds, median | lowest | of these the encoder | CPU'
      ' seconds |\n| --- | ---: | ---: | ---: | ---: | ---: |'
  )
  for name, times in found.items():
    print(_row(name, times, rows * written))


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--peer', help='a Python with torch and transformers')
  parser.add_argument('--rounds', type=int, default=1)
  parser.add_argument('--repeats', type=int, default=5, help='timed, a process')
  parser.add_argument(
      '--only', nargs='+', choices=WAYS, default=[*WAYS], help='of our ways'
  )
  parser.add_argument('--tiny', action='store_true', help='to see that it runs')
  parser.add_argument('--worker', nargs=2, help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.worker:
    kind, arguments = args.worker
    {'prepare': _prepare, 'ours': _ours}[kind](*json.loads(arguments))
    return
  with tempfile.TemporaryDirectory() as folder:
    _table(args, str(pathlib.Path(folder)))


if __name__ == '__main__':
  main()
