"""Fields of the FLAN datasets whose rows need code, on rows as they are."""

from flan_jax.data import catalogue
from flan_jax.data import rows as rows_lib
from flan_jax.data.fields import closed_book_qa
from flan_jax.data.fields import common
from flan_jax.data.fields import reading_comprehension
import hypothesis
from hypothesis import strategies as st
import numpy as np
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


def test_bool_q_has_a_label_and_no_question_mark():
  row = {'title': 't', 'passage': 'p', 'question': 'is it so?', 'answer': True}
  expected = {'title': 't', 'passage': 'p', 'question': 'is it so', 'label': 1}
  assert reading_comprehension.bool_q(row) == expected
  assert reading_comprehension.bool_q({**row, 'answer': False})['label'] == 0


def test_squad():
  row = {
      'title': 'Beyonc%C3%A9_Knowles',
      'context': 'c',
      'question': ' When? ',
      'answers': {'text': ['1990', '1990', 'in 1990'], 'answer_start': [1, 1]},
      'id': '7',
  }
  assert reading_comprehension.squad(row) == {
      'title': 'Beyoncé Knowles',
      'context': 'c',
      'question': 'When?',
      'answer': '1990',
      'answers': ['1990', 'in 1990'],
  }
  with pytest.raises(ValueError, match='no answer'):
    reading_comprehension.squad({**row, 'answers': {'text': []}})


def test_as_is_leaves_the_row_alone():
  row = {'a': 1}
  found = common.as_is(row)
  found['a'] = 2
  assert row == {'a': 1}


_CHECKS = {
    'bool_q': lambda f: f['label'] in (0, 1) and f['question'][-1] != '?',
    'natural_questions': lambda f: (
        f['question'][-2:-1] != '?'
        and f['question'][-1] == '?'
        and f['answers'][0] == f['answer']
    ),
    'squad_v1': lambda f: (
        '_' not in f['title']
        and all(answer in f['context'] for answer in f['answers'])
    ),
    'imdb_reviews': lambda f: '<br' not in f['text'] and f['label'] in (0, 1),
    'glue_qqp': lambda f: '""' not in f['question1'] + f['question2'],
    'dart': lambda f: (
        '[TABLECONTEXT]' not in f['triples'] + f['triple_lines']
        and f['target'] in f['references']
    ),
    'rte': lambda f: f['label'] in (0, 1),
    'mnli_matched': lambda f: f['label'] in (0, 1, 2),
    'sst2': lambda f: f['label'] in (0, 1),
    'glue_mrpc': lambda f: f['label'] in (0, 1),
    'trec': lambda f: f['label'] in range(6),
    'cosmos_qa': lambda f: f['label'] in range(4),
}


@pytest.mark.parametrize('name', sorted(_CHECKS))
def test_every_real_row_gives_its_declared_fields(
    shared, tmp_path_factory, name
):
  cache = tmp_path_factory.getbasetemp() / 'flan2021_rows'
  store = rows_lib.RowStore(
      cache, rows_lib.SourceSettings(tfds_data_dir=str(shared / 'tfds'))
  )
  dataset = catalogue.Catalogue().dataset(name)
  for split in dataset.splits:
    rows = store.open(dataset, split)
    for found in rows.fields(np.arange(len(rows))):
      assert _CHECKS[name](found), found
      for field in dataset.field_names:
        assert field == 'label' or found[field], (field, found)
