"""Greedy decoding against T5X's own decodes and against no cache at all."""

from flan_jax.inference import decoding
from flan_jax.models import config
from flan_jax.models import interface
import jax
import jax.numpy as jnp
import numpy as np
import pytest

_GOLDEN = config.EncoderDecoderConfig(
    vocab_size=128,
    emb_dim=32,
    num_heads=4,
    num_encoder_layers=2,
    num_decoder_layers=2,
    head_dim=8,
    mlp_dim=64,
)


@pytest.fixture(scope='module')
def golden(shared):
  return shared / 'golden' / 't5x'


def _load(path):
  with np.load(path) as arrays:
    return dict(arrays)


def _decode(model, params, tokens, max_length, active=None, lengths=None, **kw):
  """Greedy decoding; returns tokens [B, T] and scores [B]."""
  active = jnp.ones(len(tokens), bool) if active is None else active
  target = decoding.Target(max_length=max_length, **kw)

  @jax.jit
  def decode(params, tokens, active):
    context = model.encode(params, tokens)
    method = decoding.Single(target, active)
    return decoding.decode(model, params, context, method, lengths)

  found = jax.device_get(decode(params, jnp.asarray(tokens), active))
  return found._replace(tokens=found.tokens[:, 0], scores=found.scores[:, 0])


