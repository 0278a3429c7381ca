"""Rendering: against a naive renderer, and the same however it is batched."""

import dataclasses
import pickle
import re

from flan_jax import errors
from flan_jax import vocabularies
from flan_jax.data import sample_rows
from flan_jax.data import seeding
from flan_jax.data import specs
from flan_jax.data import tasks
from flan_jax.data import templates
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import numpy as np
import pytest

_NAMES = ('no', 'yes', '100 %')
_TOY = specs.Dataset(
    name='toy',
    cluster='toys',
    source=specs.Source(kind='jsonl', where='toy.jsonl'),
    splits={'train': 'train'},
    fields={'a': 'a', 'b': 'b'},
    choices=specs.Choices(label='label', names=_NAMES),
    metrics=('accuracy',),
    templates=(
        specs.Template(
            name='plain', inputs='{a}\n\n{b}?\n\n{options}', targets='{answer}'
        ),
        specs.Template(
            name='braces',
            inputs='100 % of {{a}}: {{{a}}} %s {options}\nSay.',
            targets='It is {answer}, %d.',
        ),
        specs.Template(
            name='backwards',
            inverted=True,
            inputs='Write something that is {answer}.\n\n{options}',
            targets='{b} {a} {b}',
        ),
        specs.Template(name='still', inputs='Guess.', targets='{answer}'),
        specs.Template(
            name='secret', held_out=True, inputs='{b}', targets='{answer}'
        ),
    ),
)
_FIELDS = [
    {'a': f'text {i} with {{a}} and %s', 'b': f'{{b}}{i}\n', 'label': i % 3}
    for i in range(40)
]


def _renderer(name, rows, dataset=_TOY, **kwargs):
  base, setting = tasks.parse_name(name)
  assert base == dataset.name
  return templates.Renderer(
      tasks.create(dataset, setting), rows, **({'seed': 0} | kwargs)
  )


class _Words:
  """A vocabulary whose tokens are words; it cannot join parts."""

  def encode_arrays(self, texts):
    return [np.ones(len(text.split()), np.int32) for text in texts]

  def joiner(self, separator):
    del separator


def _render(renderer, count, epoch=0):
  indices = np.arange(count)
  return renderer.render(indices, np.full(count, epoch))


# Texts are drawn with marks in place of literal braces, and values without
# them, so that no more than str.replace is needed to fill the slots.
_MARKS = str.maketrans({'\x01': '{', '\x02': '}'})


def _naive(marked, values):
  """Replaces slots one by one, then marks by braces."""
  for name, value in values.items():
    hidden = value.replace('{', '\x01').replace('}', '\x02')
    marked = marked.replace(f'{{{name}}}', hidden)
  return marked.translate(_MARKS)


def _as_declared(marked):
  return marked.replace('\x01', '{{').replace('\x02', '}}')


_LITERALS = st.text(st.sampled_from('ab %s\x01\x02\n'), max_size=8)
_SLOTS = st.sampled_from(['{a}', '{b}', '{options}', '{answer}'])
_TEXTS = st.lists(st.one_of(_LITERALS, _SLOTS), min_size=1, max_size=6).map(
    ''.join
)
_VALUES = st.text(st.sampled_from('xy{}%s \n'), max_size=8)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(_TEXTS, _TEXTS), min_size=1, max_size=3),
    st.lists(st.tuples(_VALUES, _VALUES, st.integers(0, 2)), min_size=1),
    st.sampled_from([':no_options', '', ':random_options']),
)
def test_rendering_equals_a_naive_renderer(fake_rows, texts, values, options):
  dataset = dataclasses.replace(
      _TOY,
      templates=tuple(
          specs.Template(
              name=f't{i}',
              inputs=_as_declared(inputs),
              targets=_as_declared(targets),
          )
          for i, (inputs, targets) in enumerate(texts)
      ),
  )
  fields = [{'a': a, 'b': b, 'label': label} for a, b, label in values]
  rows = fake_rows(fields)
  hidden = options == ':no_options'
  for i, (inputs, targets) in enumerate(texts):
    renderer = _renderer(f'toy:template_{i}{options}', rows, dataset)
    for row, example in zip(
        fields, _render(renderer, len(fields)), strict=True
    ):
      shown = example.options or _NAMES
      if options == ':random_options' and not example.options:
        continue  # The order shown is not told where it is no answer.
      if example.options and targets != '{answer}':
        continue  # Options are whole targets then; tested below.
      known = {
          'a': row['a'],
          'b': row['b'],
          'answer': _NAMES[row['label']],
          'options': 'OPTIONS:' + ''.join(f'\n- {each}' for each in shown),
      }
      for text, found in ((inputs, example.inputs), (targets, example.targets)):
        if hidden and '{options}' in text:
          # What goes beside the slot is white space alone.
          whole = _naive(text, known | {'options': ''})
          assert ''.join(found.split()) == ''.join(whole.split())
        else:
          assert found == _naive(text, known)


