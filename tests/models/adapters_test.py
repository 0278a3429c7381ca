"""Adapters and chosen parameters, in the model's own numbers.

Beside `peft`: tests/checkpoints/huggingface/peft_test.py.
"""

import dataclasses

from flan_jax import errors
from flan_jax import partitioning
from flan_jax.models import adapters
from flan_jax.models import config as model_config
from flan_jax.models import interface
from flan_jax.models import naming
import jax
import jax.numpy as jnp
import numpy as np
import pytest

LORA = model_config.Lora(rank=2, alpha=6, targets=('query', 'wi_1', 'wo'))


def _batch(rows=8, length=12, one_side=False):
  rng = np.random.default_rng(0)
  ids = rng.integers(2, 128, (rows, length)).astype(np.int32)
  ids[:, -2:] = 0
  batch = {
      'decoder_input_tokens': np.pad(ids, ((0, 0), (1, 0)))[:, :-1],
      'decoder_target_tokens': ids,
  }
  if not one_side:
    batch['encoder_input_tokens'] = ids[:, ::-1].copy()
  return batch


def _random(tree, seed=1, scale=0.3):
  rng = np.random.default_rng(seed)
  return jax.tree.map(
      lambda leaf: scale * rng.normal(size=leaf.shape).astype(np.float32), tree
  )


@pytest.fixture(scope='module', params=['encoder_decoder', 'decoder_only'])
def case(request, config, decoder_config):
  """A model without adapters, one with, its split, and a batch."""
  one_side = request.param == 'decoder_only'
  plain = decoder_config if one_side else config
  model = interface.create(dataclasses.replace(plain, lora=LORA))
  return (
      interface.create(plain),
      model,
      adapters.Split(model),
      _batch(one_side=one_side),
  )


def test_adapters_begin_as_pefts_do(case):
  plain, model, split, batch = case
  params = jax.jit(model.init)(jax.random.key(0))
  trained, frozen = split.divide(params)
  flat = naming.flatten(trained)
  for name, array in flat.items():
    if name.endswith('lora_b'):
      assert not np.any(array)
      continue
    # Kaiming's uniform with a = sqrt(5), as torch has it for linear layers.
    bound = array.shape[-2] ** -0.5
    assert 0.8 * bound < np.abs(array).max() <= bound
    assert np.std(array) == pytest.approx(bound / 3**0.5, rel=0.2)
    assert np.any(array[0] != array[1])  # Each layer has its own.
  # So nothing changes at first, to the last bit.
  np.testing.assert_array_equal(
      jax.jit(model.logits)(params, batch),
      jax.jit(plain.logits)(frozen, batch),
  )


def test_gradients_are_those_of_a_merged_kernel(case):
  """By the chain rule, from the whole gradient of the plain model."""
  plain, model, split, batch = case
  trained = _random(split.trained)
  frozen = split.divide(jax.jit(plain.init)(jax.random.key(0)))[1]

  @jax.jit
  def gradient(trained):
    return jax.grad(
        lambda own: model.loss(split.join(own, frozen), batch).loss
    )(trained)

  @jax.jit
  def whole(params):
    return jax.grad(lambda params: plain.loss(params, batch).loss)(params)

  merged = adapters.merged(split.join(trained, frozen), LORA)
  slopes = naming.flatten(whole(merged))
  own = naming.flatten(trained)
  for name, found in naming.flatten(gradient(trained)).items():
    module, letter = name.rsplit('/', 1)
    slope = np.float64(slopes[f'{module}/kernel'])
    a, b = (np.float64(own[f'{module}/lora_{x}']) for x in 'ab')
    wanted = (
        slope @ b.swapaxes(1, 2)
        if letter == 'lora_a'
        else a.swapaxes(1, 2) @ slope
    )
    np.testing.assert_allclose(
        found, wanted * 3, atol=3e-3 * np.abs(wanted).max()
    )


def test_dropout_is_of_the_adapters_input_alone(case):
  plain, _, split, batch = case
  lora = dataclasses.replace(LORA, dropout_rate=0.5)
  model = interface.create(dataclasses.replace(plain.config, lora=lora))
  trained = _random(split.trained)
  frozen = split.divide(jax.jit(plain.init)(jax.random.key(0)))[1]
  logits = jax.jit(model.logits)
  rng = jax.random.key(3)
  params = split.join(trained, frozen)
  still = np.asarray(logits(params, batch))
  assert np.abs(logits(params, batch, dropout_rng=rng) - still).max() > 1e-2
  # Where adapters are 0, dropout is of nothing.
  nothing = split.join(jax.tree.map(jnp.zeros_like, trained), frozen)
  np.testing.assert_array_equal(
      logits(nothing, batch, dropout_rng=rng), logits(nothing, batch)
  )


def test_kernels_kept_in_bfloat16_change_no_bit(case):
  plain, _, _, batch = case
  config = dataclasses.replace(plain.config, dtype='bfloat16', lora=LORA)
  model = interface.create(config)
  split = adapters.Split(model)
  full = jax.jit(plain.init)(jax.random.key(0))
  kept = jax.tree.map(lambda x, leaf: x.astype(leaf.dtype), full, split.frozen)
  dtypes = {n: x.dtype for n, x in naming.flatten(kept).items()}
  for name, dtype in dtypes.items():
    layers = '/layers/' in name and name.endswith('/kernel')
    assert (dtype == jnp.bfloat16) == layers, name
  trained = _random(split.trained)

  @jax.jit
  def step(own, frozen):
    return jax.value_and_grad(
        lambda own: model.loss(split.join(own, frozen), batch).loss
    )(own)

  one, other = step(trained, full), step(trained, kept)
  jax.tree.map(np.testing.assert_array_equal, one, other)


