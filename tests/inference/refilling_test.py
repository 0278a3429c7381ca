"""Rows that have ended are replaced, and nobody can tell from the answers."""

import collections
import types

from flan_jax import partitioning
from flan_jax.inference import decoding
from flan_jax.inference import generating
from flan_jax.inference import refilling
from flan_jax.inference import running
from flan_jax.inference import settings
from flan_jax.models import config
from flan_jax.models import interface
from hypothesis import given
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

_SIZES = {
    'vocab_size': 48,
    'emb_dim': 16,
    'num_heads': 2,
    'head_dim': 8,
    'mlp_dim': 32,
}
_MODELS = {
    'two sides': config.EncoderDecoderConfig(
        num_encoder_layers=1, num_decoder_layers=1, **_SIZES
    ),
    'one side': config.DecoderConfig(num_layers=1, **_SIZES),
}
_METHODS = {
    'greedy': settings.Decoding(),
    'sample': settings.Decoding(method='sample', top_k=20, seed=3),
}
# More than a cache begins with, so that it has to grow.
_LENGTHS = {'inputs': 16, 'targets': 70}
_EXAMPLES = 23


class _Simulated:
  """Slots whose examples end after given numbers of steps."""

  def __init__(self, count, steps):
    self.steps = steps
    self.slots = [None] * count
    self.left = [0] * count
    self.done = 0

  def refilled(self, slots, some, places, free):
    assert slots is self
    assert len(some) == len(places) <= refilling.refills(len(self.slots))
    for example, place in zip(some, places, strict=True):
      assert self.left[place] == 0, 'at work still'
      self.slots[place], self.left[place] = example, self.steps[example]
    while sum(left == 0 for left in self.left) < free:
      self.left = [max(left - 1, 0) for left in self.left]
      self.done += 1
    ended = np.array([left == 0 for left in self.left])
    said = np.array([-1 if each is None else each for each in self.slots])
    return self, refilling.Found(ended, decoding.Decoded(said, said, said))


@given(st.lists(st.integers(0, 20), max_size=40), st.integers(1, 9))
def test_each_example_is_answered_once(steps, count):
  slots = _Simulated(count, steps)
  waiting = collections.deque(range(len(steps)))
  said = list(refilling.answers(waiting, slots, count, slots.refilled))
  assert sorted(i for i, _ in said) == list(range(len(steps)))
  assert all(i == answer.tokens for i, answer in said)


def test_slots_are_seldom_idle():
  """Steps in all are near the fewest that so many slots need."""
  rng = np.random.default_rng(0)
  steps = rng.integers(1, 65, 1000).tolist()
  slots = _Simulated(16, steps)
  list(
      refilling.answers(
          collections.deque(range(1000)), slots, 16, slots.refilled
      )
  )
  batches = [max(steps[i : i + 16]) for i in range(0, 1000, 16)]
  assert slots.done < 0.7 * sum(batches)
  assert slots.done < 1.2 * sum(steps) / 16


class _Uneven:
  """A model that ends rows after twice as many tokens as their first input."""

  def __init__(self, model):
    self._model = model

  def __getattr__(self, name):
    return getattr(self._model, name)

  def encode(self, params, tokens_BxS):
    context = self._model.encode(params, tokens_BxS)
    return context._replace(logits_BxV=2.0 * tokens_BxS[:, :1])

  def start(self, steps, cache):
    logits_Bx1xV, cache = self._model.start(steps, cache)
    return self._ended(steps, logits_Bx1xV, cache), cache

  def decode_step(self, steps, cache, *more):
    logits_BxKxV, cache = self._model.decode_step(steps, cache, *more)
    return self._ended(steps, logits_BxKxV, cache), cache

  def _ended(self, steps, logits_BxKxV, cache):
    ends_Bx1 = cache.position >= steps.logits_BxV
    return logits_BxKxV.at[..., 1].set(jnp.where(ends_Bx1, 1e4, -1e4))


def _generator(model):
  return generating.Generator(
      model,
      types.SimpleNamespace(size=40, eos_id=1, pad_id=0),
      runner=running.Runner(
          partitioning.make_mesh(devices=jax.devices()[:1]), batch_size=5
      ),
      lengths=_LENGTHS,
  )


@pytest.mark.parametrize(
    'side, method',
    [
        ('two sides', 'greedy'),
        ('two sides', 'sample'),
        ('one side', 'sample'),
    ],
)
def test_answers_are_those_of_whole_batches(side, method):
  model = interface.create(_MODELS[side])
  params = jax.jit(model.init)(jax.random.key(0))
  # Sharper than at initialisation, so that rounding decides nothing.
  params = jax.tree.map(lambda x: 2.0 * x if x.ndim > 1 else x, params)
  rng = np.random.default_rng(0)
  inputs = [
      [*rng.integers(3, 40, n).tolist(), 1] for n in rng.integers(1, 15, 23)
  ]
  keys = [f'task:{i}' for i in range(_EXAMPLES)]
  if method != 'sample':  # These would go on for ever, or end at once.
    model = _Uneven(model)
  asked = _METHODS[method]
  whole, refilled = (_generator(model) for _ in range(2))
  expected = []
  for first in range(0, _EXAMPLES, 10):  # Two batches: nothing waits.
    some = slice(first, first + 10)
    expected += whole.generate(params, inputs[some], asked, keys[some])
  assert set(whole._refills.values()) == {False}

  seen: list[int] = []
  found = refilled.generate(params, inputs, asked, keys, seen.append)

  assert set(refilled._refills.values()) == {True}
  assert sum(seen) == _EXAMPLES
  assert refilled._runner.tokens == whole._runner.tokens
  lengths = {len(each.tokens) for each in expected}
  assert min(lengths) < 20
  assert max(lengths) == 70
  for one, other in zip(found, expected, strict=True):
    assert one.tokens == other.tokens
    np.testing.assert_allclose(one.score, other.score, rtol=1e-4)
  assert len(refilled._runner.shapes) == 1


def test_what_is_settled_says_how_batches_run():
  """By how many there will be, and not by what comes first."""
  generator = _generator(interface.create(_MODELS['two sides']))
  generator.settle([[3, 1]] * 16, settings.Decoding())
  generator.settle([[3, 1]] * 2, settings.Decoding())
  assert set(generator._refills.values()) == {True}


def test_beams_run_in_whole_batches():
  generator = _generator(interface.create(_MODELS['two sides']))
  beams = settings.Decoding(method='beam', num_beams=2)
  generator.settle([[3, 1]] * 99, beams)
  assert set(generator._refills.values()) == {False}


def test_several_devices_run_whole_batches():
  model = interface.create(_MODELS['two sides'])
  runner = running.Runner(partitioning.make_mesh(), batch_size=8)
  vocabulary = types.SimpleNamespace(size=40, eos_id=1, pad_id=0)
  generator = generating.Generator(
      model, vocabulary, runner=runner, lengths=_LENGTHS
  )
  generator.settle([[3, 1]] * 99, settings.Decoding())
  assert set(generator._refills.values()) == {False}


def test_a_lane_that_fails_is_not_lost():
  runner = running.Runner(
      partitioning.make_mesh(devices=jax.devices()[:1]), batch_size=1
  )
  work = iter(range(100))

  def lane():
    for each in work:
      if each == 5:
        raise ValueError('the sixth')
      yield each

  with pytest.raises(ValueError, match='the sixth'):
    list(runner.in_lanes(lane))
