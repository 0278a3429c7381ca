"""Fields of the closed-book datasets, on rows as they are."""

from flan_jax.data.fields import closed_book_qa
from flan_jax.data.fields import common
import hypothesis
from hypothesis import strategies as st
import pytest


@hypothesis.given(st.text(alphabet='ab? ', max_size=10), st.integers(0, 3))
def test_a_question_ends_in_one_question_mark(text, marks):
  row = {'question': text + '?' * marks, 'answer': ['x']}
  question = closed_book_qa.natural_questions(row)['question']
  assert question.endswith('?')
  assert not question[:-1].endswith(('?', ' '))
  assert not question.startswith(' ')


def test_natural_questions():
  row = {'question': 'who won ', 'answer': ['Michael Grimm', 'Grimm']}
  assert closed_book_qa.natural_questions(row) == {
      'question': 'who won?',
      'answer': 'Michael Grimm',
      'answers': ['Michael Grimm', 'Grimm'],
  }
  one = {'question': 'why?', 'targets': 'because'}
  assert common.question_answers(one)['answers'] == ['because']
  with pytest.raises(ValueError, match="no 'answers', 'answer' or 'targets'"):
    common.question_answers({'question': 'why', 'answer': []})


@pytest.mark.parametrize(
    ('value', 'normalized', 'aliases', 'expected'),
    [
        ('The Who', 'who', ['who', 'who band'], ['who', 'who band']),
        ('The Who', 'who', [], ['who']),
        ('The The', '', ['matt johnson'], ['matt johnson']),
        # Nothing is left of such an answer.
        ('?', '', [''], ['?']),
    ],
)
def test_trivia_qa_answers(value, normalized, aliases, expected):
  answer = {
      'value': value,
      'normalized_value': normalized,
      'normalized_aliases': aliases,
  }
  found = closed_book_qa.trivia_qa({'question': ' Who? ', 'answer': answer})
  assert found == {
      'question': 'Who?',
      'answer': expected[0],
      'answers': expected,
  }


def test_trivia_qa_does_not_take_a_hidden_answer_for_one():
  answer = {
      'value': '<unk>',
      'normalized_value': '<unk>',
      'normalized_aliases': [],
  }
  with pytest.raises(ValueError, match='hidden'):
    closed_book_qa.trivia_qa({'question': 'Who?', 'answer': answer})


def test_arc_finds_the_answer_by_its_letter():
  texts = ['sand', 'light ', 'tin', 'noise']
  row = {
      'question': 'Plants  need',
      'choices': {'text': texts, 'label': [0, 1, 2, 3]},
      'answerKey': 1,
  }
  expected = {
      'question': 'Plants need',
      'candidates': ['sand', 'light', 'tin', 'noise'],
      'label': 1,
  }
  assert closed_book_qa.arc(row) == expected
  # The letters need not come in their order.
  row = {**row, 'choices': {'text': texts, 'label': [1, 0, 3, 2]}}
  assert closed_book_qa.arc(row) == {**expected, 'label': 0}


@pytest.mark.parametrize(('count', 'kept'), [(3, False), (4, True), (5, False)])
def test_arc_keeps_rows_with_four_choices(count, kept):
  choices = {'text': ['x'] * count, 'label': list(range(count))}
  assert closed_book_qa.arc_has_four_choices({'choices': choices}) is kept
