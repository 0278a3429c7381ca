"""Batches: every example once, few shapes, nothing too short."""

import itertools

from flan_jax import vocabularies
from flan_jax.inference import batching
from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest


@pytest.mark.parametrize(
    'longest, first',
    [
        (5, (5,)),
        (16, (16,)),
        (17, (16, 17)),
        (128, (16, 32, 48, 64, 80, 96, 112, 128)),
        (200, (16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 200)),
        (512, (16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256)),
    ],
)
def test_coarse_ladder(longest, first):
  found = batching.ladder(longest, steps=4)
  assert found[: len(first)] == first
  assert found[-1] == longest
  # Beyond 64, padding to the next step is under a quarter.
  pairs = itertools.pairwise(found)
  assert all(after <= 1.25 * before for before, after in pairs if before >= 64)


def test_fine_ladder():
  assert batching.ladder(520) == (*range(16, 513, 16), 520)
  assert batching.ladder(1100)[-4:] == (992, 1024, 1088, 1100)
  assert batching.ladder(64, 8) == tuple(range(8, 65, 8))


_RUNGS = (batching.ladder(300), batching.ladder(70, 8))


def _check(batches, lengths):
  """Every example is there once, and fits."""
  placed = [i for batch in batches for i in batch.indices]
  assert sorted(placed) == list(range(len(lengths)))
  for batch in batches:
    assert len(batch.indices) <= batch.rows
    needed = np.asarray([lengths[i] for i in batch.indices]).max(axis=0)
    assert (np.asarray(batch.shape) >= needed).all()


_LENGTHS = st.lists(st.tuples(st.integers(1, 300), st.integers(1, 70)))


@given(
    st.lists(_LENGTHS, max_size=6),
    st.integers(1, 9),
    st.integers(1, 3),
    st.integers(2, 7),
)
def test_plans_hold_every_example_once_in_few_shapes(
    calls, batch_size, divisor, most
):
  planner = batching.Planner(batch_size=batch_size, divisor=divisor, most=most)
  seen = set()
  for number, lengths in enumerate(calls):
    if number % 2:
      batches = planner.plan('rank', lengths, _RUNGS)
    else:
      lengths = [(inputs,) for inputs, _ in lengths]
      batches = planner.plan('generate', lengths, _RUNGS[:1], 20)
    _check(batches, lengths)
    seen |= {(number % 2, batch.rows, batch.shape) for batch in batches}
    for batch in batches:
      assert batch.rows % divisor == 0
      assert batch.rows <= batching.round_up(batch_size, divisor)
  assert len(seen) == len(planner.shapes()) <= most


@given(_LENGTHS, st.integers(400, 3000))
def test_batches_stay_within_their_tokens(lengths, batch_tokens):
  planner = batching.Planner(batch_tokens=batch_tokens)
  batches = planner.plan('rank', lengths, _RUNGS)
  _check(batches, lengths)
  for batch in batches:
    assert batch.rows * sum(batch.shape) <= batch_tokens
  sizes = [sum(batch.shape) for batch in batches]
  assert sizes[:1] == sorted(sizes)[-1:], 'the largest come first'


def test_lengths_that_are_known_have_a_shape_of_their_own():
  """Twelve calls of two kinds: the padding is what few shapes allow."""
  rng = np.random.default_rng(0)
  planner = batching.Planner(batch_tokens=4096)
  rungs = (batching.ladder(512), batching.ladder(128, 8))
  real = padded = 0
  for call in range(12):
    lengths = [(int(n), 30) for n in rng.integers(16, 513, 400)]
    batches = planner.plan('rank', lengths, rungs)
    _check(batches, lengths)
    if call >= 6:
      real += sum(map(sum, lengths))
      padded += sum(batch.rows * sum(batch.shape) for batch in batches)
  assert len(planner.shapes()) <= 11, 'generation keeps one'
  assert real / padded > 0.88


def test_one_example_does_not_fill_a_batch_for_many():
  planner = batching.Planner(batch_size=64)
  for _ in range(3):
    (batch,) = planner.plan('rank', [(20, 5)], _RUNGS)
    assert batch.rows <= 4
  assert len(planner.shapes()) == 1
  # Many examples open a shape of more rows.
  batches = planner.plan('rank', [(20, 5)] * 640, _RUNGS)
  assert {batch.rows for batch in batches} == {64}


def test_padding_that_comes_again_and_again_is_done_away_with():
  """No call pays for a compilation, but all together do."""
  planner = batching.Planner(batch_size=8)
  planner.plan('rank', [(300, 70)] * 8, _RUNGS)
  shapes = [
      planner.plan('rank', [(20, 5)] * 8, _RUNGS)[0].shape for _ in range(12)
  ]
  assert shapes[0] == (300, 70)
  assert shapes[-1] == (32, 8)
  assert len(planner.shapes()) == 2


def test_examples_of_one_need_keep_their_order():
  planner = batching.Planner(batch_size=2)
  lengths = [(3,), (40,), (4,), (5,)]
  batches = planner.plan('generate', lengths, [batching.ladder(64)])
  assert [batch.indices for batch in batches] == [(1, 0), (2, 3)]


def test_no_examples_have_no_batches():
  planner = batching.Planner(batch_size=2)
  assert planner.plan('rank', [], _RUNGS) == []
  assert planner.shapes() == []


def test_tokens_are_cut_with_eos_kept():
  vocabulary = vocabularies.ByteVocabulary()
  tokens, cut = batching.tokens_of(vocabulary, ['abcd', 'abc', 'ab', ''], 4)
  a, b, c = vocabulary.encode('abc')
  assert tokens == [[a, b, c, 1], [a, b, c, 1], [a, b, 1], [1]]
  assert cut == [1, 0, 0, 0]


def test_pad():
  np.testing.assert_array_equal(
      batching.pad([[7, 1], [8, 9, 1]], 3, 4),
      [[7, 1, 0, 0], [8, 9, 1, 0], [0, 0, 0, 0]],
  )