@settings(max_examples=60)
@given(st.data())
@pytest.mark.parametrize(
    'name',
    ['toy', 'toy:random_options', 'toy:2_shot', 'toy:fit_shot:no_options'],
)
def test_batches_do_not_change_what_is_rendered(fake_rows, name, data):
  rows = fake_rows(_FIELDS)
  kwargs = {'vocabulary': vocabularies.ByteVocabulary(), 'max_inputs': 300}
  renderer = _renderer(name, rows, **kwargs)
  places = data.draw(
      st.lists(
          st.tuples(st.integers(0, 39), st.integers(0, 5)),
          min_size=1,
          max_size=12,
      )
  )
  indices, epochs = np.array(places).T
  whole = renderer.render(indices, epochs)
  cut = data.draw(st.integers(0, len(places)))
  again = _renderer(name, rows, **kwargs)  # A restart.
  parts = again.render(indices[:cut], epochs[:cut]) + again.render(
      indices[cut:], epochs[cut:]
  )
  assert parts == whole
  inputs, targets = renderer.render_texts(indices, epochs)
  assert inputs == [example.inputs for example in whole]
  assert targets == [example.targets for example in whole]


def test_an_example_says_all_that_evaluation_needs(fake_rows):
  rows = fake_rows(_FIELDS)
  plain = _render(_renderer('toy:template_plain', rows), 2)[1]
  assert plain.task == 'toy:template_plain'
  assert plain.template == 'plain'
  assert plain.row_id == 'train:1'
  assert plain.inputs == (
      'text 1 with {a} and %s\n\n{b}1\n?\n\nOPTIONS:\n- no\n- yes\n- 100 %'
  )
  assert plain.targets == 'yes'
  assert (plain.options, plain.answer_index) == (_NAMES, 1)
  assert plain.references == ('yes',)
  assert not plain.inverted


def test_options_are_whole_targets(fake_rows):
  renderer = _renderer('toy:template_braces', fake_rows(_FIELDS))
  example = _render(renderer, 3)[2]
  assert example.inputs == (
      '100 % of {a}: {text 2 with {a} and %s} %s'
      ' OPTIONS:\n- no\n- yes\n- 100 %\nSay.'
  )
  assert example.options == (
      'It is no, %d.',
      'It is yes, %d.',
      'It is 100 %, %d.',
  )
  assert example.targets == example.options[example.answer_index]
  assert example.answer_index == 2


def test_inverted_templates_have_no_options_to_rank(fake_rows):
  renderer = _renderer('toy:template_backwards', fake_rows(_FIELDS))
  example = _render(renderer, 1)[0]
  assert example.inverted
  assert (example.options, example.answer_index) == (None, None)
  assert example.targets == '{b}0\n text 0 with {a} and %s {b}0\n'
  assert example.references == (example.targets,)
  assert example.inputs.startswith('Write something that is no.\n\nOPTIONS:')


