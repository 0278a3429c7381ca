"""The encoder-decoder gives T5X's numbers, in float32."""

import dataclasses
import json
import pathlib

from flan_jax.models import config as config_lib
from flan_jax.models import interface
import jax
import numpy as np
import pytest

KINDS = ('unpacked', 'packed')


@pytest.fixture(scope='module')
def start(model, golden) -> interface.Params:
  """T5X's parameters, under its names."""
  return model.stack(golden('encdec_params_init'))


@pytest.mark.parametrize('kind', KINDS)
def test_logits_are_t5xs_where_there_are_targets(kind, model, start, golden):
  batch = golden(f'encdec_batch_{kind}')
  expected = golden(f'encdec_forward_{kind}')['logits']

  logits = jax.jit(model.logits)(start, batch)

  counted = batch['decoder_loss_weights'] == 1
  assert counted.any()
  assert logits.dtype == np.float32
  np.testing.assert_allclose(logits[counted], expected[counted], atol=1e-5)


@pytest.mark.parametrize('kind', KINDS)
def test_loss_and_z_loss_are_t5xs(kind, model, start, golden):
  batch = golden(f'encdec_batch_{kind}')
  expected = golden(f'encdec_forward_{kind}')

  sums = jax.jit(model.loss)(start, batch)

  np.testing.assert_allclose(sums.loss, expected['loss'], rtol=1e-6)
  np.testing.assert_allclose(sums.z_loss, expected['z_loss'], rtol=1e-5)
  assert sums.weight == batch['decoder_loss_weights'].sum()


@pytest.mark.parametrize(
    'kind, remat',
    [
        ('unpacked', 'none'),
        ('packed', 'none'),
        ('packed', 'minimal'),
        ('packed', 'full'),
    ],
)
def test_gradients_are_t5xs(kind, remat, config, start, golden):
  # With remat layers run in a loop, which two layers otherwise are not; and the
  # loss is computed in parts.
  changes = {} if remat == 'none' else {'remat': remat, 'loss_chunks': 2}
  model = interface.create(dataclasses.replace(config, **changes))
  batch = golden(f'encdec_batch_{kind}')
  expected = golden(f'encdec_grads_{kind}')

  gradient = jax.jit(jax.grad(lambda p: model.loss(p, batch).loss))(start)

  found = model.unstack(gradient)
  assert set(found) == set(expected)
  for name, reference in expected.items():
    scale = np.abs(reference).max()
    assert scale > 0, name
    error = np.abs(found[name] - reference).max()
    assert error <= 1e-4 * scale, f'{name}: {error} of {scale}'


def test_scores_are_t5xs(model, start, golden):
  batch = golden('encdec_batch_unpacked')
  expected = golden('encdec_forward_unpacked')['score_batch']

  context = jax.jit(model.encode)(start, batch['encoder_input_tokens'])
  scores = jax.jit(model.score)(start, context, batch)

  np.testing.assert_allclose(scores.sum(axis=1), expected, rtol=1e-5)


def test_greedy_tokens_are_t5xs(model, golden):
  params = model.stack(golden('encdec_params_decode'))
  expected = golden('encdec_decode_trained')['greedy_tokens']
  inputs = golden('encdec_batch_unpacked')['encoder_input_tokens']
  rows, length = expected.shape
  step = jax.jit(model.decode_step)

  context = jax.jit(model.encode)(params, inputs)
  steps = model.steps(params, context)
  cache = model.init_cache(rows, length)
  tokens = np.zeros(rows, np.int32)
  written = []
  for _ in range(length):
    logits, cache = step(steps, cache, tokens[:, None])
    tokens = np.argmax(logits[:, 0], axis=-1).astype(np.int32)
    written.append(tokens)

  found = np.stack(written, axis=1)
  ended = np.cumsum(found == 1, axis=1) - (found == 1) > 0
  np.testing.assert_array_equal(np.where(ended, 0, found), expected)


def test_a_checkpoint_that_t5x_trained_gives_its_logits(golden):
  model = interface.create(
      config_lib.EncoderDecoderConfig(
          vocab_size=384,
          emb_dim=128,
          num_heads=4,
          head_dim=32,
          mlp_dim=256,
          num_encoder_layers=2,
          num_decoder_layers=2,
      )
  )
  batch = golden('orbax_forward_step100')
  expected = batch.pop('logits')

  params = model.stack(golden('orbax_params_step100'))
  logits = jax.jit(model.logits)(params, batch)

  np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_parameter_names_shapes_and_axes_are_t5xs(model, shared: pathlib.Path):
  meta = json.loads((shared / 'golden' / 't5x' / 'meta.json').read_text())
  flat = model.unstack(model.abstract_params())

  shapes = {name: list(leaf.shape) for name, leaf in flat.items()}
  assert shapes == meta['encdec_param_shapes']

  axes = {
      '/'.join(k.key for k in path): names for path, names in _leaves(model)
  }
  for name, expected in meta['encdec_logical_axes'].items():
    parts = name.split('/')
    stacked = '/'.join('layers' if 'layers_' in p else p for p in parts)
    names = axes[stacked]
    if 'layers_' in name:
      assert names[0] == 'layers'
      names = names[1:]
    assert f'AxisMetadata(names={names!r})' == expected


def _leaves(model: interface.Model):
  return jax.tree_util.tree_flatten_with_path(
      model.logical_axes(), is_leaf=lambda x: isinstance(x, tuple)
  )[0]


@pytest.mark.parametrize('kind', KINDS)
def test_bfloat16_loss_is_near_float32s(kind, config, start, golden):
  half = interface.create(dataclasses.replace(config, dtype='bfloat16'))
  batch = golden(f'encdec_batch_{kind}')
  expected = golden(f'encdec_forward_{kind}')['loss']

  sums, logits = jax.jit(
      lambda params: (half.loss(params, batch), half.logits(params, batch))
  )(start)

  assert logits.dtype == np.float32
  np.testing.assert_allclose(sums.loss, expected, rtol=1e-2)
  # Equality would mean that nothing was computed in bfloat16.
  assert sums.loss != expected
