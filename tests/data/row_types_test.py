"""Rows come back from Arrow as they went in, or are refused by name."""

import enum
import math

from flan_jax import errors
from flan_jax.data import row_files
from flan_jax.data import row_types
import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

# A schema is drawn first and rows that fit it after: a key that only some
# rows have comes back as None, which is another test.
_TEXT = st.text(max_size=8)
_SCALARS = {
    'str': _TEXT,
    'bool': st.booleans(),
    'int': st.integers(-(2**63), 2**63 - 1),
    'float': st.floats(allow_nan=False),
    'number': st.integers(-(2**80), 2**80) | st.floats(allow_nan=False),
    'null': st.none(),
}
_KINDS = st.recursive(
    st.sampled_from(sorted(_SCALARS)),
    lambda inner: st.tuples(st.just('list'), inner)
    | st.tuples(st.just('struct'), st.dictionaries(_TEXT, inner, max_size=3)),
    max_leaves=6,
)
_SCHEMAS = st.dictionaries(
    _TEXT.filter(lambda key: key != row_files.PLACE), _KINDS, max_size=4
)


def _values(kind):
  if isinstance(kind, str):
    return st.none() | _SCALARS[kind]
  if kind[0] == 'list':
    return st.none() | st.lists(_values(kind[1]), max_size=3)
  return st.none() | _rows(kind[1])


def _rows(schema):
  return st.fixed_dictionaries({k: _values(v) for k, v in schema.items()})


def _same(left, right) -> bool:
  """Equal, and of equal types all the way down (1 is not True, nor 1.0)."""
  if type(left) is not type(right):
    return False
  if isinstance(left, dict):
    return left.keys() == right.keys() and all(
        _same(left[key], right[key]) for key in left
    )
  if isinstance(left, list):
    return len(left) == len(right) and all(map(_same, left, right))
  return left == right


def _write(folder, rows, part=lambda place: 0):
  writer = row_files.Writer(folder)
  for place, row in enumerate(rows):
    writer.append(part(place), place, row)
  types = writer.finish()
  batches = row_files.read(folder / row_files.FILE)
  found = []
  for batch in batches:
    found += row_files._rows_of(batch, types)[0]
  return found, types, batches