def test_hidden_options_leave_no_trace(fake_rows):
  rows = fake_rows([{'a': 'A', 'b': 'B', 'label': 0}])
  shown = {
      t.name: _render(_renderer(f'toy:template_{t.name}:no_options', rows), 1)[
          0
      ]
      for t in _TOY.templates
  }
  assert shown['plain'].inputs == 'A\n\nB?'
  assert shown['braces'].inputs == '100 % of {a}: {A} %s\nSay.'
  assert shown['backwards'].inputs == 'Write something that is no.'
  # They can be ranked all the same.
  assert shown['plain'].options == _NAMES


def test_random_orders_are_shown_as_they_are_ranked(fake_rows):
  renderer = _renderer('toy:template_plain:random_options', fake_rows(_FIELDS))
  orders = set()
  for example, row in zip(_render(renderer, 40), _FIELDS, strict=True):
    listed = re.findall(r'^- (.*)$', example.inputs, re.MULTILINE)
    assert tuple(listed) == example.options
    assert example.targets == _NAMES[row['label']]
    assert example.options[example.answer_index] == example.targets
    orders.add(example.options)
  assert len(orders) == 6
  later = _render(renderer, 40, epoch=1)
  assert [e.options for e in later] != [
      e.options for e in _render(renderer, 40)
  ]


def test_templates_are_chosen_evenly_and_anew_each_epoch(fake_rows):
  rows = fake_rows(_FIELDS * 100)
  renderer = _renderer('toy', rows)
  first = [example.template for example in _render(renderer, 4000)]
  assert set(first) == {'plain', 'braces', 'backwards', 'still'}
  for name in set(first):
    assert 880 < first.count(name) < 1120
  again = [example.template for example in _render(renderer, 4000)]
  assert again == first
  for other in (
      _render(renderer, 4000, epoch=1),
      _render(_renderer('toy', rows, seed=1), 4000),
      _render(_renderer('toy:no_options', rows), 4000),
  ):
    same = np.mean([e.template == t for e, t in zip(other, first, strict=True)])
    assert 0.2 < same < 0.3


def test_rank_and_generate_put_the_same_prompts(fake_rows):
  rows = fake_rows(_FIELDS)
  for name in ('toy:2_templates', 'toy:template_plain:2_shot:random_options'):
    ranked = _render(_renderer(f'{name}:rank', rows), 40)
    generated = _render(_renderer(f'{name}:generate', rows), 40)
    assert [e.inputs for e in ranked] == [e.inputs for e in generated]


def _qa(**kwargs):
  values = {
      'name': 'qa',
      'fields': {'question': 'q', 'answer': 'answers.0', 'title': 't'},
      'choices': None,
      'references': 'answers',
      'templates': (
          specs.Template(name='ask', inputs='{question}', targets='{answer}'),
          specs.Template(
              name='sentence', inputs='{question}', targets='It is {answer}.'
          ),
          specs.Template(name='title', inputs='{answer}', targets='{title}'),
          specs.Template(
              name='both', inputs='?', targets='{question} {answer}'
          ),
          specs.Template(
              name='jeopardy',
              inverted=True,
              inputs='{question}',
              targets='{answer}',
          ),
      ),
  }
  return dataclasses.replace(_TOY, field_names=(), **(values | kwargs))


@pytest.mark.parametrize(
    ('template', 'references'),
    [
        ('ask', ('Paris', 'paris, France')),
        ('sentence', ('It is Paris.', 'It is paris, France.')),
        ('title', ('France',)),
        ('both', ('Capital? Paris',)),
        ('jeopardy', ('Paris',)),
    ],
)
def test_references(fake_rows, template, references):
  row = {
      'question': 'Capital?',
      'answer': 'Paris',
      'title': 'France',
      'answers': ['Paris', 'paris, France', 'Paris'],
  }
  renderer = _renderer(f'qa:template_{template}', fake_rows([row]), _qa())
  example = _render(renderer, 1)[0]
  assert example.references == references
  assert example.targets == references[0]
  assert example.options is None


