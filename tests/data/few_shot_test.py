"""Exemplars: drawn without repetition, joined, and cut to what fits."""

from flan_jax.data import few_shot
from flan_jax.data import seeding
from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

_HASHES = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20).map(
    lambda values: np.array(values, np.uint64)
)


@given(_HASHES, st.integers(1, 17), st.integers(1, 200))
def test_draws_are_distinct_and_in_range(hashes, count, size):
  drawn = few_shot.draw(hashes, count, size)
  assert drawn.shape == (len(hashes), min(count, size))
  assert ((drawn >= 0) & (drawn < size)).all()
  for row in drawn.tolist():
    assert len(set(row)) == len(row)


@given(_HASHES, st.integers(1, 17), st.integers(1, 10**9))
def test_a_draw_depends_on_its_hash_alone(hashes, count, size):
  together = few_shot.draw(hashes, count, size)
  alone = [
      few_shot.draw(hashes[i : i + 1], count, size) for i in range(len(hashes))
  ]
  np.testing.assert_array_equal(together, np.concatenate(alone))


@pytest.mark.parametrize('size', [7, 65, 100_000])
def test_every_row_is_as_likely(size):
  hashes = seeding.hash_ints(1, np.arange(7000))
  drawn = few_shot.draw(hashes, 5, size)
  # Sevenths of the rows: 5,000 draws expected in each.
  counts = np.bincount(drawn.reshape(-1) * 7 // size, minlength=7)
  sizes = np.bincount(np.arange(size) * 7 // size)
  expected = 35_000 * sizes / size
  assert (np.abs(counts - expected) < 5 * np.sqrt(expected)).all()


def test_draws_go_on_when_too_few_are_distinct(monkeypatch):
  # As if the hashes fell on one row again and again.
  monkeypatch.setattr(
      seeding, 'choose', lambda hashes, n: np.full(hashes.shape, n - 1)
  )
  drawn = few_shot.draw(np.zeros(2, np.uint64), 3, 100)
  assert drawn.tolist() == [[99, 0, 1]] * 2


def test_the_layout():
  blocks = [few_shot.block('1 + 1?', '2'), few_shot.block('2 + 1?', '3')]
  assert few_shot.join(blocks, '3 + 1?') == '1 + 1?\n2\n\n2 + 1?\n3\n\n3 + 1?'
  assert few_shot.join([], '3 + 1?') == '3 + 1?'


def _words(text):
  return len(text.split())


def _merging(text):
  """Tokens that depend on what stands beside: a line break may cost one."""
  return len(text.split()) + text.count('\n') // 3


@pytest.mark.parametrize('count_tokens', [_words, _merging, len])
@given(
    st.lists(st.text('ab \n', max_size=12), max_size=8),
    st.text('ab \n', max_size=12),
    st.integers(1, 60),
)
def test_as_many_as_fit(count_tokens, blocks, query, max_inputs):
  text = few_shot.fit(blocks, query, count_tokens, max_inputs)
  prompts = [few_shot.join(blocks[:n], query) for n in range(len(blocks) + 1)]
  kept = prompts.index(text)
  fits = [count_tokens(prompt) < max_inputs for prompt in prompts]
  # These counts grow with every exemplar, so the longest that fits is meant;
  # the query stays even if it does not fit.
  assert kept == max((n for n, fit in enumerate(fits) if fit), default=0)


def test_most_prompts_are_counted_once():
  counted = []

  def count_tokens(text):
    counted.append(text)
    return len(text.split())

  few_shot.fit(['a b', 'c d'], 'e', count_tokens, 6)
  assert counted == ['a b\n\nc d\n\ne']
