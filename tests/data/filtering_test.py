"""Which rows are stored: keep, hidden labels, and rows that cannot be used."""

import collections
import json
import sys
import textwrap

from flan_jax import errors
from flan_jax.data import row_files
from flan_jax.data import rows as rows_lib
from flan_jax.data import specs
import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest


def _dataset(where, splits=None, **changes):
  values = {
      'name': 'toy',
      'cluster': 'misc',
      'source': specs.Source(kind='jsonl', where=str(where)),
      'splits': splits or {'train': 'train'},
      'fields': {'text': 'text'},
      'metrics': ('accuracy',),
      'templates': (),
  }
  return specs.Dataset(**{**values, **changes})


@pytest.fixture
def hundred(tmp_path):
  """A file of a hundred rows; every third label is hidden."""
  path = tmp_path / 'hundred.jsonl'
  rows = [{'n': i, 'text': f'row {i}', 'label': i % 3 - 1} for i in range(100)]
  path.write_text('\n'.join(map(json.dumps, rows)) + '\n')
  return path


@pytest.fixture
def code(tmp_path, monkeypatch):
  """Writes a module, and forgets it after the test."""
  monkeypatch.syspath_prepend(str(tmp_path))
  # Python takes compiled code for current if time (in seconds) and size agree.
  monkeypatch.setattr(sys, 'dont_write_bytecode', True)
  written = []

  def write(name, text):
    (tmp_path / f'{name}.py').write_text(textwrap.dedent(text))
    sys.modules.pop(name, None)
    written.append(name)

  yield write
  for name in written:
    sys.modules.pop(name, None)


def _numbers(rows):
  return [
      int(row_id.split(':')[1]) for row_id in rows.row_ids(range(len(rows)))
  ]


_EVEN = """
    def even(row):
      return row['n'] % 2 == 0
"""


def test_keep_is_applied_after_the_slice(code, hundred, cache):
  code('keep_even', _EVEN)
  splits = {'train': 'train[:-20]', 'test': 'train[-20:]'}
  dataset = _dataset(hundred, splits, keep='keep_even:even')
  store = rows_lib.RowStore(cache)
  train, test = (store.open(dataset, split) for split in splits)
  assert _numbers(train) == list(range(0, 80, 2))
  assert _numbers(test) == list(range(80, 100, 2))
  manifest = train.manifest
  assert (manifest.read, manifest.available, manifest.rows) == (80, 40, 40)
  assert manifest.filtered == 40 and manifest.hidden_labels == 0
  assert list(manifest.filtered_places) == [
      f'train:{i}' for i in (1, 3, 5, 7, 9)
  ]


@pytest.mark.parametrize('first_rows', [False, True])
@pytest.mark.parametrize('keep', ['', 'keep_even:even'])
def test_a_limit_draws_from_what_was_kept(
    code, hundred, cache, keep, first_rows
):
  code('keep_even', _EVEN)
  dataset = _dataset(
      hundred, {'train': 'train[10:]'}, keep=keep, limits={'train': 20}
  )
  kept = [i for i in range(10, 100) if not keep or i % 2 == 0]
  counts: collections.Counter[int] = collections.Counter()
  for seed in range(30):
    settings = rows_lib.SourceSettings(seed=seed, first_rows=first_rows)
    rows = rows_lib.RowStore(cache, settings).open(dataset, 'train')
    numbers = _numbers(rows)
    assert numbers == sorted(set(numbers)) and len(numbers) == 20
    assert set(numbers) <= set(kept)
    assert [r['n'] for r in rows.take(range(20))] == numbers
    manifest = rows.manifest
    assert (manifest.read, manifest.available) == (90, len(kept))
    assert manifest.filtered == 90 - len(kept)
    counts.update(numbers)
  folders = list((cache / 'rows' / 'toy').iterdir())
  if first_rows:
    assert sorted(counts) == kept[:20]
    assert len(folders) == 1  # No seed plays a part.
  else:
    assert sorted(counts) == kept  # Each is drawn now and then.
    assert len(folders) == 30


