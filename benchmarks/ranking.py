"""How fast options are ranked, with lengths that are equal and that are mixed.

  python benchmarks/ranking.py [--peer=OTHER_VENV/bin/python]

prints the tables of inference.md's sections "Ranking", "Mixed lengths" and
"Compilations". A T5 1.1 with d_model 256, 4 heads of 64, d_ff 1,024, 4 + 4
layers and 32,128 tokens, float32, random parameters. It reads bytes, so that a
text has as many tokens as wanted.

Ranking: all options beside one encoded input; each pair on its own, by the same
predictor; and, if there is a peer (a Python with PyTorch and transformers),
each pair on its own through transformers, in batches of the same size, on the
same weights. Scores agree to 1e-4. The ways take turns in each round.
"""

import argparse
from collections.abc import Callable, Sequence
import dataclasses
import functools
import json
import pathlib
import statistics
import subprocess
import tempfile
import time
from typing import Any

from flan_jax import heap
from flan_jax import partitioning
from flan_jax import vocabularies
from flan_jax.data import catalogue as catalogue_lib
from flan_jax.data import examples as examples_lib
from flan_jax.data import mixtures
from flan_jax.data import pipeline
from flan_jax.data import rows
from flan_jax.inference import predictor as predictor_lib
from flan_jax.models import config
from flan_jax.models import interface
import jax
import numpy as np

INPUTS = 512
# Options, and their tokens with EOS.
RANKED = ((4, 4), (10, 4), (4, 16))
FIXED = (16, 32, 64, 128, 256, 384, 512)
# Tasks of the mini mixture, with exemplars for the sake of their lengths.
SHOTS = ('', ':2_shot', ':5_shot')
TASKS = 12

# The peer's process. It has another Python, which need not have our package.
# For each line that it reads it scores all pairs once.
_PEER = """
import json, sys, time
import numpy, torch, transformers
folder, rows, sizes = json.loads(sys.argv[1])
model = transformers.T5ForConditionalGeneration(transformers.T5Config(
    vocab_size=sizes['vocab_size'], d_model=sizes['emb_dim'],
    d_kv=sizes['head_dim'], d_ff=sizes['mlp_dim'],
    num_layers=sizes['num_encoder_layers'],
    num_decoder_layers=sizes['num_decoder_layers'],
    num_heads=sizes['num_heads'], feed_forward_proj='gated-gelu',
    tie_word_embeddings=False, dropout_rate=0.0,
    pad_token_id=0, decoder_start_token_id=0)).eval()
flat = dict(numpy.load(folder + '/weights.npz'))
def weight(name, turned=True):
  return torch.tensor(flat[name].T if turned else flat[name])
found = {'shared.weight': weight('token_embedder/embedding', False),
         'lm_head.weight': weight('decoder/logits_dense/kernel')}
blocks = {
    'encoder': [('attention', 'pre_attention_layer_norm', 'SelfAttention')],
    'decoder': [('self_attention', 'pre_self_attention_layer_norm',
                 'SelfAttention'),
                ('encoder_decoder_attention', 'pre_cross_attention_layer_norm',
                 'EncDecAttention')]}
for stack, attentions in blocks.items():
  found[stack + '.embed_tokens.weight'] = found['shared.weight']
  found[stack + '.final_layer_norm.weight'] = weight(
      f'{stack}/{stack}_norm/scale', False)
  found[stack + '.block.0.layer.0.SelfAttention.relative_attention_bias.weight'
        ] = weight(stack + '/relpos_bias/rel_embedding')
  for i in range(sizes[f'num_{stack}_layers']):
    ours = f'{stack}/layers_{i}/'
    for j, (name, norm, theirs) in enumerate(attentions):
      layer = f'{stack}.block.{i}.layer.{j}.'
      found[layer + 'layer_norm.weight'] = weight(ours + norm + '/scale', False)
      for part in ('query', 'key', 'value', 'out'):
        found[f'{layer}{theirs}.{part[0]}.weight'] = weight(
            f'{ours}{name}/{part}/kernel')
    layer = f'{stack}.block.{i}.layer.{len(attentions)}.'
    found[layer + 'layer_norm.weight'] = weight(
        ours + 'pre_mlp_layer_norm/scale', False)
    for part in ('wi_0', 'wi_1', 'wo'):
      found[f'{layer}DenseReluDense.{part}.weight'] = weight(
          f'{ours}mlp/{part}/kernel')
if model.lm_head.weight is model.shared.weight:
  # Some versions tie them all the same.
  own = model.shared.weight.detach().clone()
  model.lm_head.weight = torch.nn.Parameter(own)
missing = model.load_state_dict(found, strict=False)
assert not missing.missing_keys and not missing.unexpected_keys, missing
print('ready', flush=True)
for line in sys.stdin:
  pairs = dict(numpy.load(folder + '/' + line.strip()))
  ids = torch.tensor(pairs['inputs'], dtype=torch.long)
  labels = torch.tensor(pairs['targets'], dtype=torch.long)
  cpu, wall = time.process_time(), time.perf_counter()
  scores = []
  with torch.inference_mode():
    for start in range(0, len(ids), rows):
      own = slice(start, start + rows)
      logits = model(input_ids=ids[own], labels=labels[own],
                     attention_mask=torch.ones_like(ids[own])).logits
      log_probs = torch.log_softmax(logits, -1)
      each = log_probs.gather(-1, labels[own][..., None])[..., 0]
      scores += each.sum(-1).tolist()
  times = [time.perf_counter() - wall, time.process_time() - cpu]
  print(json.dumps([times, scores]), flush=True)
"""

