"""A decoder's options: over a mesh, in the loss, and what is refused."""

import dataclasses
import json

from flan_jax import errors
from flan_jax import partitioning
from flan_jax.models import config as config_lib
from flan_jax.models import interface
from flan_jax.models import losses
from flan_jax.models import readout
import jax
import jax.numpy as jnp
import numpy as np
import pytest

CONFIG = config_lib.DecoderConfig(
    vocab_size=128,
    num_ids=100,
    begin_id=7,
    emb_dim=16,
    num_heads=4,
    num_kv_heads=2,
    head_dim=6,
    mlp_dim=24,
    num_layers=2,
    positions='rotary',
    window=3,
    window_layers=(True, False),
    rope_local_theta=100.0,
    query_key_norm=True,
    query_scale=0.4,
    qkv_bias=True,
    norm='rms_plus_one',
    norm_after=True,
    attention_cap=2.0,
    logits_cap=3.0,
    scale_embedding=True,
    logits_via_embedding=True,
    scale_tied_logits=False,
)


def _batch():
  rng = np.random.default_rng(0)
  ids = rng.integers(1, 101, (8, 12)).astype(np.int32)
  read = np.pad(ids, ((0, 0), (1, 0)))[:, :-1]
  read[:, 6] = 0
  return {
      'decoder_input_tokens': read,
      'decoder_target_tokens': ids,
      'decoder_segment_ids': np.repeat([[1] * 6 + [2] * 6], 8, 0),
      'decoder_positions': np.repeat([[*range(6), *range(6)]], 8, 0),
  }


def _mesh(**sizes):
  count = int(np.prod(list(sizes.values())))
  return partitioning.make_mesh(
      partitioning.MeshConfig(**sizes), jax.devices()[:count]
  )


def test_heads_of_keys_are_shared_among_devices():
  model = interface.create(CONFIG)
  params = jax.jit(model.init)(jax.random.key(0))
  params = jax.tree.map(lambda x: x + 0.1, params)
  batch = _batch()

  def run(params, batch):
    def loss(params):
      return model.loss(params, batch).loss

    context = model.encode(params, batch['decoder_target_tokens'])
    steps = model.steps(params, context)
    _, cache = model.start(steps, model.init_cache(8, 4))
    logits, cache = model.decode_step(
        steps, cache, batch['decoder_target_tokens'][:, :1]
    )
    return jax.value_and_grad(loss)(params), logits, cache

  expected = jax.jit(run)(params, batch)
  mesh = _mesh(data=1, fsdp=2, tensor=2)
  shardings = partitioning.shardings(
      mesh, model.logical_axes(), model.abstract_params()
  )
  with partitioning.use(mesh):
    found = jax.jit(run)(jax.device_put(params, shardings), batch)
  shards = found[2].key[0].addressable_shards
  assert {shard.data.shape for shard in shards} == {(4, 1, 6, 4)}
  for one, other in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
    scale = max(1, np.abs(other).max())
    np.testing.assert_allclose(one, other, atol=2e-5 * scale)


def test_heads_of_keys_that_tensor_does_not_divide_are_refused():
  model = interface.create(CONFIG)
  with (
      partitioning.use(_mesh(data=1, tensor=4)),
      pytest.raises(errors.UserError, match="'kv_heads' has 2 entries"),
  ):
    jax.eval_shape(model.logits, model.abstract_params(), _batch())
  # One that all share is on every device.
  one = interface.create(dataclasses.replace(CONFIG, num_kv_heads=1))
  with partitioning.use(_mesh(data=1, tensor=2)):
    jax.eval_shape(one.logits, one.abstract_params(), _batch())


