"""The generator: the same answers in any batch, order and number of devices."""

import dataclasses

from flan_jax import errors
from flan_jax import partitioning
from flan_jax import vocabularies
from flan_jax.inference import generating
from flan_jax.inference import running
from flan_jax.inference import settings
from flan_jax.models import config
from flan_jax.models import interface
import jax
import numpy as np
import pytest

_VOCABULARY = vocabularies.ByteVocabulary()
_LENGTHS = {'inputs': 16, 'targets': 8}
_SAMPLE = settings.Decoding(method='sample', top_k=60, top_p=0.95, seed=3)
_BEAM = settings.Decoding(method='beam', num_beams=3)
_KEYS = [f'task test:{i}' for i in range(7)]
_SIZES = {
    'vocab_size': 384,
    'emb_dim': 16,
    'num_heads': 2,
    'head_dim': 8,
    'mlp_dim': 32,
}


@pytest.fixture(scope='module', params=['two sides', 'one side'])
def model(request):
  if request.param == 'one side':
    return interface.create(config.DecoderConfig(num_layers=1, **_SIZES))
  return interface.create(
      config.EncoderDecoderConfig(
          num_encoder_layers=1, num_decoder_layers=1, **_SIZES
      )
  )


@pytest.fixture(scope='module')
def params(model):
  init = jax.jit(model.init)(jax.random.key(0))
  # Sharper than at initialisation, so that rounding decides nothing.
  return jax.tree.map(lambda x: 3.0 * x if x.ndim > 1 else x, init)


def _inputs():
  rng = np.random.default_rng(0)
  return [
      [*rng.integers(3, 259, n).tolist(), 1] for n in (5, 15, 1, 9, 9, 14, 3)
  ]


def _generator(model, batch_size, mesh=None):
  mesh = mesh or partitioning.make_mesh(devices=jax.devices()[:1])
  return generating.Generator(
      model,
      _VOCABULARY,
      runner=running.Runner(mesh, batch_size=batch_size),
      lengths=_LENGTHS,
  )


@pytest.fixture(scope='module')
def generator(model):
  return _generator(model, 4)


def _same(found, expected):
  for one, other in zip(found, expected, strict=True):
    assert one.tokens == other.tokens
    np.testing.assert_allclose(one.score, other.score, rtol=1e-3)
    assert len(one.others) == len(other.others)


@pytest.mark.parametrize('decoding', [_SAMPLE, _BEAM], ids=['sample', 'beam'])
def test_batch_size_and_order_change_nothing(
    model, params, generator, decoding
):
  inputs = _inputs()
  together = generator.generate(params, inputs, decoding, _KEYS)
  _same(generator.generate(params, inputs, decoding, _KEYS), together)
  order = [4, 0, 6, 2, 5, 1, 3]
  other = _generator(model, 3)  # Other batches, and compiled anew.
  found = other.generate(
      params, [inputs[i] for i in order], decoding, [_KEYS[i] for i in order]
  )
  _same(found, [together[i] for i in order])
  assert len({tuple(each.tokens) for each in together}) > 4


@pytest.mark.parametrize('decoding', [_SAMPLE, _BEAM], ids=['sample', 'beam'])
def test_eight_devices_write_what_one_does(model, params, generator, decoding):
  mesh = partitioning.make_mesh(
      partitioning.MeshConfig(data=2, fsdp=2, tensor=2)
  )
  sharded = jax.device_put(
      params, partitioning.shardings(mesh, model.logical_axes())
  )
  inputs = _inputs()
  found = _generator(model, 4, mesh).generate(sharded, inputs, decoding, _KEYS)
  _same(found, generator.generate(params, inputs, decoding, _KEYS))


def test_keys_and_seeds_make_the_draws(params, generator):
  inputs = [_inputs()[0]] * 3
  first, second, again = generator.generate(
      params, inputs, _SAMPLE, ['a', 'b', 'a']
  )
  assert first.tokens == again.tokens != second.tokens
  seed = dataclasses.replace(_SAMPLE, seed=4)
  (other,) = generator.generate(params, inputs[:1], seed, ['a'])
  assert other.tokens != first.tokens


def test_each_request_has_its_own_settings_without_compiling(params, generator):
  inputs = [_inputs()[0]] * 4
  likeliest = dataclasses.replace(_SAMPLE, temperature=0.0)
  only = dataclasses.replace(_SAMPLE, temperature=9.0, top_k=1)
  mixed = [_SAMPLE, likeliest, settings.Decoding(), only]
  keys = ['a', 'b', 'c', 'd']
  alone, cold, greedy, one = generator.generate(params, inputs, mixed, keys)
  compiled = set(generator._runner.shapes)
  before = generator._programs.whole._cache_size()
  assert cold.tokens == greedy.tokens == one.tokens
  (expected,) = generator.generate(params, inputs[:1], _SAMPLE, ['a'])
  assert alone.tokens == expected.tokens
  other = settings.Decoding(
      method='sample', temperature=0.3, top_k=7, top_p=0.5
  )
  generator.generate(params, inputs, other, keys)
  assert generator._runner.shapes == compiled
  assert generator._programs.whole._cache_size() == before


def test_a_shorter_answer_where_one_is_asked_for(params, generator):
  (found,) = generator.generate(
      params, _inputs()[:1], settings.Decoding(max_length=2), ['a']
  )
  assert len(found.tokens) <= 2


def test_beams_come_with_the_others_best_first(params, generator):
  for found in generator.generate(params, _inputs(), _BEAM, _KEYS):
    assert len(found.others) == 2
    every = [found, *found.others]
    assert len({tuple(each.tokens) for each in every}) == 3
    # Those with an end stand before those without.
    ended = [each for each in every if each.tokens[-1] == 1]
    rest = [each for each in every if each.tokens[-1] != 1]
    assert every == ended + rest
    for some in (ended, rest):
      scores = [each.score for each in some]
      assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(
    'decoding', [settings.Decoding(), _SAMPLE], ids=['greedy', 'sample']
)
def test_a_stream_is_what_generate_writes(params, generator, decoding):
  inputs = _inputs()
  expected = generator.generate(params, inputs, decoding, _KEYS)
  for ids, key, answer in zip(inputs, _KEYS, expected, strict=True):
    streamed = list(generator.stream(params, ids, decoding, key))
    assert streamed == answer.tokens


def test_a_stream_outgrows_its_first_cache(params, generator, monkeypatch):
  monkeypatch.setattr('flan_jax.inference.decoding._SHORTEST', 3)
  monkeypatch.setattr('flan_jax.inference.decoding._GROWTH', 2)
  decoding = settings.Decoding(max_length=9)
  (expected,) = generator.generate(params, _inputs()[:1], decoding, ['a'])
  streamed = list(generator.stream(params, _inputs()[0], decoding))
  assert streamed == expected.tokens


def test_beams_are_not_streamed(params, generator):
  with pytest.raises(errors.UserError, match='cannot be streamed'):
    list(generator.stream(params, [5, 1], _BEAM))
