"""Folders that TFDS writes here: other versions, own configs, downloads.

The builders are made in the test and prepare themselves without a network.
"""

import dataclasses
import json
import logging

from flan_jax import errors
from flan_jax.data import rows as rows_lib
from flan_jax.data import specs
from flan_jax.data.sources import tfds_features
import numpy as np
import pytest

tfds = pytest.importorskip('tensorflow_datasets')


def _features():
  return tfds.features.FeaturesDict({
      'text': tfds.features.Text(),
      'label': tfds.features.ClassLabel(num_classes=2),
      'answers': tfds.features.Sequence(
          {'text': tfds.features.Text(), 'start': np.int32}
      ),
      'pair': tfds.features.Translation(languages=['de', 'en']),
      'lists': tfds.features.Sequence(tfds.features.Sequence(np.int64)),
      'score': np.float32,
      'good': np.bool_,
  })


def _example(number, label):
  return {
      'text': f'text {number}',
      'label': label,
      'answers': [{'text': 'a', 'start': 1}, {'text': 'b', 'start': 2}],
      'pair': {'de': 'ja', 'en': 'yes'},
      'lists': [[1], [2, 3]],
      'score': 0.5,
      'good': True,
  }


class FlanJaxToy(tfds.core.GeneratorBasedBuilder):
  """Ten rows for training, and four for testing whose labels are hidden."""

  VERSION = tfds.core.Version('1.2.0')
  SUPPORTED_VERSIONS = [tfds.core.Version('1.0.0')]

  def _info(self):
    return tfds.core.DatasetInfo(builder=self, features=_features())

  def _split_generators(self, dl_manager):
    return {
        'train': self._generate_examples(10),
        'test': self._generate_examples(4, hidden=True),
    }

  def _generate_examples(self, count, hidden=False):
    for i in range(count):
      yield i, _example(i, -1 if hidden else i % 2)


class FlanJaxPairs(FlanJaxToy):
  """A builder whose configs are made by whoever uses it, as WMT's."""

  VERSION = tfds.core.Version('1.0.0')
  BUILDER_CONFIGS: list[tfds.core.BuilderConfig] = []


class FlanJaxOffline(FlanJaxToy):
  """A builder whose host does not answer."""

  def _split_generators(self, dl_manager):
    raise ConnectionError('no route to host\nmore about it')