@pytest.mark.parametrize('label_smoothing', [0.0, 0.1])
def test_caps_and_ids_in_the_loss(label_smoothing):
  """Beside the formula, over the ids alone; gradients by autodiff."""
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, 6, 5)).astype(np.float32)
  kernel = rng.normal(size=(5, 16)).astype(np.float32)
  targets = rng.integers(1, 12, (2, 6))
  weights = rng.integers(0, 2, (2, 6))
  how = {'z_loss': 0.01, 'label_smoothing': label_smoothing}
  own = readout.Readout(2.0, (1, 12))

  def plain(x, kernel):
    logits = 2.0 * jnp.tanh(jnp.einsum('bte,ev->btv', x, kernel[:, 1:12]) / 2.0)
    return losses.loss_sums(logits, targets - 1, weights, **how).loss

  def by_head(x, kernel):
    return losses.head_loss_sums(
        x, kernel, targets, weights, chunks=3, readout=own, **how
    ).loss

  def by_logits(x, kernel):
    logits = own.logits(jnp.einsum('bte,ev->btv', x, kernel))
    return losses.loss_sums(logits, targets, weights, readout=own, **how).loss

  expected = jax.jit(jax.value_and_grad(plain, (0, 1)))(x, kernel)
  for other in (by_head, by_logits):
    found = jax.jit(jax.value_and_grad(other, (0, 1)))(x, kernel)
    for a, b in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
      np.testing.assert_allclose(a, b, atol=1e-5)
  scores = losses.head_log_probabilities(
      x, kernel, targets, np.ones((2, 6), bool), own
  )
  logits = own.logits(x @ kernel)
  log_p = jax.nn.log_softmax(logits[..., 1:12])
  wanted = np.take_along_axis(np.asarray(log_p), targets[..., None] - 1, -1)
  np.testing.assert_allclose(scores, wanted[..., 0], atol=1e-5)


def test_bfloat16_is_close_to_float32():
  batch, found = _batch(), []
  params = jax.jit(interface.create(CONFIG).init)(jax.random.key(0))
  for dtype in ('float32', 'bfloat16'):
    model = interface.create(dataclasses.replace(CONFIG, dtype=dtype))
    logits = jax.jit(model.logits)(params, batch)
    assert logits.dtype == jnp.float32
    found.append(np.asarray(logits)[..., 1:101].ravel())
  assert np.corrcoef(*found)[0, 1] > 0.99


def test_rows_longer_than_learned_positions_are_refused():
  config = dataclasses.replace(
      CONFIG, positions='learned', max_positions=11, rope_local_theta=0.0
  )
  model = interface.create(config)
  params, batch = model.abstract_params(), _batch()
  with pytest.raises(errors.UserError, match='has 11 learned positions, and'):
    jax.eval_shape(model.logits, params, batch)
  with pytest.raises(errors.UserError, match='rows have 13 tokens'):
    jax.eval_shape(model.encode, params, batch['decoder_target_tokens'])

  def decode(params, tokens):
    steps = model.steps(params, model.encode(params, tokens))
    return model.decode_step(steps, model.init_cache(8, 6), tokens[:, :1])

  with pytest.raises(errors.UserError, match='rows have 12 tokens'):
    jax.eval_shape(decode, params, batch['decoder_target_tokens'][:, :6])


@pytest.mark.parametrize(
    'changes, words',
    [
        ({'num_kv_heads': 3}, 'num_kv_heads: must divide num_heads, 4'),
        ({'positions': 'learned'}, 'max_positions: learned positions need'),
        ({'positions': 'alibi'}, "positions: must be one of 'relative'"),
        ({'head_dim': 5}, 'head_dim: must be even'),
        ({'window_layers': (True,)}, 'window_layers: must say it of each'),
        ({'window': 0}, 'window: layers with a window need its size'),
        ({'num_ids': 128}, 'num_ids: ids from 1 to 128 need'),
        ({'begin_id': 101}, 'begin_id: 101 is none of its 101'),
        ({'norm': 'batch'}, "norm: must be one of 'rms'"),
        ({'qkv_bias': 1}, 'qkv_bias: must be True or False'),
        ({'rope_scaling': {'kind': 'yarn', 'factor': 2}}, 'RopeScaling.kind'),
        (
            {'rope_scaling': {'type': 'linear'}},
            "rope_scaling: .*'type'.*is like",
        ),
        (
            {'rope_scaling': {'kind': 'linear', 'factor': 0}},
            'RopeScaling.factor: must be above 0',
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(changes, words):
  with pytest.raises(errors.UserError, match=words):
    dataclasses.replace(CONFIG, **changes)


def test_a_config_comes_back_from_json():
  scaling = {'kind': 'llama3', 'factor': 8.0}
  config = dataclasses.replace(CONFIG, rope_scaling=scaling)
  facts = json.loads(json.dumps(dataclasses.asdict(config)))
  assert config_lib.DecoderConfig(**facts) == config
  assert hash(config) == hash(config_lib.DecoderConfig(**facts))
