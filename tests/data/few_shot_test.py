"""Exemplars: drawn without repetition, joined, and cut to what fits."""

from flan_jax import errors
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
  drawn = few_shot.draw(np.zeros(2, np.uint64), 3, 1000)
  assert drawn.tolist() == [[999, 0, 1]] * 2


@given(_HASHES, st.integers(1, 9), st.integers(0, 30), st.integers(1, 10**6))
def test_more_draws_begin_with_the_same(hashes, count, more, size):
  ordered = few_shot.in_order(count, size)
  few = few_shot.draw(hashes, count, size, ordered=ordered)
  many = few_shot.draw(hashes, count + more, size, ordered=ordered)
  np.testing.assert_array_equal(many[:, : few.shape[1]], few)


def test_the_layout():
  layout = few_shot.Layout()
  blocks = [layout.block('1 + 1?', '2'), layout.block('2 + 1?', '3')]
  assert layout.join(blocks, '3 + 1?') == '1 + 1?\n2\n\n2 + 1?\n3\n\n3 + 1?'
  assert layout.join([], '3 + 1?') == '3 + 1?'
  other = few_shot.Layout(between=' ## ', answer=' = ')
  assert other.join([other.block('1', 'a')], '2') == '1 = a ## 2'


@pytest.mark.parametrize(
    'values, message',
    [
        ({'between': 3}, 'between is 3; it must be a text'),
        ({'answer': None}, 'answer is None; it must be a text'),
        ({'mixed': 'yes'}, "mixed is 'yes'; it must be True or False"),
    ],
)
def test_a_layout_of_the_wrong_types_is_a_users_mistake(values, message):
  with pytest.raises(errors.UserError, match=message):
    few_shot.Layout(**values)


@given(
    st.lists(
        st.tuples(st.integers(1, 9), st.integers(0, 8), st.integers(-2, 12))
    )
)
def test_as_many_as_fit(prompts):
  """The numbers are: exemplars, how many fit, and the guess."""
  numbers = [number for number, _, _ in prompts]
  true = [min(fitting, number - 1) for number, fitting, _ in prompts]
  asked = []

  def fits(pairs):
    assert len({place for place, _ in pairs}) == len(pairs)
    asked.extend(pairs)
    return [number <= true[place] for place, number in pairs]

  guesses = [guess for _, _, guess in prompts]
  assert few_shot.fit(numbers, guesses, fits) == true
  assert len(set(asked)) == len(asked)
  # A right guess is confirmed at once, from both sides.
  for place, guess in enumerate(guesses):
    if guess == true[place]:
      assert sum(other == place for other, _ in asked) <= 2
