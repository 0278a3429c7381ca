"""Files of predictions: whole or absent, and never of two settings."""

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
  path = writer.Output(tmp_path / 'new', {}).path(_EXAMPLE.task)
  assert path.name == 'rte.template_3.jsonl'
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


def test_finished_files_are_of_the_same_settings(tmp_path):
  settings = {'checkpoint': 'a', 'lengths': {'inputs': 8}, 'limits': (1, 2)}
  out = writer.Output(tmp_path / 'out', settings)
  assert not out.finished('rte')
  assert out.write('rte', [{'score': 1.0}]) == 1
  assert out.finished('rte')
  assert not out.finished('rte:no_options')

  same = writer.Output(tmp_path / 'out', dict(settings))
  assert same.finished('rte')
  other = writer.Output(tmp_path / 'out', {**settings, 'checkpoint': 'b'})
  with pytest.raises(errors.UserError, match="rte.jsonl: checkpoint: .*'a'"):
    other.finished('rte')
  assert other.write('rte', [{'score': 2.0}]) == 1
  assert other.finished('rte')
  with pytest.raises(errors.UserError, match="'b', not 'a'"):
    out.finished('rte')


def test_a_killed_rewrite_does_not_leave_the_old_predictions(tmp_path):
  def killed():
    raise KeyboardInterrupt
    yield

  writer.Output(tmp_path, {'checkpoint': 'a'}).write('rte', [{'score': 1.0}])
  out = writer.Output(tmp_path, {'checkpoint': 'b'})
  with pytest.raises(KeyboardInterrupt):
    out.write('rte', killed())
  assert not out.finished('rte')
  assert [file.name for file in tmp_path.iterdir()] == [writer.SETTINGS]


def test_a_file_of_unknown_origin_is_not_taken_for_ours(tmp_path):
  (tmp_path / 'rte.jsonl').write_text('{}')
  out = writer.Output(tmp_path, {'checkpoint': 'a'})
  with pytest.raises(errors.UserError, match='rte.jsonl: is not in settings'):
    out.finished('rte')
