"""Options: read from rows in every form, right answers found, orders."""

import collections
import re

from flan_jax import errors
from flan_jax.data import options
from flan_jax.data import seeding
from flan_jax.data import specs
import numpy as np
import pytest


def _reader(**choices):
  return options.Reader(
      specs.Dataset(
          name='toy',
          cluster='toys',
          source=specs.Source(kind='jsonl', where='toy.jsonl'),
          splits={'train': 'train'},
          fields={'a': 'a'},
          choices=specs.Choices(**choices),
          metrics=('accuracy',),
          templates=(
              specs.Template(name='t', inputs='{a}', targets='{answer}'),
          ),
      )
  )


def _read(reader, *rows):
  return reader.read(rows, lambda place: f'train:{place + 40}')


def test_the_layout():
  assert options.text(['yes', 'no, never']) == 'OPTIONS:\n- yes\n- no, never'


@pytest.mark.parametrize(
    ('label', 'place'),
    [(0, 0), (2, 2), ('1', 1), ('maybe', 2), (True, 1), (np.int64(2), 2)],
)
def test_labels_are_numbers_or_the_answer_itself(label, place):
  names = ('no', 'yes', 'maybe')
  reader = _reader(label='label', names=names)
  assert _read(reader, {'label': label}) == [(names, place)]
  listed = _reader(label='label', list='all')
  row = {'label': label, 'all': list(names)}
  assert _read(listed, row) == [(names, place)]


@pytest.mark.parametrize('how', ['names', 'list'])
def test_an_option_that_looks_like_a_number_is_meant_by_its_text(how):
  row = {'label': '2', 'all': ['2', '1', '0']}
  kwargs = {'names': ('2', '1', '0')} if how == 'names' else {'list': 'all'}
  reader = _reader(label='label', **kwargs)
  assert _read(reader, row)[0][1] == 0
  assert _read(reader, row | {'label': 2})[0][1] == 2


def test_options_that_differ_by_row():
  rows = [
      {'right': 1, 'x': 'a', 'y': 'b'},
      {'right': 'c', 'x': 'c', 'y': 'd'},
      {'right': '1', 'x': 5, 'y': 7},
  ]
  reader = _reader(label='right', fields=('x', 'y'))
  assert _read(reader, *rows) == [
      (('a', 'b'), 1),
      (('c', 'd'), 0),
      (('5', '7'), 1),
  ]


@pytest.mark.parametrize(
    'label', [3, -1, '3', '-1', 'perhaps', None, 1.5, ['no'], '', '²']
)
@pytest.mark.parametrize('how', ['names', 'fields', 'list'])
def test_a_label_that_is_no_option_names_its_row(label, how):
  kwargs = {
      'names': {'names': ('no', 'yes', 'maybe')},
      'fields': {'fields': ('x', 'y', 'z')},
      'list': {'list': 'all'},
  }[how]
  good = {'x': 'no', 'y': 'yes', 'z': 'maybe', 'all': ['no', 'yes', 'maybe']}
  reader = _reader(label='label', **kwargs)
  with pytest.raises(errors.UserError) as caught:
    _read(reader, good | {'label': 1}, good | {'label': label})
  assert str(caught.value) == (
      f"dataset: choices: row train:41 of 'toy': label is {label!r}, which is"
      ' none of its 3 options (the first is 0)'
  )


def test_options_that_are_no_list():
  reader = _reader(label='label', list='all')
  with pytest.raises(errors.UserError, match=re.escape('all is not a list')):
    _read(reader, {'label': 0, 'all': 'yes'})


def test_orders_are_random_and_keep_the_right_answer():
  answered = [(('a', 'b', 'c'), 2), (('x', 'y'), 0)] * 1500
  hashes = seeding.hash_ints(0, np.arange(len(answered)))
  shuffled = options.shuffled(answered, hashes)
  counts = collections.Counter()
  for (before, right), (after, place) in zip(answered, shuffled, strict=True):
    assert sorted(after) == sorted(before)
    assert after[place] == before[right]
    counts[after] += 1
  assert len(counts) == 6 + 2
  assert all(190 < counts[order] < 310 for order in counts if len(order) == 3)
  assert all(650 < counts[order] < 850 for order in counts if len(order) == 2)
  # A row's order depends on its own hash only, not on who is beside it.
  alone = options.shuffled(answered[1:2], hashes[1:2])
  assert alone == shuffled[1:2]
  assert options.shuffled([], hashes[:0]) == []
