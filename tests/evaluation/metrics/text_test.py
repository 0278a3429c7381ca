"""Text metrics, worked by hand and against a second implementation."""

import re

from flan_jax.evaluation.metrics import text
from hypothesis import given
from hypothesis import strategies as st
import pytest

_WORDS = st.lists(
    st.sampled_from(
        ['the', 'a', 'an', 'red', 'Red', 'fox', 'fox.', '--', 'x-y']
    ),
    max_size=6,
).map(' '.join)
_CASES = st.lists(
    st.tuples(st.lists(_WORDS, min_size=1, max_size=3), _WORDS),
    min_size=1,
    max_size=8,
)


@pytest.mark.parametrize(
    ('raw', 'squad', 'trivia_qa'),
    [
        ('The  Eiffel\nTower!', 'eiffel tower', 'eiffel tower'),
        ("a dog's x-ray", 'dogs xray', 'dog s x ray'),
        ('An apple, a pear', 'apple pear', 'apple pear'),
        ('“The” end', '“ ” end', '“ ” end'),
        ('the_end', 'theend', 'end'),
        ('‘Banana’', '‘banana’', 'banana'),
        ('the', '', ''),
        ('ÉCOLE', 'école', 'école'),
        ('theatre', 'theatre', 'theatre'),
    ],
)
def test_normal_forms(raw, squad, trivia_qa):
  assert text.normalize_squad(raw) == squad
  assert text.normalize_trivia_qa(raw) == trivia_qa


@given(st.text(max_size=60))
def test_normal_forms_are_fixed_points_in_whitespace(raw):
  for normalize in (text.normalize_squad, text.normalize_trivia_qa):
    once = normalize(raw)
    assert once == ' '.join(once.split())
    assert not re.search(r'[.,!?]', once)


def test_exact_match_forgives_whitespace_only():
  references = [['New York'], ['New York'], ['New York'], ['York', 'New York']]
  predictions = [' New\n York ', 'new york', 'New York.', 'New York']
  got = text.exact_match(references, predictions).once()
  assert got == {'exact_match': 50.0}


def test_squad_by_hand():
  references = [
      ['the cat sat'],  # 'cat sat' against 'cat': P 1, R 1/2, F 2/3.
      ['Paris', 'the city of Paris'],  # Best: all three words.
      ['42'],
  ]
  predictions = ['A cat.', 'City of Paris', 'forty-two']
  assert text.squad(references, predictions).once() == pytest.approx({
      'squad_em': 100 / 3,
      'squad_f1': 100 * (2 / 3 + 1) / 3,
  })


def test_repeated_words_count_as_often_as_they_stand():
  # Shared: one 'very' and 'good' = 2; 4 words against 2.
  got = text.word_f1('very very very good', 'very good')
  assert got == pytest.approx(2 * 2 / (4 + 2))


def test_trivia_qa_by_hand():
  references = [['X-ray', 'Röntgen ray'], ['U.S.A.']]
  predictions = ['the x ray', 'USA']
  assert text.trivia_qa(references, predictions).once() == {
      'trivia_qa_em': 50.0,
      'trivia_qa_f1': 50.0,
  }


def test_an_answer_of_articles_only_matches_itself():
  assert text.squad([['The']], ['the']).once() == {
      'squad_em': 100.0,
      'squad_f1': 100.0,
  }
  assert set(text.squad([['The']], ['dog']).once().values()) == {0.0}


def test_record_takes_each_query_once():
  # One query, there for each of its two answers; then one of its own.
  references = [['the Nile'], ['River Nile'], ['Cairo']]
  got = text.record(references, ['River Nile', 'Cairo', 'Old Cairo'], [0, 0, 1])
  # The first prediction, against either answer; then P 1/2, R 1.
  assert got.units == 2
  assert got.once() == pytest.approx({
      'record_f1': 100 * (1 + 2 / 3) / 2,
      'record_em': 50.0,
  })
  apart = text.record(
      references, ['River Nile', 'Cairo', 'Old Cairo'], range(3)
  )
  assert apart.once()['record_em'] == 0.0


def _second_squad_f1(reference: str, prediction: str) -> float:
  """SQuAD's F1 by removing shared words one at a time."""

  def words(sentence):
    letters = ''.join(
        c
        for c in sentence.lower()
        if c not in '!"#$%&\'()*+,-./:;<=>?@[\\]^_`{|}~'
    )
    return [w for w in letters.split() if w not in ('a', 'an', 'the')]

  left, right = words(reference), words(prediction)
  if not left or not right:
    return float(left == right)
  rest = list(left)
  shared = 0
  for word in right:
    if word in rest:
      rest.remove(word)
      shared += 1
  if not shared:
    return 0.0
  precision, recall = shared / len(right), shared / len(left)
  return 2 * precision * recall / (precision + recall)


@given(_CASES)
def test_squad_against_a_second_implementation(cases):
  references, predictions = zip(*cases, strict=True)
  best = [max(_second_squad_f1(r, p) for r in rs) for rs, p in cases]
  got = text.squad(references, predictions).once()
  assert got['squad_f1'] == pytest.approx(100 * sum(best) / len(best))


@given(_CASES)
def test_invariants(cases):
  references, predictions = zip(*cases, strict=True)
  for function, name in ((text.squad, 'squad'), (text.trivia_qa, 'trivia_qa')):
    got = function(references, predictions).once()
    em, f1 = got[f'{name}_em'], got[f'{name}_f1']
    assert 0 <= em <= f1 + 1e-9 <= 100 + 2e-9
    # More references never hurt; being a reference is full marks.
    more = [[*rs, 'unrelated'] for rs in references]
    assert function(more, predictions).once()[f'{name}_f1'] >= f1 - 1e-9
    own = [[*rs, p] for rs, p in cases]
    assert function(own, predictions).once() == pytest.approx(
        {f'{name}_em': 100.0, f'{name}_f1': 100.0}
    )
    # What only differs in whitespace is right everywhere.
    exact = text.exact_match(references, predictions).once()['exact_match']
    assert exact <= em + 1e-9


@pytest.mark.parametrize(
    'function', [text.exact_match, text.squad, text.trivia_qa]
)
def test_references_that_do_not_fit(function):
  with pytest.raises(ValueError, match='1 lists of references but 2'):
    function([['a']], ['a', 'b'])
  with pytest.raises(ValueError, match=r'references\[0\] is a text'):
    function(['abc'], ['a'])
  with pytest.raises(ValueError, match=r'references\[1\] is empty'):
    function([['a'], []], ['a', 'b'])
  with pytest.raises(ValueError, match='nothing to score'):
    function([], [])
