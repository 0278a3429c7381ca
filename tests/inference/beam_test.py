"""Beam search against T5X's and against a search in plain Python."""

from flan_jax.inference import beam
from flan_jax.inference import decoding
from flan_jax.models import config as config_lib
from flan_jax.models import interface
import jax
import jax.numpy as jnp
import numpy as np
import pytest

_SIZES = {
    'vocab_size': 128,
    'emb_dim': 32,
    'num_heads': 4,
    'head_dim': 8,
    'mlp_dim': 64,
}
_TWO_SIDES = config_lib.EncoderDecoderConfig(
    num_encoder_layers=2, num_decoder_layers=2, **_SIZES
)


@pytest.fixture(autouse=True)
def _precise(precise):
  """T5X's numbers were made so."""


def _search(model, params, tokens, beams, alpha, active=None, **target):
  lengths = target.pop('lengths', None)

  @jax.jit
  def search(params, tokens):
    rows = len(tokens)
    active_B = (
        jnp.ones(rows, bool) if active is None else jnp.array(active, bool)
    )
    method = beam.BeamSearch(
        decoding.Target(**target), active_B, beams, jnp.full(rows, alpha)
    )
    context = model.encode(params, tokens)
    return decoding.decode(model, params, context, method, lengths)

  return jax.device_get(search(params, jnp.asarray(tokens)))


def _as_t5x(found, alpha, length):
  """Turns our answers into what T5X gives for the same search.

  There the worst comes first. Where nothing has ended, log-probabilities are
  not divided; where some have, the others are blank.
  """
  tokens, scores = found.tokens.copy(), found.scores.copy()
  some = found.finished.any(axis=1)
  scores[~some] *= ((5 + length) / 6) ** alpha
  blank = some[:, None] & ~found.finished
  scores[blank] = -1e7
  tokens[blank] = 0
  return tokens[:, ::-1], scores[:, ::-1]


@pytest.mark.parametrize('state', ['init', 'trained'])
@pytest.mark.parametrize('beams', [1, 4])
def test_t5x(golden, state, beams):
  model = interface.create(_TWO_SIDES)
  name = {'trained': 'decode', 'init': 'init'}[state]
  params = model.stack(golden(f'encdec_params_{name}'))
  inputs = golden('encdec_batch_unpacked')['encoder_input_tokens']
  expected = golden(f'encdec_decode_{state}')

  found = _search(model, params, inputs, beams, 0.6, max_length=16)

  tokens, scores = _as_t5x(found, 0.6, 16)
  if beams == 1:
    tokens, scores = tokens[:, 0], scores[:, 0]
  np.testing.assert_array_equal(tokens, expected[f'beam{beams}_tokens'])
  np.testing.assert_allclose(scores, expected[f'beam{beams}_scores'], rtol=1e-4)


@pytest.fixture(
    scope='module', params=['two sides', 'one side', 'one side, prefix']
)
def small(request):
  sizes = _SIZES | {'vocab_size': 24, 'emb_dim': 16}
  if request.param == 'two sides':
    config = config_lib.EncoderDecoderConfig(
        num_encoder_layers=2, num_decoder_layers=2, **sizes
    )
  else:
    config = config_lib.DecoderConfig(
        num_layers=2, prefix_lm='prefix' in request.param, **sizes
    )
  model = interface.create(config)
  params = jax.jit(model.init)(jax.random.key(1))
  return model, jax.tree.map(lambda x: 2.0 * x if x.ndim > 1 else x, params)


def _inputs():
  tokens = np.random.default_rng(0).integers(2, 24, (3, 7)).astype(np.int32)
  tokens[1, 4:] = 0
  return tokens


@pytest.fixture(scope='module')
def scored(small):
  """Log p [24, 8] of 24 targets after inputs; no cache."""
  model, _ = small
  return jax.jit(lambda p, t, b: model.score(p, model.encode(p, t), b))


def _log_probs(scored, params, tokens_S, written):
  """Returns log p of what may follow `written`, by `score`: no cache."""
  size = 24
  targets = np.zeros((size, 8), np.int32)
  targets[:, : len(written)] = written
  targets[:, len(written)] = np.arange(size)
  inputs = np.pad(targets[:, :-1], ((0, 0), (1, 0)))
  inputs[:, len(written) + 1 :] = 0
  batch = {
      'decoder_input_tokens': inputs,
      'decoder_target_tokens': targets,
      'decoder_segment_ids': np.broadcast_to(
          (np.arange(8) <= len(written)).astype(np.int32), targets.shape
      ),
  }
  rows = np.repeat(tokens_S[None], size, axis=0)
  return np.asarray(scored(params, rows, batch), np.float64)[:, len(written)]


def _plain(log_probs, beams, alpha, length, eos):
  """Beam search over lists, to the very end."""
  live, ended = [(0.0, [])], []
  for step in range(length):
    every = [
        (score + gain, [*ids, token])
        for score, ids in live
        for token, gain in enumerate(log_probs(ids))
    ]
    best = sorted(every, key=lambda pair: -pair[0])[: 2 * beams]
    penalty = ((6 + step) / 6) ** alpha
    ended += [(s / penalty, ids) for s, ids in best if ids[-1] == eos]
    ended = sorted(ended, key=lambda pair: -pair[0])[:beams]
    live = [pair for pair in best if pair[1][-1] != eos][:beams]
  longest = ((5 + length) / 6) ** alpha
  return (ended + [(s / longest, ids) for s, ids in live])[:beams]


@pytest.mark.parametrize('alpha', [0.0, 1.0])
def test_equals_a_search_without_cache(small, scored, alpha):
  model, params = small
  inputs = _inputs()
  # The middle of what the model likes, so that some rows end and some do not.
  found = _search(
      model, params, inputs, 3, alpha, max_length=5, eos_id=9, lengths=(2, 5)
  )
  for row, tokens_S in enumerate(inputs):
    known = {}

    def log_probs(ids, tokens_S=tokens_S, known=known):
      if tuple(ids) not in known:
        known[tuple(ids)] = _log_probs(scored, params, tokens_S, ids)
      return known[tuple(ids)]

    expected = _plain(log_probs, 3, alpha, 5, 9)
    for k, (score, ids) in enumerate(expected):
      assert found.tokens[row, k].tolist() == ids + [0] * (5 - len(ids))
      np.testing.assert_allclose(found.scores[row, k], score, rtol=1e-4)
      assert found.finished[row, k] == (ids[-1] == 9)


def test_a_row_is_the_same_beside_others_and_beside_padding(small):
  model, params = small
  inputs = _inputs()
  together = _search(model, params, inputs, 3, 0.6, max_length=5, eos_id=9)
  padded = np.zeros((4, 9), np.int32)
  padded[1, :4] = inputs[1, :4]
  alone = _search(
      model, params, padded, 3, 0.6, [0, 1, 0, 0], max_length=5, eos_id=9
  )
  np.testing.assert_array_equal(alone.tokens[1], together.tokens[1])
  np.testing.assert_allclose(alone.scores[1], together.scores[1], rtol=1e-4)
  assert not alone.tokens[[0, 2, 3]].any()
  assert not alone.finished[[0, 2, 3]].any()


def test_ids_beyond_the_tokenizer_are_never_written(small):
  model, params = small
  found = _search(
      model, params, _inputs(), 3, 0.6, max_length=5, eos_id=-1, choices=8
  )
  assert found.tokens.max() < 8