def _dataset(where, **changes):
  values = {
      'name': 'toy',
      'cluster': 'misc',
      'source': specs.Source(kind='tfds', where=where),
      'splits': {'train': 'train'},
      'fields': {'text': 'text', 'answer': 'answers.text.0'},
      'metrics': ('accuracy',),
      'templates': (),
  }
  return specs.Dataset(**{**values, **changes})


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A folder of TFDS datasets."""
  folder = tmp_path_factory.mktemp('tfds')
  FlanJaxToy(data_dir=str(folder)).download_and_prepare()
  config = tfds.core.BuilderConfig(name='de-en.mine', version='1.0.0')
  FlanJaxPairs(data_dir=str(folder), config=config).download_and_prepare()
  return folder


@pytest.fixture
def store(folder, cache):
  settings = rows_lib.SourceSettings(tfds_data_dir=str(folder))
  return rows_lib.RowStore(cache, settings)


def test_features_are_the_types_of_the_rows(folder, store):
  rows = store.open(_dataset('flan_jax_toy:1.2.0'), 'train')
  assert tfds_features.row_type(folder / 'flan_jax_toy/1.2.0') == (
      'struct',
      dict(rows.manifest.types),
  )
  path = folder / 'features.json'
  for text in ('', '[]', '{"sequence": {}}', '{"text": {}}'):
    path.write_text(text)
    with pytest.raises(ValueError):
      tfds_features.row_type(folder)
  path.write_text('{"featuresDict": {"features": {"picture": {"image": {}}}}}')
  assert tfds_features.row_type(folder) == ('struct', {'picture': 'null'})


def _warnings(caplog):
  return [r.getMessage() for r in caplog.records if r.levelno >= 30]


@pytest.mark.parametrize('declared', ['1.0.0', '2.0.0', '1.3.0'])
def test_another_version_that_fits_is_used_and_said(
    folder, store, caplog, declared
):
  dataset = _dataset(f'flan_jax_toy:{declared}')
  status = store.status(dataset)
  assert status.state == 'here'
  assert f'(version 1.2.0, where {declared} is declared)' in status.detail
  caplog.set_level(logging.INFO)
  for _ in range(3):
    rows = store.open(dataset, 'train')
  assert len(rows) == 10 and rows.manifest.version == '1.2.0'
  (said,) = _warnings(caplog)
  assert 'toy: ' in said and f'version 1.2.0, where {declared} is' in said
  assert f'where {declared} is declared' in store.status(dataset).detail


def test_the_declared_version_is_used_without_a_word(store, caplog):
  for where in ('flan_jax_toy:1.2.0', 'flan_jax_toy'):
    assert len(store.open(_dataset(where), 'train')) == 10
  assert not _warnings(caplog)


@pytest.mark.parametrize(
    ('changes', 'misfit'),
    [
        ({'fields': {'text': 'txet'}}, "there is no 'txet'. Did you mean text"),
        ({'fields': {'text': 'answers'}}, "'answers' is a mapping, not a text"),
        ({'splits': {'train': 'train', 'test': 'dev'}}, "no split 'dev'"),
        (
            {'choices': specs.Choices(label='gold', names=('a', 'b'))},
            "there is no 'gold'",
        ),
    ],
)
def test_another_version_that_does_not_fit(store, changes, misfit):
  dataset = _dataset('flan_jax_toy:3.1.4', **changes)
  with pytest.raises(errors.UserError) as caught:
    store.open(dataset, 'train')
  text = str(caught.value)
  assert '3.1.4' in text and '1.2.0 does not fit (' in text and misfit in text
  assert store.status(dataset).state == 'downloadable'


def test_a_function_decides_when_it_meets_the_rows(
    store, tmp_path, monkeypatch
):
  (tmp_path / 'version_fields.py').write_text(
      "def good(row):\n  return {'text': row['text']}\n"
      "def bad(row):\n  return {'text': row['words']}\n"
  )
  monkeypatch.syspath_prepend(str(tmp_path))
  for name in ('good', 'bad'):
    dataset = _dataset(
        'flan_jax_toy:2.0.0',
        fields=f'version_fields:{name}',
        field_names=('text',),
    )
    if name == 'good':
      assert len(store.open(dataset, 'train')) == 10
      continue
    with pytest.raises(errors.UserError) as caught:
      store.open(dataset, 'train')
    assert "KeyError: 'words'" in str(caught.value)
    assert 'version 1.2.0, where 2.0.0 is declared' in str(caught.value)


def test_a_config_that_is_in_no_registry(store):
  dataset = _dataset('flan_jax_pairs/de-en.mine:1.0.0')
  rows = store.open(dataset, 'train')
  assert sorted(row['text'] for row in rows.fields(range(10))) == [
      f'text {i}' for i in range(10)
  ]
  row = rows.take([0])[0]
  assert row['answers'] == {'text': ['a', 'b'], 'start': [1, 2]}
  assert row['pair'] == {'de': 'ja', 'en': 'yes'}


def test_hidden_test_labels_of_a_builder(store):
  dataset = _dataset(
      'flan_jax_toy:1.2.0',
      splits={'train': 'train', 'test': 'test+train[:1]'},
      choices=specs.Choices(label='label', names=('no', 'yes')),
  )
  manifest = store.prepare(dataset).splits
  assert manifest['train'].hidden_labels == 0
  assert manifest['test'].hidden_labels == 4 and manifest['test'].rows == 1


def test_tfds_fetches_what_is_not_here(tmp_path, cache):
  folder = tmp_path / 'new' / 'tfds'
  settings = rows_lib.SourceSettings(tfds_data_dir=str(folder))
  store = rows_lib.RowStore(cache, settings)
  dataset = _dataset('flan_jax_toy:1.2.0')
  assert [(d.name, s.state) for d, s in store.missing([dataset])] == [
      ('toy', 'downloadable')
  ]
  store.download(dataset)
  assert store.status(dataset).state == 'here' and not store.missing([dataset])
  assert len(store.open(dataset, 'train')) == 10


@pytest.mark.parametrize(
    ('where', 'message'),
    [
        (
            'flan_jax_offline:1.2.0',
            'ConnectionError: no route to host more about it',
        ),
        ('flan_jax_nobody:1.0.0', 'DatasetNotFoundError: '),
        ('flan_jax_toy:1.0.0', 'ValueError: The version of the dataset you'),
        ('flan_jax_toy:7.0.0', '7.0.0'),
    ],
)
def test_what_tfds_cannot_fetch_is_one_line(tmp_path, cache, where, message):
  settings = rows_lib.SourceSettings(tfds_data_dir=str(tmp_path / 'tfds'))
  store = rows_lib.RowStore(cache, settings)
  with pytest.raises(errors.UserError) as caught:
    store.download(_dataset(where))
  text = str(caught.value)
  assert text.startswith(
      f'dataset toy: source: TFDS cannot fetch {where} into '
  )
  assert message in text and '\n' not in text
  assert store.status(_dataset(where)).state == 'downloadable'


def test_the_source_that_tfds_knows_is_fetched(tmp_path, cache):
  settings = rows_lib.SourceSettings(tfds_data_dir=str(tmp_path / 'tfds'))
  store = rows_lib.RowStore(cache, settings)
  elsewhere = specs.Source(kind='jsonl', where=str(tmp_path / 'no.jsonl'))
  dataset = _dataset(
      'flan_jax_toy:1.2.0',
      source=elsewhere,
      alternatives=(
          specs.Alternative(
              source=specs.Source(kind='tfds', where='flan_jax_toy:1.2.0')
          ),
      ),
  )
  status = store.status(dataset)
  assert status.state == 'downloadable'
  assert len(status.alternatives) == 1 and 'no.jsonl' in status.alternatives[0]
  store.download(dataset)
  assert store.open(dataset, 'train').manifest.alternative == 1
  with pytest.raises(errors.UserError, match="fetch 'toy' by itself"):
    store.download(dataclasses.replace(dataset, alternatives=()))


def test_files_got_by_hand_are_read(tmp_path, cache):
  settings = rows_lib.SourceSettings(tfds_data_dir=str(tmp_path))
  store = rows_lib.RowStore(cache, settings)
  options = {'manual': 'put rows.zip, and none other, there'}
  source = specs.Source(
      kind='tfds', where='flan_jax_toy:1.2.0', options=options
  )
  dataset = _dataset('', source=source)
  manual = tmp_path / 'downloads' / 'manual'
  manual.mkdir(parents=True)
  (manual / 'of_others.zip').write_text('')
  with pytest.raises(errors.UserError, match='by itself: .* put rows'):
    store.download(dataset)
  (manual / 'rows.zip').write_text('')
  store.download(dataset)
  assert store.status(dataset).state == 'here'


def test_prepare_fetches_when_told(tmp_path, cache, capsys):
  from flan_jax import cli

  declared = tmp_path / 'toy_fetched.yaml'
  declared.write_text(
      json.dumps({
          'version': 1,
          'cluster': 'toys',
          'source': {'tfds': 'flan_jax_toy:1.2.0', 'download': '3 KiB'},
          'splits': {'train': 'train', 'test': 'test'},
          'fields': {'text': 'text'},
          'choices': {'label': 'label', 'names': ['no', 'yes']},
          'metrics': ['accuracy'],
          'templates': [{
              'name': 'ask',
              'inputs': '{text}\n{options}',
              'targets': '{answer}',
          }],
      })
  )
  flags = [
      f'--mixtures={declared}',
      f'--tfds_data_dir={tmp_path / "tfds"}',
      f'--cache_dir={cache}',
  ]
  assert cli.main(['prepare', 'toy_fetched', *flags]) == 2
  told = capsys.readouterr().err
  assert 'flan-jax prepare toy_fetched --download' in told and '3 KiB' in told
  # All labels of the test split are hidden.
  assert cli.main(['prepare', 'toy_fetched', '--download', *flags]) == 2
  told = capsys.readouterr().err
  assert 'toy_fetched: fetching flan_jax_toy:1.2.0' in told
  assert '4 have a hidden label' in told
  text = declared.read_text().replace('"test": "test"', '"test": "test+train"')
  declared.write_text(text)
  assert cli.main(['prepare', 'toy_fetched', '--download', *flags]) == 0
  out = capsys.readouterr().out.splitlines()
  assert out[1].split()[:4] == ['toy_fetched', '10', '-', '10']
  assert out[1].endswith('4 with a hidden label')
