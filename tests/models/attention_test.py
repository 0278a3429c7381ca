"""Relative position buckets and biases, and einsums with own gradients."""

from flan_jax.models import attention
from flan_jax.models import layers
from flan_jax.models import relative
import jax
import jax.numpy as jnp
import numpy as np
import pytest


def _bucket(distance: int, buckets: int, farthest: int, both_ways: bool) -> int:
  """T5's bucket of key minus query, in whole numbers only."""
  first = 0
  if both_ways:
    buckets //= 2
    first = buckets if distance > 0 else 0
    back = abs(distance)
  else:
    back = max(-distance, 0)
  exact = buckets // 2
  if back < exact:
    return first + back
  wide = buckets - exact
  # The most k for which back / exact >= (farthest / exact)^(k / wide).
  k = 0
  while (
      k + 1 < wide
      and back**wide * exact ** (k + 1) >= farthest ** (k + 1) * exact**wide
  ):
    k += 1
  return first + exact + k


@pytest.mark.parametrize('both_ways', [True, False])
@pytest.mark.parametrize('buckets, farthest', [(32, 128), (32, 256), (8, 20)])
def test_buckets_are_exact_at_their_borders(buckets, farthest, both_ways):
  found = relative.buckets(300, buckets, farthest, both_ways)
  expected = [
      _bucket(distance, buckets, farthest, both_ways)
      for distance in range(-300, 301)
  ]
  np.testing.assert_array_equal(found, expected)
  assert found.max() < buckets


@pytest.mark.parametrize('both_ways', [True, False])
@pytest.mark.parametrize('length', [1, 2, 9])
def test_bias_of_a_pair_is_that_of_its_bucket(length, both_ways):
  module = relative.RelativePositionBias(
      num_heads=3, num_buckets=8, max_distance=20, bidirectional=both_ways
  )
  table = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
  variables = {'params': {'rel_embedding': table}}

  bias = module.apply(variables, length)

  assert bias.shape == (3, length, length)
  for query in range(length):
    row = module.apply(variables, query, length, method='of_query')
    np.testing.assert_array_equal(row[:, 0], bias[:, query])
    for key in range(length):
      bucket = _bucket(key - query, 8, 20, both_ways)
      np.testing.assert_array_equal(bias[:, query, key], table[:, bucket])


def test_gradient_of_the_bias_counts_pairs():
  module = relative.RelativePositionBias(
      num_heads=1, num_buckets=8, max_distance=20, bidirectional=True
  )
  weights = np.random.default_rng(1).normal(size=(1, 7, 7)).astype(np.float32)

  gradient = jax.grad(
      lambda table: jnp.sum(
          module.apply({'params': {'rel_embedding': table}}, 7) * weights
      )
  )(jnp.zeros((1, 8)))

  expected = np.zeros(8)
  for query, key in np.ndindex(7, 7):
    expected[_bucket(key - query, 8, 20, True)] += weights[0, query, key]
  np.testing.assert_allclose(gradient[0], expected, rtol=1e-5, atol=1e-6)


