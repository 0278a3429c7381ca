"""What the data benchmarks share: twelve datasets and a vocabulary."""

import argparse
import dataclasses
import os
import pathlib
import tempfile

from flan_jax import vocabularies
from flan_jax.data import catalogue
from flan_jax.data import mixtures
from flan_jax.data import pipeline
from flan_jax.data import rows

LENGTHS = {'inputs': 1024, 'targets': 256}
_MIXTURE = 'flan2021_local'
# Small enough to read in seconds, and of different clusters.
_VOCABULARY_TEXTS = ('rte', 'bool_q', 'sst2', 'trec', 'cosmos_qa', 'dart')
VOCABULARY_SIZE = 16_000


@dataclasses.dataclass(frozen=True)
class Twelve:
  """The datasets, where their rows are, and what tokenises them."""

  catalogue: catalogue.Catalogue
  store: rows.RowStore
  vocabulary: vocabularies.SentencePieceVocabulary

  def mixture(self, setting: str = '') -> mixtures.Mixture:
    """Returns all twelve, under a setting such as ':5_shot'."""
    parts = [
        mixtures.as_mixture(mixtures.resolve(self.catalogue, name + setting))
        for name in (_MIXTURE, f'{_MIXTURE}:held_out')
    ]
    both = tuple(member for part in parts for member in part.members)
    return dataclasses.replace(parts[0], parts=both)

  def pipeline(
      self, setting: str = '', **kwargs: object
  ) -> pipeline.TrainPipeline:
    """Returns their packed batches for training."""
    config = {'lengths': LENGTHS, 'batch_size': 32, **kwargs}
    return pipeline.TrainPipeline(
        self.mixture(setting),
        'train',
        self.vocabulary,
        self.store,
        pipeline.PipelineConfig(**config),  # type: ignore[arg-type]
    )


def add_flags(parser: argparse.ArgumentParser) -> None:
  parser.add_argument('--tfds_data_dir', required=True)
  parser.add_argument(
      '--cache_dir',
      default=os.path.join(tempfile.gettempdir(), 'flan_jax_benchmark'),
  )


def load(args: argparse.Namespace) -> Twelve:
  """Reads what is not there yet, and trains the vocabulary."""
  folder = pathlib.Path(args.cache_dir)
  found = catalogue.Catalogue()
  store = rows.RowStore(
      folder, rows.SourceSettings(tfds_data_dir=args.tfds_data_dir)
  )
  path = folder / f'sentencepiece-{VOCABULARY_SIZE}-exact.model'
  if not path.exists():

    def texts():
      for name in _VOCABULARY_TEXTS:
        task = mixtures.resolve(found, name)
        for example in pipeline.examples(task, 'train', store, limit=4000):
          yield example.inputs
          yield example.targets

    vocabularies.train_sentencepiece(texts(), VOCABULARY_SIZE, path)
  vocabulary = vocabularies.SentencePieceVocabulary(path)
  return Twelve(found, store, vocabulary)


def one_core() -> None:
  """Holds this process and all its threads to one core."""
  if hasattr(os, 'sched_setaffinity'):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
