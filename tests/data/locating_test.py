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