def test_add_bias_has_the_gradient_of_a_sum():
  rng = np.random.default_rng(2)
  logits, bias = rng.normal(size=(3, 2, 4, 5)), rng.normal(size=(2, 4, 5))
  weights = rng.normal(size=(3, 2, 4, 5)).astype(np.float32)

  def total(add, logits, bias):
    return jnp.sum(jnp.tanh(add(logits, bias)) * weights)

  for argument in (1, 2):
    np.testing.assert_allclose(
        jax.grad(total, argument)(
            relative.add_bias, *map(jnp.float32, (logits, bias))
        ),
        jax.grad(total, argument)(jnp.add, *map(jnp.float32, (logits, bias))),
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.parametrize(
    'subscripts, shapes',
    [
        ('aby,yz->abz', [(2, 3, 4), (4, 5)]),
        ('bthd,bhds->bhts', [(2, 3, 2, 4), (2, 2, 4, 5)]),
        ('ay,yz->az', [(3, 4), (4, 5)]),
    ],
)
def test_einsum_has_the_gradient_of_jaxs(subscripts, shapes):
  rng = np.random.default_rng(3)
  x, y = (rng.normal(size=s).astype(np.float32) for s in shapes)

  def ours(x, y):
    return jnp.sum(jnp.sin(layers.einsum(subscripts, jnp.float32, x, y)))

  def plain(x, y):
    return jnp.sum(jnp.sin(jnp.einsum(subscripts, x, y)))

  found = jax.grad(ours, (0, 1))(x, y)
  for one, other in zip(found, jax.grad(plain, (0, 1))(x, y), strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_einsum_of_bfloat16_sums_in_float32_and_keeps_gradients_small():
  # 1 + 255 * 2^-9 in bfloat16 steps would stay at 1.
  x = jnp.full((1, 256), 2.0**-9, jnp.bfloat16).at[0, 0].set(1)
  y = jnp.ones((256, 1), jnp.bfloat16)
  total = layers.einsum('ay,yz->az', jnp.float32, x, y)
  assert total.dtype == jnp.float32
  assert total[0, 0] == 1 + 255 * 2.0**-9

  gradients = jax.make_jaxpr(
      jax.grad(
          lambda x, y: layers.einsum('ay,yz->az', jnp.float32, x, y)[0, 0],
          (0, 1),
      )
  )(x, y)
  products = [
      equation
      for equation in gradients.eqns
      if equation.primitive.name == 'dot_general'
  ]
  assert len(products) == 3  # Of the sum, and two gradients.
  for product in products:
    assert {v.aval.dtype for v in product.invars} == {jnp.dtype('bfloat16')}


def test_bias_of_queries_of_unequal_positions():
  module = relative.RelativePositionBias(
      num_heads=3, num_buckets=8, max_distance=20, bidirectional=False
  )
  table = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
  positions = np.array([[0, 11, 4], [12, 2, 7]], np.int32)

  found = module.apply(
      {'params': {'rel_embedding': table}},
      positions,
      5,
      12,
      method='of_queries',
  )

  assert found.shape == (2, 3, 3, 5)
  for row, query, key in np.ndindex(2, 3, 5):
    bucket = _bucket(key - int(positions[row, query]), 8, 20, False)
    np.testing.assert_array_equal(found[row, :, query, key], table[:, bucket])


def test_two_parts_are_attended_to_as_one():
  """Keys and values side by side give what they give in one memory."""
  module = attention.MultiHeadAttention(
      num_heads=2, head_dim=4, emb_dim=8, dropout_rate=0.0, dtype=jnp.float32
  )
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, 3, 8)).astype(np.float32)
  other = rng.normal(size=(2, 7, 8)).astype(np.float32)
  mask = rng.random((2, 1, 3, 7)) < 0.7
  bias = rng.normal(size=(2, 3, 7)).astype(np.float32)

  def memory(module, other):
    return module.memory(other)

  variables = module.init(
      jax.random.key(0),
      x,
      attention.KeyValue(*[np.zeros((2, 2, 4, 7))] * 2),
      mask,
  )
  params = variables['params']
  params |= {
      name: {'kernel': rng.normal(size=(8, 8)).astype(np.float32)}
      for name in ('key', 'value')
  }
  whole = module.apply({'params': params}, other, method=memory)
  expected = module.apply({'params': params}, x, whole, mask, bias)
  parts = [
      attention.Part(
          attention.KeyValue(*(part[..., place] for part in whole)),
          mask[..., place],
          bias[None, ..., place],
      )
      for place in (slice(0, 3), slice(3, 7))
  ]
  found = module.apply({'params': params}, x, parts, method='over')
  np.testing.assert_allclose(found, expected, atol=1e-5)
