"""A table of biases by distance in each layer, as UMT5 has it."""

from flan_jax import partitioning
from flan_jax.models import config as config_lib
from flan_jax.models import interface
from flan_jax.models import naming
import jax
import numpy as np
import pytest

_CONFIG = config_lib.EncoderDecoderConfig(
    vocab_size=96,
    emb_dim=16,
    num_heads=4,
    head_dim=5,
    mlp_dim=12,
    num_encoder_layers=2,
    num_decoder_layers=3,
    relative_attention_per_layer=True,
)


@pytest.fixture(scope='module')
def whole():
  """The model, parameters, rows, and the logits of whole rows."""
  model = interface.create(_CONFIG)
  params = jax.jit(model.init)(jax.random.key(0))
  rng = np.random.default_rng(0)
  batch = {
      'encoder_input_tokens': rng.integers(2, 96, (8, 7)).astype(np.int32),
      'decoder_input_tokens': rng.integers(2, 96, (8, 6)).astype(np.int32),
      'decoder_target_tokens': rng.integers(2, 96, (8, 6)).astype(np.int32),
  }
  batch['decoder_input_tokens'][:, 0] = 0
  return model, params, batch, jax.jit(model.logits)(params, batch)


def test_layers_have_names_and_axes(whole):
  model, params, *_ = whole
  names = [name for name in model.unstack(params) if 'relpos_bias' in name]
  assert names == [
      f'{side}/layers_{layer}/relpos_bias/rel_embedding'
      for side, count in (('decoder', 3), ('encoder', 2))
      for layer in range(count)
  ]
  axes = naming.flatten(
      model.logical_axes(), is_leaf=lambda leaf: isinstance(leaf, tuple)
  )
  assert axes['encoder/layers/relpos_bias/rel_embedding'] == (
      ('layers', 'heads', 'relpos_buckets')
  )


def test_a_layer_uses_its_own(whole):
  model, params, batch, logits = whole
  flat = model.unstack(params)
  for layer in range(3):
    name = f'decoder/layers_{layer}/relpos_bias/rel_embedding'
    other = model.stack({**flat, name: flat[name] + np.eye(4, 32)})
    assert np.abs(jax.jit(model.logits)(other, batch) - logits).max() > 1e-3


@pytest.mark.parametrize('beams', [1, 2])
def test_steps_are_the_whole_row(whole, beams):
  model, params, batch, logits = whole
  context = jax.jit(model.encode)(params, batch['encoder_input_tokens'])
  steps = model.steps(params, context)
  cache = model.init_cache(8, 6, beams)
  step = jax.jit(model.decode_step)
  for place in range(6):
    tokens = batch['decoder_input_tokens'][:, place, None].repeat(beams, 1)
    seen = np.zeros((8, beams, 6 * beams), bool)
    for beam in range(beams):
      seen[:, beam, beam : beams * (place + 1) : beams] = True
    found, cache = step(steps, cache, tokens, seen)
    for beam in range(beams):
      np.testing.assert_allclose(
          found[:, beam], logits[:, place], atol=2e-5, rtol=1e-4
      )


def test_a_mesh_computes_the_same(whole):
  model, params, batch, logits = whole
  mesh = partitioning.make_mesh(
      partitioning.MeshConfig(data=2, fsdp=2, tensor=2)
  )
  with partitioning.use(mesh):
    spread = jax.device_put(
        params,
        partitioning.shardings(
            mesh, model.logical_axes(), model.abstract_params()
        ),
    )
    found = jax.jit(model.logits)(spread, partitioning.put_batch(batch, mesh))
  np.testing.assert_allclose(found, logits, atol=2e-5, rtol=1e-4)
