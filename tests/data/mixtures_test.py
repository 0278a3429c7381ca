"""What names mean: mixtures flattened, settings applied, rates."""

import re

from flan_jax import errors
from flan_jax.data import catalogue
from flan_jax.data import mixtures
from flan_jax.data import specs
from flan_jax.data import tasks
from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

_DATASET = """
version: 1
cluster: {cluster}
source: {{jsonl: x.jsonl}}
splits: {{train: train}}
fields: {{a: a}}
{choices}
metrics: [exact_match]
templates:
- name: ask
  inputs: "{{a}}?"
  targets: "{targets}"
"""


@pytest.fixture
def make(declare, tmp_path):
  """Writes datasets, one mixture a keyword, and returns the catalogue."""

  def dataset(name, cluster, choices=True):
    declare(
        f'{name}.yaml',
        _DATASET.format(
            cluster=cluster,
            choices='choices: {label: l, names: [x, y]}' if choices else '',
            targets='{answer}' if choices else '{a}',
        ),
    )

  def write(**texts):
    dataset('toy_a', 'toy_sentiment')
    dataset('toy_b', 'toy_sentiment')
    dataset('toy_c', 'toy_nli')
    dataset('toy_d', 'toy_writing', choices=False)
    for name, text in texts.items():
      declare(f'{name}.yaml', f'version: 1\n{text}')
    return catalogue.Catalogue([tmp_path])

  return write


def _members(found):
  return [(task.name, weight) for task, weight in found.members]


def test_a_dataset_is_a_task_and_a_mixture_of_one(make):
  task = mixtures.resolve(make(), 'toy_a:no_options')
  assert task.name == 'toy_a:no_options'
  assert task.dataset.cluster == 'toy_sentiment'
  whole = mixtures.as_mixture(task)
  assert (whole.name, whole.members) == ('toy_a:no_options', ((task, 1.0),))
  assert (whole.cap, whole.max_rate) == (None, None)
  assert mixtures.as_mixture(whole) is whole


def test_members_by_name_cluster_and_collection(make, tmp_path):
  found = make(
      m=(
          'members: [{name: toy_d, weight: 2}, {cluster: toy_sentiment},'
          ' "toy_c:no_options"]\ncap: 9\nmax_rate: 4\n'
      ),
      everything=f'members: [{{collection: {tmp_path.name}}}]\n',
      narrow=f'members: [{{collection: {tmp_path.name}, cluster: toy_nli}}]\n',
  )
  mixture = mixtures.resolve(found, 'm')
  assert (mixture.name, mixture.cap, mixture.max_rate) == ('m', 9, 4)
  assert _members(mixture) == [
      ('toy_d', 2.0),
      ('toy_a', 1.0),
      ('toy_b', 1.0),
      ('toy_c:no_options', 1.0),
  ]
  names = [
      task.name for task, _ in mixtures.resolve(found, 'everything').members
  ]
  assert names == ['toy_a', 'toy_b', 'toy_c', 'toy_d']
  assert _members(mixtures.resolve(found, 'narrow')) == [('toy_c', 1.0)]


def test_a_setting_holds_for_every_member(make):
  found = make(m='members: [toy_a, "toy_c:template_ask:no_options", toy_d]\n')
  mixture = mixtures.resolve(found, 'm:2_templates:2_shot:rank')
  assert mixture.name == 'm:2_templates:2_shot:rank'
  # What cannot be ranked is generated, as it always is.
  assert [name for name, _ in _members(mixture)] == [
      'toy_a:2_templates:2_shot:rank',
      'toy_c:2_templates:2_shot:no_options:rank',
      'toy_d:2_templates:2_shot',
  ]
  with pytest.raises(errors.UserError, match="'toy_a' has no template 'x'"):
    mixtures.resolve(found, 'm:template_x')


def test_held_out_is_taken_out_and_is_a_mixture_of_its_own(make):
  found = make(
      m=(
          'members: [toy_a, toy_b, toy_c]\n'
          'held_out: [toy_d, {cluster: toy_sentiment}]\n'
      )
  )
  assert _members(mixtures.resolve(found, 'm')) == [('toy_c', 1.0)]
  assert _members(mixtures.resolve(found, 'm:held_out:rank')) == [
      ('toy_d', 1.0),
      ('toy_a:rank', 1.0),
      ('toy_b:rank', 1.0),
  ]


def test_mixtures_within_mixtures_are_flattened(make):
  found = make(
      inner='members: [toy_a, {name: toy_b, weight: 3}]\ncap: 7\n',
      outer=(
          'members: [{name: "inner:no_options", weight: 2}, toy_c]\n'
          'held_out: [toy_b]\nmax_rate: 5\n'
      ),
      around='members: [outer, toy_d]\n',
  )
  outer = mixtures.resolve(found, 'outer')
  assert _members(outer) == [('toy_a:no_options', 2.0), ('toy_c', 1.0)]
  # What a mixture says of rates and caps stays inside.
  assert (outer.cap, outer.max_rate) == (None, 5)
  assert outer.caps.tolist() == [7, np.iinfo(np.int64).max]
  around = mixtures.resolve(found, 'around:1_templates')
  assert _members(around) == [
      ('toy_a:1_templates:no_options', 2.0),
      ('toy_c:1_templates', 1.0),
      ('toy_d:1_templates', 1.0),
  ]


