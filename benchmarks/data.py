"""What an example costs from stored rows to packed batches, on one core.

  python benchmarks/data.py --tfds_data_dir=../shared/tfds [--no_seqio]

RTE with its ten templates, zero-shot, 1,024 tokens of inputs and 256 of
targets, a SentencePiece vocabulary of 16,000 pieces trained here and kept in
--cache_dir. All figures are CPU-microseconds an example, of this process and
all its threads, which are held to one core. The peers run in the same process
right after: SeqIO with the same templates rendered by TensorFlow operations,
and Grain's own mixing.
"""

import argparse
from collections.abc import Callable, Mapping
import os
import pathlib
import tempfile
import time

from flan_jax import vocabularies
from flan_jax.data import blocks
from flan_jax.data import catalogue
from flan_jax.data import mixing
from flan_jax.data import mixtures
from flan_jax.data import options
from flan_jax.data import packing
from flan_jax.data import pipeline
from flan_jax.data import rows
from flan_jax.data import slots
from flan_jax.data import streams
from flan_jax.data import tasks
import numpy as np

TASK = 'rte'
LENGTHS = {'inputs': 1024, 'targets': 256}
BLOCK = 512
BLOCKS = 24
REPEATS = 5
# Small enough to read in seconds, and of different clusters.
VOCABULARY_TEXTS = ('rte', 'bool_q', 'sst2', 'trec', 'cosmos_qa', 'dart')
VOCABULARY_SIZE = 16_000
MEMBERS = (1, 12, 400, 1836)


def _microseconds(
    work: Mapping[str, Callable[[int], object]], examples: int = BLOCK
) -> dict[str, float]:
  """Returns the least CPU time an example of several runs over all blocks.

  The runs of different work alternate, so that all meet the same machine.
  """
  times: dict[str, list[float]] = {name: [] for name in work}
  for _ in range(REPEATS):
    for name, each in work.items():
      each(0)
      begin = time.process_time()
      for block in range(BLOCKS):
        each(block)
      times[name].append(time.process_time() - begin)
  return {
      name: min(some) / (BLOCKS * examples) * 1e6
      for name, some in times.items()
  }


class _Ready:
  """Blocks that are there already: what is left is moving them."""

  def __init__(self, ready: list[packing.Batch]):
    self._ready = ready

  def build(self, number: int) -> packing.Batch:
    return self._ready[number % len(self._ready)]


def _vocabulary(
    found: catalogue.Catalogue, store: rows.RowStore, folder: pathlib.Path
) -> vocabularies.SentencePieceVocabulary:
  path = folder / f'sentencepiece-{VOCABULARY_SIZE}.model'
  if not path.exists():

    def texts():
      for name in VOCABULARY_TEXTS:
        task = mixtures.resolve(found, name)
        for example in pipeline.examples(task, 'train', store, limit=4000):
          yield example.inputs
          yield example.targets

    vocabularies.train_sentencepiece(texts(), VOCABULARY_SIZE, path)
  return vocabularies.SentencePieceVocabulary(path)


def _stages(
    task: tasks.Task,
    split: rows.Rows,
    members: blocks.Members,
    vocabulary: vocabularies.SentencePieceVocabulary,
) -> list[tuple[str, float]]:
  """Times each stage by itself on the same blocks."""
  import sentencepiece

  index_map = mixing.IndexMap([task.name], members.sizes(), [1.0])
  render = blocks.renderer(task, split, members.store, seed=0).render_texts
  library = sentencepiece.SentencePieceProcessor(
      model_file=str(vocabulary.path)
  )
  places = [np.arange(i * BLOCK, (i + 1) * BLOCK) for i in range(BLOCKS)]
  draws = [index_map.lookup(some) for some in places]
  texts = [members.texts(some) for some in draws]
  ids = [
      [packing.Ragged(*vocabulary.encode_flat(side)) for side in both]
      for both in texts
  ]
  built = blocks.Blocks(members, index_map, BLOCK, True, True)

  ready = _Ready([built.build(i) for i in range(BLOCKS)])
  moved = streams.Source(ready, {0: (0, 0)}, 1, 0)

  def move(i):
    batch = packing.empty(packing.count_rows(ready.build(i)), LENGTHS)
    moved.take(0, batch, 0, packing.count_rows(batch))

  def library_alone(i):
    for side in texts[i]:
      library.encode(side, num_threads=1, return_type='numpy')

  def tokenise(i):
    for side in texts[i]:
      vocabulary.encode_flat(side)

  work: dict[str, Callable[[int], object]] = {
      'order': lambda i: index_map.lookup(places[i]),
      'rows': lambda i: split.take(draws[i].row),
      'fields': lambda i: split.fields(draws[i].row),
      'render': lambda i: render(draws[i].row, draws[i].epoch),
      'texts': lambda i: members.texts(draws[i]),
      'library': library_alone,
      'tokenise': tokenise,
      'pack': lambda i: packing.pack(*ids[i], LENGTHS),
      'block': built.build,
      'move': move,
  }
  cost = _microseconds(work)
  return [
      ("the mixture's order", cost['order']),
      ('raw rows (`Rows.take`, for comparison)', cost['rows']),
      ('rows read as fields', cost['fields']),
      ('templates, options', cost['render'] - cost['fields']),
      ('members put together', cost['texts'] - cost['render']),
      ('SentencePiece, the library alone: the floor', cost['library']),
      ('tokenising around it', cost['tokenise'] - cost['library']),
      ('ends, packing, features', cost['pack']),
      ('all this together: a block', cost['block']),
      ('Grain, streams, batches', cost['move']),
  ]


