"""Which of several sources is used, and what is said when none is here."""

import json

from flan_jax import errors
from flan_jax.data import rows as rows_lib
from flan_jax.data import specs
import pytest


def _dataset(folder, **changes):
  """A dataset with three places for its rows."""
  values = {
      'name': 'toy',
      'cluster': 'misc',
      'source': specs.Source(kind='jsonl', where=str(folder / 'first')),
      'splits': {'train': 'train[:-1]', 'test': 'train[-1:]'},
      'fields': {'text': 'text'},
      'metrics': ('accuracy',),
      'templates': (),
      'alternatives': (
          specs.Alternative(
              source=specs.Source(kind='tsv', where=str(folder / 'second')),
              splits={'train': 'rows', 'test': 'held'},
              fields={'text': 'sentence'},
              keep='flan_jax.data.fields.common:has_texts',
              note='Other rows.',
          ),
          specs.Alternative(
              source=specs.Source(
                  kind='jsonl',
                  where=str(folder / 'third.jsonl'),
                  options={'obtain': 'ask the authors'},
              ),
          ),
      ),
  }
  return specs.Dataset(**{**values, **changes})


def _first(folder):
  (folder / 'first').mkdir()
  text = '\n'.join(json.dumps({'text': f'one {i}'}) for i in range(3))
  (folder / 'first' / 'train.jsonl').write_text(text)


def _second(folder, test=True):
  (folder / 'second').mkdir()
  (folder / 'second' / 'rows.tsv').write_text('sentence\ntwo 0\n \ntwo 1\n')
  if test:
    (folder / 'second' / 'held.tsv').write_text('sentence\ntwo held\n')


def _third(folder):
  text = '\n'.join(json.dumps({'text': f'three {i}'}) for i in range(4))
  (folder / 'third.jsonl').write_text(text)


def _texts(store, dataset):
  return {
      split: [row['text'] for row in rows.fields(range(len(rows)))]
      for split in dataset.splits
      for rows in [store.open(dataset, split)]
  }


def test_the_first_that_is_here_is_used(tmp_path, cache):
  dataset = _dataset(tmp_path)
  store = rows_lib.RowStore(cache)
  _third(tmp_path)
  assert _texts(store, dataset)['train'] == ['three 0', 'three 1', 'three 2']
  assert store.open(dataset, 'train').manifest.alternative == 2
  _second(tmp_path)
  assert store.status(dataset).state == 'here'
  # Its splits, fields and keep, not the dataset's.
  assert _texts(store, dataset) == {
      'train': ['two 0', 'two 1'],
      'test': ['two held'],
  }
  manifest = store.prepare(dataset).splits['train']
  assert manifest.alternative == 1 and manifest.filtered == 1
  assert manifest.source['kind'] == 'tsv' and manifest.slice == 'rows'
  _first(tmp_path)
  assert _texts(store, dataset)['test'] == ['one 2']
  assert store.open(dataset, 'train').manifest.alternative == 0
  assert store.status(dataset).state == 'prepared'


def test_rows_of_any_that_are_stored_count(tmp_path, cache):
  dataset = _dataset(tmp_path)
  store = rows_lib.RowStore(cache)
  _second(tmp_path)
  store.prepare(dataset)
  for path in (tmp_path / 'second').iterdir():
    path.unlink()
  assert store.status(dataset).state == 'prepared'
  assert _texts(store, dataset)['test'] == ['two held']


def test_splits_never_come_from_different_places(tmp_path, cache):
  dataset = _dataset(tmp_path)
  store = rows_lib.RowStore(cache)
  _second(tmp_path, test=False)
  assert len(store.open(dataset, 'train')) == 2
  with pytest.raises(errors.UserError, match="no split 'held'"):
    store.open(dataset, 'test')
  _third(tmp_path)  # It has all of them.
  assert _texts(store, dataset)['train'][0] == 'three 0'
  assert _texts(store, dataset)['test'] == ['three 3']


def test_when_none_is_here_all_are_named_in_one_line(tmp_path, cache):
  dataset = _dataset(tmp_path)
  store = rows_lib.RowStore(cache)
  for ask in (
      lambda: store.open(dataset, 'train'),
      lambda: store.prepare(dataset),
  ):
    with pytest.raises(errors.UserError) as caught:
      ask()
    text = str(caught.value)
    assert text.startswith("dataset 'toy' is in none of its 3 places: ")
    assert '\n' not in text
    for part in ('first', 'second', 'third.jsonl', 'ask the authors'):
      assert part in text


