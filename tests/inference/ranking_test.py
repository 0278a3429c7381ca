"""Packing options: where they lie, and that sums find their way back."""

from flan_jax.inference import ranking
from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest


def test_place_puts_each_option_where_it_first_fits():
  assert ranking.place([5, 4, 3, 2, 6], 8) == [[0, 2], [1, 3], [4]]
  assert ranking.width([5, 4, 3, 2, 6], 8) == 24
  assert ranking.width([5, 3], 8) == 8
  assert ranking.width([2, 3], 8) == 5


def test_pack_lays_out_segments():
  packed = ranking.pack([[[7, 8, 1], [9, 1]], [[4, 1]]], 3, 8, 6)
  row = packed.row
  np.testing.assert_array_equal(
      row['decoder_target_tokens'],
      [[7, 8, 1, 9, 1, 0], [4, 1, 0, 0, 0, 0], [0] * 6],
  )
  np.testing.assert_array_equal(
      row['decoder_input_tokens'],
      [[0, 7, 8, 0, 9, 0], [0, 4, 0, 0, 0, 0], [0] * 6],
  )
  np.testing.assert_array_equal(
      row['decoder_segment_ids'],
      [[1, 1, 1, 2, 2, 0], [1, 1, 0, 0, 0, 0], [0] * 6],
  )
  np.testing.assert_array_equal(
      row['decoder_positions'],
      [[0, 1, 2, 0, 1, 0], [0, 1, 0, 0, 0, 0], [0] * 6],
  )
  assert packed.segments == [[1, 2], [1]]


_OPTIONS = st.lists(
    st.lists(st.integers(2, 99), min_size=0, max_size=6).map(lambda x: [*x, 1]),
    min_size=1,
    max_size=8,
)


@given(st.lists(_OPTIONS, min_size=1, max_size=5), st.integers(7, 20))
def test_every_option_gets_the_sum_of_its_own_tokens(options, row_length):
  """Scores are a function of the token, so the right sums are known."""
  widths = [ranking.width([len(o) for o in own], row_length) for own in options]
  rungs = ranking.rungs(row_length, max(widths))
  length = min(rung for rung in rungs if rung >= max(widths))
  packed = ranking.pack(options, len(options) + 1, row_length, length)
  row = packed.row
  log_probs = -np.sqrt(row['decoder_target_tokens'] + row['decoder_positions'])
  found = ranking.option_scores(packed, log_probs)
  for own, scores in zip(options, found, strict=True):
    expected = [
        -sum((token + place) ** 0.5 for place, token in enumerate(option))
        for option in own
    ]
    np.testing.assert_allclose(scores, expected, rtol=1e-12)


def test_the_best_is_a_number_and_the_first_of_equals():
  nan, inf = float('nan'), float('inf')
  assert ranking.best([-3.0, -1.0, -1.0]) == 1
  assert ranking.best([nan, -5.0, nan]) == 1
  assert ranking.best([inf, -5.0]) == 1
  assert ranking.best([nan, -inf]) is None


def test_an_option_longer_than_a_row_is_a_mistake():
  with pytest.raises(ValueError):
    ranking.pack([[[2, 3, 4, 1]]], 1, 4, 3)
