"""Fields of the reading comprehension datasets, on rows as they are."""

from flan_jax.data.fields import reading_comprehension
import pytest


def test_bool_q_has_a_label_and_no_question_mark():
  row = {'title': 't', 'passage': 'p', 'question': 'is it so?', 'answer': True}
  expected = {'title': 't', 'passage': 'p', 'question': 'is it so', 'label': 1}
  assert reading_comprehension.bool_q(row) == expected
  assert reading_comprehension.bool_q({**row, 'answer': False})['label'] == 0


_SQUAD = {
    'title': 'Beyonc%C3%A9_Knowles',
    'context': 'c',
    'question': ' When? ',
    'answers': {'text': ['1990', '1990', 'in 1990'], 'answer_start': [1, 1, 4]},
    'id': '7',
}
_SQUAD_FIELDS = {
    'title': 'Beyoncé Knowles',
    'context': 'c',
    'question': 'When?',
    'answer': '1990',
    'answers': ['1990', 'in 1990'],
}


def test_squad():
  assert reading_comprehension.squad(_SQUAD) == _SQUAD_FIELDS
  with pytest.raises(ValueError, match='no answer'):
    reading_comprehension.squad({**_SQUAD, 'answers': {'text': []}})


def test_squad_v2_has_a_word_for_no_answer():
  row = {**_SQUAD, 'is_impossible': False}
  assert reading_comprehension.squad_v2(row) == _SQUAD_FIELDS
  impossible = {
      **row,
      'answers': {'text': [], 'answer_start': []},
      'plausible_answers': {'text': ['1991'], 'answer_start': [3]},
      'is_impossible': True,
  }
  assert reading_comprehension.squad_v2(impossible) == {
      **_SQUAD_FIELDS,
      'answer': 'unanswerable',
      'answers': ['unanswerable'],
  }
  with pytest.raises(ValueError, match='not marked'):
    reading_comprehension.squad_v2({**impossible, 'is_impossible': False})


@pytest.mark.parametrize(
    ('given', 'expected'),
    [
        ('4', '4'),
        ('Jones ', 'Jones'),
        ('1983-March-12', '12 March 1983'),
        ('-March-12', '12 March'),
        ('1983--12', '12 1983'),
        ('--12', '12'),
        # A span, not a date that TFDS made.
        ('1983-1984', '1983-1984'),
        ('mid-March-12th', 'mid-March-12th'),
    ],
)
def test_drop_dates_read_as_the_official_ones(given, expected):
  row = {
      'passage': '  To start,  10&#160;km. ',
      'question': 'What? ',
      'answer': given,
      'validated_answers': [given, '', 'Jim'],
  }
  assert reading_comprehension.drop_has_answer(row)
  assert reading_comprehension.drop(row) == {
      'passage': 'To start, 10 km.',
      'question': 'What?',
      'answer': expected,
      'answers': [expected, 'Jim'],
  }


def test_drop_rows_without_any_answer_are_not_kept():
  row = {
      'passage': 'p',
      'question': 'q',
      'answer': '',
      'validated_answers': [' '],
  }
  assert not reading_comprehension.drop_has_answer(row)
  with pytest.raises(ValueError, match='no answer'):
    reading_comprehension.drop(row)
  validated = {**row, 'validated_answers': ['May']}
  assert reading_comprehension.drop_has_answer(validated)
  assert reading_comprehension.drop(validated)['answer'] == 'May'


@pytest.mark.parametrize(
    ('paragraph', 'expected'),
    [
        (
            '<b>Sent 1: </b>Joey ran.<br><b>Sent 12: </b>He fell.<br>',
            'Joey ran. He fell.',
        ),
        ('<b>Sent 1: </b>A <i>big</i> dog<br/>barked.', 'A big dog barked.'),
        (
            'Plain.\nNext, 2 < 3. Sent 5: kept.',
            'Plain. Next, 2 < 3. Sent 5: kept.',
        ),
    ],
)
def test_multirc(paragraph, expected):
  row = {
      'paragraph': paragraph,
      'question': 'Who ran?',
      'answer': ' Joey',
      'label': 1,
      'idx': {'paragraph': 3, 'question': 17, 'answer': 52},
  }
  assert reading_comprehension.multirc(row) == {
      'paragraph': expected,
      'question': 'Who ran?',
      'candidate': 'Joey',
      'label': 1,
      'group': '3-17',
  }


def test_multirc_groups_tell_paragraphs_apart():
  def group(paragraph, question):
    idx = {'paragraph': paragraph, 'question': question, 'answer': 0}
    row = {
        'paragraph': '',
        'question': '',
        'answer': '',
        'label': 0,
        'idx': idx,
    }
    return reading_comprehension.multirc(row)['group']

  assert group(1, 23) != group(12, 3)


def test_openbookqa():
  row = {
      'question': {
          'stem': ' The sun is responsible for',
          'choice_A': 'puppies',
          'choice_B': 'wind',
          'choice_C': 'rings',
          'choice_D': 'tape',
      },
      'fact1': 'the sun is the source of energy. ',
      'answerKey': 1,
  }
  assert reading_comprehension.openbookqa(row) == {
      'fact': 'the sun is the source of energy',
      'question': 'The sun is responsible for',
      'candidates': ['puppies', 'wind', 'rings', 'tape'],
      'label': 1,
  }
