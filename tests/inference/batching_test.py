"""Batches: every example once, few shapes, nothing too short."""

from flan_jax import vocabularies
from flan_jax.inference import batching
from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest


@pytest.mark.parametrize(
    'longest, steps',
    [
        (5, (5,)),
        (16, (16,)),
        (17, (16, 17)),
        (128, (16, 32, 64, 128)),
        (192, (16, 32, 64, 128, 192)),
        (200, (16, 32, 64, 128, 192, 200)),
        (1024, (16, 32, 64, 128, 192, 256, 384, 512, 768, 1024)),
    ],
)
def test_ladder(longest, steps):
  assert batching.ladder(longest) == steps


@given(
    st.lists(st.tuples(st.integers(1, 300), st.integers(1, 70))),
    st.integers(1, 9),
)
def test_plan_holds_every_example_once_and_fits(lengths, batch_size):
  batches = batching.plan(lengths, (300, 70), batch_size)
  placed = [i for batch in batches for i in batch.indices]
  assert sorted(placed) == list(range(len(lengths)))
  assert all(len(batch.indices) == batch_size for batch in batches[:-1])
  for batch in batches:
    needed = np.asarray([lengths[i] for i in batch.indices]).max(axis=0)
    assert (np.asarray(batch.shape) >= needed).all()
    # The next shorter rung would not do.
    for side, longest, need in zip(batch.shape, (300, 70), needed, strict=True):
      shorter = [step for step in batching.ladder(longest) if step < side]
      assert not shorter or shorter[-1] < need


@given(st.lists(st.integers(1, 1024)), st.integers(1, 9))
def test_plan_opens_at_most_one_shape_a_rung(lengths, batch_size):
  batches = batching.plan([(n,) for n in lengths], (1024,), batch_size)
  shapes = [batch.shape for batch in batches]
  assert len(set(shapes)) <= len(batching.ladder(1024))
  assert shapes == sorted(shapes, reverse=True), 'the longest come first'


def test_equal_shapes_keep_their_order():
  batches = batching.plan([(3,), (40,), (4,), (5,)], (64,), 2)
  assert [batch.indices for batch in batches] == [(1, 0), (2, 3)]


def test_tokens_are_cut_with_eos_kept():
  vocabulary = vocabularies.ByteVocabulary()
  tokens, cut = batching.tokens_of(vocabulary, ['abcd', 'abc', 'ab', ''], 4)
  a, b, c = vocabulary.encode('abc')
  assert tokens == [[a, b, c, 1], [a, b, c, 1], [a, b, 1], [1]]
  assert cut == 1


def test_pad():
  np.testing.assert_array_equal(
      batching.pad([[7, 1], [8, 9, 1]], 3, 4),
      [[7, 1, 0, 0], [8, 9, 1, 0], [0, 0, 0, 0]],
  )
