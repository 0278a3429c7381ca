"""FLAN 2021's mixtures: what is in them, and what can never be drawn.

Memberships are computed anew from the table of facts and the paper's rules;
held-out data is held to three tests, by dataset, by family and by source row.
"""

import collections
import csv
import functools
import itertools
import re

from flan_jax import errors
from flan_jax.data import catalogue
from flan_jax.data import mixtures
from flan_jax.data import specs
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import pytest

# The paper's clusters (figure 3) and how many of the 70 rows each has.
_SIZES = {
    'natural_language_inference': 10,
    'paraphrase': 4,
    'sentiment': 4,
    'closed_book_qa': 4,
    'reading_comprehension': 6,
    'reading_comprehension_with_commonsense': 2,
    'commonsense': 4,
    'coreference': 4,
    'struct_to_text': 4,
    'translation': 8,
    'summarization': 11,
    'misc': 9,
}
# What leaves training with each cluster, as a list of pairs.
_OVERLAPPING = {
    frozenset(pair)
    for pair in (
        ('natural_language_inference', 'paraphrase'),
        ('reading_comprehension', 'reading_comprehension_with_commonsense'),
        ('commonsense', 'reading_comprehension_with_commonsense'),
    )
}
_EVALUATION_ONLY = {'wsc273'}
_SUPERGLUE = {'bool_q', 'cb', 'copa', 'multirc', 'record', 'rte', 'wic', 'wsc'}
_TESTED = {'natural_language_inference', 'commonsense', 'closed_book_qa'}


@pytest.fixture(scope='module')
def found():
  return catalogue.Catalogue()


def _names(found, name):
  return [task.name for task, _ in mixtures.resolve(found, name).members]


def _clusters(found, names):
  return collections.Counter(found.dataset(name).cluster for name in names)


def test_the_whole(found):
  trained = _names(found, 'flan2021')
  assert len(trained) == len(set(trained)) == 69
  assert not _EVALUATION_ONLY & set(trained)
  everything = {*trained, *_EVALUATION_ONLY}
  assert everything == set(found.select(collection='flan2021'))
  assert _clusters(found, everything) == _SIZES
  mixture = mixtures.resolve(found, 'flan2021')
  assert set(mixture.caps.tolist()) == {30_000}
  rates = mixtures.rates(mixture, [*range(1, 35), *[10**6] * 35])
  assert rates.tolist() == [*map(float, range(1, 35)), *[3000.0] * 35]
  # And no more are stored.
  assert {t.dataset.limits.get('train') for t, _ in mixture.members} == {30_000}


@pytest.mark.parametrize('cluster', _SIZES)
def test_each_cluster_can_be_left_out(found, cluster):
  trained = _clusters(found, _names(found, f'flan2021_no_{cluster}'))
  held_out = _clusters(found, _names(found, f'flan2021_no_{cluster}:held_out'))
  assert held_out == {cluster: _SIZES[cluster]}
  away = {cluster} | {
      other for other in _SIZES if frozenset((cluster, other)) in _OVERLAPPING
  }
  expected = {c: size for c, size in _SIZES.items() if c not in away}
  if 'coreference' in expected:
    expected['coreference'] -= len(_EVALUATION_ONLY)
  assert trained == expected


def test_every_leave_out_there_is(found):
  names = found.leave_out_names('flan2021')
  assert len(names) == len(_SIZES) + sum(_SIZES.values()) == 82
  assert not set(names) & set(found.mixture_names())


@pytest.mark.parametrize(
    ('name', 'trained', 'held_out'),
    [
        *(
            (f'flan2021_clusters_{n}', count, 18)
            for n, count in enumerate((11, 19, 25, 29, 33, 36, 38), start=1)
        ),
        *(
            (f'flan2021_clusters_{n}_15_datasets', 11 if n == 1 else 15, 18)
            for n in range(1, 8)
        ),
        *((f'flan2021_datasets_{n}', n, 8) for n in range(5, 60, 5)),
        *(
            (f'flan2021_per_cluster_{n}', count, 18)
            # All but conversation (2) and coreference (3) have four or more.
            for n, count in enumerate((7, 14, 20, 25), start=1)
        ),
    ],
)
def test_sizes_of_the_ablations(found, name, trained, held_out):
  members = _names(found, name)
  tested = _names(found, f'{name}:held_out')
  assert (len(members), len(tested)) == (trained, held_out)
  if held_out == 8:
    assert set(tested) == _SUPERGLUE
  else:
    assert set(_clusters(found, tested)) == _TESTED
    assert not set(_clusters(found, members)) & _TESTED


