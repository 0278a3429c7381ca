"""Names of tasks, and the templates that a setting puts into play."""

import re

from flan_jax import errors
from flan_jax.data import specs
from flan_jax.data import tasks
from hypothesis import given
from hypothesis import strategies as st
import pytest

_NAMES = st.from_regex(r'[a-z0-9_]+', fullmatch=True)
# Template names are not digits alone, and numbers have no leading zeros.
_TEMPLATES = st.one_of(
    st.integers(0, 50).map(str), _NAMES.filter(lambda name: not name.isdigit())
)
_WHICH = st.one_of(
    st.just({}),
    _TEMPLATES.map(lambda name: {'template': name}),
    st.integers(1, 50).map(lambda n: {'num_templates': n}),
    st.sampled_from(['no_template', 'name_only']).map(
        lambda baseline: {'baseline': baseline}
    ),
)


@st.composite
def _settings(draw):
  return tasks.Setting(
      held_out=draw(st.booleans()),
      shots=draw(st.one_of(st.integers(0, 20), st.just('fit'))),
      options=draw(st.sampled_from(['shown', 'hidden', 'random'])),
      evaluation=draw(st.sampled_from(['', 'rank', 'generate'])),
      **draw(_WHICH),
  )


@given(_NAMES, _settings())
def test_a_formatted_name_parses_to_the_same(base, setting):
  name = tasks.format_name(base, setting)
  assert tasks.parse_name(name) == (base, setting)
  assert re.fullmatch(r'[\w.:_#]+', name)  # Legal in SeqIO.


@given(st.permutations(['template_x', '5_shot', 'no_options', 'rank']))
def test_the_right_order_is_suggested(parts):
  name = ':'.join(['rte', *parts])
  right = 'rte:template_x:5_shot:no_options:rank'
  if name == right:
    tasks.parse_name(name)
    return
  with pytest.raises(errors.UserError) as caught:
    tasks.parse_name(name)
  assert str(caught.value) == f"'{name}' is spelled '{right}'"


def test_the_parts_of_the_design():
  parse = tasks.parse_name
  setting = tasks.Setting
  assert parse('rte') == ('rte', setting())
  assert parse('rte:template_3:5_shot') == (
      'rte',
      setting(template='3', shots=5),
  )
  assert parse('flan2021:no_options') == (
      'flan2021',
      setting(options='hidden'),
  )
  assert parse('anli_r1:rank') == ('anli_r1', setting(evaluation='rank'))
  assert parse(
      'mini:held_out:4_templates:fit_shot:random_options:generate'
  ) == (
      'mini',
      setting(
          held_out=True,
          num_templates=4,
          shots='fit',
          options='random',
          evaluation='generate',
      ),
  )
  assert parse('rte:name_only')[1] == setting(baseline='name_only')


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('', "'': a name starts with"),
        (':rank', "':rank': a name starts with"),
        ('rte:', "'rte:': unknown part ''"),
        ('rte:rnk', "unknown part 'rnk'. Did you mean rank?"),
        ('rte:five_shot', 'Parts, in their order: held_out, template_<name'),
        ('rte:0_shot', "unknown part '0_shot'"),
        ('rte:0_templates', "unknown part '0_templates'"),
        ('rte:template_', "unknown part 'template_'"),
        ('rte:template_A', "unknown part 'template_A'"),
        ('rte:5_shot:2_shot', "'5_shot' and '2_shot' cannot go together"),
        ('rte:rank:rank', "'rank' and 'rank' cannot go together"),
        (
            'rte:no_template:template_1',
            "'no_template' and 'template_1' cannot go together",
        ),
        ('rte:05_shot', "is spelled 'rte:5_shot'"),
        ('rte:template_03', "is spelled 'rte:template_3'"),
        ('mini:rank:held_out', "is spelled 'mini:held_out:rank'"),
        # A digit of another script is no digit here.
        ('rte:٣_shot', "unknown part '٣_shot'"),
    ],
)
def test_names_that_mean_nothing(name, message):
  with pytest.raises(errors.UserError, match=re.escape(message)):
    tasks.parse_name(name)


def test_outer_settings_replace_inner_ones():
  inner = tasks.parse_name('x:template_a:5_shot:no_options')[1]
  outer = tasks.parse_name('x:2_templates:random_options')[1]
  assert tasks.format_name('x', tasks.combine(inner, outer)) == (
      'x:2_templates:5_shot:random_options'
  )
  assert tasks.combine(inner, tasks.Setting()) == inner


