"""What an example costs from stored rows to packed batches, on one core.

  python benchmarks/data.py --tfds_data_dir=../shared/tfds [--no_seqio]

Twelve datasets of FLAN 2021 in one mixture, ten templates each, 1,024 tokens
of inputs and 256 of targets, a SentencePiece vocabulary of 16,000 pieces
trained here and kept in --cache_dir. All figures are CPU-microseconds an
example, of this process and all its threads, which are held to one core. The
floor is the SentencePiece library alone, called in the fastest way that Python
has, on the very same strings. A peer runs in the same process right after:
SeqIO on RTE, with the same templates rendered by TensorFlow operations.
"""

import argparse
from collections.abc import Callable, Mapping
import dataclasses
import pathlib
import statistics
import time
from typing import Any

from flan_jax import vocabularies
from flan_jax.data import blocks
from flan_jax.data import mixing
from flan_jax.data import mixtures
from flan_jax.data import options
from flan_jax.data import packing
from flan_jax.data import pipeline
from flan_jax.data import slots
from flan_jax.data import streams
from flan_jax.data import tasks
import numpy as np
import twelve

RTE = 'rte'
LENGTHS = twelve.LENGTHS
BLOCK = 2048
BLOCKS = 6
REPEATS = 5
# Name in the table -> setting.
SHOTS = {'zero': '', '5': ':5_shot', '16': ':16_shot', 'fit': ':fit_shot'}


class _Whole(vocabularies.SentencePieceVocabulary):
  """A vocabulary that must tokenise whole prompts, as T5's must."""

  def joiner(self, separator: str) -> None:
    del separator


def _microseconds(
    work: Mapping[str, Callable[[int], object]],
    first: int = 0,
    repeats: int = REPEATS,
) -> dict[str, float]:
  """Returns the median CPU time an example of several runs over all blocks.

  The runs of different work alternate, so that all meet the same machine.
  """
  times: dict[str, list[float]] = {name: [] for name in work}
  for _ in range(repeats):
    for name, each in work.items():
      begin = time.process_time()
      for block in range(first, first + BLOCKS):
        each(block)
      times[name].append(time.process_time() - begin)
  return {
      name: statistics.median(some) / (BLOCKS * BLOCK) * 1e6
      for name, some in times.items()
  }


class _Ready:
  """Blocks that are there already: what is left is moving them."""

  def __init__(self, ready: list[blocks.Block], members: blocks.Members):
    self._ready = ready
    self.members = members

  def build(self, number: int) -> blocks.Block:
    return self._ready[number % len(self._ready)]


class _Mixture:
  """A mixture's blocks, by number."""

  def __init__(self, data: twelve.Twelve, mixture: mixtures.Mixture):
    self.members = blocks.Members(
        mixture, 'train', data.vocabulary, data.store, LENGTHS, 0
    )
    sizes = self.members.sizes()
    self.index_map = mixing.IndexMap(
        [task.name for task, _ in mixture.members],
        sizes,
        mixtures.rates(mixture, sizes),
        cap=mixture.caps,
    )
    self.blocks = blocks.Blocks(self.members, self.index_map, BLOCK, True, True)

  def places(self, block: int) -> np.ndarray:
    return np.arange(block * BLOCK, (block + 1) * BLOCK)

  def texts(self, block: int) -> tuple[list[str], list[str]]:
    return self.members.texts(self.index_map.lookup(self.places(block)))


def _library(
    data: twelve.Twelve, texts: Mapping[int, tuple[list[str], list[str]]]
) -> dict[str, Callable[[int], object]]:
  """Returns the ways to call SentencePiece alone; the least is the floor."""
  import sentencepiece

  library = sentencepiece.SentencePieceProcessor(
      model_file=str(data.vocabulary.path)
  )

  def lists(block):
    for side in texts[block]:
      library.encode_as_ids(side, num_threads=1)

  def arrays(block):
    for side in texts[block]:
      library.encode(side, num_threads=1, return_type='numpy')

  return {'lists': lists, 'arrays': arrays}