def test_larger_ablations_hold_the_smaller_ones(found):
  for pattern, numbers in (
      ('flan2021_clusters_{}', range(1, 8)),
      ('flan2021_datasets_{}', range(5, 60, 5)),
      ('flan2021_per_cluster_{}', range(1, 5)),
  ):
    chosen = [set(_names(found, pattern.format(n))) for n in numbers]
    assert all(a < b for a, b in itertools.pairwise(chosen)), pattern


def test_clusters_come_in_the_papers_order(found):
  order = [
      {found.dataset(name).subcluster for name in names}
      for names in (
          _names(found, f'flan2021_clusters_{n}') for n in range(1, 8)
      )
  ]
  added = [now - before for before, now in itertools.pairwise([set(), *order])]
  assert added == [
      {'summarization'},
      {'translation'},
      {'reading_comprehension'},
      {'sentiment'},
      {'structure_to_text'},
      {'coreference'},
      {'conversational_qa'},
  ]
  for n in range(1, 8):
    few = _names(found, f'flan2021_clusters_{n}_15_datasets')
    assert set(few) <= set(_names(found, f'flan2021_clusters_{n}'))
    counts = collections.Counter(found.dataset(x).subcluster for x in few)
    assert set(counts) == order[n - 1]
    # Turns are fair: nobody is two ahead of a cluster that has some left.
    assert all(
        most - count <= 1
        for cluster, count in counts.items()
        for most in counts.values()
        if len(found.select(collection='flan2021', subcluster=cluster)) > count
        and cluster not in ('coreference', 'conversational_qa')
    )
  two = set(_names(found, 'flan2021_per_cluster_2'))
  for n in range(1, 8):
    assert len(two & set(_names(found, f'flan2021_clusters_{n}'))) == 2 * n


def test_intra_splits_hold_out_one_of_each_subcluster(found):
  units = collections.defaultdict(set)  # Subcluster -> families.
  for name in found.select(collection='flan2021'):
    dataset = found.dataset(name)
    if name not in _EVALUATION_ONLY:
      units[dataset.subcluster].add(dataset.family or name)
  several = {cluster for cluster, names in units.items() if len(names) > 1}
  assert len(units) == 17 and len(several) == 13
  turns = collections.defaultdict(list)
  for n in range(10):
    held_out = [
        found.dataset(name)
        for name in _names(found, f'flan2021_intra_{n}:held_out')
    ]
    chosen = {(d.subcluster, d.family or d.name) for d in held_out}
    assert {cluster for cluster, _ in chosen} == several
    assert len(chosen) == len(several)
    trained = _names(found, f'flan2021_intra_{n}')
    evaluated = {d.name for d in held_out} - _EVALUATION_ONLY
    assert len(trained) + len(evaluated) == 69
    for cluster, unit in chosen:
      turns[cluster].append(unit)
  for cluster, taken in turns.items():
    # All in turn, then again from the first one.
    size = len(units[cluster])
    assert set(taken[:size]) == units[cluster] or size > 10
    assert all(taken[i] == taken[i % size] for i in range(10))


# The rest is held to the table itself, where it is beside the checkout.

_PAPER = {
    'NLI': 'natural_language_inference',
    'closed-book QA': 'closed_book_qa',
    'reading comprehension': 'reading_comprehension',
    'reading comprehension w/ commonsense': (
        'reading_comprehension_with_commonsense'
    ),
    'struct-to-text': 'struct_to_text',
}


@pytest.fixture(scope='module')
def facts(shared):
  with (shared / 'facts' / 'flan2021.csv').open(encoding='utf-8') as file:
    return {row['code_task']: row for row in csv.DictReader(file)}


def _fact_cluster(row):
  return _PAPER.get(row['paper_cluster'], row['paper_cluster'])


