"""The pipeline on real rows: what an example costs, and how full rows are."""

import time

from flan_jax import vocabularies
from flan_jax.data import catalogue
from flan_jax.data import mixtures
from flan_jax.data import pipeline
from flan_jax.data import rows
import pytest

LENGTHS = {'inputs': 1024, 'targets': 256}


@pytest.fixture(scope='module')
def rte(shared, tmp_path_factory):
  """RTE as an endless pipeline, with a vocabulary of its own texts."""
  pytest.importorskip('tensorflow_datasets')
  folder = tmp_path_factory.mktemp('rte')
  store = rows.RowStore(
      folder, rows.SourceSettings(tfds_data_dir=str(shared / 'tfds'))
  )
  task = mixtures.resolve(catalogue.Catalogue(), 'rte')
  texts = [
      text
      for example in pipeline.examples(task, 'train', store, limit=1000)
      for text in (example.inputs, example.targets)
  ]
  path = folder / 'rte.model'
  vocabularies.train_sentencepiece(texts, 8000, path)
  config = pipeline.PipelineConfig(lengths=LENGTHS, batch_size=16)
  vocabulary = vocabularies.load(path)
  return pipeline.TrainPipeline(task, 'train', vocabulary, store, config)


def test_rows_are_full_and_cheap(rte):
  next(rte)
  filled, costs = [], []
  for _ in range(4):
    examples, begin = 0, time.process_time()
    while examples < 4000:
      segments = next(rte)['encoder_segment_ids']
      examples += int(segments.max(axis=1).sum())
      filled.append((segments > 0).mean())
    costs.append((time.process_time() - begin) / examples)
  # Three rows in a hundred are closed by one target that fills the decoder.
  assert sum(filled) / len(filled) > 0.95
  # Measured at 35 microseconds.
  assert min(costs) < 150e-6
