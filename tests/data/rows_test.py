"""The row store: read once, found again, and never half-written."""

import json
import os
import pathlib
import pickle
import sys
import textwrap

from flan_jax import errors
from flan_jax.data import catalogue
from flan_jax.data import manifest as manifest_lib
from flan_jax.data import preparing
from flan_jax.data import row_files
from flan_jax.data import rows as rows_lib
from flan_jax.data import specs
import numpy as np
import pytest


def _dataset(source, splits=None, **changes):
  kind, where = source
  values = {
      'name': 'toy',
      'cluster': 'misc',
      'source': specs.Source(kind=kind, where=str(where)),
      'splits': splits or {'train': 'train'},
      'fields': {'text': 'text'},
      'metrics': ('accuracy',),
      'templates': (),
  }
  return specs.Dataset(**{**values, **changes})


def _jsonl(path: pathlib.Path, rows) -> pathlib.Path:
  path.write_text('\n'.join(json.dumps(row) for row in rows) + '\n')
  return path


@pytest.fixture
def hundred(tmp_path):
  """A file of a hundred rows."""
  rows = [{'text': f'row {i}', 'label': i % 3} for i in range(100)]
  return _jsonl(tmp_path / 'hundred.jsonl', rows)


@pytest.fixture
def store(cache):
  return rows_lib.RowStore(cache)


def _texts(rows):
  return [row['text'] for row in rows.take(np.arange(len(rows)))]


def test_slices_give_the_rows_that_python_gives(store, hundred):
  dataset = _dataset(
      ('jsonl', hundred),
      {
          'train': 'train[:-30]',
          'validation': 'train[-30:-10]',
          'test': 'all[90%:]+validation[:2]',
      },
  )
  everything = [f'row {i}' for i in range(100)]
  manifest = store.prepare(dataset)
  assert {name: split.rows for name, split in manifest.splits.items()} == {
      'train': 70,
      'validation': 20,
      'test': 12,
  }
  assert _texts(store.open(dataset, 'train')) == everything[:-30]
  assert _texts(store.open(dataset, 'validation')) == everything[-30:-10]
  test = store.open(dataset, 'test')
  assert _texts(test) == everything[90:] + everything[70:72]
  assert test.row_ids([0, 9, 10, 11]) == [
      'all:90',
      'all:99',
      'train:70',
      'train:71',
  ]


@pytest.mark.parametrize('batch', [7, 1 << 16])
def test_rows_are_read_in_the_order_asked_for(
    store, hundred, batch, monkeypatch
):
  monkeypatch.setattr(row_files, '_BATCH_ROWS', batch)
  rows = store.open(_dataset(('jsonl', hundred)), 'train')
  indices = [99, 3, 3, 50, 0]
  expected = [{'text': f'row {i}', 'label': i % 3} for i in indices]
  assert rows.take(indices) == expected
  assert rows.fields(np.array(indices)) == [
      {'text': row['text']} for row in expected
  ]
  assert rows.row_ids(indices) == [f'train:{i}' for i in indices]
  assert rows.take([]) == rows.fields(np.array([], int)) == []
  assert rows.row_ids([]) == []
  for wrong in ([100], [-1], [0, 100]):
    with pytest.raises(IndexError, match='has 100 rows'):
      rows.take(wrong)


def test_rows_go_to_another_process(store, hundred):
  rows = store.open(_dataset(('jsonl', hundred)), 'train')
  again = pickle.loads(pickle.dumps(rows))
  assert again.take([5]) == rows.take([5])
  assert again.split == 'train' and len(again) == 100


def test_many_open_splits_hold_no_files_open(store, hundred):
  dataset = _dataset(('jsonl', hundred))
  store.prepare(dataset)
  before = len(os.listdir('/proc/self/fd'))
  opened = [store.open(dataset, 'train') for _ in range(50)]
  assert len(os.listdir('/proc/self/fd')) - before < 10
  assert all(rows.take([1]) for rows in opened)


def test_a_limit_is_a_seeded_sample_in_order(cache, hundred):
  dataset = _dataset(('jsonl', hundred), limits={'train': 10})
  found = {}
  for seed in (0, 1):
    settings = rows_lib.SourceSettings(seed=seed)
    for name in ('a', 'b'):  # Two machines.
      store = rows_lib.RowStore(cache / name, settings)
      rows = store.open(dataset, 'train')
      assert rows.manifest.available == 100 and rows.manifest.limit == 10
      found[seed, name] = rows.row_ids(range(10)), rows.manifest.sha256
  assert found[0, 'a'] == found[0, 'b'] != found[1, 'a'] == found[1, 'b']
  ids = [int(row_id.split(':')[1]) for row_id in found[0, 'a'][0]]
  assert ids == sorted(set(ids)) and ids != list(range(10))
  assert _texts(rows_lib.RowStore(cache / 'a').open(dataset, 'train')) == [
      f'row {i}' for i in ids
  ]


