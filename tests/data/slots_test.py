"""Texts with slots: braces, and slots that leave no gap behind."""

import re

from flan_jax.data import slots
from hypothesis import given
from hypothesis import strategies as st
import pytest

_NAMES = st.sampled_from(['a', 'b', 'options', 'field_2'])
# Pieces by turns: literals may hold anything, braces above all.
_LITERALS = st.text(st.sampled_from('{}% \n\tax'), max_size=6)


@st.composite
def _pieces(draw):
  found = [draw(_LITERALS)]
  for name in draw(st.lists(_NAMES, max_size=4)):
    found += [name, draw(_LITERALS)]
  return tuple(found)


@given(_pieces())
def test_what_is_joined_is_split_again(pieces):
  assert slots.split(slots.join(pieces)) == pieces


@given(st.text(st.sampled_from('{}ab'), max_size=12))
def test_split_agrees_with_str_format_on_braces(text):
  # Where Python's own formatter accepts a text, both read it alike, except
  # that it has no objection to empty names.
  values = {'a': '<A>', 'b': '<B>', 'ab': '<AB>', 'ba': '<BA>'}
  try:
    pieces = slots.split(text)
  except slots.SlotError:
    with pytest.raises((ValueError, KeyError, IndexError)):
      text.format(**values)
    return
  if set(slots.names(pieces)) <= set(values):
    filled = pieces
    for name, value in values.items():
      filled = slots.fill(filled, name, value)
    assert filled == (text.format(**values),)


@pytest.mark.parametrize(
    ('text', 'pieces'),
    [
        ('', ('',)),
        ('no slot', ('no slot',)),
        ('{a}', ('', 'a', '')),
        ('{a}{b}', ('', 'a', '', 'b', '')),
        ('{{a}}', ('{a}',)),
        ('{{{a}}}', ('{', 'a', '}')),
        ('{{"x": {a}}}', ('{"x": ', 'a', '}')),
    ],
)
def test_split(text, pieces):
  assert slots.split(text) == pieces


@pytest.mark.parametrize(
    ('text', 'message', 'position'),
    [
        ('a { b', "lone '{'", 2),
        ('a } b', "lone '}'", 2),
        ('{a', "lone '{'", 0),
        ('x {A}', "'{A}' is no field", 2),
        ('{}', "'{}' is no field", 0),
        ('{a b}', "'{a b}' is no field", 0),
        ('{a!r}', "'{a!r}' is no field", 0),
        ('{a\n}', "lone '{'", 0),
    ],
)
def test_what_is_no_slot(text, message, position):
  with pytest.raises(slots.SlotError, match=re.escape(message)) as caught:
    slots.split(text)
  assert caught.value.position == position


@pytest.mark.parametrize(
    ('text', 'left'),
    [
        ('{a}\n\n{options}', '{a}'),
        ('{a}\n{options}\n', '{a}'),
        ('{options}\n\n{a}', '{a}'),
        ('{a}\n\n{options}\n\n{b}', '{a}\n\n{b}'),
        ('{a}\n{options}\n\n{b}', '{a}\n\n{b}'),
        ('{a}\n\n{options}\nAnswer:', '{a}\n\nAnswer:'),
        ('{a} {options} {b}', '{a} {b}'),
        ('Of {options} which?', 'Of which?'),
        ('{a}{options}{b}', '{a}{b}'),
        ('{options}', ''),
        (' {options} {options}\n', ''),
        ('{a}  {b}\n', '{a}  {b}\n'),
    ],
)
def test_without_leaves_no_gap(text, left):
  assert slots.join(slots.without(slots.split(text), 'options')) == left


@given(_pieces())
def test_without_only_ever_removes_white_space(pieces):
  left = slots.without(pieces, 'options')
  assert 'options' not in slots.names(left)
  kept = [n for n in slots.names(pieces) if n != 'options']
  assert list(slots.names(left)) == kept
  solid = lambda text: ''.join(text.split())  # noqa: E731
  assert solid(''.join(left[::2])) == solid(''.join(pieces[::2]))
  if 'options' not in slots.names(pieces):
    assert left == pieces


# Slots that are filled with solid words: only literals bring white space.
_WORDY = st.lists(
    st.sampled_from(['{options}', '{a}', 'x', ' ', '\n', '\n\n']), max_size=9
)


@given(_WORDY)
def test_without_doubles_no_gap(parts):
  # No two gaps side by side to begin with, and none at the ends.
  text = re.sub(r'(\s)\s*', r'\1', ''.join(parts)).strip()
  text = re.sub(r'(\{options\})(\s?\{options\})+', r'\1', text)
  left = slots.join(slots.without(slots.split(text), 'options'))
  assert left == left.strip()
  assert not re.search(r'\s\s', left)