def test_the_switch_is_another_key_only_where_there_is_a_limit(hundred, cache):
  for limits, folders in (({}, 1), ({'train': 200}, 3)):
    dataset = _dataset(hundred, limits=limits)
    for first_rows in (False, True):
      settings = rows_lib.SourceSettings(first_rows=first_rows)
      assert len(rows_lib.RowStore(cache, settings).open(dataset, 'train')) == (
          100
      )
    assert len(list((cache / 'rows' / 'toy').iterdir())) == folders


def test_a_limit_above_what_was_kept_keeps_that(code, hundred, cache):
  code('keep_even', _EVEN)
  for limit in (50, 60, 99):
    dataset = _dataset(hundred, keep='keep_even:even', limits={'train': limit})
    rows = rows_lib.RowStore(cache).open(dataset, 'train')
    assert _numbers(rows) == list(range(0, 100, 2))


def test_another_keep_is_other_rows(code, hundred, cache):
  code('keep_even', _EVEN)
  store = rows_lib.RowStore(cache)
  dataset = _dataset(hundred, keep='keep_even:even')
  assert len(store.open(dataset, 'train')) == 50
  # The same name, and other code.
  code('keep_even', _EVEN.replace('% 2', '% 4'))
  assert len(store.open(dataset, 'train')) == 25
  assert len(store.open(_dataset(hundred), 'train')) == 100


def test_a_keep_that_fails_names_the_row(code, hundred, cache):
  code('keep_odd', "def odd(row):\n  return 10 // (row['n'] - 7) or True\n")
  dataset = _dataset(hundred, keep='keep_odd:odd')
  with pytest.raises(errors.UserError) as caught:
    rows_lib.RowStore(cache).open(dataset, 'train')
  text = str(caught.value)
  assert text.startswith(
      f'dataset toy: keep: keep_odd:odd fails on row train:7 ({hundred}:8):'
      ' ZeroDivisionError: '
  )
  assert '\n' not in text and 'keep_odd.py:2' in text
  settings = rows_lib.SourceSettings(on_error='skip')
  rows = rows_lib.RowStore(cache, settings).open(dataset, 'train')
  assert len(rows) == 99 and rows.manifest.skipped == 1
  assert 'train:7' in rows.manifest.skipped_places[0]
  missing = _dataset(hundred, keep='keep_odd:odds')
  with pytest.raises(errors.UserError, match="no function 'odds'. Did you me"):
    rows_lib.RowStore(cache).open(missing, 'train')


@pytest.mark.parametrize('first', [0, '0'])
def test_hidden_labels_are_dropped_and_counted(tmp_path, cache, first):
  labels = [0, -1, 1, -1, 1]
  if isinstance(first, str):
    labels = list(map(str, labels))
  path = tmp_path / 'rows.jsonl'
  path.write_text(
      '\n'.join(
          json.dumps({'text': f'row {i}', 'about': {'label': label}})
          for i, label in enumerate(labels)
      )
  )
  dataset = _dataset(
      path, choices=specs.Choices(label='about.label', names=('no', 'yes'))
  )
  rows = rows_lib.RowStore(cache).open(dataset, 'train')
  assert _numbers(rows) == [0, 2, 4]
  assert rows.manifest.hidden_labels == 2 and rows.manifest.filtered == 0
  assert list(rows.manifest.hidden_places) == ['train:1', 'train:3']
  # Without choices there is nothing to hide.
  plain = rows_lib.RowStore(cache).open(_dataset(path), 'train')
  assert len(plain) == 5 and plain.manifest.hidden_labels == 0


def test_a_hidden_label_that_a_function_finds(code, hundred, cache):
  code(
      'fields_label',
      """
      calls = []
      def fields(row):
        calls.append(row['n'])
        return {'text': row.pop('text'), 'answer_id': row['label'] * 2 // 2}
      """,
  )
  dataset = _dataset(
      hundred,
      fields='fields_label:fields',
      field_names=('text', 'answer_id'),
      choices=specs.Choices(label='answer_id', names=('no', 'yes')),
      limits={'train': 10},
  )
  rows = rows_lib.RowStore(cache).open(dataset, 'train')
  assert rows.manifest.hidden_labels == 34 and rows.manifest.available == 66
  numbers = _numbers(rows)
  assert len(numbers) == 10 and all(n % 3 for n in numbers)
  assert rows.fields(range(10)) == [
      {'text': f'row {n}', 'answer_id': n % 3 - 1} for n in numbers
  ]
  # Reading calls no code: it cannot fail, and costs nothing.
  calls = sys.modules['fields_label'].calls
  before = len(calls)
  rows.fields(np.arange(10))
  assert len(calls) == before == 110