@hypothesis.given(data=st.data())
@hypothesis.settings(
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
def test_rows_written_are_the_rows_read(tmp_path_factory, data):
  schema = data.draw(_SCHEMAS)
  rows = data.draw(st.lists(_rows(schema), min_size=1, max_size=6))
  folder = tmp_path_factory.mktemp('rows')
  # Small batches: types widen between them and parts are written again.
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(row_files, '_BATCH_ROWS', data.draw(st.integers(1, 4)))
    found, _, _ = _write(folder, rows)
  assert len(found) == len(rows)
  for before, after in zip(rows, found, strict=True):
    assert _same(before, after)
  assert [path.name for path in folder.iterdir()] == [row_files.FILE]


def test_numbers_keep_the_form_they_had(tmp_path):
  rows = [{'n': 51}, {'n': 2.0}, {'n': None}, {'n': 2**70}, {'n': [1, 2.5]}]
  found, types, _ = _write(tmp_path, rows[:4])
  assert types == {'n': 'number'}
  assert [str(row['n']) for row in found] == [
      '51',
      '2.0',
      'None',
      '1180591620717411303424',
  ]
  nan, _, _ = _write(tmp_path, [{'n': math.nan}, {'n': 1}])
  assert math.isnan(nan[0]['n'])


def test_a_key_that_some_rows_lack_is_none_in_those(tmp_path):
  found, _, _ = _write(tmp_path, [{'a': 1}, {'b': {'c': 2}}, {'b': {}}])
  assert found == [
      {'a': 1, 'b': None},
      {'a': None, 'b': {'c': 2}},
      {'a': None, 'b': {'c': None}},
  ]


def test_long_rows_make_smaller_batches(tmp_path, monkeypatch):
  monkeypatch.setattr(row_files, '_BATCH_CHARACTERS', 100)
  rows = [{'passages': ['x' * 30, 'y' * 30]}] * 5
  found, _, batches = _write(tmp_path, rows)
  assert found == rows and [batch.num_rows for batch in batches] == [2, 2, 1]


def test_parts_are_stored_in_their_order(tmp_path, monkeypatch):
  monkeypatch.setattr(row_files, '_BATCH_ROWS', 3)
  rows = [{'n': i} for i in range(20)]
  found, _, batches = _write(tmp_path, rows, part=lambda place: place % 2)
  expected = [*range(0, 20, 2), *range(1, 20, 2)]
  assert [row['n'] for row in found] == expected
  places = [
      place
      for batch in batches
      for place in batch.column(row_files.PLACE).to_pylist()
  ]
  assert places == expected


@pytest.mark.parametrize(
    ('rows', 'message'),
    [
        (
            [{'a': 1}, {'a': 'x'}],
            "field 'a' is a text, but a whole number before",
        ),
        ([{'a': True}, {'a': 1}], 'a whole number, but true or false'),
        ([{'a': {'b': [1]}}, {'a': {'b': ['x']}}], r"'a\.b\[\]' is a text"),
        ([{'a': []}, {'a': {}}], "'a' is a mapping, but a list"),
        ([{'a': [[1]]}, {'a': [2]}], r"'a\[\]' is a whole number, but a list"),
        ([{'a': object()}], "'a' is a object, not data"),
        ([{'a': '\ud800'}], 'half a character'),
        ([{'a': {1: 2}}], "'a' has the key 1"),
        ([{'__place__': 1}], 'a name kept for ourselves'),
    ],
)
def test_what_cannot_be_stored_is_named(tmp_path, rows, message):
  writer = row_files.Writer(tmp_path)
  with pytest.raises(row_types.Mismatch, match=message):
    for place, row in enumerate(rows):
      writer.append(0, place, row)


def test_a_refused_row_leaves_no_trace(tmp_path):
  writer = row_files.Writer(tmp_path)
  writer.append(0, 0, {'a': 1, 'b': [1]})
  with pytest.raises(row_types.Mismatch):
    writer.append(0, 1, {'new': 'x', 'a': 2.5, 'b': ['x']})
  writer.append(0, 2, {'a': 3, 'b': []})
  assert writer.rows == 2
  assert writer.finish() == {'a': 'int', 'b': ('list', 'int')}


def test_plain_makes_python_of_numpy_and_bytes():
  class Colour(enum.IntEnum):
    RED = 3

  value = {
      'text': 'né'.encode(),
      'label': np.int64(2),
      'flag': np.bool_(True),
      'score': np.float32(0.5),
      'names': np.array([b'a', b'b'], object),
      'pair': (np.str_('x'), Colour.RED),
  }
  expected = {
      'text': 'né',
      'label': 2,
      'flag': True,
      'score': 0.5,
      'names': ['a', 'b'],
      'pair': ['x', 3],
  }
  assert _same(row_types.plain(value), expected)


def test_bytes_that_are_no_text_are_refused():
  with pytest.raises(errors.UserError, match='byte 1 is not UTF-8'):
    row_types.plain({'image': b'a\xff\x00'})


@pytest.mark.parametrize('starts', [[0, 10], [0, 3, 3, 10], [0, 1, 2, 10]])
def test_indices_find_their_batch(starts):
  starts = np.array(starts)
  indices = np.array([9, 0, 2, 2, 5])
  found = {}
  for number, which, at in row_files.locate(starts, indices):
    for place, row in zip(which.tolist(), at.tolist(), strict=True):
      assert 0 <= row < starts[number + 1] - starts[number]
      found[place] = int(starts[number]) + row
  assert [found[i] for i in range(5)] == indices.tolist()
