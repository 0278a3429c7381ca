"""Which metric, over what; and the majority class."""

from flan_jax.data import examples
from flan_jax.data import specs
from flan_jax.evaluation import metrics
from flan_jax.evaluation import scoring
import pytest


def _example(targets='x', options=None, answer=None, references=()):
  return examples.Example(
      task='t',
      template='p',
      row_id='test:0',
      inputs='?',
      targets=targets,
      options=options,
      answer_index=answer,
      references=references,
  )


def _ranked(order, answer):
  return _example(order[answer], tuple(order), answer)


def test_declarations_and_metrics_know_the_same_names():
  assert set(metrics.METRICS) == set(specs.METRICS)


def test_classes_are_the_same_in_any_order_of_options():
  # 'good' is class 1 wherever it is shown.
  asked = [
      _ranked(['bad', 'good'], 1),
      _ranked(['good', 'bad'], 0),
      _ranked(['good', 'bad'], 1),
  ]
  said = [
      scoring.Answer('good', 1),
      scoring.Answer('bad', 1),
      scoring.Answer('good', 0),
  ]
  got = scoring.score(asked, said, ['f1'], 'rank', ['bad', 'good'])
  # TP 1, FN 1, FP 1.
  assert got == pytest.approx({'f1': 50.0, 'accuracy': 100 / 3})


def test_options_of_their_own_go_by_place():
  asked = [_ranked(['p', 'q'], 1), _ranked(['r', 's'], 0)]
  said = [scoring.Answer('q', 1), scoring.Answer('s', 1)]
  assert scoring.score(asked, said, ['accuracy'], 'rank') == {'accuracy': 50.0}


def test_a_written_option_counts_as_chosen():
  asked = [_ranked(['bad', 'good'], 1)] * 3
  said = [scoring.Answer(text) for text in (' good\n', 'Good', 'nonsense')]
  got = scoring.score(asked, said, ['accuracy'], 'generate')
  assert got == pytest.approx({'accuracy': 100 / 3, 'exact_match': 100 / 3})


def test_text_metrics_use_all_references():
  asked = [_example('Paris', references=('Paris', 'the city of Paris'))]
  said = [scoring.Answer('City of Paris')]
  got = scoring.score(asked, said, ['squad', 'rouge'], 'generate')
  assert got['squad_em'] == 100.0 and got['exact_match'] == 0.0
  assert 'rougeL' in got


def test_accuracy_of_written_text_is_exact_match():
  asked = [_example('a'), _example('b')]
  said = [scoring.Answer('a'), scoring.Answer('c')]
  got = scoring.score(asked, said, ['accuracy'], 'generate')
  assert got == {'accuracy': 50.0, 'exact_match': 50.0}


@pytest.mark.parametrize(
    ('names', 'how', 'value'),
    [
        (['f1', 'accuracy'], 'rank', 'f1'),
        (['squad'], 'generate', 'squad_f1'),
        (['trivia_qa'], 'generate', 'trivia_qa_em'),
        ([], 'rank', 'accuracy'),
        ([], 'generate', 'exact_match'),
    ],
)
def test_main_value(names, how, value):
  assert scoring.main_value(names, how) == value


def test_majority_of_fixed_options():
  trained = [_ranked(['no', 'yes'], i) for i in (1, 0, 1)]
  majority = scoring.Majority.of(trained, ('no', 'yes'))
  shuffled = _ranked(['yes', 'no'], 0)
  assert majority.answer(shuffled) == scoring.Answer('yes', 0)


def test_majority_of_options_that_differ_by_example():
  trained = [_ranked([f'a{i}', f'b{i}', f'c{i}'], i % 2) for i in range(5)]
  majority = scoring.Majority.of(trained)
  assert majority.answer(_ranked(['x', 'y'], 1)) == scoring.Answer('x', 0)
  last = scoring.Majority(text='', option_index=2)
  missing = last.answer(_ranked(['x', 'y'], 1))
  assert not scoring.is_right(_ranked(['x', 'y'], 1), missing)


def test_majority_of_texts_and_of_equals():
  trained = [_example(text) for text in ('b', 'a', 'a', 'b')]
  majority = scoring.Majority.of(trained)
  assert majority.answer(_example('a')) == scoring.Answer('b')
  with pytest.raises(ValueError, match='no examples'):
    scoring.Majority.of([])
