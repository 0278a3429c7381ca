"""Paths into rows lead where they say, or say what there is."""

from flan_jax.data import row_paths
from flan_jax.data import row_types
import pytest

ROW = {
    'premise': 'p',
    'label-coarse': 3,
    'a.b': 'dotted',
    'answers': {'text': ['one', 'two'], 'start': [4, 5]},
    'turns': [{'who': 'A', 'said': 'hi'}, {'who': 'B', 'said': 'ho'}],
    'triples': [['s', 'r', 'o']],
    'meta': {'deep': {'er': 1.5}},
    'nothing': None,
}
KIND = row_types.widen(row_types.EMPTY, ROW)


def _get(path, row=None):
  row = row or ROW
  return row_paths.follow(row, row_paths.steps(path, KIND))


@pytest.mark.parametrize(
    ('path', 'expected'),
    [
        ('premise', 'p'),
        ('label-coarse', 3),
        ('a.b', 'dotted'),
        ('answers.text', ['one', 'two']),
        ('answers.text.0', 'one'),
        ('answers.text.-1', 'two'),
        ('answers.text.7', None),
        ('turns.1.said', 'ho'),
        ('turns.said', ['hi', 'ho']),
        ('turns.said.0', 'hi'),
        ('triples.0.2', 'o'),
        ('meta.deep.er', 1.5),
        ('nothing', None),
        ('nothing.at.all', None),
    ],
)
def test_a_path_leads_to_its_value(path, expected):
  assert _get(path) == expected


def test_none_on_the_way_is_none():
  row = {**ROW, 'answers': None, 'turns': [None, ROW['turns'][1]]}
  assert _get('answers.text.0', row) is None
  assert _get('turns.said', row) == [None, 'ho']


@pytest.mark.parametrize(
    ('path', 'message'),
    [
        ('premis', r"no 'premis'\. Did you mean premise\? There: premise, "),
        ('answers.texts.0', "no 'texts' in 'answers'. Did you mean text"),
        ('premise.0', "'premise' is a text, so there is no '0' in it"),
        ('answers.text.first', 'write a place, such as 0'),
        ('turns.when', "no 'when' in 'turns'"),
    ],
)
def test_a_path_that_leads_nowhere_names_what_there_is(path, message):
  with pytest.raises(row_paths.NoPath, match=message):
    row_paths.steps(path, KIND)


@pytest.mark.parametrize(
    ('path', 'message'),
    [
        ('answers', 'name one of answers.text, answers.start'),
        ('turns', 'is a mapping'),
        ('triples', 'list of lists'),
    ],
)
def test_what_is_no_text_is_found_before_reading(path, message):
  with pytest.raises(row_paths.NoPath, match=message):
    row_paths.getter('field', path, KIND[1], raw=False)


@pytest.mark.parametrize(
    ('value', 'expected'),
    [
        ('x', 'x'),
        (None, ''),
        (51, '51'),
        (2.5, '2.5'),
        (True, 'True'),
        (['a', None, 3], ['a', '3']),
        ([], []),
    ],
)
def test_values_become_texts(value, expected):
  assert row_paths.text(value) == expected


@pytest.mark.parametrize('value', [{}, [['a']], [{}], object()])
def test_what_is_no_text_is_refused(value):
  with pytest.raises(ValueError, match='is no text'):
    row_paths.text(value)
