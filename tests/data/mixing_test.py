"""The mixture's order: exact shares, whole epochs, any place at any time."""

import pickle
import time

from flan_jax.data import mixing
import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest


def order(count: int, sizes, rates, **options) -> mixing.Draws:
  names = [f'member_{number}' for number in range(len(sizes))]
  index_map = mixing.IndexMap(names, sizes, rates, **options)
  return index_map.lookup(np.arange(count))


@hypothesis.given(size=st.integers(1, 3000), key=st.integers(0, 2**64 - 1))
@hypothesis.settings(deadline=None)
def test_permuting_is_a_bijection_for_any_size(size, key):
  moved = mixing.permute(
      np.arange(size), np.full(size, size), np.full(size, key, np.uint64)
  )
  assert np.array_equal(np.sort(moved), np.arange(size))


@hypothesis.given(st.integers(2**31, 2**50), st.data())
@hypothesis.settings(deadline=None)
def test_permuting_large_sizes_stays_inside_and_apart(size, data):
  some = data.draw(st.sets(st.integers(0, size - 1), min_size=2, max_size=50))
  index = np.array(sorted(some))
  moved = mixing.permute(index, np.full(len(index), size), np.uint64(7))
  assert ((0 <= moved) & (moved < size)).all()
  assert len(set(moved.tolist())) == len(index)


@pytest.mark.parametrize('size', [2, 3, 5, 12, 60])
def test_every_place_is_as_likely(size):
  keys = np.arange(4000, dtype=np.uint64)
  counts = np.zeros((size, size))
  for index in range(size):
    moved = mixing.permute(
        np.full(len(keys), index), np.full(len(keys), size), keys
    )
    counts[index] = np.bincount(moved, minlength=size)
  expected = len(keys) / size
  # Chi squared over size**2 cells: mean (size - 1)**2, deviation about
  # sqrt(2) (size - 1).
  statistic = ((counts - expected) ** 2 / expected).sum()
  assert statistic < (size - 1) ** 2 + 6 * np.sqrt(2) * (size - 1) + 6


RATES = st.lists(
    st.one_of(st.floats(1e-6, 1.0), st.just(0.0), st.floats(1, 1e6)),
    min_size=1,
    max_size=40,
).filter(any)


@hypothesis.given(
    RATES,
    st.integers(1, 5 * mixing.CYCLE),
    st.integers(0, 9),
    st.booleans(),
)
@hypothesis.settings(deadline=None)
def test_drawn_counts_what_is_looked_up(rates, places, seed, shuffle):
  index_map = mixing.IndexMap(
      [f'member_{n}' for n in range(len(rates))],
      np.full(len(rates), 7),
      rates,
      seed=seed,
      shuffle=shuffle,
  )
  member = index_map.lookup(np.arange(places)).member
  expected = np.bincount(member, minlength=len(rates))
  np.testing.assert_array_equal(index_map.drawn(places), expected)


def test_drawn_of_very_many_places():
  index_map = mixing.IndexMap(['a', 'b'], [5, 9], [1.0, 3.0])
  drawn = index_map.drawn(10**15)
  assert drawn.sum() == 10**15
  np.testing.assert_allclose(drawn, [0.25e15, 0.75e15], atol=2)


def test_a_cap_of_each_member():
  none = np.iinfo(np.int64).max
  draws = order(400, [50, 50, 3], [1, 1, 1], cap=np.array([7, none, none]))
  rows = [set(draws.row[draws.member == n].tolist()) for n in range(3)]
  assert [len(some) for some in rows] == [7, 50, 3]
  with pytest.raises(ValueError, match='cap'):
    order(1, [5, 5], [1, 1], cap=np.array([1, 0]))


@hypothesis.given(
    rates=RATES, seed=st.integers(0, 99), first=st.integers(0, 40)
)
@hypothesis.settings(deadline=None, max_examples=50)
def test_shares_of_a_cycle_are_right_to_within_one(rates, seed, first):
  names = [f'm{number}' for number in range(len(rates))]
  index_map = mixing.IndexMap(names, [100] * len(rates), rates, seed=seed)
  start = first * mixing.CYCLE
  draws = index_map.lookup(np.arange(start, start + mixing.CYCLE))
  counts = np.bincount(draws.member, minlength=len(rates))
  exact = np.array(rates) / sum(rates) * mixing.CYCLE
  assert (np.abs(counts - exact) < 1 + 1e-6).all()
  assert not counts[np.array(rates) == 0].any()


@hypothesis.given(rates=RATES, cycles=st.integers(1, 64))
@hypothesis.settings(deadline=None, max_examples=30)
def test_shares_stay_right_over_many_cycles(rates, cycles):
  draws = order(cycles * mixing.CYCLE, [100] * len(rates), rates)
  counts = np.bincount(draws.member, minlength=len(rates))
  exact = np.array(rates) / sum(rates) * mixing.CYCLE * cycles
  # A van der Corput sequence leaves less than one for each bit, at either end.
  assert (np.abs(counts - exact) < 2 * np.log2(cycles) + 2).all()


def test_no_member_starves():
  rates = [1e5, 1e5, 1.0, 3.0]
  draws = order(2**20, [10] * 4, rates)
  counts = np.bincount(draws.member, minlength=4)
  exact = np.array(rates) / sum(rates) * 2**20
  assert (np.abs(counts - exact) <= 2).all()
  assert counts[2] >= 1 and counts[3] >= 5