def _pipeline(
    mixture: mixtures.Mixture, members: blocks.Members
) -> tuple[float, float, float]:
  """Returns microseconds an example, and the fill of inputs and targets."""
  config = pipeline.PipelineConfig(lengths=LENGTHS, batch_size=32, block=BLOCK)
  running = pipeline.TrainPipeline(
      mixture, 'train', members.vocabulary, members.store, config
  )
  next(running)
  costs, fills = [], []
  for _ in range(REPEATS):
    begin, examples = time.process_time(), 0
    while examples < BLOCKS * BLOCK:
      batch = next(running)
      segments = batch['encoder_segment_ids'], batch['decoder_segment_ids']
      examples += int(segments[0].max(axis=1).sum())
      fills.append([(side > 0).mean() for side in segments])
    costs.append((time.process_time() - begin) / examples * 1e6)
  running.close()
  inputs, targets = np.mean(fills, axis=0)
  return min(costs), inputs, targets


def _mixing() -> list[tuple[int, float, float, float]]:
  """Times an example's place in mixtures, and Grain's, by number of members.

  Returns:
    Members, our start in milliseconds, our and Grain's microseconds.
  """
  import grain

  lines = []
  for count in MEMBERS:
    sizes = np.arange(count) % 97 * 1000 + 500
    rates = np.minimum(sizes, 30_000) / 30_000
    begin = time.process_time()
    index_map = mixing.IndexMap([f'm{i}' for i in range(count)], sizes, rates)
    index_map.lookup(np.arange(1))
    start = time.process_time() - begin
    look_up = index_map.lookup
    places = [np.arange(i * BLOCK, (i + 1) * BLOCK) for i in range(BLOCKS)]
    ours = _microseconds({'': lambda i, f=look_up, p=places: f(p[i])})['']
    mixed = grain.MapDataset.mix(
        [
            grain.MapDataset.range(size).shuffle(seed=0).repeat()
            for size in sizes
        ],
        weights=(rates / rates.sum()).tolist(),
    )
    few = 1000
    begin = time.process_time()
    for i in range(few):
      mixed[i]
    theirs = (time.process_time() - begin) / few * 1e6
    lines.append((count, start * 1e3, ours, theirs))
  return lines


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
  return min(costs), float(np.mean(fills))


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--tfds_data_dir', required=True)
  parser.add_argument(
      '--cache_dir',
      default=os.path.join(tempfile.gettempdir(), 'flan_jax_benchmark'),
  )
  parser.add_argument('--no_seqio', action='store_true', help='skip the peer')
  args = parser.parse_args()
  folder = pathlib.Path(args.cache_dir)
  found = catalogue.Catalogue()
  store = rows.RowStore(
      folder, rows.SourceSettings(tfds_data_dir=args.tfds_data_dir)
  )
  vocabulary = _vocabulary(found, store, folder)
  task = mixtures.resolve(found, TASK)
  assert isinstance(task, tasks.Task)
  mixture = mixtures.as_mixture(task)
  split = store.open(task.dataset, 'train')
  members = blocks.Members(mixture, 'train', vocabulary, store, LENGTHS, 0)
  if hasattr(os, 'sched_setaffinity'):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

  stages = _stages(task, split, members, vocabulary)
  whole, inputs, targets = _pipeline(mixture, members)
  print(f'| {TASK}, {len(task.templates)} templates | CPU-us an example |')
  print('| --- | ---: |')
  for name, cost in stages:
    print(f'| {name} | {cost:.2f} |')
  print(f'| **the pipeline: rows to packed batches** | **{whole:.1f}** |')
  print(f'\nFill: inputs {inputs:.1%}, targets {targets:.1%}.')
  if not args.no_seqio:
    cost, fill = _seqio(task, vocabulary.path, args.tfds_data_dir)
    print(
        f'SeqIO, the same templates: {cost:.0f} CPU-us an example'
        f' ({cost / whole:.0f} times), inputs filled to {fill:.1%}.'
    )
  print('\n| members | start, ms | our order, us | Grain mix, us |')
  print('| ---: | ---: | ---: | ---: |')
  for count, start, ours, theirs in _mixing():
    print(f'| {count:,} | {start:.1f} | {ours:.2f} | {theirs:.0f} |')


if __name__ == '__main__':
  main()
