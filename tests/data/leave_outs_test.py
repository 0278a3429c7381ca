"""Leave-outs, evaluation-only datasets, families, samples: by hand."""

import itertools
import re

from flan_jax import errors
from flan_jax.data import catalogue
from flan_jax.data import mixtures
from flan_jax.data import specs
from flan_jax.data import tasks
import pytest

_CLUSTERS = {
    'inference': ['one', 'two', 'three_a', 'three_b'],
    'likeness': ['same', 'alike'],
    'reading': ['book', 'page'],
    'writing': ['poem'],
}
_FAMILIES = {'three_a': 'threes', 'three_b': 'threes'}
_EVAL_ONLY = {'page'}
_RULES = """
version: 1
members: [{collection: COLLECTION}]
cap: 9
max_rate: 4
leave_out:
  overlaps:
    inference: [likeness]
    likeness: [inference]
"""


def dataset(name, cluster, collection):
  split = 'test' if name in _EVAL_ONLY else 'train'
  return specs.Dataset(
      name=name,
      cluster=cluster,
      subcluster=cluster[:4],
      collection=collection,
      family=_FAMILIES.get(name, ''),
      source=specs.Source(kind='jsonl', where='x.jsonl'),
      splits={split: split},
      fields={'a': 'a'},
      metrics=('exact_match',),
      templates=(
          specs.Template(name='t', inputs='{a}?', targets='{a}'),
          specs.Template(name='u', inputs='{a}!', targets='{a}'),
      ),
  )


@pytest.fixture
def make(declare, tmp_path, monkeypatch):
  """Declares the datasets, and one mixture a keyword; returns a catalogue."""
  registered = {
      name: dataset(name, cluster, 'toys')
      for cluster, names in _CLUSTERS.items()
      for name in names
  }
  monkeypatch.setattr(catalogue, '_REGISTERED', registered)

  def write(**texts):
    texts = {'toys': _RULES} | texts
    for name, text in texts.items():
      text = text.replace('COLLECTION', 'toys')
      declare(
          f'{name}.yaml', text if 'version' in text else f'version: 1\n{text}'
      )
    return catalogue.Catalogue([tmp_path])

  return write


def _names(found, name):
  return [task.name for task, _ in mixtures.resolve(found, name).members]


def test_all_without_those_for_evaluation(make):
  assert sorted(_names(make(), 'toys')) == sorted(
      {n for names in _CLUSTERS.values() for n in names} - _EVAL_ONLY
  )


@pytest.mark.parametrize(
    ('name', 'trained', 'held_out'),
    [
        ('writing', 'alike book one same three_a three_b two', 'poem'),
        ('inference', 'book poem', 'one three_a three_b two'),
        ('likeness', 'book poem', 'alike same'),
        ('reading', 'alike one poem same three_a three_b two', 'book page'),
        ('one', 'alike book poem same three_a three_b two', 'one'),
        ('three_b', 'alike book one poem same two', 'three_b three_a'),
        ('page', 'alike book one poem same three_a three_b two', 'page'),
    ],
)
def test_leave_outs(make, name, trained, held_out):
  found = make()
  assert _names(found, f'toys_no_{name}') == trained.split()
  assert _names(found, f'toys_no_{name}:held_out') == held_out.split()
  mixture = mixtures.resolve(found, f'toys_no_{name}:1_templates')
  assert mixture.name == f'toys_no_{name}:1_templates'
  assert (mixture.cap, mixture.max_rate) == (9, 4)
  assert {task.setting.num_templates for task, _ in mixture.members} == {1}
  # Nothing is there before it is asked for, and it is no mixture of its own.
  assert f'toys_no_{name}' not in found.mixture_names()
  assert f'toys_no_{name}' in found.leave_out_names('toys')


def test_a_mixtures_own_held_out_stays_out(make):
  found = make(
      mine=(
          'members: [{collection: toys}]\nheld_out: [book]\nwithout: [one]\n'
          'leave_out: {}\n'
      )
  )
  assert _names(found, 'mine_no_poem') == [
      'alike',
      'same',
      'three_a',
      'three_b',
      'two',
  ]
  assert _names(found, 'mine_no_poem:held_out') == ['poem']
  assert _names(found, 'mine_no_reading:held_out') == ['book', 'page']


def test_a_file_comes_before_what_follows(make):
  found = make(toys_no_poem='members: [one]\n')
  assert _names(found, 'toys_no_poem') == ['one']