def test_the_smallest_rate_still_has_its_ticket():
  index_map = mixing.IndexMap(
      ['large', 'tiny'], [10, 10], [1.0, 1e-30], shuffle=False
  )
  # In one round of all offsets, 2**50 places, the tiny member is drawn once.
  # Nobody can go there step by step, but draws are numbered.
  total = mixing.CYCLE << 40
  draws = index_map.lookup(np.arange(total, total + 500))
  number = draws.epoch * 10 + draws.row
  assert (draws.member == 0).all()
  assert np.array_equal(number, np.arange(total, total + 500) - 1)


@pytest.mark.parametrize('shuffle', [True, False])
def test_draws_go_through_whole_epochs(shuffle):
  sizes = [37, 1, 1500, 400]
  draws = order(20_000, sizes, [3, 1, 5, 0.5], seed=3, shuffle=shuffle)
  for member, size in enumerate(sizes):
    rows = draws.row[draws.member == member]
    epochs = draws.epoch[draws.member == member]
    # Counted afresh: the draws of a member, in the order of places, make
    # epoch 0, then epoch 1, and so on, each with every row once.
    assert np.array_equal(epochs, np.arange(len(rows)) // size)
    whole = len(rows) // size
    assert whole >= 1
    for epoch in range(whole):
      part = rows[epoch * size : (epoch + 1) * size]
      assert np.array_equal(np.sort(part), np.arange(size))
      if not shuffle:
        assert np.array_equal(part, np.arange(size))


def test_one_member_alone_is_its_epochs_in_turn():
  draws = order(5000, [700], [0.3])
  assert np.array_equal(draws.epoch, np.arange(5000) // 700)
  first, second = draws.row[:700], draws.row[700:1400]
  assert not np.array_equal(first, second)
  assert not np.array_equal(first, np.arange(700))


@hypothesis.given(st.integers(0, 2**45), st.integers(1, 4000))
@hypothesis.settings(deadline=None, max_examples=40)
def test_any_place_can_be_looked_up_alone(start, count):
  names = ['a', 'b', 'c']
  whole = mixing.IndexMap(names, [10, 2000, 5], [0.2, 1.0, 0.001], seed=1)
  places = np.arange(start, start + count)
  together = whole.lookup(places)
  some = np.random.default_rng(0).permutation(count)[:20]
  fresh = mixing.IndexMap(names, [10, 2000, 5], [0.2, 1.0, 0.001], seed=1)
  alone = fresh.lookup(places[some])
  for left, right in zip(together, alone, strict=True):
    assert np.array_equal(left[some], right)


def test_draw_numbers_have_no_gap_far_out():
  # Across the end of all offsets, where the closed form starts a new round.
  far = (mixing.CYCLE << 40) - 3 * mixing.CYCLE
  index_map = mixing.IndexMap(
      ['a', 'b'], [1000, 7], [1.0, 0.01], seed=2, shuffle=False
  )
  draws = index_map.lookup(np.arange(far, far + 6 * mixing.CYCLE))
  for member, size in enumerate([1000, 7]):
    here = draws.member == member
    number = draws.epoch[here] * size + draws.row[here]
    assert np.array_equal(np.diff(number), np.ones(len(number) - 1))


@hypothesis.given(rows=st.integers(1, 500), cap=st.integers(1, 500))
@hypothesis.settings(deadline=None, max_examples=40)
def test_a_cap_keeps_a_seeded_subset(rows, cap):
  used = min(rows, cap)
  draws = order(2 * used, [rows], [1], cap=cap, seed=1)
  first, second = draws.row[:used], draws.row[used:]
  assert set(first.tolist()) == set(second.tolist())
  assert len(set(first.tolist())) == used
  assert ((0 <= first) & (first < rows)).all()
  in_order = order(used, [rows], [1], cap=cap, seed=1, shuffle=False)
  assert np.array_equal(in_order.row, np.sort(first))


def test_the_seed_chooses_subset_order_and_mix():
  subsets = []
  for seed in range(2):
    draws = order(4000, [1000, 50], [2, 1], cap=100, seed=seed)
    subsets.append(set(draws.row[draws.member == 0].tolist()))
  assert subsets[0] != subsets[1]
  one, other = (order(2000, [50, 50], [1, 1], seed=seed) for seed in range(2))
  assert not np.array_equal(one.member, other.member)
  assert not np.array_equal(one.row, other.row)


def test_a_members_order_does_not_hang_on_the_others():
  alone = mixing.IndexMap(['a'], [100], [1]).lookup(np.arange(300))
  both = mixing.IndexMap(['b', 'a'], [70, 100], [3, 1])
  draws = both.lookup(np.arange(2048))
  assert np.array_equal(draws.row[draws.member == 1][:300], alone.row)


def test_pickling_keeps_the_order():
  index_map = mixing.IndexMap(['a', 'b'], [100, 30], [2, 1], cap=20, seed=5)
  before = index_map.lookup(np.arange(3000))
  after = pickle.loads(pickle.dumps(index_map)).lookup(np.arange(3000))
  for left, right in zip(before, after, strict=True):
    assert np.array_equal(left, right)


def test_1836_members_start_at_once():
  generator = np.random.default_rng(0)
  sizes = generator.integers(10, 100_000, 1836)
  started = time.process_time()
  draws = order(4096, sizes, sizes, cap=30_000)
  # Measured at 0.02 s; a linear search per draw, or a buffer per member,
  # would take seconds.
  assert time.process_time() - started < 1
  assert len(np.unique(draws.member)) > 1000


@pytest.mark.parametrize(
    'sizes, rates',
    [([], []), ([1], [0]), ([0], [1]), ([1, 1], [1]), ([1], [np.nan])],
)
def test_nonsense_is_refused(sizes, rates):
  with pytest.raises(ValueError):
    order(1, sizes, rates)
  with pytest.raises(ValueError):
    order(1, [3], [-1.0])