def _stages(data: twelve.Twelve) -> list[tuple[str, float]]:
  """Times each stage by itself on the same blocks, zero-shot."""
  mixture = _Mixture(data, data.mixture())
  members, index_map = mixture.members, mixture.index_map
  draws = [index_map.lookup(mixture.places(i)) for i in range(BLOCKS)]
  texts = [members.texts(some) for some in draws]
  ids = [
      [packing.Ragged(*data.vocabulary.encode_flat(side)) for side in both]
      for both in texts
  ]
  dtype = packing.smallest_dtype(data.vocabulary.size, LENGTHS)
  ready = _Ready([mixture.blocks.build(i) for i in range(BLOCKS)], members)
  moved = streams.Source(ready, {0: (0, 0)}, 1, 0)  # type: ignore[arg-type]

  def move(i):
    count = len(ready.build(i).rows)
    moved.take(0, packing.empty(count, LENGTHS), 0, count)

  def tokenise(i):
    data.vocabulary.encode_arrays(texts[i][0] + texts[i][1])

  cost = _microseconds({
      'order': lambda i: index_map.lookup(mixture.places(i)),
      'texts': lambda i: members.texts(draws[i]),
      **_library(data, dict(enumerate(texts))),
      'tokenise': tokenise,
      'pack': lambda i: packing.pack(*ids[i], LENGTHS, dtype=dtype),
      'block': mixture.blocks.build,
      'move': move,
  })
  floor = min(cost['lists'], cost['arrays'])
  return [
      ("the mixture's order", cost['order']),
      ('rows, templates, options: text', cost['texts']),
      ('SentencePiece, the library alone: the floor', floor),
      ('tokenising around it', cost['tokenise'] - floor),
      ('ends, packing, features', cost['pack']),
      ('all this together: a block', cost['block']),
      ('Grain, streams, batches', cost['move']),
  ]


@dataclasses.dataclass
class _Cost:
  """Figures of one setting: all in CPU-microseconds an example, but fill."""

  floor: float
  early: float
  late: float
  tokens: float
  inputs: float


def _whole(data: twelve.Twelve, setting: str, runs: int) -> _Cost:
  """Times the pipeline, against SentencePiece on the same strings.

  The first `BLOCKS` blocks, when nothing is in memory yet, and as many after
  them, each time in a new pipeline.
  """
  mixture = _Mixture(data, data.mixture(setting))
  floors = []
  for first in (0, BLOCKS):
    texts = {i: mixture.texts(i) for i in range(first, first + BLOCKS)}
    cost = _microseconds(_library(data, texts), first, runs)
    floors.append(min(cost.values()))
  parts: list[list[float]] = [[], []]
  fills = []
  for _ in range(runs):
    # One stream: blocks come in the order of their numbers.
    running = data.pipeline(setting, block=BLOCK, streams=1)
    next(running)  # Starts Grain, which reads a few blocks ahead from now on.
    for part in range(2):
      begin, before = time.process_time(), running.report.counts.sum(axis=0)
      while True:
        batch = next(running)
        done = running.report.counts.sum(axis=0)[0]
        fills.append((batch['encoder_segment_ids'] > 0).mean())
        if done >= (part + 1) * BLOCKS * BLOCK:
          break
      spent = time.process_time() - begin
      parts[part].append(spent / (done - before[0]) * 1e6)
    counts = running.report.counts.sum(axis=0)
    running.close()
  return _Cost(
      statistics.mean(floors),
      statistics.median(parts[0]),
      statistics.median(parts[1]),
      float(counts[3:].sum() / counts[0]),
      float(np.mean(fills)),
  )


