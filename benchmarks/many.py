"""From a command to the first packed batch, with hundreds of datasets.

  python benchmarks/many.py [--datasets=400] [--rows=1000] [--seqio_datasets=40]

Makes datasets of synthetic rows (a declaration with two templates and a JSON
Lines file each) and a mixture of all. Then whole processes are timed, from
their start to the first packed batch: once with nothing stored yet, and then
with rows stored. Memory is the most that a process held at one time, shared
pages counted. The peer is SeqIO with its own tasks over the same files, for
fewer datasets, since its cost grows with their number; the ratio is that of
time for each dataset.
"""

import argparse
import json
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

_DECLARATION = """\
version: 1
cluster: synthetic
source: {{jsonl: {name}.jsonl}}
splits: {{train: train}}
fields: {{question: question, text: text, answer: answer}}
metrics: [exact_match]
templates:
- name: after
  inputs: "{{text}}\\n\\n{{question}}"
  targets: "{{answer}}"
- name: before
  inputs: "{{question}} Read this:\\n{{text}}"
  targets: "{{answer}}"
"""
_LENGTHS = {'inputs': 1024, 'targets': 256}
_BATCH_SIZE = 32
_FIRST = 'first batch'


def _make(folder: pathlib.Path, datasets: int, rows: int) -> None:
  generator = np.random.default_rng(0)
  words = ['time', 'people', 'water', 'would', 'river', 'seven', 'small']
  for number in range(datasets):
    name = f'set_{number:04}'
    (folder / f'{name}.yaml').write_text(_DECLARATION.format(name=name))
    with open(folder / f'{name}.jsonl', 'w') as file:
      for row in range(rows):
        length = int(generator.integers(5, 120))
        chosen = generator.integers(0, len(words), length)
        fields = {
            'question': f'What is number {row}?',
            'text': ' '.join(words[i] for i in chosen),
            'answer': f'{words[chosen[0]]} {row}',
        }
        file.write(json.dumps(fields) + '\n')
  members = ''.join(f'- set_{number:04}\n' for number in range(datasets))
  (folder / 'all.yaml').write_text(f'version: 1\nmembers:\n{members}')


def _ours(folder: pathlib.Path) -> None:
  """What a run does up to its first batch; a process of its own."""
  from flan_jax import vocabularies
  from flan_jax.data import catalogue
  from flan_jax.data import mixtures
  from flan_jax.data import pipeline
  from flan_jax.data import rows

  mixture = mixtures.resolve(catalogue.Catalogue([folder]), 'all')
  running = pipeline.TrainPipeline(
      mixture,
      'train',
      vocabularies.load('mixtures/mini/mini.model'),
      rows.RowStore(folder / 'cache'),
      pipeline.PipelineConfig(lengths=_LENGTHS, batch_size=_BATCH_SIZE),
  )
  batch = next(running)
  assert batch['encoder_input_tokens'].any()
  print(_FIRST, flush=True)
  _say_memory()
  running.close()


def _seqio(folder: pathlib.Path, datasets: int) -> None:
  """The same by SeqIO, with its own tasks and mixture."""
  import seqio
  import tensorflow as tf

  model = pathlib.Path(__file__).parent.parent / 'mixtures/mini/mini.model'
  vocabulary = seqio.SentencePieceVocabulary(str(model), 100)
  features = {
      name: seqio.Feature(vocabulary, add_eos=True) for name in _LENGTHS
  }

  def read(name, split, shuffle_files=False, seed=None):
    del split, shuffle_files, seed

    def lines():
      with open(folder / f'{name}.jsonl') as file:
        yield from map(json.loads, file)

    text = tf.TensorSpec([], tf.string)
    return tf.data.Dataset.from_generator(
        lines,
        output_signature={n: text for n in ('question', 'text', 'answer')},
    )

  @seqio.map_over_dataset
  def render(row):
    return {
        'inputs': tf.strings.join([row['text'], '\n\n', row['question']]),
        'targets': row['answer'],
    }

  names = [f'set_{number:04}' for number in range(datasets)]
  for name in names:
    seqio.TaskRegistry.add(
        name,
        source=seqio.FunctionDataSource(
            lambda split, shuffle_files, seed=None, n=name: read(n, split),
            splits=['train'],
        ),
        preprocessors=[
            render,
            seqio.preprocessors.tokenize,
            seqio.preprocessors.append_eos_after_trim,
        ],
        output_features=features,
    )
  seqio.MixtureRegistry.add('all', names, default_rate=1.0)
  data = seqio.get_dataset(
      'all',
      _LENGTHS,
      dataset_split='train',
      shuffle=True,
      num_epochs=None,
      feature_converter=seqio.EncDecFeatureConverter(pack=True),
      seed=0,
  )
  next(data.batch(_BATCH_SIZE).as_numpy_iterator())
  print(_FIRST, flush=True)
  _say_memory()


def _say_memory() -> None:
  print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, flush=True)


def _timed(
    folder: pathlib.Path, datasets: int, kind: str
) -> tuple[float, float]:
  """Runs a process; returns seconds to its first batch, and gigabytes."""
  begin = time.perf_counter()
  with subprocess.Popen(
      [sys.executable, __file__, f'--child={kind}', f'--folder={folder}']
      + [f'--datasets={datasets}'],
      stdout=subprocess.PIPE,
      stderr=subprocess.DEVNULL,
      text=True,
  ) as process:
    assert process.stdout is not None
    for line in process.stdout:
      if line.strip() == _FIRST:
        seconds = time.perf_counter() - begin
        return seconds, float(process.stdout.readline())
  raise RuntimeError(f'{kind} failed: run it with --child={kind}')


def _row(what: str, datasets: int, runs: list[tuple[float, float]]) -> float:
  seconds = statistics.median(run[0] for run in runs)
  memory = statistics.median(run[1] for run in runs)
  print(f'| {what} | {datasets} | {seconds:.1f} | {memory:.2f} |', flush=True)
  return seconds


def main() -> None:
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--datasets', type=int, default=400)
  parser.add_argument('--rows', type=int, default=1000, help='of a dataset')
  parser.add_argument('--runs', type=int, default=3)
  parser.add_argument(
      '--seqio_datasets', type=int, default=40, help='of the peer; 0 for none'
  )
  parser.add_argument('--child', help=argparse.SUPPRESS)
  parser.add_argument('--folder', type=pathlib.Path, help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.child == 'ours':
    _ours(args.folder)
    return
  if args.child == 'seqio':
    _seqio(args.folder, args.datasets)
    return
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    _make(folder, args.datasets, args.rows)
    print('| what | datasets | seconds | GB |\n| --- | ---: | ---: | ---: |')
    first = [_timed(folder, args.datasets, 'ours')]
    started = _row('flan_jax, no rows stored', args.datasets, first)
    later = [_timed(folder, args.datasets, 'ours') for _ in range(args.runs)]
    ours = _row('flan_jax, rows stored', args.datasets, later)
    if args.seqio_datasets:
      few = min(args.seqio_datasets, args.datasets)
      peer = _row('SeqIO', few, [_timed(folder, few, 'seqio')])
      ratios = [
          peer / few / (seconds / args.datasets) for seconds in (started, ours)
      ]
      print(
          f'\nFor each dataset SeqIO takes {ratios[0]:.0f} times as long, and'
          f' {ratios[1]:.0f} times where rows are stored.'
      )


if __name__ == '__main__':
  main()
