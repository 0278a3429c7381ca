"""The parts of layers other than attention: T5 1.1's, and those of others.

Shape letters, here and in all of models/: B batch, T and S lengths (S is what
is attended to), E residual width (`emb_dim`), M feed-forward width (`mlp_dim`),
H heads, D width of a head, V vocabulary.

Parameters are float32 and carry T5X's names and logical axes; they are cast to
the module's dtype where they are used.
"""

from collections.abc import Callable, Sequence
import functools
import operator
import string
from typing import Any, cast

from flan_jax import partitioning
from flan_jax.models import config as config_lib
from flax import linen as nn
import jax
import jax.numpy as jnp

Initializer = Callable[..., jax.Array]

# T5X's: without these exact scales Adafactor's relative steps would not be the
# same (`t5x.examples.t5.layers`).
ATTENTION_INIT = nn.initializers.variance_scaling(1.0, 'fan_in', 'normal')
DENSE_INIT = nn.initializers.variance_scaling(1.0, 'fan_in', 'truncated_normal')
EMBEDDING_INIT = nn.initializers.normal(stddev=1.0)

# PEFT's, of an adapter's A [in, rank]: uniform up to 1 / sqrt(in).
_ADAPTER_INIT = nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')

_ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    # T5 1.1's GELU is the tanh approximation.
    'gelu': functools.partial(jax.nn.gelu, approximate=True),
    'gelu_exact': functools.partial(jax.nn.gelu, approximate=False),
    'linear': lambda x: x,
    'relu': jax.nn.relu,
    'silu': jax.nn.silu,
}


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def einsum(
    subscripts: str, dtype: Any, x: jax.Array, y: jax.Array
) -> jax.Array:
  """Returns the einsum of two arrays of one dtype, as `dtype`.

  The value is that of `jnp.einsum`; the gradient is arranged otherwise:

  - It is rounded to the operands' dtype first. Autodiff would multiply a
    float32 gradient with a bfloat16 operand, at float32's speed.
  - For a kernel's gradient the activations stand first. Autodiff puts the
    gradient there, which XLA's CPU backend then copies to transpose it: a
    training step took 40% more.

  Args:
    subscripts: 'first,second->result'; each letter is in two of them at
      least.
    dtype: Of the result. Sums are in float32 on every backend.
    x: The first operand.
    y: The second operand, the kernel if there is one.
  """
  return jnp.einsum(subscripts, x, y, preferred_element_type=dtype)


def _einsum_fwd(subscripts, dtype, x, y):
  # The product itself and not this function: policies of rematerialisation
  # look for products.
  result = jnp.einsum(subscripts, x, y, preferred_element_type=dtype)
  return result, (x, y)


def _einsum_bwd(subscripts, dtype, residuals, gradient):
  del dtype
  x, y = residuals
  x_axes, y_axes, out_axes = subscripts.replace('->', ',').split(',')
  gradient = gradient.astype(x.dtype)
  return (
      jnp.einsum(f'{out_axes},{y_axes}->{x_axes}', gradient, y),
      jnp.einsum(f'{x_axes},{out_axes}->{y_axes}', x, gradient),
  )


einsum.defvjp(_einsum_fwd, _einsum_bwd)


def dropout(
    module: nn.Module, x: jax.Array, rate: float, *, axis: int | None = -2
) -> jax.Array:
  """Returns `x` with a share of its entries zeroed, the others scaled up.

  Args:
    module: Whose 'dropout' stream of random numbers is drawn from.
    x: Any shape.
    rate: The share; at 0 nothing is drawn.
    axis: Along this axis all entries share their fate. T5 does so along the
      length; None is: each entry for itself.
  """
  if not rate:
    return x
  shape = list(x.shape)
  if axis is not None:
    shape[axis] = 1
  keep = jax.random.bernoulli(module.make_rng('dropout'), 1 - rate, shape)
  return x * (keep.astype(x.dtype) / (1 - rate))


def activated(name: str, x: jax.Array) -> jax.Array:
  """Returns what an activation of `base_config.ACTIVATIONS` makes of `x`."""
  return _ACTIVATIONS[name](x)