def test_a_broken_source_is_an_error_and_not_passed_over(tmp_path, cache):
  dataset = _dataset(tmp_path)
  _first(tmp_path)
  _third(tmp_path)
  (tmp_path / 'first' / 'train.jsonl').write_text('{"text": "a"}\n{')
  with pytest.raises(errors.UserError, match='train.jsonl:2: not valid JSON'):
    rows_lib.RowStore(cache).open(dataset, 'train')


def test_missing_names_all_that_is_not_here(tmp_path, cache):
  here = _dataset(tmp_path, name='here')
  _third(tmp_path)
  elsewhere = {'where': str(tmp_path / 'no'), 'kind': 'jsonl'}
  lost = _dataset(
      tmp_path,
      name='lost',
      source=specs.Source(**elsewhere),
      alternatives=(),
  )
  asked = _dataset(
      tmp_path,
      name='asked',
      source=specs.Source(**elsewhere, options={'obtain': 'ask them'}),
      alternatives=(),
  )
  fetched = _dataset(
      tmp_path,
      name='fetched',
      source=specs.Source(**elsewhere, options={'obtain': 'ask them'}),
      alternatives=(
          specs.Alternative(
              source=specs.Source(
                  kind='tfds', where='no:1.0.0', options={'download': '3 MiB'}
              )
          ),
      ),
  )
  settings = rows_lib.SourceSettings(tfds_data_dir=str(tmp_path / 'tfds'))
  store = rows_lib.RowStore(cache, settings)
  found = store.missing([here, lost, asked, fetched, lost])
  assert [(d.name, s.state) for d, s in found] == [
      ('lost', 'missing'),
      ('asked', 'manual'),
      ('fetched', 'downloadable'),
  ]
  details = [status.detail for _, status in found]
  assert 'ask them' in details[1] and 'ask them' not in details[0]
  assert 'flan-jax prepare fetched --download' in details[2]
  assert '3 MiB' in details[2]
  assert len(found[2][1].alternatives) == 1
  assert 'ask them' in found[2][1].alternatives[0]
  assert not any('\n' in detail for detail in details)


def test_only_the_splits_that_matter_are_missed(tmp_path, cache):
  (tmp_path / 'first').mkdir()
  (tmp_path / 'first' / 'train.jsonl').write_text('{"text": "a"}')
  dataset = _dataset(
      tmp_path, splits={'train': 'train', 'test': 'test'}, alternatives=()
  )
  store = rows_lib.RowStore(cache)
  assert not store.missing([dataset], ['train'])
  assert not store.missing([dataset], ['validation'])
  ((_, status),) = store.missing([dataset], ['train', 'test'])
  assert "no split 'test'" in status.detail
  assert store.status(dataset, ['train']).state == 'here'
  store.prepare(dataset, ['train'])
  assert store.status(dataset, ['train']).state == 'prepared'
  assert store.status(dataset).state == 'missing'


def test_hundreds_of_datasets_are_looked_at_at_once(tmp_path, cache):
  """420 datasets: not here, here, and prepared, with code and second places."""
  tfds = tmp_path / 'tfds'
  datasets = []
  features = json.dumps({
      'featuresDict': {'features': {'text': {'text': {}}}},
      'pythonClassName': 'x',
  })
  for number in range(420):
    name = f'set_{number}'
    if number % 2:
      folder = tfds / name / '1.0.0'
      folder.mkdir(parents=True)
      (folder / 'dataset_info.json').write_text(
          json.dumps({
              'splits': [
                  {'name': split, 'shardLengths': ['1000'] * 64}
                  for split in ('train', 'test')
              ]
          })
      )
      (folder / 'features.json').write_text(features)
    datasets.append(
        _dataset(
            tmp_path,
            name=name,
            source=specs.Source(
                kind='tfds', where=f'{name}:1.0.{number // 2 % 2}'
            ),
            keep='flan_jax.data.fields.common:has_texts',
            alternatives=_dataset(tmp_path).alternatives,
        )
    )
  path = tmp_path / 'rows.jsonl'
  path.write_text('{"text": "a"}\n{"text": "b"}\n')
  settings = rows_lib.SourceSettings(tfds_data_dir=str(tfds))
  store = rows_lib.RowStore(cache, settings)
  for number in range(0, 420, 10):
    datasets[number] = _dataset(
        tmp_path,
        name=f'set_{number}',
        source=specs.Source(kind='jsonl', where=str(path)),
        alternatives=(),
    )
    store.prepare(datasets[number])
  states = [store.status(dataset).state for dataset in datasets]
  missing = store.missing(datasets)
  assert states.count('here') == 210 and states.count('prepared') == 42
  assert len(missing) == states.count('manual') + states.count('downloadable')
  assert len(missing) == 168