def test_options_that_differ_by_row(fake_rows):
  dataset = _qa(
      choices=specs.Choices(label='right', list='endings'),
      fields={'question': 'q'},
      references='',
      templates=(
          specs.Template(
              name='ask', inputs='{question} {options}', targets='{answer}'
          ),
      ),
  )
  rows = fake_rows([
      {'question': 'A?', 'right': 1, 'endings': ['x', 'y']},
      {'question': 'B?', 'right': 'z', 'endings': ['x', 'y', 'z']},
  ])
  first, second = _render(_renderer('qa', rows, dataset), 2)
  assert first.inputs == 'A? OPTIONS:\n- x\n- y'
  assert second.inputs == 'B? OPTIONS:\n- x\n- y\n- z'
  assert (first.targets, second.targets) == ('y', 'z')
  assert second.options == ('x', 'y', 'z')
  hidden = _render(_renderer('qa:no_options', rows, dataset), 1)[0]
  assert hidden.inputs == 'A?'


def test_baselines(fake_rows):
  rows = fake_rows([{'a': 'A', 'b': 'B', 'label': 1}])
  bare = _render(_renderer('toy:no_template', rows), 1)[0]
  assert (bare.template, bare.inputs, bare.targets) == ('', 'A\nB', 'yes')
  assert (bare.options, bare.answer_index) == (_NAMES, 1)
  named = _render(_renderer('toy:name_only', rows), 1)[0]
  assert named.inputs == 'toy\nA\nB'


def _blocks(example):
  """An example's exemplars and its query, by the questions in them."""
  *exemplars, query = example.inputs.split('\n\n')
  return exemplars, query


_SHORT = _qa(
    templates=(
        specs.Template(name='ask', inputs='Q {question}', targets='{answer}'),
        specs.Template(
            name='turned',
            inverted=True,
            inputs='R {answer}',
            targets='{question}',
        ),
    ),
    references='',
)
_SHORT_FIELDS = [{'question': f'q{i}', 'answer': f'a{i}'} for i in range(30)]


def test_exemplars_are_other_rows_under_the_same_template(fake_rows):
  rows = fake_rows(_SHORT_FIELDS)
  seen = set()
  for i, example in enumerate(
      _render(_renderer('qa:3_shot', rows, _SHORT), 30)
  ):
    exemplars, query = _blocks(example)
    letter, named, answer = {
        'ask': ('Q', 'q', 'a'),
        'turned': ('R', 'a', 'q'),
    }[example.template]
    assert query == f'{letter} {named}{i}'
    assert example.targets == f'{answer}{i}'
    numbers = []
    for exemplar in exemplars:
      match = re.fullmatch(rf'{letter} {named}(\d+)\n{answer}(\d+)', exemplar)
      assert match[1] == match[2]
      numbers.append(int(match[1]))
    assert len(set(numbers)) == 3 and i not in numbers
    seen.add(tuple(numbers))
  assert len(seen) > 25


def test_a_query_is_known_by_its_place_in_the_source(fake_rows):
  # Four train rows, of which the query is one under another number.
  train = fake_rows(_SHORT_FIELDS[10:14], first=10)
  query = fake_rows(_SHORT_FIELDS[12:13], split='validation', first=12)
  renderer = _renderer('qa:template_ask:9_shot', query, _SHORT, exemplars=train)
  exemplars, last = _blocks(_render(renderer, 1)[0])
  assert last == 'Q q12'
  assert sorted(exemplars) == ['Q q10\na10', 'Q q11\na11', 'Q q13\na13']
  alone = fake_rows(_SHORT_FIELDS[:1])
  only = _render(_renderer('qa:template_ask:2_shot', alone, _SHORT), 1)[0]
  assert only.inputs == 'Q q0'


def test_exemplars_that_do_not_fit_are_dropped_from_the_end(fake_rows):
  rows = fake_rows(_SHORT_FIELDS)
  name = 'qa:template_ask:5_shot'
  whole = _blocks(_render(_renderer(name, rows, _SHORT), 1)[0])[0]
  # Three words an exemplar, two for the query, one for the end of sequence.
  for max_inputs, kept in ((100, 5), (18, 5), (17, 4), (12, 3), (3, 0), (1, 0)):
    renderer = _renderer(
        name, rows, _SHORT, vocabulary=_Words(), max_inputs=max_inputs
    )
    exemplars, query = _blocks(_render(renderer, 1)[0])
    assert exemplars == whole[:kept]
    assert query == 'Q q0'