def parameter(
    module: nn.Module,
    name: str,
    init: Initializer,
    axes: tuple[str, ...],
    shape: tuple[int, ...],
) -> jax.Array:
  """Returns the module's float32 parameter, declared with logical axes."""
  boxed_init = nn.with_logical_partitioning(init, axes)
  # Flax declares the box as the result, but gives what is inside.
  return cast(jax.Array, module.param(name, boxed_init, shape, jnp.float32))


class RMSNorm(nn.Module):
  """A norm of no mean and no bias (arXiv 1910.07467), T5's. In float32.

  Attributes:
    dtype: Of the result.
    epsilon: What is added to the mean square.
    offset: What is added to the scale that is stored, which begins at 1 less.
    axis: The logical name of the last axis, which it is over.
  """

  dtype: Any
  epsilon: float = 1e-6
  offset: float = 0.0
  axis: str = 'embed'

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    init = nn.initializers.constant(1 - self.offset)
    scale = parameter(self, 'scale', init, (self.axis,), (x.shape[-1],))
    if self.offset:
      scale = scale + self.offset
    x = x.astype(jnp.float32)
    square = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
    return (x * jax.lax.rsqrt(square + self.epsilon) * scale).astype(self.dtype)


class LayerNorm(nn.Module):
  """A norm with mean, scale and bias (arXiv 1607.06450). In float32."""

  dtype: Any
  epsilon: float = 1e-5
  axis: str = 'embed'

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    axes, shape = (self.axis,), (x.shape[-1],)
    scale = parameter(self, 'scale', nn.initializers.ones, axes, shape)
    bias = parameter(self, 'bias', nn.initializers.zeros, axes, shape)
    x = x.astype(jnp.float32)
    x -= jnp.mean(x, axis=-1, keepdims=True)
    square = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
    x *= jax.lax.rsqrt(square + self.epsilon)
    return (x * scale + bias).astype(self.dtype)


class Dense(nn.Module):
  """A product with a kernel [in, out].

  Attributes:
    features: out.
    axes: The logical names of the kernel's two axes.
    dtype: What is multiplied.
    kernel_init: Called with the kernel's two-dimensional shape.
    to_float32: Whether the result stays in float32 whatever `dtype` is.
    lora: Adapters that modules may have; this one has one if it is among the
      targets, with parameters `lora_a` [in, rank] and `lora_b` [rank, out].
    use_bias: Whether a bias [out] is added.
  """

  features: int
  axes: tuple[str, str]
  dtype: Any
  kernel_init: Initializer = DENSE_INIT
  to_float32: bool = False
  lora: config_lib.Lora | None = None
  use_bias: bool = False

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    shape = (x.shape[-1], self.features)
    kernel = parameter(self, 'kernel', self.kernel_init, self.axes, shape)
    x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
    rows = string.ascii_lowercase[: x.ndim - 1]
    dtype = jnp.float32 if self.to_float32 else self.dtype
    y = einsum(f'{rows}y,yz->{rows}z', dtype, x, kernel)
    if self.lora is not None and self.lora.adapts('/'.join(self.path)):
      y += self._adapter(self.lora, x, rows, dtype)
    if self.use_bias:
      bias = parameter(
          self, 'bias', nn.initializers.zeros, self.axes[1:], (self.features,)
      )
      y += bias.astype(dtype)
    return y

  def _adapter(
      self, lora: config_lib.Lora, x: jax.Array, rows: str, dtype: Any
  ) -> jax.Array:
    """Returns what the adapter adds.

    Two thin products, and never a kernel with the adapter merged: the gradient
    of that would be as large as the kernel.
    """
    a = parameter(
        self,
        'lora_a',
        _ADAPTER_INIT,
        (self.axes[0], 'lora_rank'),
        (x.shape[-1], lora.rank),
    )
    b = parameter(
        self,
        'lora_b',
        nn.initializers.zeros,
        ('lora_rank', self.axes[1]),
        (lora.rank, self.features),
    )
    x = dropout(self, x, lora.dropout_rate, axis=None)
    a, b = a.astype(self.dtype), b.astype(self.dtype)
    inner = einsum(f'{rows}y,yz->{rows}z', self.dtype, x, a) * lora.scale
    return einsum(f'{rows}y,yz->{rows}z', dtype, inner, b)