def _template(name, **kwargs):
  texts = {'inputs': f'{name} {{a}} {{b}}', 'targets': '{answer}'}
  return specs.Template(name=name, **(texts | kwargs))


def _dataset(templates, **kwargs):
  values = {
      'name': 'toy',
      'cluster': 'toys',
      'source': specs.Source(kind='jsonl', where='toy.jsonl'),
      'splits': {'train': 'train'},
      'fields': {'a': 'a', 'b': 'b', 'c': 'c'},
      'choices': specs.Choices(label='label', names=('no', 'yes')),
      'metrics': ('accuracy',),
      'templates': tuple(templates),
  }
  return specs.Dataset(**(values | kwargs))


_TOY = _dataset([
    _template('first'),
    _template('secret', held_out=True),
    _template('backwards', inverted=True, inputs='Make one.', targets='{a}'),
    _template('third', inputs='{c}: {a}?', targets='So: {answer}.'),
    _template('explain', targets='{c}'),
])


def _in_play(name, dataset=_TOY):
  _, setting = tasks.parse_name(f'toy{name}')
  task = tasks.create(dataset, setting)
  assert task.name == f'toy{name}'
  return [template.name for template in task.templates]


@pytest.mark.parametrize(
    ('name', 'templates'),
    [
        ('', ['first', 'backwards', 'third', 'explain']),
        (':5_shot:no_options', ['first', 'backwards', 'third', 'explain']),
        (':2_templates', ['first', 'backwards']),
        (':9_templates', ['first', 'backwards', 'third', 'explain']),
        # Numbers count the file's templates, the held-out ones too.
        (':template_1', ['secret']),
        (':template_secret', ['secret']),
        (':template_2:generate', ['backwards']),
        (':rank', ['first', 'third']),
        (':generate', ['first', 'third', 'explain']),
        (':3_templates:rank', ['first', 'third']),
    ],
)
def test_templates_in_play(name, templates):
  assert _in_play(name) == templates


def test_no_template_shows_the_fields_alone():
  task = tasks.create(_TOY, tasks.Setting(baseline='no_template'))
  # c is in the targets of one template, but not of the one that is used.
  assert task.templates == (
      specs.Template(name='', inputs='{a}\n{b}\n{c}', targets='{answer}'),
  )
  task = tasks.create(_TOY, tasks.Setting(baseline='name_only'))
  assert task.templates[0].inputs == 'toy\n{a}\n{b}\n{c}'


def test_no_template_never_shows_the_answer():
  dataset = _dataset(
      [
          _template('backwards', inverted=True, inputs='{b}', targets='{a}'),
          _template('ask', inputs='{a} {a}', targets='{b}'),
          _template('other', inputs='{a} {c}', targets='{b}'),
      ],
      choices=None,
  )
  task = tasks.create(dataset, tasks.Setting(baseline='no_template'))
  assert task.templates == (
      specs.Template(name='', inputs='{a}\n{c}', targets='{b}'),
  )


@pytest.mark.parametrize(
    ('name', 'dataset', 'message'),
    [
        ('toy:template_thrid', _TOY, "no template 'thrid'. Did you mean third"),
        ('toy:template_5', _TOY, 'has 5 templates, numbered from 0; there is'),
        ('toy:held_out', _TOY, 'held_out is for mixtures'),
        ('toy:template_explain:rank', _TOY, "template 'explain' does not ask"),
        ('toy:template_2:rank', _TOY, "template 'backwards' does not ask"),
        (
            'toy:rank',
            _dataset([_template('a', targets='{b}')], choices=None),
            "'toy' has no choices to rank",
        ),
        (
            'toy:generate',
            _dataset([_template('a', inverted=True)]),
            'is left that asks for the answer',
        ),
        (
            'toy:no_template',
            _dataset([_template('a', inverted=True)]),
            "no template of 'toy' asks for the answer",
        ),
        (
            'toy:no_template',
            _dataset([_template('a', inputs='Guess. {options}')]),
            "'toy' shows no field without its template",
        ),
    ],
)
def test_settings_that_a_dataset_cannot_meet(name, dataset, message):
  with pytest.raises(errors.UserError) as caught:
    tasks.create(dataset, tasks.parse_name(name)[1])
  assert message in str(caught.value)
  assert name in str(caught.value)


def test_rank_and_generate_make_the_same_choices():
  create = lambda **kwargs: tasks.create(_TOY, tasks.Setting(**kwargs))  # noqa: E731
  assert create(evaluation='rank').choice_name == 'toy'
  assert create(shots=2, evaluation='generate').choice_name == 'toy:2_shot'
