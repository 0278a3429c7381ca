"""Tokens a second on a GPU, beside what its memory allows.

  python benchmarks/gpu_decoding.py --bandwidth=4800
  python benchmarks/gpu_decoding.py --bandwidth=4800 --sizes=xl --peer

T5 1.1 in bfloat16 with random parameters, inputs of 512 tokens, 64 new tokens
each, greedily (the end does not end them), for several batch sizes. A step
cannot take less time than its memory needs to be read once: the decoder's
parameters, the context's keys and values, and the cache. The bound is
`--bandwidth` (GB/s, of the GPU's data sheet; 4,800 is an H200's) divided by
that; the encoder is timed apart, as it is bound by products. The peer is
`transformers` under PyTorch with random parameters of its own, the same sizes
and dtype, on the same GPU, in this process's Python.
"""

import argparse
import statistics
import time

from flan_jax.inference import decoding
from flan_jax.models import config as config_lib
from flan_jax.models import interface
import jax
import jax.numpy as jnp
import numpy as np

_SIZES = {
    'tiny': {
        'emb_dim': 32,
        'num_heads': 2,
        'head_dim': 8,
        'mlp_dim': 64,
        'layers': 2,
    },
    'large': {
        'emb_dim': 1024,
        'num_heads': 16,
        'head_dim': 64,
        'mlp_dim': 2816,
        'layers': 24,
    },
    'xl': {
        'emb_dim': 2048,
        'num_heads': 32,
        'head_dim': 64,
        'mlp_dim': 5120,
        'layers': 24,
    },
}


def _model(name: str) -> interface.Model:
  sizes = dict(_SIZES[name])
  layers = sizes.pop('layers')
  return interface.create(
      config_lib.EncoderDecoderConfig(
          num_encoder_layers=layers,
          num_decoder_layers=layers,
          dtype='bfloat16',
          **sizes,
      )
  )


def _median(work, repeats: int) -> float:
  """Returns seconds; `work` waits for its result."""
  work()
  times = []
  for _ in range(repeats):
    begin = time.perf_counter()
    work()
    times.append(time.perf_counter() - begin)
  return statistics.median(times)


def _step_bytes(steps: interface.Steps, cache: interface.Cache) -> int:
  """Returns the bytes that a step reads: of the table only a few rows."""
  read = (
      [layer for layer in steps.layers],
      steps.params['decoder'],
      steps.key,
      steps.value,
      cache.key,
      cache.value,
  )
  total = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(read))
  # Keys and values of the context are made once; their kernels are not read.
  unused = [
      layer['encoder_decoder_attention'][name]
      for layer in steps.layers
      for name in ('key', 'value')
  ]
  return total - sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(unused))


def _ours(name: str, rows: int, args: argparse.Namespace) -> list[float]:
  """Returns seconds of the encoder, of the whole, and of the bound's loop."""
  model = _model(name)
  params = jax.jit(model.init)(jax.random.key(0))
  rng = np.random.default_rng(0)
  tokens = jnp.asarray(rng.integers(3, 32000, (rows, args.inputs)), jnp.int32)
  target = decoding.Target(max_length=args.written, eos_id=-1)
  method = decoding.Single(target, jnp.ones(rows, bool))
  encode = jax.jit(model.encode)

  @jax.jit
  def write(params, tokens):
    context = model.encode(params, tokens)
    return decoding.decode(model, params, context, method).tokens

  def read(params, tokens):
    steps = model.steps(params, model.encode(params, tokens))
    return steps, model.init_cache(rows, args.written)

  size = _step_bytes(*jax.eval_shape(read, params, tokens))
  return [
      _median(lambda: jax.block_until_ready(encode(params, tokens)), 5),
      _median(lambda: jax.block_until_ready(write(params, tokens)), 5),
      args.written * size / (args.bandwidth * 1e9),
  ]


def _theirs(name: str, rows: int, args: argparse.Namespace) -> list[float]:
  """Returns seconds of the peer's encoder and of the whole."""
  import torch  # type: ignore[import-not-found]
  import transformers  # type: ignore[import-not-found]

  sizes = _SIZES[name]
  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  model = transformers.T5ForConditionalGeneration(
      transformers.T5Config(
          vocab_size=32128,
          d_model=sizes['emb_dim'],
          d_kv=sizes['head_dim'],
          d_ff=sizes['mlp_dim'],
          num_layers=sizes['layers'],
          num_heads=sizes['num_heads'],
          feed_forward_proj='gated-gelu',
          tie_word_embeddings=False,
          pad_token_id=0,
          decoder_start_token_id=0,
      )
  )
  model = model.to(device, torch.bfloat16).eval()
  model.generation_config.eos_token_id = None
  ids = torch.randint(3, 32000, (rows, args.inputs), device=device)
  mask = torch.ones_like(ids)

  def waited(work):
    def run():
      with torch.no_grad():
        work()
      if device == 'cuda':
        torch.cuda.synchronize()

    return run

  return [
      _median(waited(lambda: model.encoder(ids, attention_mask=mask)), 5),
      _median(
          waited(
              lambda: model.generate(
                  input_ids=ids,
                  attention_mask=mask,
                  do_sample=False,
                  num_beams=1,
                  max_new_tokens=args.written,
              )
          ),
          5,
      ),
  ]


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--bandwidth', type=float, required=True, help='GB/s')
  parser.add_argument('--sizes', nargs='+', default=['large', 'xl'])
  parser.add_argument('--rows', nargs='+', type=int, default=[1, 16, 64])
  parser.add_argument('--inputs', type=int, default=512)
  parser.add_argument('--written', type=int, default=64)
  parser.add_argument('--peer', action='store_true')
  args = parser.parse_args()
  print(
      '| size, rows | who | new tokens/s, whole | encoder, s | loop, s | loop'
      " by memory's bound, s | of the bound |\n| --- | --- | ---: | ---: | ---:"
      ' | ---: | ---: |'
  )
  for name in args.sizes:
    for rows in args.rows:
      encoder, whole, bound = _ours(name, rows, args)
      found = [('flan_jax', encoder, whole)]
      if args.peer:
        found.append(('transformers', *_theirs(name, rows, args)))
      for who, encoder, whole in found:
        loop = whole - encoder
        print(
            f'| {name}, {rows} | {who} | {rows * args.written / whole:,.0f} |'
            f' {encoder:.4f} | {loop:.4f} | {bound:.4f} | {bound / loop:.0%} |',
            flush=True,
        )


if __name__ == '__main__':
  main()
