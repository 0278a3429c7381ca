"""Which metric, over what; the majority class; and random choice."""

import dataclasses

from flan_jax import errors
from flan_jax.data import examples
from flan_jax.data import specs
from flan_jax.evaluation import metrics
from flan_jax.evaluation import scoring
import numpy as np
import pytest
from scipy import stats as scipy_stats


def _example(
    targets='x', options=None, answer=None, references=(), group='', row=0
):
  return examples.Example(
      task='t',
      template='p',
      row_id=f'test:{row}',
      inputs='?',
      targets=targets,
      options=options,
      answer_index=answer,
      references=references,
      group=group,
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
  said = [scoring.Answer(text) for text in (' good\n', 'Good.', 'nonsense')]
  got = scoring.score(asked, said, ['accuracy'], 'generate')
  assert got == pytest.approx({'accuracy': 200 / 3, 'exact_match': 100 / 3})


@pytest.mark.parametrize(
    ('options', 'text', 'place'),
    [
        (('no', "It's not possible"), " it's NOT  possible. ", 1),
        (('yes', 'no'), 'no way', -1),
        # What differs in case alone has to be written as it is.
        (('US', 'us'), 'us', 1),
        (('US', 'us'), 'Us', -1),
        (('The end', 'The end.'), 'The end.', 1),
        (('The end', 'The end.'), 'the end', -1),
        # Numbers go by value, unless two are equal or one is no number.
        (('0', '1', '2'), '2.0', 2),
        (('0', '1', '2'), ' 1.', 1),
        (('1', '1.0'), '1.00', -1),
        (('1', 'one'), '1.0', -1),
        (('0', '1'), '0.6', -1),
        (('a', 'a'), 'a', 0),
        ((), 'a', -1),
    ],
)
def test_which_option_is_meant(options, text, place):
  asked = _example(options=options, answer=0)
  assert scoring.chosen_option(asked, scoring.Answer(text)) == place


def test_numbers_are_compared_as_numbers():
  scale = ['0', '1', '2', '3', '4', '5']
  asked = [_ranked(scale, i) for i in (0, 2, 5)]
  # Ranked answers, written ones, and none at all (-1) for the lowest.
  for said in (
      [scoring.Answer(scale[i], i) for i in (1, 2, 3)],
      [scoring.Answer(text) for text in ('1.0', '2.', 'It is 3.0')],
      [scoring.Answer(text) for text in ('no idea', '.0', '1')],
  ):
    got = scoring.score(asked, said, ['pearson', 'spearman'], 'rank')
    # 0, 2, 5 against three numbers in even steps: 5 / sqrt(2 * 38 / 3).
    assert got['pearson'] == pytest.approx(500 / (2 * 38 / 3) ** 0.5)
    assert got['spearman'] == pytest.approx(100)


def test_the_exact_number_counts():
  scale = ['1', '2', '3']
  asked = [
      _example(scale[i], scale, i, (scale[i], exact))
      for i, exact in enumerate(('1.3', '1.6', '3'))
  ]
  got = scoring.score(
      asked,
      [scoring.Answer(text, i) for i, text in enumerate(scale)],
      ['pearson'],
      'rank',
  )
  expected = 100 * np.corrcoef([1.3, 1.6, 3.0], [1, 2, 3])[0, 1]
  assert got['pearson'] == pytest.approx(expected)


def test_a_target_without_a_number_is_told():
  with pytest.raises(errors.UserError, match="row test:0.*'three'"):
    scoring.score([_example('three')], [_ANY], ['pearson'], 'generate')


_ANY = scoring.Answer('yes')


def _judged(target, group, row):
  return _example(
      ('no', 'yes')[target], ('no', 'yes'), target, group=group, row=row
  )


def test_groups_are_scored_together():
  asked = [
      _judged(1, 'q1', 0),
      _judged(0, 'q2', 1),
      _judged(0, 'q1', 2),
      _judged(1, 'q2', 3),
  ]
  said = [scoring.Answer(text) for text in ('yes', 'yes', 'no', 'yes')]
  got = scoring.score(asked, said, ['multirc'], 'rank', ('no', 'yes'))
  # q1 is right, q2 is not; of three that are called right, two are.
  assert got['multirc_em'] == 50.0 and got['multirc_f1a'] == pytest.approx(80)
  # The same rows under a second template are other groups.
  worse = [scoring.Answer('no')] * 4
  got = scoring.score(asked * 2, said + worse, ['multirc'], 'rank')
  assert got['multirc_em'] == 25.0
  tally, _ = scoring.tallies(asked * 2, said + worse, ['multirc'], 'rank')
  assert tally.units == 4


def test_a_metric_of_groups_wants_groups():
  with pytest.raises(errors.UserError, match='group_by: metric multirc'):
    scoring.score([_judged(1, '', 0)], [_ANY], ['multirc'], 'rank')


def test_record_compares_entities_and_takes_a_query_once():
  ending = ' won the vote in Ohio.'
  names = ('Jane Doe', 'Doe', 'John Roe')
  options = tuple(name + ending for name in names)
  asked = [
      _example(options[0], options, 0, options[:1], 'q', 0),
      _example(options[1], options, 1, options[1:2], 'q', 1),
      _example(options[0], options, 0, options[:1], '', 2),
      _example(options[0], options, 0, options[:1], '', 3),
  ]
  said = [
      scoring.Answer(options[place], place) if place is not None else _ANY
      for place in (1, 2, 1, None)
  ]
  got = scoring.score(asked, said, ['record'], 'rank')
  # 'Doe' is one of the query's two answers; alone it is half of 'Jane Doe'.
  assert got['record_em'] == pytest.approx(100 / 3)
  assert got['record_f1'] == pytest.approx(100 * (1 + 2 / 3 + 0) / 3)
  # What a model writes of the rest of the sentence does not count either.
  got = scoring.score(
      asked[2:3],
      [scoring.Answer('jane doe' + ending + '\n')],
      ['record'],
      'rank',
  )
  assert got['record_em'] == 100.0


def test_a_shared_ending_is_whole_words():
  asked = _example('Trump said so.', ('Trump said so.', 'Camp said so.'), 0)
  said = scoring.Answer('Camp said so.', 1)
  got = scoring.score([asked], [said], ['record'], 'rank')
  # 'mp said so.' is shared too, but 'Tru' is no answer.
  assert got['record_f1'] == 0.0


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
        (['edit_distance'], 'generate', 'edit_similarity'),
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


def test_the_accuracy_of_random_choice_is_the_expected_one():
  asked = [
      _ranked(['a', 'b'], 0),
      _ranked(['a', 'b', 'c', 'd'], 2),
      _ranked(['a', 'b', 'c', 'd', 'e'], 1),
  ]
  chance = scoring.Chance(())
  said = [chance.answer(example, 0) for example in asked]
  values = {}
  for tally in scoring.chance_tallies(asked, said, ['accuracy'], 'rank'):
    values |= tally.once()
  assert values == pytest.approx(
      {'accuracy': 100 * (1 / 2 + 1 / 4 + 1 / 5) / 3}
  )
  # Where text is written, and for other metrics, what was drawn is scored.
  written = [_example('x', row=i) for i in range(3)]
  chance = scoring.Chance(('x',))
  said = [chance.answer(example, 0) for example in written]
  (tally,) = scoring.chance_tallies(written, said, ['exact_match'], 'generate')
  assert tally.once() == {'exact_match': 100.0}


def test_random_choice_is_uniform_and_depends_on_seed_and_row_alone():
  chance = scoring.Chance(('p', 'q', 'r'))
  options = ('a', 'b', 'c', 'd')
  asked = [_example('a', options, 0, row=i) for i in range(4000)]
  first = [chance.answer(e, 0).option_index for e in asked]
  again = [
      chance.answer(dataclasses.replace(e, template='other', inputs='!'), 0)
      for e in asked
  ]
  assert first == [answer.option_index for answer in again]
  assert first != [chance.answer(e, 1).option_index for e in asked]
  _, p = scipy_stats.chisquare(np.bincount(first, minlength=4))
  assert p > 0.001
  written = [chance.answer(_example(row=i), 0).text for i in range(3000)]
  counts = [written.count(text) for text in ('p', 'q', 'r')]
  assert sum(counts) == 3000 and scipy_stats.chisquare(counts)[1] > 0.001


_NAN, _INF = float('nan'), float('inf')


@pytest.mark.parametrize(
    ('scores', 'index', 'expected'),
    [
        ((-1.0, -2.0), 0, (0, 'a', -1.0, (-1.0, -2.0), False)),
        # A ranking that put the broken one first is put right.
        ((_NAN, -2.0), 0, (1, 'b', -2.0, (None, -2.0), True)),
        ((-3.0, _NAN, -2.0), 1, (2, 'c', -2.0, (-3.0, None, -2.0), True)),
        ((-2.0, None, -2.0), 2, (0, 'a', -2.0, (-2.0, None, -2.0), True)),
        ((_INF, -9.0), 0, (1, 'b', -9.0, (None, -9.0), True)),
        ((_NAN, _NAN), 0, (-1, '', None, (None, None), True)),
    ],
)
def test_an_option_whose_score_is_no_number_is_never_first(
    scores, index, expected
):
  options = ('a', 'b', 'c')
  said = scoring.Answer.of(
      options[index], index, scores[index], scores, options
  )
  assert (
      said.option_index,
      said.text,
      said.score,
      said.option_scores,
      said.no_number,
  ) == expected


def test_a_written_text_without_a_number_is_counted():
  said = scoring.Answer.of('text', None, _NAN, None)
  assert said == scoring.Answer('text', no_number=True)
  assert scoring.Answer.of('text', None, -1.5, None) == scoring.Answer(
      'text', None, -1.5
  )