def test_nothing_that_is_frozen_is_differentiated(config, optimised):
  """The compiled step has no product for it: so many operations, no more."""
  plain = interface.create(config)
  batch = _batch(length=16)

  def flops(model, split):
    @jax.jit
    def step(own, frozen):
      return jax.grad(
          lambda own: model.loss(split.join(own, frozen), batch).loss
      )(own)

    compiled = step.lower(split.trained, split.frozen).compile()
    return compiled.cost_analysis()['flops']

  model = interface.create(dataclasses.replace(config, lora=LORA))
  # Forward, back to activations; the gradients of kernels are a third.
  share = flops(model, adapters.Split(model)) / flops(
      plain, adapters.Split(plain)
  )
  assert 0.6 < share < 0.8
  # Norms need all but kernels' gradients, and no adapters.
  norms = flops(plain, adapters.Split(plain, ['.*/scale']))
  assert norms / flops(plain, adapters.Split(plain)) < 0.75
  # Above the last layer hardly anything goes back.
  last = flops(plain, adapters.Split(plain, ['decoder/decoder_norm/.*']))
  assert last / flops(plain, adapters.Split(plain)) < 0.45


def test_split_and_joined_it_is_the_same(case):
  plain, _, _, _ = case
  params = jax.jit(plain.init)(jax.random.key(0))
  split = adapters.Split(plain, ['.*/layers_1/.*', '.*embedding'])
  trained, frozen = split.divide(params)
  assert jax.tree.structure(trained) == jax.tree.structure(split.trained)
  names = set(naming.flatten(trained))
  assert 'decoder/layers_1/mlp/wo/kernel' in names
  assert all('layers_1/' in n or n.endswith('embedding') for n in names)
  jax.tree.map(
      lambda a, axes: len(a.shape) == len(axes) or pytest.fail(str(axes)),
      split.trained,
      split.trained_axes,
      is_leaf=partitioning.is_names,
  )
  spoilt = jax.tree.map(lambda x: x.at[1:].set(9.0) if x.ndim else x, frozen)
  rejoined = split.join(trained, frozen)
  jax.tree.map(np.testing.assert_array_equal, rejoined, params)
  # What the frozen part has in the place of trained layers means nothing.
  found = naming.flatten(split.join(trained, spoilt))
  stack = found['decoder/layers/mlp/wo/kernel']
  np.testing.assert_array_equal(
      stack, naming.flatten(params)['decoder/layers/mlp/wo/kernel']
  )


def test_adapters_lie_as_their_kernels_do(config):
  if len(jax.devices()) < 8:
    pytest.skip('eight devices are not here')
  mesh = partitioning.make_mesh(
      partitioning.MeshConfig(data=2, fsdp=2, tensor=2), jax.devices()[:8]
  )
  model = interface.create(dataclasses.replace(config, lora=LORA))
  split = adapters.Split(model)
  plain = interface.create(config)
  whole = jax.jit(plain.init)(jax.random.key(0))
  trained, frozen = _random(split.trained), split.divide(whole)[1]
  wanted = adapters.merged(split.join(trained, frozen), LORA)
  batch = _batch()
  loss = jax.jit(lambda params: model.loss(params, batch).loss)
  alone = loss(split.join(trained, frozen))
  with partitioning.use(mesh):
    placed = [
        jax.tree.map(
            lambda x, like: jax.device_put(x, like.sharding),
            tree,
            partitioning.placed(tree, axes, mesh),
        )
        for tree, axes in (
            (trained, split.trained_axes),
            (frozen, split.frozen_axes),
        )
    ]
    a = naming.flatten(placed[0])['encoder/layers/mlp/wo/lora_a']
    b = naming.flatten(placed[0])['encoder/layers/mlp/wo/lora_b']
    assert a.sharding.spec == jax.P(None, 'tensor', None)
    assert b.sharding.spec == jax.P(None, None, 'fsdp')
    joined = split.join(*placed)
    np.testing.assert_allclose(loss(joined), alone, rtol=1e-5)
    found = adapters.merged(joined, LORA)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), found, wanted
    )


@pytest.mark.parametrize(
    ('lora', 'patterns', 'message'),
    [
        (LORA, None, None),
        (
            dataclasses.replace(LORA, targets=('self_attention/key',)),
            None,
            None,
        ),
        (
            dataclasses.replace(LORA, targets=('logits_dense',)),
            None,
            'wi_0, wi',
        ),
        (dataclasses.replace(LORA, targets=('uery',)), None, "'uery' is no"),
        (None, ['decoder/.*', 'encodr/.*'], "'encodr/.*' matches none of the"),
    ],
)
def test_what_matches_nothing_is_refused(config, lora, patterns, message):
  model = interface.create(dataclasses.replace(config, lora=lora))
  if message is None:
    assert adapters.Split(model, patterns).share < 0.2
    return
  with pytest.raises(errors.UserError) as error:
    adapters.Split(model, patterns)
  assert message in str(error.value) and '\n' not in str(error.value)
