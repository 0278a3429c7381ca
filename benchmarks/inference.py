"""What ranking saves by sharing the input, and decoding by its cache.

  python benchmarks/inference.py [--inputs=256] [--examples=64]

A small encoder-decoder with random parameters reads bytes. Ranking puts all
options of an example beside one encoded input; the peer is the usual way (T5X's
scoring, lm-eval's seq2seq models): every option is an example of its own, with
the input encoded again. Both run through the same predictor, compiled before
the clock starts. Decoding is compared with running the whole decoder at each
step. Figures are examples a CPU-second of this process, all threads counted.
"""

import argparse
from collections.abc import Callable
import dataclasses
import time

from flan_jax import partitioning
from flan_jax import vocabularies
from flan_jax.data import examples as examples_lib
from flan_jax.inference import decoding
from flan_jax.inference import predictor as predictor_lib
from flan_jax.models import config
from flan_jax.models import interface
import jax
import jax.numpy as jnp
import numpy as np

OPTIONS = (2, 4, 10)
OPTION_TOKENS = 8
WRITTEN = 32
REPEATS = 3


def _model(emb_dim: int) -> tuple[interface.Model, object]:
  model = interface.create(
      config.EncoderDecoderConfig(
          vocab_size=384,
          emb_dim=emb_dim,
          num_heads=emb_dim // 32,
          num_encoder_layers=3,
          num_decoder_layers=3,
          head_dim=32,
          mlp_dim=emb_dim * 8 // 3,
      )
  )
  return model, jax.jit(model.init)(jax.random.key(0))


def _examples(
    count: int, length: int, options: int
) -> list[examples_lib.Example]:
  rng = np.random.default_rng(0)
  letters = np.array(list('abcdefgh '))

  def text(tokens: int) -> str:
    return ''.join(rng.choice(letters, tokens - 1))  # And the end.

  return [
      examples_lib.Example(
          task='benchmark',
          template='',
          row_id=str(number),
          inputs=text(length),
          targets='',
          options=tuple(text(OPTION_TOKENS) for _ in range(options)),
          answer_index=0,
      )
      for number in range(count)
  ]


def _apart(
    examples: list[examples_lib.Example],
) -> list[examples_lib.Example]:
  """Makes an example of each option."""
  return [
      dataclasses.replace(example, options=(option,))
      for example in examples
      for option in example.options or ()
  ]


def _per_second(work: Callable[[], object], examples: int) -> float:
  """Returns examples a CPU-second: the best of several runs."""
  work()
  times = []
  for _ in range(REPEATS):
    begin = time.process_time()
    work()
    times.append(time.process_time() - begin)
  return examples / min(times)


def _ranking(
    predictor: predictor_lib.Predictor, count: int, length: int
) -> None:
  print('| options | beside one input | an example each | ratio |')
  print('| ---: | ---: | ---: | ---: |')
  for options in OPTIONS:
    examples = _examples(count, length, options)
    apart = _apart(examples)
    together = predictor.rank(examples)
    one_by_one = iter(predictor.rank(apart))
    for prediction in together:
      expected = [next(one_by_one).score for _ in range(options)]
      np.testing.assert_allclose(
          prediction.option_scores or (), expected, rtol=1e-4, atol=1e-4
      )
    shared = _per_second(lambda e=examples: predictor.rank(e), count)
    naive = _per_second(lambda a=apart: predictor.rank(a), count)
    print(f'| {options} | {shared:.1f} | {naive:.1f} | {shared / naive:.2f} |')


def _decoding(
    model: interface.Model, params: object, batch: int, length: int
) -> None:
  rng = np.random.default_rng(0)
  tokens = jnp.asarray(rng.integers(3, 259, (batch, length)), jnp.int32)

  @jax.jit
  def cached(tokens):
    return decoding.greedy(
        model,
        params,
        model.encode(params, tokens),
        jnp.ones(batch, bool),
        max_length=WRITTEN,
        eos_id=-1,  # Never: both ways write all tokens.
    ).tokens

  @jax.jit
  def naive(tokens):
    def step(i, written):
      inputs = jnp.pad(written[:, :-1], ((0, 0), (1, 0)))
      logits = model.logits(
          params,
          {
              'encoder_input_tokens': tokens,
              'decoder_input_tokens': inputs,
              'decoder_segment_ids': jnp.ones_like(inputs),
          },
      )
      best = jnp.argmax(logits[:, i], axis=-1).astype(jnp.int32)
      return written.at[:, i].set(best)

    zeros = jnp.zeros((batch, WRITTEN), jnp.int32)
    return jax.lax.fori_loop(0, WRITTEN, step, zeros)

  agree = (cached(tokens) == naive(tokens)).mean()
  print(f'\n{WRITTEN} tokens written to each input, {agree:.1%} of them equal:')
  print('| way | examples a CPU-second |')
  print('| --- | ---: |')
  for name, way in (('cache', cached), ('no cache', naive)):
    rate = _per_second(lambda w=way: w(tokens).block_until_ready(), batch)
    print(f'| {name} | {rate:.1f} |')


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--inputs', type=int, default=256, help='tokens')
  parser.add_argument('--examples', type=int, default=64)
  parser.add_argument('--batch_size', type=int, default=32)
  parser.add_argument('--emb_dim', type=int, default=192)
  args = parser.parse_args()
  model, params = _model(args.emb_dim)
  predictor = predictor_lib.Predictor(
      model,
      params,
      vocabularies.ByteVocabulary(),
      mesh=partitioning.make_mesh(),
      lengths={'inputs': args.inputs, 'targets': WRITTEN},
      batch_size=args.batch_size,
  )
  print(
      f'inputs of {args.inputs} tokens, options of {OPTION_TOKENS};'
      ' examples a CPU-second'
  )
  _ranking(predictor, args.examples, args.inputs)
  _decoding(model, params, args.batch_size, args.inputs)


if __name__ == '__main__':
  main()
