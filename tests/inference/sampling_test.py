"""Drawing tokens, against distributions computed by sorting."""

from flan_jax.inference import sampling
from flan_jax.inference import settings
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special
from scipy import stats


def _draws(rows, **kwargs):
  decoding = settings.Decoding(method='sample', **kwargs)
  return sampling.draws_of([decoding] * rows, [f'row {i}' for i in range(rows)])


def _kept(logits, temperature, top_k, top_p):
  """Returns the probabilities that are drawn from, by sorting."""
  probabilities = special.softmax(np.asarray(logits, np.float64) / temperature)
  order = np.argsort(-probabilities, kind='stable')
  if top_k:
    probabilities[order[top_k:]] = 0
    probabilities /= probabilities.sum()
  before = np.cumsum(probabilities[order]) - probabilities[order]
  probabilities[order[before >= top_p]] = 0
  return probabilities / probabilities.sum()


@pytest.mark.parametrize(
    ('temperature', 'top_k', 'top_p'),
    [(1.0, 0, 1.0), (0.5, 0, 1.0), (2.0, 5, 1.0), (1.0, 0, 0.7), (1.5, 6, 0.8)],
)
def test_frequencies(temperature, top_k, top_p):
  logits = np.random.default_rng(0).normal(size=12).astype(np.float32)
  expected = _kept(logits, temperature, top_k, top_p)
  rows = 4000
  draws = _draws(rows, temperature=temperature, top_k=top_k, top_p=top_p)
  found = np.asarray(
      jax.jit(sampling.draw)(np.tile(logits, (rows, 1)), draws, 3)
  )
  counts = np.bincount(found, minlength=12)
  assert not counts[expected == 0].any()
  possible = expected > 0
  test = stats.chisquare(counts[possible], rows * expected[possible])
  assert test.pvalue > 0.01


@hypothesis_settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    top_k=st.integers(0, 40),
    top_p=st.floats(0.01, 1.0),
)
def test_bounds_are_those_of_sorting(seed, top_k, top_p):
  rng = np.random.default_rng(seed)
  logits = rng.normal(scale=rng.choice([0.01, 1, 30]), size=(2, 32))
  logits = logits.astype(np.float32)
  logits[1, rng.integers(32)] = -np.inf
  kept = sampling._top_k(jnp.asarray(logits), jnp.full(2, top_k))
  kept = np.asarray(sampling._top_p(kept, jnp.full(2, top_p, jnp.float32)))
  for row in range(2):
    expected = _kept(logits[row], 1.0, top_k, np.float32(top_p))
    # One at the very edge may fall to either side by rounding.
    different = (kept[row] > -np.inf) != (expected > 0)
    mass = special.softmax(np.asarray(logits[row], np.float64))
    assert mass[different].sum() < 1e-5
    np.testing.assert_array_equal(
        kept[row][kept[row] > -np.inf], logits[row][kept[row] > -np.inf]
    )


def test_rows_have_settings_of_their_own():
  logits = np.tile(np.array([0.0, 3.0, 2.9, -1.0], np.float32), (300, 1))
  one = [
      settings.Decoding(method='sample', temperature=0.0),
      settings.Decoding(method='sample', top_k=2),
      settings.Decoding(method='sample', temperature=50.0),
  ]
  draws = sampling.draws_of(one * 100, [str(i) for i in range(300)])
  found = np.asarray(sampling.draw(logits, draws, 0)).reshape(100, 3)
  assert set(found[:, 0]) == {1}
  assert set(found[:, 1]) == {1, 2}
  assert set(found[:, 2]) == {0, 1, 2, 3}


def test_a_rows_numbers_depend_on_its_key_seed_and_place_alone():
  logits = np.zeros((8, 1000), np.float32)
  draw = jax.jit(sampling.draw)
  draws = _draws(8)
  found = np.asarray(draw(logits, draws, 5))
  assert len(set(found)) > 6
  order = np.array([3, 1, 7])
  some = sampling.Draws(*(x[order] for x in draws))
  np.testing.assert_array_equal(draw(logits[:3], some, 5), found[order])
  assert (np.asarray(draw(logits, draws, 6)) != found).sum() > 6
  assert (np.asarray(draw(logits, _draws(8, seed=1), 5)) != found).sum() > 6
  # On any machine, and from one version to the next.
  assert found[:4].tolist() == [921, 11, 561, 795]


@pytest.mark.parametrize('size', [1, 5, 128])
def test_first_best_is_argmax(size):
  rng = np.random.default_rng(size)
  scores = rng.integers(0, 4, (50, size)).astype(np.float32)
  scores[0] = -np.inf
  np.testing.assert_array_equal(
      sampling.first_best(jnp.asarray(scores)), scores.argmax(axis=1)
  )


def test_first_best_of_nan_is_a_token():
  found = sampling.first_best(jnp.asarray([[0.0, np.nan, 1.0]]))
  assert 0 <= int(found[0]) < 3


@pytest.mark.parametrize('size', [1, 127, 128, 300, 1000])
def test_likeliest_is_argmax_of_log_softmax(size):
  rng = np.random.default_rng(size)
  logits = rng.integers(-4, 4, (40, size)).astype(np.float32)
  for choices in {1, size // 2 or 1, max(size - 5, 1), size}:
    found, scores = sampling.likeliest(jnp.asarray(logits), choices)
    expected = logits[:, :choices].argmax(axis=1)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(
        scores,
        special.log_softmax(logits, axis=1)[np.arange(40), expected],
        atol=1e-5,
    )


def test_likeliest_is_not_thrown_off_by_what_may_not_be_chosen():
  """What is far above all that may be chosen neither wins nor overflows."""
  logits = np.zeros((1, 200), np.float32)
  logits[0, 3], logits[0, 199] = 1.0, 300.0
  found, scores = sampling.likeliest(jnp.asarray(logits), 199)
  assert (int(found[0]), float(scores[0])) == (3, -299.0)


@pytest.mark.parametrize('place', [1, 199])
def test_likeliest_of_nan_is_a_token_with_a_score_of_nan(place):
  logits = np.zeros((1, 200), np.float32)
  logits[0, place] = np.nan
  found, scores = sampling.likeliest(jnp.asarray(logits), 190)
  assert 0 <= int(found[0]) < 190
  assert np.isnan(scores[0])