def test_a_negative_text_that_is_an_answer_stays(tmp_path, cache):
  path = tmp_path / 'rows.jsonl'
  rows = [
      {'text': 'a', 'label': '-1', 'first': '-1', 'second': '1'},
      {'text': 'b', 'label': '-1', 'first': '2', 'second': '1'},
  ]
  path.write_text('\n'.join(map(json.dumps, rows)))
  dataset = _dataset(
      path, choices=specs.Choices(label='label', fields=('first', 'second'))
  )
  assert _numbers(rows_lib.RowStore(cache).open(dataset, 'train')) == [0]
  named = _dataset(
      path, choices=specs.Choices(label='label', names=('-1', '1'))
  )
  assert _numbers(rows_lib.RowStore(cache).open(named, 'train')) == [0, 1]


def test_all_turned_down_is_an_empty_split(code, hundred, cache):
  code('keep_none', 'def none(row):\n  return False\n')
  for limits in ({}, {'train': 5}):
    dataset = _dataset(hundred, keep='keep_none:none', limits=limits)
    with pytest.raises(errors.UserError) as caught:
      rows_lib.RowStore(cache).open(dataset, 'train')
    assert 'takes 100 rows, but none' in str(caught.value)
    assert 'keep_none:none turns down 100' in str(caught.value)


def test_a_label_that_is_no_option_is_found_at_preparing(tmp_path, cache):
  path = tmp_path / 'rows.jsonl'
  rows = [{'text': 'x', 'label': i % 2} for i in range(50)]
  rows[41]['label'] = 7
  path.write_text('\n'.join(map(json.dumps, rows)))
  dataset = _dataset(
      path, choices=specs.Choices(label='label', names=('no', 'yes'))
  )
  with pytest.raises(errors.UserError) as caught:
    rows_lib.RowStore(cache).open(dataset, 'train')
  assert f'row train:41 ({path}:42)' in str(caught.value)
  assert 'label is 7, which is none of its 2 options' in str(caught.value)
  settings = rows_lib.SourceSettings(on_error='skip')
  assert len(rows_lib.RowStore(cache, settings).open(dataset, 'train')) == 49


def test_splits_that_share_rows_may_share_a_function_that_changes_them(
    code, hundred, cache
):
  code(
      'fields_pop',
      """
      def fields(row):
        return {'text': row.pop('text'), 'label': row.pop('label') % 2}
      """,
  )
  for choices in (None, specs.Choices(label='label', names=('no', 'yes'))):
    dataset = _dataset(
        hundred,
        {'train': 'train', 'validation': 'train[:9]', 'test': 'validation'},
        fields='fields_pop:fields',
        field_names=('text', 'label'),
        choices=choices,
    )
    store = rows_lib.RowStore(cache)
    store.prepare(dataset)
    assert store.open(dataset, 'test').fields([8])[0]['text'] == 'row 8'


def test_what_fails_while_looking_for_the_label_is_said_as_it_is(
    code, hundred, cache
):
  code(
      'fields_late',
      """
      def fields(row):
        return {'text': row.pop('text'), 'label': 1 // (row['n'] - 3)}
      """,
  )
  dataset = _dataset(
      hundred,
      {'train': 'train[3:]'},
      fields='fields_late:fields',
      field_names=('text', 'label'),
      choices=specs.Choices(label='label', names=('no', 'yes')),
  )
  with pytest.raises(errors.UserError, match='row train:3 .*ZeroDivisionErro'):
    rows_lib.RowStore(cache).open(dataset, 'train')


_TEXTS = """
    def fields(row):
      if row['n'] == 41:
        return {'text': {'deep': row['text']}}
      return {'text': row['text']}
"""