def _seqio(
    task: tasks.Task, vocabulary_path: pathlib.Path, tfds_data_dir: str
) -> tuple[float, float]:
  """Returns SeqIO's microseconds an example, and the fill of inputs.

  The templates are rendered as FLAN renders them, by TensorFlow operations:
  each makes a text of the fields, and a seeded number chooses one.
  """
  import seqio
  import tensorflow as tf

  choices = task.dataset.choices
  names = tf.constant(choices.names)

  def text(source, fields):
    pieces = slots.fill(
        slots.split(source), 'options', options.text(choices.names)
    )
    return tf.strings.join(
        [fields[p] if i % 2 else p for i, p in enumerate(pieces)]
    )

  @seqio.map_over_dataset(num_seeds=1)
  def render(row, seed):
    fields = {name: row[path] for name, path in task.dataset.fields.items()}
    fields['answer'] = names[tf.cast(row[choices.label], tf.int32)]
    branches = [
        lambda t=template: (text(t.inputs, fields), text(t.targets, fields))
        for template in task.templates
    ]
    chosen = tf.random.stateless_uniform(
        [], seed, maxval=len(branches), dtype=tf.int32
    )
    inputs, targets = tf.switch_case(chosen, branches)
    return {'inputs': inputs, 'targets': targets}

  vocabulary = seqio.SentencePieceVocabulary(str(vocabulary_path), 100)
  peer = seqio.Task(
      'rte_by_seqio',
      source=seqio.TfdsDataSource(
          tfds_name=task.dataset.source.where,
          tfds_data_dir=tfds_data_dir,
          splits=dict(task.dataset.splits),
      ),
      preprocessors=[
          render,
          seqio.preprocessors.tokenize,
          seqio.preprocessors.append_eos_after_trim,
      ],
      output_features={
          name: seqio.Feature(vocabulary, add_eos=True) for name in LENGTHS
      },
  )
  seqio.TaskRegistry.add_provider(peer.name, peer)
  data = seqio.get_dataset(
      peer.name,
      LENGTHS,
      dataset_split='train',
      shuffle=True,
      num_epochs=None,
      feature_converter=seqio.EncDecFeatureConverter(pack=True),
      seed=0,
  )
  running = data.batch(32).as_numpy_iterator()
  for _ in range(4):  # Past the tracing, and the filling of the buffer.
    next(running)
  costs, fills = [], []
  for _ in range(REPEATS):
    begin, examples = time.process_time(), 0
    while examples < BLOCKS * BLOCK / 2:
      segments = next(running)['encoder_segment_ids']
      examples += int(segments.max(axis=1).sum())
      fills.append((segments > 0).mean())
    costs.append((time.process_time() - begin) / examples * 1e6)
  return statistics.median(costs), float(np.mean(fills))


def _ours_on_rte(data: twelve.Twelve, task: tasks.Task) -> tuple[float, float]:
  """Returns our microseconds an example, and the fill of inputs."""
  config = pipeline.PipelineConfig(lengths=LENGTHS, batch_size=32, block=BLOCK)
  running = pipeline.TrainPipeline(
      task, 'train', data.vocabulary, data.store, config
  )
  next(running)
  costs, fills = [], []
  for _ in range(REPEATS):
    begin, examples = time.process_time(), 0
    while examples < BLOCKS * BLOCK:
      segments = next(running)['encoder_segment_ids']
      examples += int(segments.max(axis=1).sum())
      fills.append((segments > 0).mean())
    costs.append((time.process_time() - begin) / examples * 1e6)
  running.close()
  return statistics.median(costs), float(np.mean(fills))


def _print_shots(data: twelve.Twelve, runs: int) -> None:
  whole = dataclasses.replace(
      data, vocabulary=_Whole(data.vocabulary.path, data.vocabulary.extra_ids)
  )
  lines: list[tuple[str, Any, str]] = [
      (name, data, setting) for name, setting in SHOTS.items()
  ]
  lines.append(('5, whole prompts tokenised', whole, SHOTS['5']))
  print(
      '\n| shots | tokens | SentencePiece alone | pipeline, first blocks |'
      ' ratio | pipeline, later | ratio | inputs filled |'
  )
  print('| --- ' + '| ---: ' * 7 + '|')
  for name, each, setting in lines:
    cost = _whole(each, setting, runs)
    print(
        f'| {name} | {cost.tokens:.0f} | {cost.floor:.1f} | {cost.early:.1f} |'
        f' {cost.early / cost.floor:.2f} | {cost.late:.1f} |'
        f' {cost.late / cost.floor:.2f} | {cost.inputs:.1%} |',
        flush=True,
    )


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  twelve.add_flags(parser)
  parser.add_argument('--runs', type=int, default=REPEATS)
  parser.add_argument('--no_seqio', action='store_true', help='skip the peer')
  args = parser.parse_args()
  data = twelve.load(args)
  twelve.one_core()
  print('| twelve datasets, zero-shot | CPU-us an example |')
  print('| --- | ---: |')
  for name, cost in _stages(data):
    print(f'| {name} | {cost:.2f} |', flush=True)
  _print_shots(data, args.runs)
  if not args.no_seqio:
    task = mixtures.resolve(data.catalogue, RTE)
    assert isinstance(task, tasks.Task)
    ours, fill = _ours_on_rte(data, task)
    theirs, their_fill = _seqio(task, data.vocabulary.path, args.tfds_data_dir)
    print(
        f'\nRTE: {ours:.1f} CPU-us an example, inputs filled to {fill:.1%};'
        f' SeqIO with the same templates {theirs:.0f} ({theirs / ours:.1f}'
        f' times), filled to {their_fill:.1%}.'
    )


if __name__ == '__main__':
  main()