Times = list[tuple[float, float]]


class Peer:
  """transformers in a process of its own."""

  def __init__(self, python: str, folder: str, rows: int, params: Any, model):
    self._folder = pathlib.Path(folder)
    np.savez(self._folder / 'weights.npz', **model.unstack(params))
    sizes = dataclasses.asdict(model.config)
    asked = json.dumps([folder, rows, sizes])
    self._process = subprocess.Popen(
        [python, '-c', _PEER, asked],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    self._line()

  def score(
      self, name: str, inputs: np.ndarray, targets: np.ndarray
  ) -> tuple[tuple[float, float], list[float]]:
    """Returns wall and CPU seconds, and the pairs' scores."""
    np.savez(self._folder / f'{name}.npz', inputs=inputs, targets=targets)
    assert self._process.stdin
    print(f'{name}.npz', file=self._process.stdin, flush=True)
    times, scores = json.loads(self._line())
    return tuple(times), scores

  def close(self) -> None:
    """Ends the process."""
    self._process.communicate()

  def _line(self) -> str:
    assert self._process.stdout
    line = self._process.stdout.readline()
    if not line:
      raise RuntimeError('the peer has ended; what it said is above')
    return line


def _model() -> tuple[interface.Model, Any]:
  model = interface.create(
      config.EncoderDecoderConfig(
          vocab_size=32128,
          emb_dim=256,
          num_heads=4,
          num_encoder_layers=4,
          num_decoder_layers=4,
          head_dim=64,
          mlp_dim=1024,
      )
  )
  return model, jax.jit(model.init)(jax.random.key(0))


def _predictor(
    model: interface.Model, params: Any, **more: Any
) -> predictor_lib.Predictor:
  more = {'lengths': {'inputs': INPUTS, 'targets': 64}} | more
  return predictor_lib.Predictor(
      model,
      params,
      more.pop('vocabulary', vocabularies.ByteVocabulary()),
      mesh=partitioning.make_mesh(),
      **more,
  )


def _texts(lengths: Sequence[int], seed: int) -> list[str]:
  """Returns texts of so many tokens, EOS included."""
  rng = np.random.default_rng(seed)
  letters = np.array(list('abcdefghijklmnopqrstuvwxyz '))
  return [''.join(rng.choice(letters, length - 1)) for length in lengths]


def _timed(work: Callable[[], Any]) -> tuple[tuple[float, float], Any]:
  cpu, wall = time.process_time(), time.perf_counter()
  found = work()
  return (time.perf_counter() - wall, time.process_time() - cpu), found


def _rank(
    predictor: predictor_lib.Predictor, lengths: Sequence[int], seed: int = 0
) -> tuple[Callable[[], Any], int]:
  """Returns what ranks four options of four tokens, and the real tokens."""
  inputs = _texts(lengths, seed)
  options = _options(4, 4, seed + 1)

  def work():
    return predictor.rank(inputs, options)

  return work, sum(lengths) + len(lengths) * 16


def _options(count: int, tokens: int, seed: int) -> list[str]:
  """Returns different options."""
  first = 'abcdefghijkl'
  return [
      first[i] + text
      for i, text in enumerate(_texts([tokens - 1] * count, seed))
  ]


def _ranking_table(peer_python: str | None, args: argparse.Namespace) -> None:
  model, params = _model()
  vocabulary = vocabularies.ByteVocabulary()
  print(f'Inputs of {INPUTS} tokens, batches of {args.batch_size} rows.\n')
  print(
      '| options | tokens each | way | examples/s, median | lowest, highest |'
      ' CPU ms an example | ratio, wall | ratio, CPU |'
  )
  print('| ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: |')
  with tempfile.TemporaryDirectory() as folder:
    peer = peer_python and Peer(
        peer_python, folder, args.batch_size, params, model
    )
    for count, tokens in RANKED:
      predictor = _predictor(model, params, batch_size=args.batch_size)
      texts = _texts([INPUTS] * args.examples, 0)
      options = _options(count, tokens, 1)
      pairs = [(text, option) for text in texts for option in options]
      apart = [(text, [option]) for text, option in pairs]
      ways: dict[str, Callable[[], tuple[tuple[float, float], list[float]]]] = {
          'beside one input': functools.partial(
              _together, predictor, texts, options
          ),
          'each pair on its own': functools.partial(_apart, predictor, apart),
      }
      if peer:
        read = [[*vocabulary.encode(text), 1] for text, _ in pairs]
        written = [[*vocabulary.encode(option), 1] for _, option in pairs]
        name = f'{count}_{tokens}'
        ways['each pair on its own, `transformers`'] = functools.partial(
            peer.score, name, np.asarray(read), np.asarray(written)
        )
      times: dict[str, Times] = {way: [] for way in ways}
      first: list[float] = []
      for turn in range(args.rounds + 1):
        for way, work in ways.items():
          seconds, scores = work()
          first = first or scores
          np.testing.assert_allclose(scores, first, rtol=1e-4, atol=1e-4)
          if turn:
            times[way].append(seconds)
      _rows(count, tokens, times, args.examples)
    if peer:
      peer.close()


def _together(predictor, texts, options):
  times, found = _timed(lambda: predictor.rank(texts, options))
  return times, [score for one in found for score in one.option_scores]


def _apart(predictor, pairs):
  texts, options = zip(*pairs, strict=True)
  times, found = _timed(lambda: predictor.rank(texts, options))
  return times, [one.score for one in found]


def _rows(
    count: int, tokens: int, times: dict[str, Times], examples: int
) -> None:
  wall = {way: statistics.median(t for t, _ in ts) for way, ts in times.items()}
  cpu = {way: statistics.median(t for _, t in ts) for way, ts in times.items()}
  ours = next(iter(times))
  for way, ts in times.items():
    rates = sorted(examples / t for t, _ in ts)
    print(
        f'| {count} | {tokens} | {way} | {examples / wall[way]:.2f} |'
        f' {rates[0]:.2f}, {rates[-1]:.2f} |'
        f' {1000 * cpu[way] / examples:.0f} |'
        f' {wall[way] / wall[ours]:.2f} | {cpu[way] / cpu[ours]:.2f} |',
        flush=True,
    )


def _mixed_table(args: argparse.Namespace) -> None:
  """Prints tokens a second, of fixed lengths and of all of them mixed."""
  model, params = _model()
  ways = {}
  fixed = _predictor(model, params, batch_tokens=args.batch_tokens)
  for length in FIXED:
    # Whole batches, which have no empty rows.
    rows_of = args.batch_tokens // (length + 16)
    count = max(args.tokens // args.batch_tokens, 1) * rows_of
    ways[str(length)] = _rank(fixed, [length] * count)
  rng = np.random.default_rng(0)
  lengths = rng.integers(FIXED[0], FIXED[-1] + 1, args.mixed).tolist()
  mixed = _predictor(model, params, batch_tokens=args.batch_tokens)
  # As `flan-jax infer` does: these stand for as many thousands.
  sample = [
      examples_lib.Example('', '', '', text, '', tuple(_options(4, 4, 1)))
      for text in _texts(lengths, 0)
  ]
  mixed.settle([(sample, 'rank', 8)])
  ways['16 to 512, evenly'] = _rank(mixed, lengths)
  times: dict[str, Times] = {name: [] for name in ways}
  for turn in range(args.rounds + 1):
    for name, (work, _) in ways.items():
      seconds, _ = _timed(work)
      if turn:
        times[name].append(seconds)
  rates = {
      name: (
          ways[name][1] / statistics.median(t for t, _ in ts),
          ways[name][1] / statistics.median(t for _, t in ts),
      )
      for name, ts in times.items()
  }
  best = [max(rates[str(n)][i] for n in FIXED) for i in (0, 1)]
  print(
      f'\nBatches of {args.batch_tokens:,} tokens, four options of four tokens;'
      f' mixed lengths: {mixed.compilations()}.\n'
  )
  print(
      '| tokens of the inputs | real tokens/s, median | a CPU-second | of the'
      ' best, wall | of the best, CPU |'
  )
  print('| --- | ---: | ---: | ---: | ---: |')
  for name, (wall, cpu) in rates.items():
    print(
        f'| {name} | {wall:,.0f} | {cpu:,.0f} | {wall / best[0]:.0%} |'
        f' {cpu / best[1]:.0%} |'
    )


def _compilations_table(args: argparse.Namespace) -> None:
  """Predicts a mixture's tasks one after the other, and counts."""
  model, params = _model()
  vocabulary = vocabularies.load('mixtures/mini/mini.model')
  lengths = {'inputs': INPUTS, 'targets': 64}
  predictor = _predictor(
      model,
      params,
      vocabulary=vocabulary,
      lengths=lengths,
      batch_size=args.batch_size,
  )
  catalogue = catalogue_lib.Catalogue()
  store = rows.RowStore()
  named = mixtures.as_mixture(mixtures.resolve(catalogue, 'mini')).members
  print(
      '\n| task | examples | tokens of inputs, median and most | compilations,'
      ' in all |'
  )
  print('| --- | ---: | ---: | ---: |')
  for i, (member, _) in enumerate(named[:TASKS]):
    task = mixtures.resolve(catalogue, member.name + SHOTS[i % len(SHOTS)])
    examples: list[examples_lib.Example] = list(
        pipeline.examples(
            task,
            'test',
            store,
            limit=args.examples,
            vocabulary=vocabulary,
            lengths=lengths,
        )
    )
    predictor.predict(examples, task.setting.evaluation)
    counts = [len(vocabulary.encode(each.inputs)) + 1 for each in examples]
    print(
        f'| {task.name} | {len(examples)} | {statistics.median(counts):.0f},'
        f' {max(counts)} | {len(predictor.shapes)} |',
        flush=True,
    )
  print(f'\n{predictor.compilations()}.')


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--peer', help='a Python with torch and transformers')
  parser.add_argument(
      '--only', choices=('ranking', 'mixed', 'compilations'), help='one table'
  )
  parser.add_argument('--rounds', type=int, default=5)
  parser.add_argument('--examples', type=int, default=32)
  parser.add_argument('--batch_size', type=int, default=16)
  parser.add_argument('--batch_tokens', type=int, default=8192)
  parser.add_argument(
      '--tokens', type=int, default=32768, help='of each fixed length'
  )
  parser.add_argument(
      '--mixed', type=int, default=1000, help='examples of mixed lengths'
  )
  args = parser.parse_args()
  heap.keep()  # As `flan-jax infer` does on a CPU.
  if args.only in (None, 'ranking'):
    _ranking_table(args.peer, args)
  if args.only in (None, 'mixed'):
    _mixed_table(args)
  if args.only in (None, 'compilations'):
    _compilations_table(args)


if __name__ == '__main__':
  main()
