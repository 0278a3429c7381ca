"""What holds for a decoder-only model whatever its parameters."""

import dataclasses

from flan_jax.data import packing
from flan_jax.models import interface
import jax
import jax.numpy as jnp
import numpy as np
import pytest

LIMITS = {'inputs': 20, 'targets': 10}


@pytest.fixture(scope='module', params=[False, True], ids=['causal', 'prefix'])
def decoder(request, decoder_config) -> interface.Model:
  """A small model: causal, and with a prefix."""
  return interface.create(
      dataclasses.replace(
          decoder_config, prefix_lm=request.param, logits_via_embedding=False
      )
  )


@pytest.fixture(scope='module')
def weights(decoder) -> interface.Params:
  """Parameters whose logits differ by far more than rounding."""
  params = jax.jit(decoder.init)(jax.random.key(0))
  return jax.tree.map(lambda x: 2.0 * x if x.ndim > 1 else x, params)


def _ragged(rng, count, most) -> packing.Ragged:
  lengths = rng.integers(1, most, count)
  ids = rng.integers(3, 128, lengths.sum())
  return packing.Ragged(ids.astype(np.int32), lengths)


def _rows(count, pack, seed=0) -> dict[str, np.ndarray]:
  """Returns the same random examples, packed or a row each."""
  rng = np.random.default_rng(seed)
  inputs, targets = _ragged(rng, count, 12), _ragged(rng, count, 6)
  wide = packing.pack(
      inputs, targets, LIMITS, together=pack, form=packing.ONE_SIDE
  )
  return packing.features(wide, LIMITS, packing.ONE_SIDE)


def _places(batch):
  """Yields the row and the places of each example."""
  for row, segments in enumerate(batch['decoder_segment_ids']):
    for segment in range(1, segments.max() + 1):
      yield row, np.flatnonzero(segments == segment)


def test_packed_examples_have_the_logits_that_they_have_alone(decoder, weights):
  together, apart = _rows(11, True), _rows(11, False)
  assert len(together['decoder_input_tokens']) < 8
  logits = jax.jit(decoder.logits)
  packed, alone = logits(weights, together), logits(weights, apart)
  own = {
      tuple(row[row > 0].tolist()): i
      for i, row in enumerate(apart['decoder_target_tokens'])
  }
  found = 0
  for row, places in _places(together):
    example = own[
        tuple(together['decoder_target_tokens'][row, places].tolist())
    ]
    np.testing.assert_allclose(
        packed[row, places], alone[example, : len(places)], atol=1e-4
    )
    found += 1
  assert found == 11
  sums = [jax.jit(decoder.loss)(weights, rows) for rows in (together, apart)]
  assert sums[0].weight == sums[1].weight
  np.testing.assert_allclose(sums[0].loss, sums[1].loss, rtol=1e-5)


def test_a_token_reaches_its_own_example_from_there_on(decoder, weights):
  """Perturbs every place of a packed row in turn."""
  batch = {name: rows[:1] for name, rows in _rows(11, True).items()}
  logits = jax.jit(decoder.logits)
  before = logits(weights, batch)[0]
  segments = batch['decoder_segment_ids'][0]
  prefix = batch['decoder_causal_attention'][0] > 0
  used = np.flatnonzero(segments)
  assert segments.max() > 1
  for place in used:
    tokens = batch['decoder_input_tokens'].copy()
    tokens[0, place] = 2
    after = logits(weights, {**batch, 'decoder_input_tokens': tokens})[0]
    changed = np.abs(after - before).max(axis=-1) > 1e-6
    reached = np.arange(len(segments)) >= place
    if decoder.config.prefix_lm and prefix[place]:
      reached |= prefix
    reached &= segments == segments[place]
    np.testing.assert_array_equal(changed[used], reached[used])


def _read(batch, row):
  """Returns the inputs and the targets of an unpacked row, with their ends."""
  weights = batch['decoder_loss_weights'][row] > 0
  targets = batch['decoder_target_tokens'][row]
  return targets[: np.flatnonzero(weights)[0]], targets[weights]


def test_decoding_after_unequal_inputs_equals_teacher_forcing(decoder, weights):
  batch = _rows(6, False)
  expected = jax.jit(decoder.logits)(weights, batch)
  tokens = np.zeros((6, 17), np.int32)
  sides = [_read(batch, row) for row in range(6)]
  for row, (inputs, _) in enumerate(sides):
    tokens[row, : len(inputs)] = inputs
  assert len({len(inputs) for inputs, _ in sides}) > 3
  step = jax.jit(decoder.decode_step)

  context = jax.jit(decoder.encode)(weights, tokens)
  # Room to spare changes nothing.
  cache = decoder.init_cache(6, 9)
  steps = decoder.steps(weights, context)
  logits, cache = decoder.start(steps, cache)
  for place in range(5):
    for row, (inputs, targets) in enumerate(sides):
      if place < len(targets):
        np.testing.assert_allclose(
            logits[row, 0], expected[row, len(inputs) + place], atol=1e-4
        )
    following = np.array(
        [targets[place] if place < len(targets) else 0 for _, targets in sides],
        np.int32,
    )
    logits, cache = step(steps, cache, following[:, None])
  assert cache.position == 5


