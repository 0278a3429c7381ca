"""Files of predictions: whole or absent, and never of two settings."""

import dataclasses

from flan_jax import errors
from flan_jax.data import examples
from flan_jax.inference import predictor
from flan_jax.inference import writer
from hypothesis import given
from hypothesis import strategies as st
import pytest

_EXAMPLE = examples.Example(
    task='rte:template_3',
    template='template_3',
    row_id='validation:7',
    inputs='Ünïcode\u2028line?',
    targets='no',
    options=('yes', 'no'),
    answer_index=1,
    references=('no',),
)


def test_lines_hold_what_evaluation_needs(tmp_path):
  path = tmp_path / 'new' / 'rte.jsonl'
  generated = examples.Example(
      task='x', template='', row_id='r', inputs='i', targets='t'
  )
  count = writer.write(
      path,
      writer.records(
          [_EXAMPLE, generated],
          [
              predictor.Prediction('yes', -0.5, (-0.5, -1.25), 0),
              predictor.Prediction('t', -2.0),
          ],
      ),
  )
  assert count == 2
  first, second = writer.read(path)
  assert first == {
      'task': 'rte:template_3',
      'template': 'template_3',
      'index': 0,
      'row_id': 'validation:7',
      'inputs': 'Ünïcode\u2028line?',
      'targets': 'no',
      'references': ['no'],
      'options': ['yes', 'no'],
      'answer_index': 1,
      'example_group': '',
      'prediction': 'yes',
      'score': -0.5,
      'option_scores': [-0.5, -1.25],
      'cut_tokens': 0,
  }
  assert second['index'] == 1
  assert second['options'] is None
  assert second['answer_index'] is None
  assert second['option_scores'] is None


@given(text=st.text())
def test_any_text_comes_back(text, tmp_path_factory):
  path = tmp_path_factory.mktemp('lines') / 'a.jsonl'
  writer.write(path, [{'prediction': text}, {'prediction': ''}])
  assert writer.read(path) == [{'prediction': text}, {'prediction': ''}]


def test_a_file_that_fails_half_way_is_not_there(tmp_path):
  def lines():
    yield {'score': 1.0}
    raise KeyboardInterrupt

  path = tmp_path / 'a.jsonl'
  with pytest.raises(KeyboardInterrupt):
    writer.write(path, lines())
  assert list(tmp_path.iterdir()) == []
  writer.write(path, [{'score': 2.0}])
  with pytest.raises(KeyboardInterrupt):
    writer.write(path, lines())
  assert writer.read(path) == [{'score': 2.0}]


@pytest.mark.parametrize('score', [float('nan'), float('-inf')])
def test_a_score_that_is_no_number_is_said(score, tmp_path):
  with pytest.raises(errors.UserError, match='a.jsonl:2: score: .*diverged'):
    writer.write(tmp_path / 'a.jsonl', [{'score': 0.0}, {'score': score}])
  assert not (tmp_path / 'a.jsonl').exists()


def test_a_score_that_is_no_number_is_null_and_counted(tmp_path):
  nan = float('nan')
  said = [
      predictor.Prediction('no', -0.5, (-1.5, -0.5), 1),
      predictor.Prediction('no', -0.5, (nan, -0.5), 1, 17),
      predictor.Prediction('yes', nan, (nan, float('-inf')), 0),
  ]
  asked = [
      dataclasses.replace(_EXAMPLE, row_id=f'test:{i}', inputs='"score": null')
      for i in range(3)
  ]
  path = tmp_path / 'a.jsonl'
  writer.write(path, writer.records(asked, said, first=7))
  lines = writer.read(path)
  assert [line['index'] for line in lines] == [7, 8, 9]
  assert [line['score'] for line in lines] == [-0.5, -0.5, None]
  assert lines[1]['option_scores'] == [None, -0.5]
  assert lines[2]['option_scores'] == [None, None]
  assert writer.contents(path) == writer.Contents(3, 1, 'test:1', 2, 'test:1')
