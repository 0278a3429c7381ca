"""The decoder-only family gives T5X's numbers, in float32."""

import dataclasses
import json
import pathlib

from flan_jax.models import interface
import jax
import numpy as np
import pytest

KINDS = ('unpacked', 'packed')
DIRECTIONS = ('causal', 'prefix')


@pytest.fixture(scope='module', params=DIRECTIONS)
def direction(request) -> str:
  """How the tokens of inputs attend to each other."""
  return request.param


@pytest.fixture(scope='module')
def decoder(direction, decoder_config) -> interface.Model:
  """The golden decoder-only model."""
  return interface.create(
      dataclasses.replace(decoder_config, prefix_lm=direction == 'prefix')
  )


@pytest.fixture(scope='module')
def start(decoder, golden) -> interface.Params:
  """T5X's parameters, under its names."""
  return decoder.stack(golden('deconly_params_init'))


@pytest.mark.parametrize('kind', KINDS)
def test_logits_are_t5xs_where_there_are_targets(
    kind, direction, decoder, start, golden
):
  batch = golden(f'deconly_batch_{kind}')
  expected = golden(f'deconly_forward_{kind}_{direction}')['logits']

  logits = jax.jit(decoder.logits)(start, batch)

  tokens = batch['decoder_target_tokens'] > 0
  assert logits.dtype == np.float32
  np.testing.assert_allclose(logits[tokens], expected[tokens], atol=1e-5)


@pytest.mark.parametrize('kind', KINDS)
def test_loss_and_z_loss_are_t5xs(kind, direction, decoder, start, golden):
  batch = golden(f'deconly_batch_{kind}')
  expected = golden(f'deconly_forward_{kind}_{direction}')

  sums = jax.jit(decoder.loss)(start, batch)

  np.testing.assert_allclose(sums.loss, expected['loss'], rtol=1e-6)
  np.testing.assert_allclose(sums.z_loss, expected['z_loss'], rtol=1e-5)
  # Targets alone: the inputs' tokens are in the rows, too.
  weight = batch['decoder_loss_weights'].sum()
  assert sums.weight == weight < (batch['decoder_target_tokens'] > 0).sum()


def _sides(batch) -> tuple[list[list[int]], list[list[int]]]:
  """Returns the inputs and the targets of unpacked rows, ends included."""
  inputs, targets = [], []
  for row, weights in zip(
      batch['decoder_target_tokens'],
      batch['decoder_loss_weights'],
      strict=True,
  ):
    counted = np.flatnonzero(weights)
    inputs.append(row[: counted[0]].tolist())
    targets.append(row[counted].tolist())
  return inputs, targets


def _padded(sequences: list[list[int]], length: int) -> np.ndarray:
  rows = np.zeros((len(sequences), length), np.int32)
  for row, ids in zip(rows, sequences, strict=True):
    row[: len(ids)] = ids
  return rows


def test_scores_after_a_context_are_t5xs(direction, decoder, start, golden):
  """The inputs, of four lengths, are read once; then the targets are scored."""
  inputs, targets = _sides(golden('deconly_batch_unpacked'))
  assert len({len(ids) for ids in inputs}) > 1
  expected = golden(f'deconly_forward_unpacked_{direction}')['score_batch']

  context = jax.jit(decoder.encode)(start, _padded(inputs, 12))
  scores = jax.jit(decoder.score)(
      start,
      context,
      {
          'decoder_input_tokens': _padded(
              [[0, *ids[:-1]] for ids in targets], 16
          ),
          'decoder_target_tokens': _padded(targets, 16),
      },
  )

  np.testing.assert_allclose(scores.sum(axis=1), expected, rtol=1e-5)


@pytest.mark.parametrize('state', ['init', 'trained'])
def test_greedy_tokens_are_t5xs(state, direction, decoder, golden):
  name = {'init': 'init', 'trained': 'decode'}[state]
  params = decoder.stack(golden(f'deconly_params_{name}'))
  forward = golden(f'deconly_forward_unpacked_{direction}')
  expected = forward[f'greedy_tokens_{state}']
  inputs, _ = _sides(golden('deconly_batch_unpacked'))
  rows, length = expected.shape
  step = jax.jit(decoder.decode_step)

  context = jax.jit(decoder.encode)(params, _padded(inputs, 14))
  cache = decoder.init_cache(rows, length)
  steps = decoder.steps(params, context)
  logits, cache = jax.jit(decoder.start)(steps, cache)
  written = []
  for _ in range(length):
    tokens = np.argmax(logits[:, 0], axis=-1).astype(np.int32)
    written.append(tokens)
    logits, cache = step(steps, cache, tokens[:, None])

  found = np.stack(written, axis=1)
  ended = np.cumsum(found == 1, axis=1) - (found == 1) > 0
  # T5X's limit is the row's, so it wrote less after longer inputs.
  room = length - np.array([len(ids) for ids in inputs])
  ended |= np.arange(length) >= room[:, None]
  np.testing.assert_array_equal(np.where(ended, 0, found), expected)


def test_parameter_names_and_shapes_are_t5xs(decoder, shared: pathlib.Path):
  meta = json.loads((shared / 'golden' / 't5x' / 'meta.json').read_text())
  flat = decoder.unstack(decoder.abstract_params())
  shapes = {name: list(leaf.shape) for name, leaf in flat.items()}
  assert shapes == meta['deconly_param_shapes']


@pytest.mark.parametrize('kind', KINDS)
def test_bfloat16_loss_is_near_float32s(
    kind, direction, decoder_config, start, golden
):
  half = interface.create(
      dataclasses.replace(
          decoder_config, prefix_lm=direction == 'prefix', dtype='bfloat16'
      )
  )
  expected = golden(f'deconly_forward_{kind}_{direction}')['loss']
  sums = jax.jit(half.loss)(start, golden(f'deconly_batch_{kind}'))
  np.testing.assert_allclose(sums.loss, expected, rtol=1e-2)
  assert sums.loss != expected
