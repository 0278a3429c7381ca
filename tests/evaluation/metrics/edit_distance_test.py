"""Edit distance against the textbook's table, and by hand."""

from flan_jax.evaluation.metrics import edit_distance
from hypothesis import given
from hypothesis import strategies as st
import pytest

_TEXTS = st.text(alphabet='abcAé 😀', max_size=90)


def _table(first, second):
  """Wagner and Fischer's table (1974), a row at a time."""
  row = list(range(len(second) + 1))
  for number, letter in enumerate(first, start=1):
    above, row = row, [number]
    for place, other in enumerate(second):
      row.append(
          min(
              above[place] + (letter != other),
              above[place + 1] + 1,
              row[place] + 1,
          )
      )
  return row[-1]


@given(_TEXTS, _TEXTS)
def test_levenshtein_is_the_textbooks(first, second):
  expected = _table(first, second)
  assert edit_distance.levenshtein(first, second) == expected
  assert edit_distance.levenshtein(second, first) == expected


def test_by_hand():
  assert edit_distance.levenshtein('kitten', 'sitting') == 3
  got = edit_distance.edit_distance(
      [['kitten'], ['Hello, World.', 'hi'], ['a b']],
      ['sitting', 'hello world', ' a \n b'],
  ).once()
  # 3 of 7, 4 of 13 (two capitals, two marks), 0 of 3.
  far = 100 * (3 / 7 + 4 / 13) / 3
  assert got == pytest.approx(
      {'edit_similarity': 100 - far, 'edit_distance': far}
  )
  assert edit_distance.edit_distance([['']], ['']).once() == {
      'edit_similarity': 100.0,
      'edit_distance': 0.0,
  }


def test_the_nearest_reference_counts():
  got = edit_distance.edit_distance([['xyz', 'abd', 'abc']], ['abc']).once()
  assert got['edit_distance'] == 0.0


def test_what_the_formatting_data_sets_ask_for_is_seen():
  for wrong in ('the end', 'The end', 'Theend.'):
    got = edit_distance.edit_distance([['The end.']], [wrong]).once()
    assert 0 < got['edit_distance'] < 30
