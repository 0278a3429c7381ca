"""The model over meshes of eight virtual devices."""

import collections
import dataclasses
import re

from flan_jax import errors
from flan_jax import partitioning
from flan_jax.models import interface
import jax
import numpy as np
import pytest

MESHES = [
    dict(data=8),
    dict(data=4, tensor=2),
    dict(data=1, fsdp=8),
    dict(data=2, fsdp=2, tensor=2),
]


def _mesh(**sizes: int) -> jax.sharding.Mesh:
  return partitioning.make_mesh(partitioning.MeshConfig(**sizes))


@pytest.fixture(scope='module')
def one_device(model, params, packed):
  """Loss sums and the gradient, on one device."""
  return jax.jit(_loss_and_gradient(model))(params, packed)


def _loss_and_gradient(model: interface.Model):
  def run(params, batch):
    def loss(params):
      sums = model.loss(params, batch)
      return sums.loss, sums

    gradient, sums = jax.grad(loss, has_aux=True)(params)
    return sums, gradient

  return run


@pytest.mark.parametrize('sizes', MESHES)
def test_the_loss_is_the_same_on_every_mesh(
    sizes, model, params, packed, one_device
):
  mesh = _mesh(**sizes)
  shardings = partitioning.shardings(
      mesh, model.logical_axes(), model.abstract_params()
  )
  with partitioning.use(mesh):
    sums, gradient = jax.jit(
        _loss_and_gradient(model), out_shardings=(None, shardings)
    )(
        jax.device_put(params, shardings),
        partitioning.put_batch(packed, mesh),
    )

  expected, expected_gradient = one_device
  for found, reference in zip(sums, expected, strict=True):
    np.testing.assert_allclose(found, reference, rtol=1e-5)
  for found, reference in zip(
      *map(jax.tree.leaves, (gradient, expected_gradient)), strict=True
  ):
    scale = np.abs(reference).max()
    np.testing.assert_allclose(found, reference, atol=1e-5 * scale)


def test_logits_are_shared_by_batch_and_vocabulary(model, params, packed):
  """A constraint that did nothing would leave this to XLA's guess."""
  mesh = _mesh(data=2, fsdp=2, tensor=2)
  with partitioning.use(mesh):
    # Everything comes in whole: only constraints inside can share it out.
    logits = jax.jit(model.logits)(params, packed)
  assert logits.sharding.spec == jax.P(('data', 'fsdp'), None, 'tensor')


def test_no_device_sees_the_whole_batch(model, packed):
  """XLA once collected all rows to look up their tokens, with a warning."""
  mesh = _mesh(data=2, fsdp=2, tensor=2)

  def placed(leaf, sharding):
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

  # XLA weighs sizes; with smaller ones it did not.
  wide = interface.create(
      dataclasses.replace(model.config, vocab_size=1024, emb_dim=64)
  )
  shardings = partitioning.shardings(mesh, wide.logical_axes())
  params = jax.tree.map(placed, wide.abstract_params(), shardings)
  rows = partitioning.batch_sharding(mesh)
  batch = {
      name: placed(np.concatenate([leaf, leaf]), rows)
      for name, leaf in packed.items()
  }
  with partitioning.use(mesh):
    program = jax.jit(wide.logits).lower(params, batch).compile().as_text()

  collected = re.findall(r'= \(?\w+(\[[0-9,]*\]).* all-gather\(', program)
  # fsdp=2 brings the parameters together, so there is something to find.
  assert '[64,512]' in collected
  assert not [shape for shape in collected if shape.startswith('[16,2')]


def test_caches_and_contexts_are_shared_by_batch_and_heads(
    model, params, packed
):
  tokens = packed['encoder_input_tokens']

  def start(params, tokens):
    context = model.encode(params, tokens)
    cache = model.init_cache(8, 4)
    steps = model.steps(params, context)
    _, cache = model.decode_step(steps, cache, tokens[:, :1])
    return context, cache

  with partitioning.use(_mesh(data=2, fsdp=2, tensor=2)):
    context, cache = jax.jit(start)(params, tokens)
  wanted = jax.P(None, ('data', 'fsdp'), 'tensor')
  for array in context[:2]:
    assert array.sharding.spec == wanted
  for array in (*cache.key, *cache.value):
    assert array.sharding.spec == jax.P(('data', 'fsdp'), 'tensor')


def test_init_makes_each_part_where_it_belongs(model):
  mesh = _mesh(data=2, fsdp=2, tensor=2)
  shardings = partitioning.shardings(mesh, model.logical_axes())
  key = jax.random.key(0)
  expected = jax.jit(model.init)(key)

  with partitioning.use(mesh):
    params = jax.jit(model.init, out_shardings=shardings)(key)

  table = params['token_embedder']['embedding']
  assert {shard.data.shape for shard in table.addressable_shards} == {(64, 16)}
  kernel = params['encoder']['layers']['mlp']['wo']['kernel']
  assert {s.data.shape for s in kernel.addressable_shards} == {(2, 32, 16)}
  for found, reference in zip(
      *map(jax.tree.leaves, (params, expected)), strict=True
  ):
    np.testing.assert_allclose(found, reference, rtol=1e-6)


def test_every_name_that_the_model_uses_is_in_the_rules(
    model, params, packed, monkeypatch
):
  used = collections.Counter()

  class Recorder(dict):

    def __getitem__(self, name):
      used[name] += 1
      return super().__getitem__(name)

  monkeypatch.setattr(partitioning, 'RULES', Recorder(partitioning.RULES))
  with partitioning.use(_mesh()):
    jax.eval_shape(model.loss, params, packed)
    jax.eval_shape(model.encode, params, packed['encoder_input_tokens'])
  partitioning.shardings(_mesh(), model.logical_axes())

  # And every name in the rules is used, so that none is a leftover; these two
  # belong to options that it does not have.
  assert set(used) | {'lora_rank', 'positions'} == set(partitioning.RULES)


def test_heads_that_tensor_does_not_divide_are_refused(model, packed):
  six = interface.create(dataclasses.replace(model.config, num_heads=6))
  mesh = _mesh(data=2, tensor=4)
  words = "MeshConfig.tensor: the axis 'heads' has 6 entries"
  with pytest.raises(errors.UserError, match=words):
    partitioning.shardings(mesh, six.logical_axes(), six.abstract_params())
  with partitioning.use(mesh), pytest.raises(errors.UserError, match=words):
    jax.eval_shape(six.logits, six.abstract_params(), packed)
