"""The mini collection as a whole: what every dataset of it must be."""

import collections
import os
import re

from flan_jax import paths
from flan_jax import vocabularies
from flan_jax.data import catalogue as catalogue_lib
from flan_jax.data import mixtures
from flan_jax.data import pipeline
from flan_jax.data import rows as rows_lib
from flan_jax.data import slots
from flan_jax.data import specs
from flan_jax.data import tasks
import pytest

# FLAN's clusters (Wei et al., 2021, figure 3).
_CLUSTERS = {
    'natural_language_inference',
    'commonsense',
    'sentiment',
    'paraphrase',
    'closed_book_qa',
    'struct_to_text',
    'reading_comprehension',
    'reading_comprehension_with_commonsense',
    'coreference',
    'translation',
    'summarization',
    'misc',
}
# Nobody can know a fact that was never told: these ask about the same ones.
_SAME_FACTS = {'mini_calendar', 'mini_capitals', 'mini_elements'}
_NAMES = sorted(
    path.stem for path in (paths.mixtures_dir() / 'mini').rglob('*.yaml')
)


@pytest.fixture(scope='module')
def catalogue() -> catalogue_lib.Catalogue:
  return catalogue_lib.Catalogue()


@pytest.fixture(scope='module')
def store(tmp_path_factory: pytest.TempPathFactory) -> rows_lib.RowStore:
  return rows_lib.RowStore(tmp_path_factory.mktemp('rows'))


@pytest.fixture(scope='module')
def vocabulary() -> vocabularies.Vocabulary:
  return vocabularies.load('mixtures/mini/mini.model')


def test_the_mixture_spans_the_clusters_and_holds_out_two_datasets(catalogue):
  trained = mixtures.resolve(catalogue, 'mini').members
  held_out = mixtures.resolve(catalogue, 'mini:held_out').members
  names = [task.dataset.name for task, _ in (*trained, *held_out)]
  assert sorted(names) == _NAMES
  assert {task.dataset.cluster for task, _ in trained} == _CLUSTERS
  kinds = {task.dataset.choices is None for task, _ in held_out}
  assert kinds == {True, False}
  assert {task.dataset.cluster for task, _ in held_out} < _CLUSTERS


@pytest.mark.parametrize('name', _NAMES)
def test_templates_are_varied_and_two_are_never_trained_on(catalogue, name):
  dataset = catalogue.dataset(name)
  held_out = [t.name for t in dataset.templates if t.held_out]
  assert len(dataset.templates) >= 8
  assert len(held_out) == 2
  assert not any(t.held_out and t.inverted for t in dataset.templates)
  trained = tasks.create(dataset, tasks.Setting()).templates
  assert not {t.name for t in trained} & set(held_out)
  bare = [
      re.sub(r'\W+', ' ', re.sub(r'\{\w+\}', '', template.inputs)).strip()
      for template in dataset.templates
  ]
  assert len(set(map(str.lower, bare))) == len(bare)


@pytest.mark.parametrize('name', _NAMES)
def test_splits_share_nothing_but_facts(catalogue, store, name):
  dataset = catalogue.dataset(name)
  fields: dict[str, set] = {}
  for split in ('train', 'validation', 'test'):
    opened = store.open(dataset, split)
    fields[split] = {
        tuple(map(str, row.values()))
        for row in opened.fields(range(len(opened)))
    }
    assert len(fields[split]) == len(opened)
  if name in _SAME_FACTS:
    assert fields['train'] == fields['test'] == fields['validation']
  else:
    assert not fields['train'] & fields['test']
    assert not fields['train'] & fields['validation']
    assert not fields['validation'] & fields['test']


@pytest.mark.parametrize('name', _NAMES)
def test_classes_are_balanced_in_training_and_test(catalogue, store, name):
  dataset = catalogue.dataset(name)
  if dataset.choices is None:
    return
  for split in ('train', 'test'):
    task = tasks.create(dataset, tasks.Setting())
    examples = pipeline.examples(task, split, store)
    places = collections.Counter(example.answer_index for example in examples)
    options = len(examples[0].options)
    assert set(places) == set(range(options))
    assert max(places.values()) < 1.25 * len(examples) / options


@pytest.mark.parametrize('name', _NAMES)
def test_every_template_reads_well(catalogue, store, vocabulary, name):
  dataset = catalogue.dataset(name)
  for template in dataset.templates:
    task = tasks.create(dataset, tasks.Setting(template=template.name))
    for example in pipeline.examples(task, 'test', store, limit=40):
      _check_text(example.inputs, vocabulary)
      _check_text(example.targets, vocabulary)
      # The quickstart's lengths: nothing is cut.
      assert len(vocabulary.encode(example.inputs)) < 128, example.inputs
      assert len(vocabulary.encode(example.targets)) < 32, example.targets
      if example.options:
        assert example.options[example.answer_index] == example.targets
        assert len(example.options) <= 4


def _check_text(text: str, vocabulary: vocabularies.Vocabulary) -> None:
  assert text == text.strip()
  assert not re.search(r'[{}]|  | [,.?!]|\n\n\n|\.\.', text), text
  assert vocabulary.round_trip(text) == text


@pytest.mark.parametrize('name', sorted(_SAME_FACTS))
def test_a_question_of_fact_does_not_hold_its_answer(catalogue, store, name):
  dataset = catalogue.dataset(name)
  for template in dataset.templates:
    task = tasks.create(dataset, tasks.Setting(template=template.name))
    for example in pipeline.examples(task, 'test', store):
      words = re.findall(r'\w+', example.inputs)
      assert example.targets not in words, example.inputs


def test_templates_use_every_field(catalogue):
  for name in _NAMES:
    dataset = catalogue.dataset(name)
    used = set()
    for template in dataset.templates:
      used |= set(slots.names(slots.split(template.inputs + template.targets)))
    assert used >= set(dataset.field_names), name


def test_rows_come_from_generators_that_are_named_once(catalogue):
  sources = [catalogue.dataset(name).source for name in _NAMES]
  assert {source.kind for source in sources} == {'generated'}
  assert len({source.where for source in sources}) == len(sources)


def test_the_vocabulary_is_small_and_spells_anything(vocabulary):
  assert os.path.getsize(paths.find('mixtures/mini/mini.model')) < 100_000
  assert vocabulary.size <= 2048
  for text in ('naïve façade', 'tabs\tand\nlines', '漢字 🙂', '  two  spaces '):
    assert vocabulary.round_trip(text) == text


def test_declarations_are_datasets(catalogue):
  for name in _NAMES:
    dataset = catalogue.dataset(name)
    assert isinstance(dataset, specs.Dataset)
    assert dataset.collection == 'mini'
    assert dataset.path.parent.name == dataset.cluster
    assert dataset.description and dataset.licence == 'Apache-2.0'