def _relatives(facts, name):
  """Rows of one dataset of the paper, or made from the same sources.

  The latter are the opinion abstracts, and WSC with WSC273.
  """

  def unit(row):
    for shared_source in ('opinion_abstracts', 'wsc'):
      if row['code_task'].startswith(shared_source):
        return shared_source
    # Text formatting sets and WSC's stand-in have a note instead of a name.
    alone = row['paper62_dataset'].startswith(('(code only', 'Fix Punct'))
    return row['code_task'] if alone else row['paper62_dataset']

  return {n for n, row in facts.items() if unit(row) == unit(facts[name])}


def test_every_leave_out_is_as_the_facts_say(found, facts):
  assert len(facts) == 70
  clusters = {_fact_cluster(row) for row in facts.values()}
  assert clusters == set(_SIZES)
  trainable = {n for n, row in facts.items() if row['split_train'] != '-'}
  assert set(facts) - trainable == _EVALUATION_ONLY
  for cluster in clusters:
    away = {cluster} | {
        other for other in clusters if {cluster, other} in _OVERLAPPING
    }
    expected = {n for n in trainable if _fact_cluster(facts[n]) not in away}
    name = f'flan2021_no_{cluster}'
    assert set(_names(found, name)) == expected
    assert set(_names(found, f'{name}:held_out')) == {
        n for n in facts if _fact_cluster(facts[n]) == cluster
    }
  for name in facts:
    family = _relatives(facts, name)
    assert set(_names(found, f'flan2021_no_{name}:held_out')) == family
    assert set(_names(found, f'flan2021_no_{name}')) == trainable - family


def test_subclusters_are_as_the_facts_say(found, facts):
  for name, row in facts.items():
    expected = row['code_cluster']
    if name in _EVALUATION_ONLY:
      expected = 'coreference'  # The code's clusters do not have it.
    assert found.dataset(name).subcluster == expected


# Held-out data can never be drawn in training.


_ROWS = {}


def _rows(dataset, split):
  """Returns source and split of the source -> slices, for a split's rows."""
  key = id(dataset), split
  if key not in _ROWS:
    # The dataset is kept as well, so that no other one gets its id.
    _ROWS[key] = dataset, dict(_read_rows(dataset, split))
  return _ROWS[key][1]


def _read_rows(dataset, split):
  places = [(dataset.source, dict(dataset.splits))]
  places += [
      (each.source, dict(each.splits or dataset.splits))
      for each in dataset.alternatives
  ]
  found = collections.defaultdict(list)
  for source, splits in places:
    waiting, seen = [split], set()
    while waiting:
      name = waiting.pop()
      for term in splits.get(name, '').split('+'):
        match = re.fullmatch(r'(.+?)(?:\[(-?\d*%?):(-?\d*%?)\])?', term.strip())
        if not match:
          continue
        inner, *bounds = match.groups()
        # The source's split of that name, or else one of the dataset's own.
        found[source.kind, source.where, inner].append(tuple(bounds))
        if not any(bounds) and inner not in seen:
          waiting.append(inner)
          seen.add(inner)
  return found


@functools.cache
def _places(bounds, count):
  start, stop = (
      None
      if not bound
      else round(int(bound[:-1]) * count / 100)
      if bound.endswith('%')
      else int(bound)
      for bound in bounds
  )
  return range(count)[start:stop]


# The smallest that a split is taken to be where slices from both ends meet:
# para_crawl's English-Danish pairs are the only case, and are millions.
_COUNTS = (100_000, 2_000_000)


def _share_rows(one, one_split, other, other_split):
  ours, theirs = _rows(one, one_split), _rows(other, other_split)
  return any(
      max(a.start, b.start) < min(a.stop, b.stop)
      for place in ours.keys() & theirs.keys()
      for bounds, bounds_b in itertools.product(ours[place], theirs[place])
      for count in _COUNTS
      for a, b in [(_places(bounds, count), _places(bounds_b, count))]
  )


def test_shared_rows_are_found():
  one = _toy('train[:100]', 'train[-5:]')
  assert not _share_rows(one, 'train', one, 'test')
  assert _share_rows(one, 'train', _toy('train', 'train[99:110]'), 'test')
  assert _share_rows(one, 'train', _toy('test', 'train[:1%]'), 'test')
  assert _share_rows(
      _toy('train+test', 'a'), 'train', _toy('b', 'test'), 'test'
  )
  assert not _share_rows(one, 'train', _toy('train', 'test'), 'test')
  assert _share_rows(
      _toy('x', 'validation', 'y[3:]'), 'test', _toy('y', 'z'), 'train'
  )