def test_a_limit_above_the_size_keeps_all(store, hundred):
  dataset = _dataset(('jsonl', hundred), limits={'train': 30_000})
  assert len(store.open(dataset, 'train')) == 100


def test_the_manifest_says_where_rows_come_from(store, hundred):
  dataset = _dataset(
      ('jsonl', hundred), {'train': 'train[:50]'}, limits={'train': 20}
  )
  manifest = store.prepare(dataset).splits['train']
  folders = list((store._cache / 'rows' / 'toy').iterdir())
  assert [path.name.split('-')[0] for path in folders] == ['train']
  on_disk = json.loads((folders[0] / 'manifest.json').read_text())
  file = folders[0] / 'rows.arrow'
  assert on_disk['sha256'] == row_files.sha256(file) == manifest.sha256
  assert on_disk['bytes'] == file.stat().st_size
  expected = {
      'dataset': 'toy',
      'split': 'train',
      'slice': 'train[:50]',
      'place': str(hundred),
      'rows': 20,
      'available': 50,
      'limit': 20,
      'seed': 0,
      'skipped': 0,
      'parts': [['train', 20]],
      'types': {'text': 'str', 'label': 'int'},
  }
  assert {key: on_disk[key] for key in expected} == expected
  assert json.dumps(store.prepare(dataset).to_json())


def test_rows_are_stored_once(store, hundred, monkeypatch):
  dataset = _dataset(('jsonl', hundred))
  store.open(dataset, 'train')

  def never(*_, **__):
    raise AssertionError('read again')

  monkeypatch.setattr(preparing.Preparer, 'store', never)
  assert len(store.open(dataset, 'train')) == 100
  # Another version of templates or description is the same rows.
  again = _dataset(('jsonl', hundred), version=2, description='new')
  assert len(store.open(again, 'train')) == 100
  with pytest.raises(AssertionError, match='read again'):
    store.prepare(dataset, force=True)


def test_a_changed_source_is_noticed(store, hundred):
  dataset = _dataset(('jsonl', hundred))
  first = store.open(dataset, 'train')
  before = hundred.stat()
  text = hundred.read_text()
  # The same size and, as after an unlucky copy, the same time of change.
  hundred.write_text(text.replace('row 17"', 'ROW 17"'))
  os.utime(hundred, ns=(before.st_atime_ns, before.st_mtime_ns))
  assert store.open(dataset, 'train').take([17])[0]['text'] == 'ROW 17'
  # What was open stays as it was.
  assert first.take([17])[0]['text'] == 'row 17'
  # Back again: the first rows are still there.
  hundred.write_text(text)
  assert store.status(dataset).state == 'prepared'
  assert store.open(dataset, 'train').take([17])[0]['text'] == 'row 17'


def test_stored_rows_do_without_their_source(store, hundred):
  dataset = _dataset(('jsonl', hundred))
  store.prepare(dataset)
  hundred.unlink()
  assert store.status(dataset).state == 'prepared'
  assert len(store.open(dataset, 'train')) == 100
  changed = _dataset(('jsonl', hundred), {'train': 'train[:5]'})
  with pytest.raises(errors.UserError, match='is not there'):
    store.open(changed, 'train')


def test_one_pass_over_the_source_serves_all_splits(
    store, tmp_path, monkeypatch
):
  module = tmp_path / 'counted_rows.py'
  module.write_text(textwrap.dedent("""
      calls = []
      def rows(split, seed):
        calls.append(split)
        return ({'text': f'{split} {i}'} for i in range(10))
  """))
  monkeypatch.syspath_prepend(str(tmp_path))
  dataset = _dataset(
      ('generated', 'counted_rows:rows'),
      {'train': 'train[:-2]', 'validation': 'train[-2:]', 'test': 'test'},
  )
  seen = []
  store.prepare(dataset, progress=lambda *told: seen.append(told))
  # Once to count for the slice, once to read.
  assert sys.modules['counted_rows'].calls == ['train', 'train', 'test']
  assert seen == [
      ('toy', 'train', 8),
      ('toy', 'validation', 2),
      ('toy', 'test', 10),
  ]


