"""The first examples of a mixture, against the pipeline's own first block."""

from flan_jax import errors
from flan_jax import vocabularies
from flan_jax.data import catalogue as catalogue_lib
from flan_jax.data import drawing
from flan_jax.data import mixtures
from flan_jax.data import pipeline
from flan_jax.data import rows
import numpy as np
import pytest


@pytest.fixture(scope='module')
def store(tmp_path_factory):
  return rows.RowStore(tmp_path_factory.mktemp('cache'))


@pytest.fixture(scope='module')
def mini():
  return mixtures.resolve(catalogue_lib.Catalogue(), 'mini')


def test_they_are_what_training_begins_with(mini, store):
  """Unpacked, the pipeline's first rows are these, in this order."""
  vocabulary = vocabularies.ByteVocabulary()
  config = pipeline.PipelineConfig(
      lengths={'inputs': 800, 'targets': 400},
      batch_size=8,
      seed=5,
      pack=False,
      streams=1,
      block=8,
  )
  batch = next(pipeline.TrainPipeline(mini, 'train', vocabulary, store, config))
  drawn = drawing.examples(mini, 'train', store, 8, seed=5)
  for name, part in (
      ('encoder_input_tokens', 'inputs'),
      ('decoder_target_tokens', 'targets'),
  ):
    read = sorted(vocabulary.decode(row) for row in batch[name])
    assert read == sorted(getattr(example, part) for example in drawn)
    drawn = drawing.examples(mini, 'train', store, 8, seed=5)


def test_more_begin_as_fewer_do(mini, store):
  few = list(drawing.examples(mini, 'train', store, 5, seed=1))
  more = list(drawing.examples(mini, 'train', store, 6000, seed=1))
  assert more[:5] == few and len(more) == 6000
  assert few != list(drawing.examples(mini, 'train', store, 5, seed=2))
  # Equal rates: each member has its share.
  counts = np.unique([e.task for e in more], return_counts=True)[1]
  assert len(counts) == len(mini.members)
  assert abs(counts / 6000 - 1 / len(counts)).max() < 0.003


def test_held_out_templates_do_not_come(mini, store):
  templates = {
      (e.task, e.template) for e in drawing.examples(mini, 'train', store, 4000)
  }
  held_out = {
      (task.name, template.name)
      for task, _ in mini.members
      for template in task.dataset.templates
      if template.held_out
  }
  assert held_out and not templates & held_out


def test_variety_counts_rows_and_templates(store):
  task = mixtures.resolve(catalogue_lib.Catalogue(), 'mini_capitals')
  size = len(store.open(task.dataset, 'train'))
  assert drawing.variety(task, 'train', store) == size * len(task.templates)


def test_an_unknown_split(mini, store):
  with pytest.raises(errors.UserError, match="no split 'tests'. Did you mean"):
    list(drawing.examples(mini, 'tests', store, 1))
