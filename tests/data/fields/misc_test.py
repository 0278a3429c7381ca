"""Fields of the miscellaneous cluster, on rows made by hand."""

from typing import Any

from flan_jax.data.fields import misc
import hypothesis
from hypothesis import strategies as st
import pytest


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('What is an atom ?', 'What is an atom?'),
        ("What 's Australia 's animal ?", "What's Australia's animal?"),
        ("What is `` dew point '' ?", 'What is "dew point"?'),
        ("What does ` PSI ' stand for ?", "What does 'PSI' stand for?"),
        ("Whose was Jesus ' cross ?", "Whose was Jesus' cross?"),
        ("Why do n't and can 't we ?", "Why don't and can't we?"),
        ("Who was it in the '60s ?", "Who was it in the '60s?"),
        ("Who beat 'em ?", "Who beat 'em?"),
        ('Who paid $1 , 000 , and to whom ?', 'Who paid $1,000, and to whom?'),
        ('What is the full form of .com ?', 'What is the full form of .com?'),
        ("Who said : `` Oh ! '' ?", 'Who said: "Oh!"?'),
        ('Name 11 martyrs .', 'Name 11 martyrs.'),
    ],
)
def test_trec_joins_tokens(text, expected):
  row = {'text': text, 'label-coarse': 3, 'label-fine': 4}
  assert misc.trec(row) == {'question': expected, 'label': 3}


def test_trec_on_the_real_questions(shared):
  lines = []
  for name in ('train.txt', 'test.txt'):
    path = shared / 'data' / 'trec' / name
    lines += path.read_text(encoding='latin-1').splitlines()
  assert len(lines) > 5900
  for line in lines:
    text = line.split(' ', 1)[1]
    question = misc.trec({'text': text, 'label-coarse': 0})['question']
    assert not question.endswith((' ?', ' .')), text
    assert ' ,' not in question and '``' not in question, text
    # Nothing but spaces and the kind of quotes is changed.
    assert _bare(question) == _bare(text)


def _bare(text: str) -> str:
  return (
      text.replace(' ', '')
      .replace("''", '')
      .translate(str.maketrans('', '', '`"\''))
  )


def test_coqa_numbers_the_turns_and_leaves_out_broken_ones():
  row: dict[str, Any] = {
      'source': 'cnn',
      'story': ' A  hen.\r\n\n\n\nIt sat. \n',
      'questions': ['Who?', ' ', 'Did it\nsit?', 'Where?'],
      'answers': {
          'input_text': ['a hen', 'lost', 'yes ', ''],
          'answer_start': [0, 0, 0, 0],
          'answer_end': [1, 1, 1, 1],
      },
  }
  assert misc.coqa(row) == {
      'story': 'A hen.\n\nIt sat.',
      'questions': '1. Who?\n2. Did it sit?',
      'answers': '1. a hen\n2. yes',
  }
  with pytest.raises(ValueError):  # More questions than answers.
    misc.coqa({**row, 'questions': row['questions'] + ['Why?']})


def _quac_row(original: str, others: list[str]) -> dict:
  return {
      'title': 'Ida Marsh ',
      'background': 'A botanist.',
      'context': 'She left. She CANNOTANSWER that. CANNOTANSWER',
      'question': ' Why? ',
      'orig_answer': {'text': original, 'answer_start': 0},
      'answers': {'text': others, 'answer_start': [0] * len(others)},
  }


def test_quac_answers_are_the_original_one_and_the_others():
  found = misc.quac(_quac_row('She left.', ['left', 'She left.', 'left']))
  assert found == {
      'title': 'Ida Marsh',
      'background': 'A botanist.',
      'context': 'She left. She CANNOTANSWER that.',
      'question': 'Why?',
      'answer': 'She left.',
      'answers': ['She left.', 'left'],
  }


def test_quac_says_unanswerable_for_its_marker():
  found = misc.quac(_quac_row('CANNOTANSWER', ['left', 'CANNOTANSWER']))
  assert found['answer'] == 'unanswerable'
  assert found['answers'] == ['unanswerable', 'left']


def test_math_answers_are_texts_without_line_breaks():
  row = {'question': 'Solve 2*x = 4 for x.\n', 'answer': '2\n'}
  expected = {'question': 'Solve 2*x = 4 for x.', 'answer': '2'}
  assert misc.math_dataset(row) == expected


def test_formatting_takes_away_and_keeps_the_sentence():
  row = {
      'en': "Ola\u00a0said &quot;no\u200b&quot; \u2013  it's_1 o-k!",
      'da': '',
  }
  sentence = 'Ola said "no" \u2013 it\'s_1 o-k!'
  assert misc.true_case(row) == {
      'lower': 'ola said "no" \u2013 it\'s_1 o-k!',
      'sentence': sentence,
  }
  assert misc.fix_punct(row) == {
      'unpunctuated': 'Ola said no its_1 ok',
      'sentence': sentence,
  }
  assert misc.word_segment(row) == {
      'joined': 'Olasaid"no"\u2013it\'s_1o-k!',
      'sentence': sentence,
  }


@pytest.mark.parametrize(
    ('keep', 'text', 'expected'),
    [
        (misc.has_capitals, 'Ab', True),
        (misc.has_capitals, 'ab 1.', False),
        (misc.has_capitals, ' ', False),
        (misc.has_punctuation, 'a-b', True),
        (misc.has_punctuation, 'a b', False),
        (misc.has_punctuation, 'a  b', False),
        (misc.has_punctuation, '...', False),
        (misc.has_punctuation, '', False),
        (misc.has_spaces, 'a b', True),
        (misc.has_spaces, ' ab ', False),
        (misc.has_spaces, '\u200b', False),
    ],
)
def test_rows_where_nothing_changes_are_turned_down(keep, text, expected):
  assert keep({'en': text, 'da': 'x'}) is expected


@hypothesis.given(st.text())
def test_kept_rows_have_something_to_restore(text):
  row = {'en': text, 'da': ''}
  for keep, fields, given_field in (
      (misc.has_capitals, misc.true_case, 'lower'),
      (misc.has_punctuation, misc.fix_punct, 'unpunctuated'),
      (misc.has_spaces, misc.word_segment, 'joined'),
  ):
    found = fields(row)
    changed = found[given_field] != found['sentence']
    assert keep(row) == (changed and bool(found[given_field]))
    assert '  ' not in found[given_field] and '\n' not in found['sentence']