def test_progress_is_told_as_rows_come(store, tmp_path):
  path = _jsonl(tmp_path / 'many.jsonl', [{'text': 'x'}] * 2500)
  seen = []
  store.prepare(_dataset(('jsonl', path)), progress=lambda *t: seen.append(t))
  assert seen == [('toy', 'train', n) for n in (1000, 2000, 2500)]


@pytest.mark.parametrize('expression', ['train[100:]', 'train[5:5]', 'empty'])
def test_an_empty_split_is_an_error(store, hundred, expression):
  (hundred.parent / 'empty.jsonl').write_text('\n\n')
  dataset = _dataset(('jsonl', hundred.parent), {'train': expression})
  if expression != 'empty':
    dataset = _dataset(('jsonl', hundred), {'train': expression})
  with pytest.raises(errors.UserError, match='splits.train: the split is empt'):
    store.open(dataset, 'train')
  assert not list(store._cache.glob('rows/toy/*'))


def test_an_unknown_split_names_those_there_are(store, hundred):
  dataset = _dataset(('jsonl', hundred), {'train': 'train', 'test': 'tset'})
  with pytest.raises(errors.UserError, match="no split 'validation'; it has"):
    store.open(dataset, 'validation')
  with pytest.raises(errors.UserError, match='Splits there: train, all'):
    store.open(dataset, 'test')
  assert len(store.open(dataset, 'train')) == 100


def test_mixed_types_name_file_row_and_field(cache, tmp_path):
  rows = [{'text': 'a', 'n': {'k': 1}}, {'text': 'b', 'n': {'k': 'one'}}]
  path = _jsonl(tmp_path / 'mixed.jsonl', rows)
  dataset = _dataset(('jsonl', path))
  with pytest.raises(errors.UserError) as caught:
    rows_lib.RowStore(cache).open(dataset, 'train')
  assert str(caught.value) == (
      f"{path}:2: field 'n.k' is a text, but a whole number before"
  )
  settings = rows_lib.SourceSettings(on_error='skip')
  found = rows_lib.RowStore(cache, settings).open(dataset, 'train')
  assert _texts(found) == ['a']
  assert found.manifest.skipped == 1
  # Whoever does not skip is not given what somebody else skipped to get.
  with pytest.raises(errors.UserError, match='mixed.jsonl:2'):
    rows_lib.RowStore(cache).open(dataset, 'train')


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (
            {'fields': {'text': 'txet'}},
            "fields.text: 'txet': there is no 'txet'. Did you mean text?",
        ),
        ({'references': 'golds'}, "references: 'golds': there is no 'golds'"),
        (
            {'choices': specs.Choices(label='lab', names=('a', 'b'))},
            "choices.label: 'lab': there is no 'lab'. Did you mean label?",
        ),
        ({'fields': {'text': 'text.0'}}, "'text' is a text, so there is no"),
    ],
)
def test_a_missing_field_names_those_there_are(
    store, hundred, changes, message
):
  dataset = _dataset(('jsonl', hundred), **changes)
  with pytest.raises(errors.UserError) as caught:
    store.open(dataset, 'train').fields([0])
  assert message in str(caught.value)
  assert str(hundred) in str(caught.value)


def test_fields_are_texts_but_for_lists_and_the_label(store, tmp_path):
  path = _jsonl(
      tmp_path / 'rows.jsonl',
      [
          {'n': 1, 'who': None, 'label': 1, 'options': ['a', '3'], 'refs': []},
          {'n': 2.5, 'who': 'x', 'label': 0, 'options': ['b'], 'refs': ['r']},
      ],
  )
  dataset = _dataset(
      ('jsonl', path),
      fields={'number': 'n', 'who': 'who', 'first': 'options.0'},
      choices=specs.Choices(label='label', list='options'),
      references='refs',
  )
  assert store.open(dataset, 'train').fields([0, 1]) == [
      {
          'number': '1',
          'who': '',
          'first': 'a',
          'label': 1,
          'options': ['a', '3'],
          'refs': [],
      },
      {
          'number': '2.5',
          'who': 'x',
          'first': 'b',
          'label': 0,
          'options': ['b'],
          'refs': ['r'],
      },
  ]