class Embed(nn.Module):
  """The table of token vectors, which encoder and decoder share.

  Attributes:
    vocab_size: Its rows.
    emb_dim: Their width.
    dtype: Of the vectors.
    scale: Whether vectors are multiplied with the root of their width.
    scale_logits: See `tied_head`.
  """

  vocab_size: int
  emb_dim: int
  dtype: Any
  scale: bool = False
  scale_logits: bool = True

  def setup(self):
    self.embedding = parameter(
        self,
        'embedding',
        EMBEDDING_INIT,
        ('vocab', 'embed'),
        (self.vocab_size, self.emb_dim),
    )

  def __call__(self, tokens: jax.Array) -> jax.Array:
    """Returns the vectors of int32 tokens, [..., E]."""
    # With its width whole on each device, each looks up its own rows. Left to
    # itself XLA would share out the vectors by width, and so bring the whole
    # batch to every device.
    table = partitioning.constrain(self.embedding, ('vocab', 'hidden'))
    vectors = jnp.take(table, tokens, axis=0).astype(self.dtype)
    if self.scale:
      # The root is rounded too: Gemma's models were trained so.
      vectors *= jnp.asarray(self.emb_dim**0.5, self.dtype)
    return vectors

  def logits(self, x: jax.Array) -> jax.Array:
    """Returns float32 logits [..., V] by the table itself (T5 1.0)."""
    x, kernel = tied_head(x, self.embedding, self.scale_logits)
    return x @ kernel


def tied_head(
    x: jax.Array, table_VxE: jax.Array, scale: bool = True
) -> tuple[jax.Array, jax.Array]:
  """Returns what to multiply for logits by the table itself (T5 1.0).

  Args:
    x: What logits are made of.
    table_VxE: The table of token vectors.
    scale: Whether logits are divided by the root of the width, as T5X does
      because its table's entries have variance 1.

  Returns:
    `x`, scaled, as float32, and the kernel [E, V].
  """
  x = scaled_down(x) if scale else x.astype(jnp.float32)
  return x, table_VxE.T


def scaled_down(x: jax.Array) -> jax.Array:
  """Returns what logits are made of, divided by the root of its width."""
  return x.astype(jnp.float32) / x.shape[-1] ** 0.5


class Positions(nn.Module):
  """A table of learned vectors, one a position, or one a type of tokens."""

  length: int
  emb_dim: int
  dtype: Any

  @nn.compact
  def __call__(self, positions: jax.Array) -> jax.Array:
    """Returns the vectors of int32 positions, [..., E]; NaN beyond the last."""
    table = parameter(
        self,
        'embedding',
        nn.initializers.normal(stddev=0.02),  # GPT-2's.
        ('positions', 'embed'),
        (self.length, self.emb_dim),
    )
    table = partitioning.constrain(table, ('positions', 'hidden'))
    vectors = jnp.take(table, positions, axis=0, mode='fill')
    return vectors.astype(self.dtype)


class MlpBlock(nn.Module):
  """The feed-forward block, gated where there are several activations.

  Returns float32, whatever `dtype` is: the sum over M is where T5's values grow
  largest.
  """

  mlp_dim: int
  activations: Sequence[str]
  dropout_rate: float
  dtype: Any
  lora: config_lib.Lora | None = None
  use_bias: bool = False

  @nn.compact
  def __call__(self, x_BxTxE: jax.Array) -> jax.Array:
    branches = []
    for i, activation in enumerate(self.activations):
      name = 'wi' if len(self.activations) == 1 else f'wi_{i}'
      branch = Dense(
          self.mlp_dim,
          ('embed', 'mlp'),
          self.dtype,
          lora=self.lora,
          use_bias=self.use_bias,
          name=name,
      )
      branches.append(activated(activation, branch(x_BxTxE)))
    hidden_BxTxM = functools.reduce(operator.mul, branches)
    hidden_BxTxM = dropout(self, hidden_BxTxM, self.dropout_rate)
    hidden_BxTxM = partitioning.constrain(
        hidden_BxTxM, ('batch', 'length', 'mlp')
    )
    return Dense(
        x_BxTxE.shape[-1],
        ('mlp', 'embed'),
        self.dtype,
        to_float32=True,
        lora=self.lora,
        use_bias=self.use_bias,
        name='wo',
    )(hidden_BxTxM)