def _toy(train, test, validation='validation'):
  return specs.Dataset(
      name='toy',
      cluster='toys',
      source=specs.Source(kind='tfds', where='toys'),
      splits={'train': train, 'validation': validation, 'test': test},
      fields={'a': 'a'},
      metrics=('exact_match',),
      templates=(),
  )


def _check(found, name):
  """Holds a mixture to the three tests; returns how many are held out."""
  spec = found.mixture(name)
  trained = [task.dataset for task, _ in mixtures.resolve(found, name).members]
  if not spec.held_out:
    return 0
  out = mixtures.resolve(found, f'{name}:held_out')
  held_out = [task.dataset for task, _ in out.members]
  assert not {d.name for d in trained} & {d.name for d in held_out}
  families = {d.family for d in held_out} - {''}
  assert not {d.family for d in trained} & families
  for dataset, other in itertools.product(trained, held_out):
    for split in ('validation', 'test'):
      assert not _share_rows(
          dataset, 'train', other, split
      ), f'{name}: {dataset.name} trains on rows of {other.name}'
  return len(held_out)


def test_held_out_data_is_out_of_every_mixture(found):
  names = [
      *found.mixture_names(),
      *(
          leave_out
          for name in found.mixture_names()
          for leave_out in found.leave_out_names(name)
      ),
  ]
  held_out = {name: _check(found, name) for name in names}
  # All but the whole hold something out.
  assert {name for name, count in held_out.items() if not count} == {'flan2021'}


_WHOLE = catalogue.Catalogue()
_DATASETS = st.sampled_from(_WHOLE.dataset_names())
_SELECTED = st.one_of(
    st.builds(specs.Member, name=_DATASETS),
    st.builds(specs.Member, names=st.lists(_DATASETS, min_size=1).map(tuple)),
    st.builds(
        specs.Member,
        names=st.lists(_DATASETS, min_size=1).map(tuple),
        turn=st.integers(0, 20),
    ),
    st.builds(
        specs.Member,
        cluster=st.sampled_from(sorted(_SIZES)),
        collection=st.sampled_from(['', 'flan2021', 'mini']),
    ),
    st.builds(
        specs.Member,
        subcluster=st.sampled_from(['entailment', 'math', 'translation']),
    ),
)
_MEMBERS = st.one_of(
    _SELECTED,
    st.builds(specs.Member, name=_DATASETS.map(lambda n: f'{n}:1_templates')),
    st.builds(
        specs.Member,
        name=st.sampled_from(
            [*_WHOLE.mixture_names(), *_WHOLE.leave_out_names('flan2021')]
        ),
        weight=st.floats(0.1, 9),
    ),
    st.builds(specs.Member, collection=st.sampled_from(['flan2021', 'mini'])),
)
_SPECS = st.builds(
    specs.MixtureSpec,
    name=st.just('made'),
    members=st.lists(_MEMBERS, min_size=1, max_size=4).map(tuple),
    held_out=st.lists(_SELECTED, min_size=1, max_size=4).map(tuple),
    without=st.lists(_SELECTED, max_size=2).map(tuple),
    sample=st.none()
    | st.builds(
        specs.Sample,
        datasets=st.integers(1, 60),
        seed=st.none() | st.integers(0, 9),
    ),
    leave_out=st.just(specs.LeaveOut()),
)


@settings(max_examples=150, deadline=None)
@given(_SPECS)
def test_held_out_data_is_out_of_mixtures_made_by_hand(spec):
  made = catalogue.Catalogue()
  # With what has been read already, so that it is read once.
  made._entries |= {name: entry for name, entry in _WHOLE._entries.items()}
  assert made.add('made', True, lambda: spec, '')
  for name in ('made', *made.leave_out_names('made')[:3]):
    try:
      assert _check(made, name)
    except errors.UserError as error:
      # Nothing is left, or a line selects what another has selected.
      assert re.search('has no members|is a member twice', str(error))