@pytest.mark.parametrize(
    ('texts', 'name', 'message'),
    [
        ({}, 'toy_x', "unknown task or mixture 'toy_x'. Did you mean toy_"),
        (
            {'m': 'members: [toy_a]\nheld_out: [toy_a]\n'},
            'm',
            "m.yaml: 'm' has no members once held_out is taken away",
        ),
        (
            {'m': 'members: [toy_a]\n'},
            'm:held_out',
            "m.yaml: 'm' holds nothing out",
        ),
        (
            {'m': 'members: [toy_aa]\n'},
            'm',
            "m.yaml: members: unknown task or mixture 'toy_aa'. Did you mean",
        ),
        (
            {'m': 'members: ["toy_a:rnk"]\n'},
            'm',
            "m.yaml: members: 'toy_a:rnk': unknown part 'rnk'",
        ),
        (
            {'m': 'members: [toy_a]\nheld_out: [toy_z]\n'},
            'm',
            "m.yaml: held_out: unknown task or mixture 'toy_z'",
        ),
        (
            {'m': 'members: [toy_a]\nheld_out: ["toy_b:rank"]\n'},
            'm',
            "m.yaml: held_out: 'toy_b:rank' must be a dataset's bare name",
        ),
        (
            {'m': 'members: [{cluster: toy_x}]\n'},
            'm',
            "m.yaml: members: no dataset has cluster 'toy_x'",
        ),
        (
            {'m': 'members: [{cluster: toy_nli, collection: sni}]\n'},
            'm',
            "no dataset has cluster 'toy_nli' and collection 'sni'",
        ),
        (
            {'m': 'members: [toy_a, {cluster: toy_sentiment}]\n'},
            'm',
            "m.yaml: members: 'toy_a' is a member twice",
        ),
        (
            {'m': 'members: [n, toy_a]\n', 'n': 'members: [toy_a]\n'},
            'm',
            "members: 'toy_a' is a member twice (through n)",
        ),
        (
            {'m': 'members: [n]\n', 'n': 'members: [m]\n'},
            'm',
            'members: m > n > m is a circle',
        ),
    ],
)
def test_names_and_mixtures_with_mistakes(make, texts, name, message):
  found = make(**texts)
  with pytest.raises(errors.UserError, match=re.escape(message)):
    mixtures.resolve(found, name)


def test_rates_are_proportional_up_to_a_maximum(make):
  found = make(
      m='members: [toy_a, {name: toy_b, weight: 3}, toy_c]\nmax_rate: 3000\n',
      capped='members: [toy_a]\ncap: 5\n',
  )
  mixture = mixtures.resolve(found, 'm')
  # By hand: 2,490 whole; 30,000 counts as 3,000, three times; nothing at all.
  rates = mixtures.rates(mixture, [2490, 30_000, 0])
  np.testing.assert_array_equal(rates, [2490.0, 9000.0, 0.0])
  assert mixtures.rates(mixtures.resolve(found, 'capped'), [8]) == [5.0]
  with pytest.raises(ValueError, match='members'):
    mixtures.rates(mixture, [1, 2])


@pytest.mark.parametrize(
    ('rule', 'expected'),
    [
        ('proportional\nmax_rate: 3000', [100, 6000, 900]),
        ('{temperature: 2}\nmax_rate: 3600', [10, 120, 30]),
        ('equal', [1, 2, 1]),
        ('explicit', [1, 2, 1]),
    ],
)
def test_four_kinds_of_rates(make, rule, expected):
  weights = {'toy_a': 1, 'toy_b': 2, 'toy_c': 1}
  lines = ', '.join(f'{{name: {n}, weight: {w}}}' for n, w in weights.items())
  found = make(m=f'members: [{lines}]\nrates: {rule}\n')
  rates = mixtures.rates(mixtures.resolve(found, 'm'), [100, 40_000, 900])
  np.testing.assert_allclose(rates, expected)


def test_an_empty_member_is_never_drawn(make):
  found = make(m='members: [toy_a, n]\nrates: equal\n', n='members: [toy_b]\n')
  mixture = mixtures.resolve(found, 'm')
  np.testing.assert_array_equal(mixtures.rates(mixture, [0, 5]), [0, 1])
  np.testing.assert_array_equal(mixtures.rates(mixture, [5, 0]), [1, 0])


