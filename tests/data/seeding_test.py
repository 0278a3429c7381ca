"""Stateless randomness: known values, uniformity, independence of blocks."""

import collections

from flan_jax.data import seeding
from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

_INTS = st.integers(-(2**63), 2**63 - 1)
_MASK = 2**64 - 1


def _mix(value: int) -> int:
  """SplitMix64's output function on Python integers."""
  value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
  value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
  return value ^ (value >> 31)


def test_the_mixer_is_splitmix64():
  # The first output of SplitMix64 seeded with 0, from its reference code.
  assert int(seeding.hash_ints(0)[0]) == 0xE220A8397B1DCDAF


@given(_INTS, st.lists(_INTS, max_size=4))
def test_arrays_hash_as_python_integers_do(seed, values):
  expected = _mix(((seed & _MASK) + 0x9E3779B97F4A7C15) & _MASK)
  for value in values:
    expected ^= value & _MASK
    expected = _mix((expected + 0x9E3779B97F4A7C15) & _MASK)
  arrays = [np.array([value], np.int64) for value in values]
  assert int(seeding.hash_ints(seed, *arrays)[0]) == expected


def test_small_types_broadcasting_and_order():
  rows = np.arange(5)
  both = seeding.hash_ints(1, rows[:, None], np.arange(3)[None, :])
  assert both.shape == (5, 3)
  assert both.dtype == np.uint64
  one = seeding.hash_ints(1, rows[3:4].astype(np.int8), 2)
  assert one[0] == both[3, 2]
  assert one[0] != seeding.hash_ints(1, 2, rows[3:4])[0]
  with pytest.raises(TypeError, match='float64'):
    seeding.hash_ints(1, np.zeros(2))


def test_choices_are_uniform():
  hashes = seeding.hash_ints(7, np.arange(30_000), 0)
  counts = np.bincount(seeding.choose(hashes, 10), minlength=10)
  # Chi-squared with 9 degrees of freedom: above 33.7 once in 10,000 seeds.
  assert ((counts - 3000) ** 2 / 3000).sum() < 33.7
  again = seeding.choose(seeding.hash_ints(7, np.arange(30_000), 1), 10)
  same = np.mean(again == seeding.choose(hashes, 10))
  assert 0.08 < same < 0.12


def test_orders_are_permutations_and_all_occur():
  orders = seeding.orders(seeding.hash_ints(3, np.arange(6000)), 3)
  assert (np.sort(orders, axis=1) == np.arange(3)).all()
  counts = collections.Counter(map(tuple, orders.tolist()))
  assert len(counts) == 6
  assert all(850 < count < 1150 for count in counts.values())


@given(st.integers(0, 2**64 - 1), st.integers(1, 9), st.integers(0, 9))
def test_a_longer_order_keeps_the_shorter_one(value, short, more):
  hashes = np.array([value], np.uint64)
  longer = seeding.orders(hashes, short + more)[0]
  assert [p for p in longer if p < short] == list(
      seeding.orders(hashes, short)[0]
  )


def test_names_give_the_same_seed_everywhere():
  # `b2sum -l 64` of the name, read as a little-endian number.
  assert seeding.name_seed('rte') == 0x238D3A899B1F9944
  assert seeding.name_seed('rte') != seeding.name_seed('rte:5_shot')
  assert 0 <= seeding.name_seed('') < 2**64
