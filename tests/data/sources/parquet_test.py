"""Parquet files: one, splits in a folder, shards; what is said of others."""

import datetime
import decimal

from flan_jax import errors
from flan_jax.data import rows as rows_lib
from flan_jax.data import sources
from flan_jax.data import specs
from flan_jax.data.sources import base
import pyarrow as pa
import pyarrow.parquet as pq
import pytest


def _dataset(where, fields=None, **splits):
  return specs.Dataset(
      name='toy',
      cluster='misc',
      source=specs.Source(kind='parquet', where=str(where)),
      splits=splits or {'train': 'train'},
      fields=fields or {'text': 'text'},
      metrics=('accuracy',),
      templates=(),
  )


def _read(where):
  source = sources.create(_dataset(where), base.SourceSettings())
  found = list(source.read('train', base.Skipped('raise')))
  assert [number for number, _ in found] == list(range(len(found)))
  return [row for _, row in found]


@pytest.fixture
def write(tmp_path):
  """Writes rows, or a table, into a file."""

  def make(name, rows, **options):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows) if isinstance(rows, list) else rows
    pq.write_table(table, path, **options)
    return path

  return make


def _texts(*texts):
  return [{'text': text} for text in texts]


def test_nested_values_come_back_as_they_were(write):
  rows = [
      {
          'text': 'né\u2028e',
          'answers': {'text': ['a', 'b'], 'start': [1, -2]},
          'spans': [{'from': 1, 'ok': True}, {'from': 2, 'ok': None}],
          'lists': [[1], [], [2, 3]],
          'n': 1.5,
          'nothing': None,
      },
      {
          'text': '',
          'answers': {'text': [], 'start': []},
          'spans': [],
          'lists': None,
          'n': None,
          'nothing': None,
      },
  ]
  assert _read(write('a.parquet', rows)) == rows


def test_other_types_become_text_or_what_they_hold(write):
  at = datetime.datetime(2021, 9, 3, 12, 30)
  table = pa.table({
      'day': pa.array([at.date()]),
      'at': pa.array([[at]]),
      'price': pa.array([decimal.Decimal('1.50')]),
      'long': pa.array([datetime.timedelta(seconds=90)]),
      'raw': pa.array([b'caf\xc3\xa9']),
      'word': pa.array(['x']).dictionary_encode(),
      'map': pa.array([[('a', 1)]], pa.map_(pa.string(), pa.int32())),
      'large': pa.array(['y'], pa.large_string()),
  })
  assert _read(write('a.parquet', table)) == [{
      'day': '2021-09-03',
      'at': ['2021-09-03T12:30:00'],
      'price': '1.50',
      'long': '0:01:30',
      'raw': 'café',
      'word': 'x',
      'map': {'a': 1},
      'large': 'y',
  }]


def test_splits_of_a_folder(write, tmp_path, cache):
  write('x/train.parquet', _texts(*map(str, range(10))), row_group_size=3)
  # More than nine shards: by number, not by name.
  for number in range(11):
    name = f'x/validation-{number:05d}-of-00011.parquet'
    write(name, _texts(f'v{number}', f'w{number}'))
  write('x/test/0000.parquet', _texts('t0'))
  write('x/test/0001.parquet', _texts('t1'))
  other = write('elsewhere/dev.parquet', _texts('d'))
  dataset = _dataset(
      tmp_path / 'x',
      train='train[-3:]',
      validation='validation[1:-1]',
      test=f'test+{other}',
  )
  store = rows_lib.RowStore(cache)
  store.prepare(dataset)
  assert store.status(dataset).state == 'prepared'
  found = {
      split: [row['text'] for row in rows.take(range(len(rows)))]
      for split in dataset.splits
      for rows in [store.open(dataset, split)]
  }
  assert found['train'] == ['7', '8', '9']
  assert found['validation'][:3] == ['w0', 'v1', 'w1']
  assert found['validation'][-2:] == ['w9', 'v10']
  assert found['test'] == ['t0', 't1', 'd']
  source = sources.create(dataset, base.SourceSettings())
  assert source.count('validation') == 22
  assert source.place('validation', 3).endswith('1-of-00011.parquet: row 1')
  with pytest.raises(errors.UserError, match='there: test, train, validation'):
    store.open(_dataset(tmp_path / 'x', train='trian'), 'train')


def test_a_file_alone_is_train(write, cache):
  path = write('only.parquet', _texts('a', 'b'))
  store = rows_lib.RowStore(cache)
  assert len(store.open(_dataset(path), 'train')) == 2
  with pytest.raises(errors.UserError, match='Splits there: train, all'):
    store.open(_dataset(path, test='test'), 'test')


def test_a_changed_shard_is_noticed(write, tmp_path, cache):
  store = rows_lib.RowStore(cache)
  for number, text in ((0, 'a'), (1, 'b')):
    write(f'x/train-{number}-of-2.parquet', _texts(text))
  dataset = _dataset(tmp_path / 'x')
  assert store.open(dataset, 'train').take([1]) == [{'text': 'b'}]
  write('x/train-1-of-2.parquet', _texts('c'))
  assert store.open(dataset, 'train').take([1]) == [{'text': 'c'}]


def test_missing_shards_are_an_error(write, tmp_path, cache):
  for number in (0, 2):
    write(f'x/train-{number:05d}-of-00003.parquet', _texts('a'))
  with pytest.raises(errors.UserError, match="'train' should have 3 shards"):
    rows_lib.RowStore(cache).open(_dataset(tmp_path / 'x'), 'train')


@pytest.mark.parametrize('damage', ['text', 'cut', 'body'])
def test_an_unreadable_file_is_named(write, cache, damage):
  rows = [{'text': f'row {i} ' * 20} for i in range(500)]
  path = write('bad.parquet', rows, compression='zstd')
  data = path.read_bytes()
  if damage == 'text':
    path.write_text('text\nhello\n')
  elif damage == 'cut':
    path.write_bytes(data[: len(data) // 2])
  else:  # The footer is whole, the pages are not.
    path.write_bytes(data[:4] + b'\xff' * 600 + data[604:])
  with pytest.raises(errors.UserError) as caught:
    rows_lib.RowStore(cache).open(_dataset(path), 'train')
  text = str(caught.value)
  assert text.startswith(f'{path}: cannot be read as Parquet (')
  assert '\n' not in text


def test_what_is_no_text_is_named_or_skipped(write, cache):
  path = write('raw.parquet', [{'text': b'ok'}, {'text': b'\xff'}])
  with pytest.raises(errors.UserError, match='raw.parquet: row 1: .*not UTF-8'):
    rows_lib.RowStore(cache).open(_dataset(path), 'train')
  store = rows_lib.RowStore(cache, rows_lib.SourceSettings(on_error='skip'))
  rows = store.open(_dataset(path), 'train')
  assert rows.take([0]) == [{'text': 'ok'}] and len(rows) == 1
  assert rows.manifest.skipped == 1


def test_one_column_twice(write):
  table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], ['text', 'text'])
  with pytest.raises(errors.UserError, match="two columns are called 'text'"):
    _read(write('twice.parquet', table))


def test_where_it_is_not(tmp_path, cache):
  status = rows_lib.RowStore(cache).status(_dataset(tmp_path / 'nowhere'))
  assert status.state == 'missing' and 'nowhere' in status.detail