@pytest.mark.parametrize('chunk', [1, 4, 5, 17, 18])
def test_reading_in_parts_is_reading_at_once(decoder, weights, chunk):
  tokens = np.random.default_rng(0).integers(2, 128, (5, 17)).astype(np.int32)
  for row, length in enumerate((17, 4, 3, 0, 8)):
    tokens[row, length:] = 0
  in_parts = interface.create(
      dataclasses.replace(decoder.config, prefill_chunk=chunk)
  )
  expected = jax.jit(decoder.encode)(weights, tokens)
  found = jax.jit(in_parts.encode)(weights, tokens)
  np.testing.assert_array_equal(found.mask_BxS, expected.mask_BxS)
  np.testing.assert_allclose(found.logits_BxV, expected.logits_BxV, atol=1e-4)
  seen = np.asarray(expected.mask_BxS)[None, :, None, None]
  for one, other in zip(found[:2], expected[:2], strict=True):
    np.testing.assert_allclose(one * seen, other * seen, atol=1e-4)


def test_memory_of_reading_in_parts(decoder_config):
  """Attention's logits are never the length squared."""
  length, chunk = 1024, 64

  def largest(chunk):
    model = interface.create(
        dataclasses.replace(decoder_config, prefill_chunk=chunk)
    )
    # One row, as a CPU reads rows one by one.
    tokens = jax.ShapeDtypeStruct((1, length - 1), jnp.int32)
    compiled = jax.jit(model.encode).lower(model.abstract_params(), tokens)
    return compiled.compile().memory_analysis().temp_size_in_bytes

  heads = decoder_config.num_heads
  squared = heads * length**2 * 4
  assert largest(0) > squared
  assert largest(chunk) < squared / 4


def test_options_in_one_row_score_as_each_alone(decoder, weights):
  inputs = np.array([[5, 9, 33, 1], [7, 1, 0, 0]], np.int32)
  options = [[(8, 1), (8, 4, 1), (9, 1)], [(8, 4, 4, 1), (6, 1)]]
  names = ('input_tokens', 'target_tokens', 'segment_ids', 'positions')
  batch = {f'decoder_{name}': np.zeros((2, 10), np.int32) for name in names}
  alone = []
  for row, choices in enumerate(options):
    start = 0
    for segment, option in enumerate(choices, start=1):
      place = slice(start, start + len(option))
      batch['decoder_input_tokens'][row, place] = (0, *option[:-1])
      batch['decoder_target_tokens'][row, place] = option
      batch['decoder_segment_ids'][row, place] = segment
      batch['decoder_positions'][row, place] = np.arange(len(option))
      alone.append((row, place, option))
      start = place.stop

  context = jax.jit(decoder.encode)(weights, inputs)
  scores = np.asarray(jax.jit(decoder.score)(weights, context, batch))

  np.testing.assert_array_equal(scores[batch['decoder_segment_ids'] == 0], 0)
  logits = jax.jit(decoder.logits)
  for row, place, option in alone:
    asked = inputs[row][inputs[row] > 0].tolist()
    ids = [*asked, *option]
    whole = {
        'decoder_input_tokens': np.array([[0, *ids[:-1]]], np.int32),
        'decoder_target_tokens': np.array([ids], np.int32),
        'decoder_causal_attention': np.array(
            [np.arange(len(ids)) <= len(asked)], np.int32
        ),
    }
    log_p = jax.nn.log_softmax(logits(weights, whole)[0])[len(asked) :]
    expected = np.asarray(log_p)[np.arange(len(option)), option]
    np.testing.assert_allclose(scores[row, place], expected, atol=1e-4)


def test_loops_over_layers_and_remat_change_nothing(decoder_config):
  """More layers than are unrolled; T5X's names do not show it."""
  batch = _rows(4, True)
  deep = dataclasses.replace(decoder_config, num_layers=5, prefix_lm=True)
  found = []
  for remat in ('none', 'full'):
    model = interface.create(dataclasses.replace(deep, remat=remat))
    params = jax.jit(model.init)(jax.random.key(1))
    found.append(
        jax.jit(jax.grad(lambda p, m=model: m.loss(p, batch).loss))(params)
    )
  for one, other in zip(*map(jax.tree.leaves, found), strict=True):
    scale = np.abs(one).max()
    np.testing.assert_allclose(one, other, atol=1e-5 * scale)

  tokens = jax.random.randint(jax.random.key(5), (2, 6), 2, 128)
  model = interface.create(deep)

  @jax.jit
  def both(params):
    def step(cache, token):
      logits, cache = model.decode_step(steps, cache, token[:, None])
      return cache, logits[:, 0]

    steps = model.steps(params, model.encode(params, tokens[:, :2]))
    first, cache = model.start(steps, model.init_cache(2, 4))
    cache, logits = jax.lax.scan(step, cache, tokens[:, 2:].T)
    batch = {
        'decoder_input_tokens': jnp.pad(tokens, ((0, 0), (1, 0))),
        'decoder_target_tokens': jnp.pad(
            tokens, ((0, 0), (0, 1)), constant_values=1
        ),
        'decoder_causal_attention': jnp.arange(7)[None] < jnp.array([[3], [3]]),
    }
    first = first.transpose(1, 0, 2)
    logits = jnp.concatenate([first, logits]).transpose(1, 0, 2)
    return logits, model.logits(params, batch)[:, 2:]

  np.testing.assert_allclose(*both(params), atol=1e-4)


def test_dropout_is_seeded_and_off_without_a_key(decoder_config):
  model = interface.create(
      dataclasses.replace(decoder_config, dropout_rate=0.5)
  )
  params = jax.jit(model.init)(jax.random.key(0))
  batch = _rows(4, True)
  loss = jax.jit(lambda key: model.loss(params, batch, dropout_rng=key).loss)
  first, again, other = (loss(jax.random.key(seed)) for seed in (0, 0, 1))
  assert first == again
  assert abs(first - other) > 1
  still = interface.create(decoder_config)
  programs = [
      jax.jit(m.loss).lower(params, batch).as_text() for m in (model, still)
  ]
  assert programs[0] == programs[1]
