"""Slices of splits mean what Python's mean, and percentages what TFDS's do."""

from flan_jax import errors
from flan_jax.data import splits
import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

COUNTS = {'train': 100, 'validation': 7, 'c++.jsonl': 3}


def _resolver(own=None, counts=COUNTS):
  return splits.Resolver(
      own=own or {},
      is_split=counts.__contains__,
      count=counts.__getitem__,
      unknown=lambda name: errors.UserError(f'no {name}'),
      where='rte.yaml: splits.train',
  )


def _places(expression, own=None, counts=COUNTS):
  """Every row of an expression as (split, place)."""
  found = []
  for part in _resolver(own, counts).parts(expression):
    places = part.places
    if places is None:
      places = range(counts[part.split])
    found += [(part.split, int(place)) for place in places]
  return found


@hypothesis.given(
    count=st.integers(0, 50),
    start=st.none() | st.integers(-60, 60),
    stop=st.none() | st.integers(-60, 60),
)
def test_slices_equal_python_slicing(count, start, stop):
  first = '' if start is None else start
  last = '' if stop is None else stop
  found = _places(f'train[{first}:{last}]', counts={'train': count})
  assert [place for _, place in found] == list(range(count))[start:stop]


@hypothesis.given(
    count=st.integers(1, 1000),
    cuts=st.lists(st.integers(0, 100), min_size=1, max_size=5),
)
def test_percentages_divide_a_split_without_gap_or_overlap(count, cuts):
  cuts = sorted({0, 100, *cuts})
  found = []
  for first, last in zip(cuts, cuts[1:], strict=False):
    found += _places(f'train[{first}%:{last}%]', counts={'train': count})
  assert [place for _, place in found] == list(range(count))


@hypothesis.given(count=st.integers(1, 500), cut=st.integers(-100, 100))
def test_both_sides_of_a_percentage_are_the_whole(count, cut):
  counts = {'train': count}
  left = _places(f'train[:{cut}%]', counts=counts)
  right = _places(f'train[{cut}%:]', counts=counts)
  if cut == 0:
    assert (left, len(right)) == ([], count)
  assert [place for _, place in left + right] == list(range(count))


@pytest.mark.parametrize('count', [10, 999, 2490])
@pytest.mark.parametrize('cut', ['10%:20%', ':33%', '50%:', '-25%:', ':-10%'])
def test_percentages_are_those_of_tfds(cut, count):
  tfds = pytest.importorskip('tensorflow_datasets')
  info = tfds.core.SplitInfo(
      name='train',
      shard_lengths=[count],
      num_bytes=0,
      filename_template=None,
  )
  infos = tfds.core.splits.SplitDict([info])
  absolute = tfds.core.ReadInstruction.from_spec(f'train[{cut}]').to_absolute(
      infos
  )
  expected = list(range(count))[absolute[0].from_ : absolute[0].to]
  found = _places(f'train[{cut}]', counts={'train': count})
  assert [place for _, place in found] == expected


@pytest.mark.parametrize(
    ('expression', 'expected'),
    [
        ('validation[1:3]', [('validation', 1), ('validation', 2)]),
        ('validation[6:] + train[:1]', [('validation', 6), ('train', 0)]),
        ('train[1_0:11]', [('train', 10)]),
        ('train[:30000]', [('train', i) for i in range(100)]),
        ('c++.jsonl', [('c++.jsonl', i) for i in range(3)]),
    ],
)
def test_sums_and_paths(expression, expected):
  assert _places(expression) == expected


def test_a_split_of_ours_stands_for_its_own_slice():
  own = {'train': 'train[:-10]', 'dev': 'train[-10:]', 'test': 'dev[:2]'}
  assert _places('dev[-2:]', own) == [('train', 98), ('train', 99)]
  assert _places(own['test'], own) == [('train', 90), ('train', 91)]
  # The source's own split of that name comes first.
  assert _places(own['dev'], own)[0] == ('train', 90)
  assert _resolver(own).names('test+validation') == ['train', 'validation']


@pytest.mark.parametrize(
    'own', [{'a': 'a[:5]'}, {'a': 'b', 'b': 'a'}, {'a': 'elsewhere'}]
)
def test_a_name_that_leads_nowhere_is_an_error(own):
  with pytest.raises(errors.UserError, match='no (a|b|elsewhere)'):
    _places(own['a'], own)


@pytest.mark.parametrize(
    ('expression', 'message'),
    [
        ('train[', "cannot read 'train\\['"),
        ('', "cannot read ''"),
        ('train+', "cannot read 'train\\+'"),
        ('train[5]', 'a start and a stop'),
        ('train[::2]', 'a start and a stop'),
        ('train[a:b]', "'a' is neither a whole number nor a percentage"),
        ('train[1.5%:]', "'1.5%' is neither"),
        ('train[10%:20]', 'mixes rows and percent'),
        ('train[:101%]', 'only 100%'),
    ],
)
def test_what_cannot_be_read_is_named(expression, message):
  with pytest.raises(errors.UserError, match=message) as caught:
    _places(expression)
  assert str(caught.value).startswith('rte.yaml: splits.train: ')


def test_counts_are_asked_for_only_where_they_matter():
  def never(_):
    raise AssertionError('counting means reading everything')

  resolver = splits.Resolver(
      own={},
      is_split=COUNTS.__contains__,
      count=never,
      unknown=lambda name: errors.UserError(name),
      where='',
  )
  assert [p.split for p in resolver.parts('train+validation')] == [
      'train',
      'validation',
  ]
  assert resolver.names('train[:-5]') == ['train']


@hypothesis.given(count=st.integers(1, 300), data=st.data())
def test_a_sample_is_a_subset_in_order(count, data):
  size = data.draw(st.integers(1, count))
  seed = data.draw(st.integers(0, 10))
  drawn = splits.sample(count, size, seed, 'rte/train')
  assert len(set(drawn.tolist())) == size
  assert (np.diff(drawn) > 0).all()
  assert 0 <= drawn[0] and drawn[-1] < count
  np.testing.assert_array_equal(
      drawn, splits.sample(count, size, seed, 'rte/train')
  )


def test_every_row_is_as_likely_to_be_drawn():
  hits = np.zeros(40)
  for seed in range(2000):
    hits[splits.sample(40, 10, seed, 'x')] += 1
  # 500 expected each, standard deviation 19.
  assert abs(hits - 500).max() < 90
  first = splits.sample(10**5, 100, 0, 'x')
  assert set(first.tolist()) != set(
      splits.sample(10**5, 100, 0, 'y').tolist()
  ), 'two datasets draw their own samples'
