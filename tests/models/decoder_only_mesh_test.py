"""A decoder-only model over meshes of two and of eight virtual devices."""

import dataclasses

from flan_jax import partitioning
from flan_jax.data import packing
from flan_jax.models import interface
import jax
import numpy as np
import pytest

LIMITS = {'inputs': 20, 'targets': 12}
MESHES = [
    dict(data=2),
    dict(fsdp=2, data=1),
    dict(tensor=2, data=1),
    dict(data=8),
    dict(data=2, fsdp=2, tensor=2),
]


@pytest.fixture(scope='module')
def decoder(decoder_config) -> interface.Model:
  """The golden sizes, as a prefix language model."""
  return interface.create(dataclasses.replace(decoder_config, prefix_lm=True))


@pytest.fixture(scope='module')
def weights(decoder) -> interface.Params:
  return jax.jit(decoder.init)(jax.random.key(0))


@pytest.fixture(scope='module')
def rows() -> dict[str, np.ndarray]:
  """Eight packed rows."""
  rng = np.random.default_rng(0)
  sides = []
  for most in (12, 8):
    lengths = rng.integers(1, most, 40)
    ids = rng.integers(3, 128, lengths.sum())
    sides.append(packing.Ragged(ids.astype(np.int32), lengths))
  wide = packing.pack(*sides, LIMITS, form=packing.ONE_SIDE)
  return packing.features(wide[:8], LIMITS, packing.ONE_SIDE)


def _mesh(**sizes: int) -> jax.sharding.Mesh:
  count = int(np.prod(list(sizes.values())))
  return partitioning.make_mesh(
      partitioning.MeshConfig(**sizes), jax.devices()[:count]
  )


def _loss_and_gradient(model: interface.Model):
  def run(params, batch):
    def loss(params):
      sums = model.loss(params, batch)
      return sums.loss, sums

    gradient, sums = jax.grad(loss, has_aux=True)(params)
    return sums, gradient

  return run


@pytest.fixture(scope='module')
def one_device(decoder, weights, rows):
  """Loss sums and the gradient, on one device."""
  return jax.jit(_loss_and_gradient(decoder))(weights, rows)


@pytest.mark.parametrize('sizes', MESHES)
def test_the_loss_is_the_same_on_every_mesh(
    sizes, decoder, weights, rows, one_device
):
  mesh = _mesh(**sizes)
  shardings = partitioning.shardings(
      mesh, decoder.logical_axes(), decoder.abstract_params()
  )
  with partitioning.use(mesh):
    sums, gradient = jax.jit(
        _loss_and_gradient(decoder), out_shardings=(None, shardings)
    )(
        jax.device_put(weights, shardings),
        partitioning.put_batch(rows, mesh),
    )

  expected, expected_gradient = one_device
  for found, reference in zip(sums, expected, strict=True):
    np.testing.assert_allclose(found, reference, rtol=1e-5)
  for found, reference in zip(
      *map(jax.tree.leaves, (gradient, expected_gradient)), strict=True
  ):
    scale = np.abs(reference).max()
    np.testing.assert_allclose(found, reference, atol=1e-5 * scale)


def test_decoding_is_shared_by_batch_heads_and_vocabulary(
    decoder, weights, rows
):
  tokens = rows['decoder_target_tokens']
  options = {
      name: rows[f'decoder_{name}'][:, :6]
      for name in ('input_tokens', 'target_tokens')
  }
  batch = {f'decoder_{name}': ids for name, ids in options.items()}

  def run(params, tokens):
    context = decoder.encode(params, tokens)
    cache = decoder.init_cache(8, 4)
    steps = decoder.steps(params, context)
    first, cache = decoder.start(steps, cache)
    logits, cache = decoder.decode_step(steps, cache, tokens[:, :1])
    return context, cache, first, logits, decoder.score(params, context, batch)

  expected = jax.jit(run)(weights, tokens)
  with partitioning.use(_mesh(data=2, fsdp=2, tensor=2)):
    found = jax.jit(run)(weights, tokens)
  context, cache, first, *_ = found
  wanted = jax.P(None, ('data', 'fsdp'), 'tensor')
  for array in context[:2]:
    assert array.sharding.spec == wanted
  for array in (*cache.key, *cache.value):
    assert array.sharding.spec == jax.P(('data', 'fsdp'), 'tensor')
  assert first.sharding.spec == jax.P(('data', 'fsdp'), None, 'tensor')
  for one, other in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
    np.testing.assert_allclose(one, other, atol=2e-5)


def test_init_makes_each_part_where_it_belongs(decoder, weights):
  mesh = _mesh(data=2, fsdp=2, tensor=2)
  shardings = partitioning.shardings(mesh, decoder.logical_axes())
  with partitioning.use(mesh):
    params = jax.jit(decoder.init, out_shardings=shardings)(jax.random.key(0))
  table = params['decoder']['token_embedder']['embedding']
  assert {shard.data.shape for shard in table.addressable_shards} == {(64, 16)}
  kernel = params['decoder']['layers']['mlp']['wo']['kernel']
  assert {s.data.shape for s in kernel.addressable_shards} == {(2, 32, 16)}
  for one, other in zip(*map(jax.tree.leaves, (params, weights)), strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-6)
