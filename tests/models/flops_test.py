"""The FLOPs of a model: the published sizes', and those that JAX would do."""

import dataclasses

from flan_jax.data import packing
from flan_jax.models import config as model_config
from flan_jax.models import flops
from flan_jax.models import interface
import jax
import jax.numpy as jnp
import pytest

# Width, heads of 64, layers on each side, feed-forward width; and GFLOPs of a
# training example at 512/128 and 1,024/256, worked out by hand.
SIZES = {
    'small': (512, 6, 8, 1024, 109.6, 243.9),
    'base': (768, 12, 12, 2048, 436.6, 947.5),
    'large': (1024, 16, 24, 2816, 1501, 3201),
    'xl': (2048, 32, 24, 5120, 5467, 11330),
    'xxl': (4096, 64, 24, 10240, 21371, 43534),
}


def _config(width, heads, layers, mlp, **changes):
  return model_config.EncoderDecoderConfig(
      emb_dim=width,
      num_heads=heads,
      head_dim=64,
      num_encoder_layers=layers,
      num_decoder_layers=layers,
      mlp_dim=mlp,
      **changes,
  )


@pytest.mark.parametrize('size', SIZES)
def test_the_published_sizes(size):
  *sizes, short, long = SIZES[size]
  for inputs, targets, wanted in ((512, 128, short), (1024, 256, long)):
    lengths = {'inputs': inputs, 'targets': targets}
    found = flops.training(_config(*sizes), lengths)
    total = found.total({'encoder': inputs, 'decoder': targets})
    assert total == pytest.approx(wanted * 1e9, rel=5e-4)


def _products(jaxpr) -> int:
  """Multiplications of all matrix products in a jaxpr, loops counted out."""
  count = 0
  for equation in jaxpr.eqns:
    if equation.primitive.name == 'dot_general':
      (contracted, _), _ = equation.params['dimension_numbers']
      left = equation.invars[0].aval.shape
      inner = 1
      for axis in contracted:
        inner *= left[axis]
      count += inner * equation.outvars[0].aval.size
    times = equation.params.get('length', 1)
    for value in equation.params.values():
      inside = getattr(value, 'jaxpr', value)
      if hasattr(inside, 'eqns'):
        count += times * _products(inside)
  return count


@pytest.mark.parametrize(
    'changes',
    [
        {},
        {'mlp_activations': ('relu',)},
        {'prefix_lm': True},
        {'num_kv_heads': 1, 'positions': 'rotary', 'qkv_bias': True},
    ],
)
def test_a_decoder_alone_has_the_products_of_its_forward_pass(changes):
  config = model_config.DecoderConfig(
      emb_dim=32,
      num_heads=3,
      head_dim=64,
      num_layers=3,
      mlp_dim=48,
      vocab_size=256,
      logits_via_embedding=True,
      **changes,
  )
  lengths = {'inputs': 40, 'targets': 24}
  model = interface.create(config)
  rows = packing.empty(1, lengths, form=packing.ONE_SIDE)
  jaxpr = jax.make_jaxpr(model.logits)(model.abstract_params(), rows)
  masked = 3 * 3 * 64 * 64 * 64
  found = flops.training(config, lengths)
  assert found.encoder == 0
  total = found.total(packing.ONE_SIDE.positions(lengths))
  assert total == 3 * 2 * (_products(jaxpr.jaxpr) - masked)
  # In the window of 8, of two of three layers, are no 32 keys (the mean).
  window = {'window': 8, 'window_layers': (True, False, True)}
  less = flops.training(dataclasses.replace(config, **window), lengths)
  assert found.decoder - less.decoder == 6 * 2 * 2 * 3 * 64 * (32 - 8)


@pytest.mark.parametrize(
    'changes',
    [{}, {'mlp_activations': ('relu',)}, {'logits_via_embedding': True}],
)
def test_they_are_the_products_of_the_forward_pass(changes):
  config = _config(32, 3, 2, 48, vocab_size=256, **changes)
  config = model_config.EncoderDecoderConfig(
      **{**config.__dict__, 'num_decoder_layers': 3}
  )
  model = interface.create(config)
  inputs, targets = 40, 24
  rows = {
      f'{side}_{name}': jnp.ones((1, length), jnp.int32)
      for side, length in (('encoder', inputs), ('decoder', targets))
      for name in ('input_tokens', 'target_tokens', 'segment_ids')
  }
  jaxpr = jax.make_jaxpr(model.logits)(model.abstract_params(), rows)
  # XLA multiplies what causal attention then masks: the other half.
  masked = 3 * 3 * 64 * targets * targets
  found = flops.training(config, {'inputs': inputs, 'targets': targets})
  total = found.total({'encoder': inputs, 'decoder': targets})
  assert total == 3 * 2 * (_products(jaxpr.jaxpr) - masked)
