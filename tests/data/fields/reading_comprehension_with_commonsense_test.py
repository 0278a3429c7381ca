"""Fields of CosmosQA and ReCoRD, on rows as they are."""

from flan_jax.data.fields import (
    reading_comprehension_with_commonsense as fields,
)
import pytest


@pytest.mark.parametrize(
    ('raw', 'expected'),
    [
        ('Why did he leave ?', 'Why did he leave?'),
        ('I was late , and it rained .', 'I was late, and it rained.'),
        ("It 's mine ; we do n't care .", "It's mine; we don't care."),
        ("They said 'so' .", "They said 'so'."),
        ('At 5 :30 it was .5', 'At 5 :30 it was .5'),
        ('Well ... no .', 'Well ... no.'),
        ('Already fine, is it?', 'Already fine, is it?'),
    ],
)
def test_cosmos_qa_marks_stand_after_their_words(raw, expected):
  names = ('context', 'question', 'answer0', 'answer1', 'answer2', 'answer3')
  row = {'id': '7', **dict.fromkeys(names, raw), 'label': 3}
  found = fields.cosmos_qa(row)
  assert found == {**dict.fromkeys(names, expected), 'label': 3}


def _record(**values):
  return {
      'passage': (
          'A ferry sank.\nNobody died. \n@highlight\nFerry sinks\n'
          '@highlight\nAda Roe saw it'
      ),
      'query': 'The wife of @placeholder was\non board.',
      'entities': ['Ada Roe', 'Bo', "Bo 's"],
      'answers': ['Bo', 'Ada Roe'],
      'idx': {'passage': 4, 'query': 9},
      **values,
  }


def test_record():
  assert fields.record(_record()) == {
      'article': (
          'A ferry sank.\nNobody died.\n\n- Ferry sinks\n- Ada Roe saw it'
      ),
      'sentence': 'The wife of ___ was on board.',
      'beginning': 'The wife of ...',
      'candidates': [
          'Ada Roe was on board.',
          'Bo was on board.',
          "Bo 's was on board.",
      ],
      'answer_text': 'Bo was on board.',
      'answers': ['Bo was on board.', 'Ada Roe was on board.'],
      'group': '4-9',
  }


def test_record_sentence_that_begins_with_the_name():
  found = fields.record(_record(query="@placeholder's ship"))
  assert found['beginning'] == '...'
  assert found['sentence'] == "___'s ship"
  assert found['answer_text'] == "Bo's ship"


def test_record_name_at_two_places():
  found = fields.record(_record(query='As @placeholder is @placeholder.'))
  assert found['answer_text'] == 'Bo is Bo.'
  assert found['beginning'] == 'As ...'


def test_record_without_highlights():
  assert fields.record(_record(passage='A.\n\n B.'))['article'] == 'A.\nB.'


def test_record_options_differ_and_hold_the_answer():
  found = fields.record(_record(entities=['Al', 'Al ', 'Cy'], answers=['Di']))
  assert found['candidates'] == [
      'Al was on board.',
      'Cy was on board.',
      'Di was on board.',
  ]
  assert found['answer_text'] in found['candidates']


def test_record_rows_without_an_answer_are_not_kept():
  assert fields.record_has_answer(_record())
  assert not fields.record_has_answer(_record(answers=[]))
  with pytest.raises(ValueError, match='hidden'):
    fields.record(_record(answers=[]))
  with pytest.raises(ValueError, match='@placeholder'):
    fields.record(_record(query='no gap'))