def test_a_mixture_within_keeps_its_proportions_cap_and_rates(make):
  found = make(
      inner=(
          'members: [toy_a, {name: toy_b, weight: 3}]\n'
          'rates: {temperature: 2}\ncap: 400\nmax_rate: 100\n'
      ),
      outer='members: [{name: inner, weight: 2}, toy_c]\nmax_rate: 50\n',
      even='members: [inner, toy_c]\nrates: equal\n',
      said=(
          'members: [{name: inner, weight: 5}, {name: toy_c, weight: 3}]\n'
          'rates: explicit\n'
      ),
      cool='members: [inner, toy_c]\nrates: {temperature: 3}\n',
  )
  sizes = [25, 9000, 70]
  # Inside: 25 ** (1 / 2) to 3 * 100 ** (1 / 2), so 5 to 30. Outside it counts
  # for 25 + 3 * 100 = 325 examples, and the outer max_rate is for toy_c.
  rates = mixtures.rates(mixtures.resolve(found, 'outer'), sizes)
  np.testing.assert_allclose(rates, [650 / 7, 650 * 6 / 7, 50])
  rates = mixtures.rates(mixtures.resolve(found, 'even'), sizes)
  np.testing.assert_allclose(rates, [1 / 7, 6 / 7, 1])
  rates = mixtures.rates(mixtures.resolve(found, 'said'), sizes)
  np.testing.assert_allclose(rates, [5 / 7, 30 / 7, 3])
  rates = mixtures.rates(mixtures.resolve(found, 'cool'), sizes)
  np.testing.assert_allclose(
      rates, [325 ** (1 / 3) / 7, 325 ** (1 / 3) * 6 / 7, 70 ** (1 / 3)]
  )


def test_shares_count_for_the_examples_they_are_of(make):
  """Weights that say shares say nothing of how many examples there are."""
  found = make(
      inner=(
          'members: [{name: toy_a, weight: 0.1}, {name: toy_b, weight: 0.3}]\n'
          'rates: explicit\n'
      ),
      outer='members: [inner, toy_c]\n',
  )
  rates = mixtures.rates(mixtures.resolve(found, 'outer'), [300, 500, 200])
  np.testing.assert_allclose(rates, [200, 600, 200])


@given(
    sizes=st.lists(st.integers(1, 10**6), min_size=4, max_size=4),
    most=st.integers(1, 10**5),
    weights=st.lists(st.floats(0.1, 10), min_size=4, max_size=4),
)
def test_proportional_in_proportional_is_as_written_out(sizes, most, weights):
  def tree(*parts):
    return mixtures.Mixture('m', parts, max_rate=most)

  a, b, c, d = (tasks.create(_toy(name)) for name in 'abcd')
  flat = tree(*zip((a, b, c, d), weights, strict=True))
  inner = tree((b, weights[1]), (c, weights[2]))
  nested = tree((a, weights[0]), (inner, 1.0), (d, weights[3]))
  np.testing.assert_allclose(
      mixtures.rates(nested, sizes), mixtures.rates(flat, sizes)
  )


def _toy(name, **kwargs):
  return specs.Dataset(
      name=name,
      cluster='toys',
      source=specs.Source(kind='jsonl', where='x.jsonl'),
      splits={'train': 'train'},
      fields={'a': 'a'},
      metrics=('exact_match',),
      templates=(specs.Template(name='t', inputs='{a}?', targets='{a}'),),
      **kwargs,
  )


def test_rates_of_a_part_of_the_members(make):
  found = make(
      inner='members: [toy_a, toy_b]\n',
      outer='members: [inner, toy_c]\nrates: equal\n',
  )
  mixture = mixtures.resolve(found, 'outer')
  kept = mixture.only(lambda task: task.dataset.name != 'toy_a')
  assert [task.name for task, _ in kept.members] == ['toy_b', 'toy_c']
  np.testing.assert_allclose(mixtures.rates(kept, [5, 7]), [1, 1])
  assert not mixture.only(lambda task: False).members


def test_caps_hold_along_the_way(make):
  found = make(
      inner='members: [toy_a]\ncap: 7\n',
      outer='members: [inner, toy_b]\ncap: 9\n',
      wide='members: [inner, toy_b]\ncap: 5\n',
  )
  assert mixtures.resolve(found, 'outer').caps.tolist() == [7, 9]
  assert mixtures.resolve(found, 'wide').caps.tolist() == [5, 5]
  assert mixtures.as_mixture(mixtures.resolve(found, 'toy_a')).caps is None
  mixture = mixtures.resolve(found, 'outer')
  np.testing.assert_array_equal(mixtures.rates(mixture, [8, 80]), [7, 9])


def test_the_mixtures_of_this_project_resolve():
  found = catalogue.Catalogue()
  for name in found.mixture_names():
    members = mixtures.resolve(found, name).members
    if found.mixture(name).held_out:
      held_out = mixtures.resolve(found, f'{name}:held_out').members
      assert not {task.name for task, _ in members} & {
          task.name for task, _ in held_out
      }
  flan = mixtures.resolve(found, 'flan2021')
  assert (flan.cap, flan.max_rate) == (30_000, 3000)
  assert {'rte', 'sst2', 'trec'} <= {task.name for task, _ in flan.members}