@pytest.mark.parametrize('state', ['trained', 'init'])
def test_t5x_greedy(golden, state):
  """Equal tokens; the trained model's scores as those of T5X's one beam."""
  model = interface.create(_GOLDEN)
  name = {'trained': 'decode', 'init': 'init'}[state]
  params = model.stack(_load(golden / f'encdec_params_{name}.npz'))
  batch = _load(golden / 'encdec_batch_unpacked.npz')
  expected = _load(golden / f'encdec_decode_{state}.npz')
  with jax.default_matmul_precision('highest'):
    found = _decode(model, params, batch['encoder_input_tokens'], 16)
  np.testing.assert_array_equal(found.tokens, expected['greedy_tokens'])
  if state == 'trained':
    # T5X's greedy scores are all 0; its beam of one found the same tokens, and
    # divided by ((5 + length) / 6) ** 0.6.
    np.testing.assert_array_equal(found.tokens, expected['beam1_tokens'])
    lengths = (expected['beam1_tokens'] != 0).sum(axis=1)
    sums = expected['beam1_scores'] * ((5 + lengths) / 6) ** 0.6
    np.testing.assert_allclose(found.scores, sums, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('direction', ['causal', 'prefix'])
@pytest.mark.parametrize('state', ['trained', 'init'])
def test_t5x_greedy_of_one_side(golden, state, direction):
  model = interface.create(
      config.DecoderConfig(
          vocab_size=128,
          emb_dim=32,
          num_heads=4,
          head_dim=8,
          mlp_dim=64,
          num_layers=2,
          logits_via_embedding=True,
          prefix_lm=direction == 'prefix',
          prefill_chunk=5,
      )
  )
  name = {'trained': 'decode', 'init': 'init'}[state]
  params = model.stack(_load(golden / f'deconly_params_{name}.npz'))
  batch = _load(golden / 'deconly_batch_unpacked.npz')
  forward = _load(golden / f'deconly_forward_unpacked_{direction}.npz')
  expected = forward[f'greedy_tokens_{state}']
  # Inputs are where attention may go both ways, but for the target's first.
  lengths = batch['decoder_causal_attention'].sum(axis=1) - 1
  tokens = np.zeros((len(lengths), lengths.max()), np.int32)
  for row, length in enumerate(lengths):
    tokens[row, :length] = batch['decoder_target_tokens'][row, :length]
  with jax.default_matmul_precision('highest'):
    found = _decode(model, params, tokens, expected.shape[1])
  # T5X's limit is the row's, so it wrote less after longer inputs.
  room = expected.shape[1] - lengths
  written = np.arange(expected.shape[1]) < room[:, None]
  np.testing.assert_array_equal(np.where(written, found.tokens, 0), expected)


@pytest.fixture(scope='module')
def small():
  """A model and parameters whose logits differ by more than rounding."""
  model = interface.create(
      config.EncoderDecoderConfig(
          vocab_size=64,
          emb_dim=16,
          num_heads=2,
          num_encoder_layers=2,
          num_decoder_layers=2,
          head_dim=8,
          mlp_dim=32,
      )
  )
  params = jax.jit(model.init)(jax.random.key(3))
  return model, jax.tree.map(lambda x: 4.0 * x if x.ndim > 1 else x, params)


def _batch(tokens_BxS, written_BxT):
  """A teacher-forced batch; `written` starts with 0 and has no padding."""
  return {
      'encoder_input_tokens': tokens_BxS,
      'decoder_input_tokens': written_BxT,
      'decoder_segment_ids': np.ones_like(written_BxT),
  }


def test_equals_running_the_whole_decoder_at_each_step(small):
  model, params = small
  rng = np.random.default_rng(0)
  tokens = rng.integers(2, 64, (6, 9)).astype(np.int32)
  tokens[2, 5:] = 0
  tokens[4, 1:] = 0
  length = 12
  eos = 7

  logits_of = jax.jit(model.logits)
  written = np.zeros((6, length + 1), np.int32)
  done = np.zeros(6, bool)
  scores = np.zeros(6)
  for step in range(length):
    logits = np.asarray(
        logits_of(params, _batch(tokens, written[:, :length])), np.float64
    )[:, step]
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    best = log_probs.argmax(-1)
    scores += np.where(done, 0.0, log_probs.max(-1))
    written[:, step + 1] = np.where(done, 0, best)
    done |= best == eos

  found = _decode(model, params, tokens, length, eos_id=eos)
  np.testing.assert_array_equal(found.tokens, written[:, 1:])
  np.testing.assert_allclose(found.scores, scores, rtol=1e-4, atol=1e-4)


def test_padded_rows_and_padded_inputs_change_nothing(small):
  model, params = small
  rng = np.random.default_rng(1)
  tokens = rng.integers(2, 64, (3, 7)).astype(np.int32)
  alone = _decode(model, params, tokens, 8)
  padded = np.zeros((5, 16), np.int32)
  padded[:3, :7] = tokens
  active = np.arange(5) < 3
  found = _decode(model, params, padded, 8, active)
  np.testing.assert_array_equal(found.tokens[:3], alone.tokens)
  np.testing.assert_allclose(found.scores[:3], alone.scores, rtol=1e-5)
  assert not found.tokens[3:].any()
  assert not found.scores[3:].any()


class _Scripted:
  """A model that writes given tokens, and counts its steps."""

  def __init__(self, script_BxT, vocab_size):
    self.script = jnp.asarray(script_BxT)
    self.vocab_size = vocab_size
    self.steps_done = 0
    self.places = set()

  def steps(self, params, context):
    del params
    return context

  def init_cache(self, batch, max_length, beams):
    empty = jnp.zeros((batch, 1, 1, max_length * beams))
    return interface.Cache((empty,), (empty,), jnp.zeros((), jnp.int32))

  def start(self, steps, cache):
    return self.decode_step(steps, cache, None)

  def decode_step(self, steps, cache, tokens_BxK, seen=None):
    del steps, tokens_BxK, seen
    self.places.add(cache.places)
    jax.debug.callback(self._count)
    wanted = jax.lax.dynamic_index_in_dim(
        self.script, cache.position, axis=1, keepdims=False
    )
    logits = 5.0 * jax.nn.one_hot(wanted, self.vocab_size)
    return logits[:, None], cache._replace(position=cache.position + 1)

  def _count(self):
    self.steps_done += 1


def _greedy_scripted(model, active, lengths=None, **kwargs):
  context = interface.Context(None, None, jnp.ones((len(active), 1)), None)

  @jax.jit
  def decode(active):
    method = decoding.Single(decoding.Target(**kwargs), active)
    return decoding.decode(model, None, context, method, lengths)

  found = jax.device_get(decode(jnp.asarray(active)))
  jax.effects_barrier()
  return found._replace(tokens=found.tokens[:, 0], scores=found.scores[:, 0])


def test_stops_when_the_last_real_row_has_ended():
  script = [[4, 1, 9, 9, 9, 9], [4, 5, 1, 9, 9, 9], [9, 9, 9, 9, 9, 9]]
  model = _Scripted(script, 10)
  found = _greedy_scripted(model, [True, True, False], max_length=6)
  np.testing.assert_array_equal(
      found.tokens, [[4, 1, 0, 0, 0, 0], [4, 5, 1, 0, 0, 0], [0] * 6]
  )
  assert model.steps_done == 3
  # Each token has logit 5 among nine zeros.
  one = 5.0 - np.log(np.exp(5.0) + 9.0)
  np.testing.assert_allclose(found.scores, [2 * one, 3 * one, 0], atol=1e-5)


def test_without_an_end_it_stops_at_the_length():
  model = _Scripted([[4, 5, 6, 7]], 10)
  found = _greedy_scripted(model, [True], max_length=3)
  np.testing.assert_array_equal(found.tokens, [[4, 5, 6]])
  assert model.steps_done == 3


def test_ids_beyond_the_tokenizer_are_never_written():
  model = _Scripted([[8, 1]], 10)
  free = _greedy_scripted(model, [True], max_length=2)
  held = _greedy_scripted(model, [True], max_length=2, choices=8)
  np.testing.assert_array_equal(free.tokens, [[8, 1]])
  np.testing.assert_array_equal(held.tokens, [[0, 1]])
  # The probability is still one over the model's whole vocabulary.
  first = -np.log(np.exp(5.0) + 9.0)
  second = 5.0 - np.log(np.exp(5.0) + 9.0)
  np.testing.assert_allclose(held.scores, [first + second], atol=1e-5)


@pytest.mark.parametrize('lengths', [(2, 3, 8), (1, 8), (8,)])
def test_caches_grow_and_nothing_else_changes(lengths):
  script = [[4, 5, 6, 7, 8, 4, 5, 6], [5, 5, 5, 5, 5, 5, 1, 9]]
  model = _Scripted(script, 10)
  found = _greedy_scripted(model, [True, True], lengths, max_length=8)
  np.testing.assert_array_equal(
      found.tokens, [script[0], [5, 5, 5, 5, 5, 5, 1, 0]]
  )
  np.testing.assert_array_equal(found.finished[:, 0], [False, True])
  assert model.places == set(lengths)
  assert model.steps_done == 8


def test_a_grown_cache_decodes_as_a_whole_one(small):
  model, params = small
  tokens = np.random.default_rng(2).integers(2, 64, (4, 9)).astype(np.int32)
  whole = _decode(model, params, tokens, 12, lengths=(12,), eos_id=-1)
  grown = _decode(model, params, tokens, 12, lengths=(1, 4, 5, 12), eos_id=-1)
  np.testing.assert_array_equal(grown.tokens, whole.tokens)
  np.testing.assert_allclose(grown.scores, whole.scores, rtol=1e-5)


def test_cache_lengths_end_with_the_longest():
  assert decoding.cache_lengths(5) == (5,)
  assert decoding.cache_lengths(64) == (64,)
  assert decoding.cache_lengths(65) == (64, 65)
  assert decoding.cache_lengths(1024) == (64, 256, 1024)