def test_a_function_makes_fields(store, hundred, tmp_path, monkeypatch):
  (tmp_path / 'my_fields.py').write_text(textwrap.dedent("""
      def shout(row):
        return {'text': row['text'].upper(), 'number': 3,
                  'label': row['label']}
      def broken(row):
        return {'text': row['txet']}
      def short(row):
        return {'text': row['text']}
  """))
  monkeypatch.syspath_prepend(str(tmp_path))
  changes = {
      'field_names': ('text', 'number', 'label'),
      'choices': specs.Choices(label='label', names=('a', 'b', 'c')),
  }
  dataset = _dataset(('jsonl', hundred), fields='my_fields:shout', **changes)
  assert store.open(dataset, 'train').fields([4]) == [
      {'text': 'ROW 4', 'number': '3', 'label': 1}
  ]
  for name, message in (
      (
          'broken',
          r"broken fails on row train:0 \(.*hundred.jsonl:1\): KeyError: 'txet'"
          r' \(.*my_fields.py:6\). The row has text, label',
      ),
      ('short', "row train:0 .*: it gives no field 'number', but 'text'"),
      ('shuot', "no function 'shuot'. Did you mean shout, short"),
  ):
    wrong = _dataset(('jsonl', hundred), fields=f'my_fields:{name}', **changes)
    with pytest.raises(errors.UserError, match=message):
      store.open(wrong, 'train')


def test_status_says_what_to_run(store, hundred, tmp_path):
  dataset = _dataset(('jsonl', hundred))
  status = store.status(dataset)
  assert status.state == 'here'
  assert str(hundred) in status.detail
  assert 'flan-jax prepare toy' in status.detail
  store.prepare(dataset)
  status = store.status(dataset)
  assert status.state == 'prepared' and 'train 100 rows' in status.detail
  status = store.status(_dataset(('jsonl', 'nowhere/rows.jsonl')))
  assert status.state == 'missing'
  assert '--data_dir=DIR' in status.detail and '\n' not in status.detail


def test_one_split_that_fails_leaves_nothing_of_the_others(store, hundred):
  (hundred.parent / 'bad.jsonl').write_text('{')
  dataset = _dataset(
      ('jsonl', hundred),
      {'train': 'train', 'test': str(hundred.parent / 'bad.jsonl')},
  )
  with pytest.raises(errors.UserError, match='bad.jsonl:1: not valid JSON'):
    store.prepare(dataset)
  assert not list(store._cache.glob('rows/toy/*'))
  assert not list(store._cache.glob('rows/toy/.*'))
  assert len(store.open(dataset, 'train')) == 100


def test_damaged_rows_are_read_again(store, hundred):
  dataset = _dataset(('jsonl', hundred))
  store.prepare(dataset)
  folder = next((store._cache / 'rows' / 'toy').iterdir())
  for damage in ('rows.arrow', 'manifest.json'):
    (folder / damage).write_bytes((folder / damage).read_bytes()[:-5])
    assert manifest_lib.load(folder) is None
    assert store.status(dataset).state == 'here'
    assert len(store.open(dataset, 'train')) == 100
    assert manifest_lib.load(folder).rows == 100


def test_the_second_to_finish_leaves_the_first_ones_rows(
    store, hundred, monkeypatch
):
  dataset = _dataset(('jsonl', hundred))
  finish = preparing.Preparer._finish

  def late(self, *args):
    # Another process stores the same rows just before this one would.
    monkeypatch.setattr(preparing.Preparer, '_finish', finish)
    rows_lib.RowStore(store._cache).prepare(dataset)
    return finish(self, *args)

  monkeypatch.setattr(preparing.Preparer, '_finish', late)
  rows = store.open(dataset, 'train')
  assert len(rows) == 100 and rows.take([3])[0]['text'] == 'row 3'
  folders = list((store._cache / 'rows' / 'toy').iterdir())
  assert len(folders) == 1 and manifest_lib.load(folders[0])


def test_a_cache_that_cannot_be_written_is_named(tmp_path, hundred):
  (tmp_path / 'file').write_text('not a folder')
  store = rows_lib.RowStore(tmp_path / 'file')
  with pytest.raises(errors.UserError, match='--cache_dir=DIR'):
    store.open(_dataset(('jsonl', hundred)), 'train')


def test_a_full_disk_is_said_in_one_line(store, hundred, monkeypatch):
  def full(*_):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(row_files.Writer, 'finish', full)
  with pytest.raises(errors.UserError, match='the disk is full'):
    store.open(_dataset(('jsonl', hundred)), 'train')
  assert not list((store._cache / 'rows' / 'toy').iterdir())


def test_fields_of_real_rows_are_columns_of_the_rows(shared, cache):
  store = rows_lib.RowStore(
      cache, rows_lib.SourceSettings(tfds_data_dir=str(shared / 'tfds'))
  )
  rows = store.open(catalogue.Catalogue().dataset('rte'), 'train')
  assert len(rows) == 2490 - 200
  indices = np.arange(len(rows))[::-1]
  names = ('premise', 'hypothesis', 'label')
  assert rows.fields(indices) == [
      {name: row[name] for name in names} for row in rows.take(indices)
  ]