def test_leave_outs_of_nested_mixtures_and_of_series(make):
  found = make(
      around='members: [toys, mini_calendar]\nleave_out: {}\n',
      step=(
          'series: {name: "step_{n}", n: [2]}\nmembers: [[one, two, poem]]\n'
          'sample: {datasets: "{n}"}\nleave_out: {}\n'
      ),
  )
  assert _names(found, 'around_no_inference') == [
      'alike',
      'book',
      'poem',
      'same',
      'mini_calendar',
  ]
  assert _names(found, 'step_2') == ['one', 'two']
  assert _names(found, 'step_2_no_one') == ['two', 'poem']


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        (
            'toys_no_likenes',
            (
                "unknown task or mixture 'toys_no_likenes'. Did you mean"
                ' toys_no_likeness'
            ),
        ),
        ('toys_no_thre_a', 'Did you mean toys_no_three_a, toys_no_three_b'),
        ('toys_no_', "unknown task or mixture 'toys_no_'"),
        ('plain_no_one', "unknown task or mixture 'plain_no_one'"),
        (
            'bad_no_one',
            "bad.yaml: leave_out.overlaps: 'bad' has no cluster 'inf",
        ),
        ('toys_no_one:held_out:3_templats', "unknown part '3_templats'"),
        ('lone_no_one', "'lone_no_one' has no members once held_out"),
    ],
)
def test_leave_outs_that_are_none(make, name, message):
  found = make(
      plain='members: [one, two]\n',
      bad='members: [book]\nleave_out: {overlaps: {inferense: [reading]}}\n',
      lone='members: [one]\nleave_out: {}\n',
  )
  with pytest.raises(errors.UserError, match=re.escape(message)):
    mixtures.resolve(found, name)


def test_a_dataset_for_evaluation_cannot_be_a_member_by_name(make):
  found = make(
      m='members: [one, page]\n',
      n='members: [{cluster: reading}]\n',
      o='members: [one]\nheld_out: [page]\n',
  )
  with pytest.raises(
      errors.UserError,
      match="m.yaml: members: 'page' is for evaluation only .* under held_out",
  ):
    mixtures.resolve(found, 'm')
  assert _names(found, 'n') == ['book']
  assert _names(found, 'o:held_out') == ['page']


def test_a_family_is_held_out_together(make):
  found = make(
      m='members: [one, three_a, three_b]\nheld_out: [three_b]\n',
      elsewhere='members: [one, three_a]\nheld_out: [three_b]\n',
      without='members: [one, three_a, three_b]\nwithout: [three_b]\n',
  )
  for name in ('m', 'elsewhere'):
    assert _names(found, name) == ['one']
    assert _names(found, f'{name}:held_out') == ['three_b', 'three_a']
  assert _names(found, 'without') == ['one', 'three_a']


def test_samples(make):
  members = 'members: [{cluster: inference}, {cluster: likeness}, poem]\n'
  found = make(
      lines=f'{members}sample: {{lines: 2}}\n',
      some=f'{members}sample: {{per_line: 1}}\n',
      turns=f'{members}sample: {{datasets: 4}}\n',
      many=f'{members}sample: {{datasets: 400}}\n',
      out=f'{members}held_out: [one]\nsample: {{datasets: 2}}\n',
      **{
          f'seeded_{n}_{seed}': (
              f'{members}sample: {{datasets: {n}, seed: {seed}}}\n'
          )
          for n in range(1, 8)
          for seed in range(6)
      },
  )
  assert _names(found, 'lines') == [
      'one',
      'three_a',
      'three_b',
      'two',
      'alike',
      'same',
  ]
  assert _names(found, 'some') == ['one', 'alike', 'poem']
  assert _names(found, 'turns') == ['one', 'alike', 'poem', 'three_a']
  assert len(_names(found, 'many')) == 7
  assert _names(found, 'out') == ['three_a', 'alike']
  for seed in range(6):
    chosen = [_names(found, f'seeded_{n}_{seed}') for n in range(1, 8)]
    assert all(a == b[: len(a)] for a, b in itertools.pairwise(chosen))
  assert len({_names(found, f'seeded_1_{seed}')[0] for seed in range(6)}) > 1


def test_one_in_turn(make):
  found = make(
      turn=(
          'series: {name: "turn_{n}", n: [0, 1, 2, 3]}\n'
          'members: [{collection: toys}]\n'
          'held_out:\n'
          '- {one_of: [two, one, three_a], turn: "{n}"}\n'
          '- {one_of: [same, alike], turn: "{n}"}\n'
      )
  )
  assert [_names(found, f'turn_{n}:held_out') for n in range(4)] == [
      ['two', 'same'],
      ['one', 'alike'],
      ['three_a', 'same', 'three_b'],
      ['two', 'alike'],
  ]


def test_a_name_has_one_spelling(make):
  found = make()
  mixture = mixtures.resolve(found, 'toys_no_poem:2_shot:no_options')
  assert tasks.parse_name(mixture.name) == (
      'toys_no_poem',
      tasks.Setting(shots=2, options='hidden'),
  )