def test_a_field_that_is_no_text_is_named(code, hundred, cache):
  code('fields_texts', _TEXTS)
  dataset = _dataset(
      hundred, fields='fields_texts:fields', field_names=('text',)
  )
  with pytest.raises(errors.UserError) as caught:
    rows_lib.RowStore(cache).open(dataset, 'train')
  assert str(caught.value) == (
      'dataset toy: fields: fields_texts:fields: row train:41'
      f" ({hundred}:42): field 'text': a dict is no text"
  )
  settings = rows_lib.SourceSettings(on_error='skip')
  store = rows_lib.RowStore(cache, settings)
  rows = store.open(dataset, 'train')
  assert len(rows) == 99 and 41 not in _numbers(rows)
  assert rows.manifest.skipped == 1


def test_fields_are_stored_in_place_of_rows(code, hundred, cache):
  code(
      'fields_many',
      """
      def fields(row):
        return {'text': row['text'], 'words': row['text'].split(), 'n': None,
                'unused': object()}
      """,
  )
  dataset = _dataset(
      hundred, fields='fields_many:fields', field_names=('text', 'words', 'n')
  )
  rows = rows_lib.RowStore(cache).open(dataset, 'train')
  expected = {'text': 'row 3', 'words': ['row', '3'], 'n': ''}
  assert rows.fields([3]) == rows.take([3]) == [expected]
  assert dict(rows.manifest.empty) == {'n': 100}
  # The function is part of the key.
  text = (hundred.parent / 'fields_many.py').read_text()
  code('fields_many', text.replace("row['text'],", "row['text'].upper(),"))
  again = rows_lib.RowStore(cache).open(dataset, 'train')
  assert again.fields([3])[0]['text'] == 'ROW 3'


@hypothesis.settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
@hypothesis.given(
    bounds=st.lists(
        st.tuples(st.integers(-40, 40), st.integers(-40, 40)),
        min_size=1,
        max_size=3,
    ),
    labels=st.lists(st.integers(-1, 1), min_size=1, max_size=30),
    limit=st.one_of(st.none(), st.integers(1, 20)),
    first_rows=st.booleans(),
    batch=st.sampled_from([2, 1 << 16]),
)
def test_slices_filters_and_limits_together(
    tmp_path, bounds, labels, limit, first_rows, batch
):
  """Against the same in a few lines of Python, for any slices and labels."""
  path = tmp_path / 'rows.jsonl'
  rows = [{'text': f'{i}', 'label': label} for i, label in enumerate(labels)]
  path.write_text('\n'.join(map(json.dumps, rows)))
  expected = [
      place
      for start, stop in bounds
      for place in range(len(rows))[start:stop]
      if labels[place] >= 0
  ]
  dataset = _dataset(
      path,
      {'train': '+'.join(f'train[{start}:{stop}]' for start, stop in bounds)},
      choices=specs.Choices(label='label', names=('no', 'yes')),
      limits={} if limit is None else {'train': limit},
  )
  settings = rows_lib.SourceSettings(first_rows=first_rows)
  store = rows_lib.RowStore(tmp_path / 'cache', settings)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(row_files, '_BATCH_ROWS', batch)
    if not expected:
      with pytest.raises(errors.UserError, match='the split is empty'):
        store.open(dataset, 'train')
      return
    found = _numbers(store.open(dataset, 'train'))
  if limit is None or limit >= len(expected):
    assert found == expected
  elif first_rows:
    assert found == expected[:limit]
  else:
    assert len(found) == limit
    rest = iter(expected)
    assert all(place in rest for place in found)  # In the same order.


def test_a_split_that_cannot_be_counted_leaves_nothing(hundred, cache):
  hundred.write_text(hundred.read_text() + '{')
  dataset = _dataset(hundred, {'train': 'train[:-5]'}, limits={'train': 5})
  with pytest.raises(errors.UserError, match='hundred.jsonl:101: not valid'):
    rows_lib.RowStore(cache).open(dataset, 'train')
  assert not list(cache.glob('rows/toy/.*'))