def test_as_many_as_fit_are_sixteen_at_most(fake_rows):
  rows = fake_rows(_SHORT_FIELDS)
  for max_inputs, kept in ((1000, 16), (32, 9)):
    renderer = _renderer(
        'qa:template_ask:fit_shot',
        rows,
        _SHORT,
        vocabulary=_Words(),
        max_inputs=max_inputs,
    )
    for example in _render(renderer, 30):
      assert len(_blocks(example)[0]) == kept


def test_what_few_shot_needs(fake_rows):
  train, test = fake_rows(_SHORT_FIELDS), fake_rows(_SHORT_FIELDS, split='test')
  with pytest.raises(errors.UserError, match='fit_shot needs a vocabulary'):
    _renderer('qa:fit_shot', train, _SHORT)
  with pytest.raises(ValueError, match='rows of the train split'):
    _renderer('qa:1_shot', test, _SHORT)


def test_a_bad_label_names_its_row(fake_rows):
  rows = fake_rows(
      [{'a': 'A', 'b': 'B', 'label': 0}] * 3 + [_FIELDS[0] | {'label': 7}]
  )
  renderer = _renderer('toy', rows)
  message = "row train:3 of 'toy': label is 7, which is none of its 3 options"
  with pytest.raises(errors.UserError, match=re.escape(message)):
    renderer.render_texts(np.array([0, 3]), np.zeros(2, int))
  few = _renderer('toy:3_shot', rows)
  with pytest.raises(errors.UserError, match=re.escape(message)):
    _render(few, 1)


def test_no_rows_are_no_examples(fake_rows):
  for name in ('toy', 'toy:2_shot', 'toy:random_options'):
    renderer = _renderer(name, fake_rows(_FIELDS))
    none = np.zeros(0, np.int64)
    assert renderer.render(none, none) == []
    assert renderer.render_texts(none, none) == ([], [])


def test_a_renderer_travels_to_worker_processes(fake_rows):
  rows = fake_rows(_FIELDS)
  renderer = _renderer('toy:2_shot', None, exemplars=rows)
  assert pickle.loads(pickle.dumps(renderer._compiled[0])).template
  text = templates.Text(('', 'a', ' and ', 'b', ''))
  again = pickle.loads(pickle.dumps(text))
  assert again.fill({'a': 1, 'b': '%s'}) == '1 and %s'


def test_the_choice_of_template_is_the_documented_hash(fake_rows):
  rows = fake_rows(_FIELDS)
  renderer = _renderer('toy', rows, seed=5)
  indices, epochs = np.arange(40), np.arange(40) % 3
  hashes = seeding.hash_ints(5, seeding.name_seed('toy'), 0, indices, epochs)
  names = ['plain', 'braces', 'backwards', 'still']
  expected = [names[int(value) % 4] for value in hashes]
  found = [e.template for e in renderer.render(indices, epochs)]
  assert found == expected


def test_constants_are_written_into_every_text():
  dataset = specs.Dataset(
      name='toy',
      cluster='translation',
      source=specs.Source(kind='generated', where='nowhere:rows'),
      splits={'train': 'train'},
      fields={'text': 'text', 'other': 'other'},
      constants={'language': 'Czech {or} 100%'},
      metrics=('exact_match',),
      templates=(
          specs.Template(
              name='to',
              inputs='{text}: in {language}?',
              targets='{language}: {other}',
          ),
      ),
      sample={'text': '{text} 5%', 'other': 'ano'},
  )
  (found,) = sample_rows.examples(tasks.create(dataset))
  assert found.inputs == '{text} 5%: in Czech {or} 100%?'
  assert found.targets == 'Czech {or} 100%: ano'
