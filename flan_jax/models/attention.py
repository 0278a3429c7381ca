"""T5's attention, and what other decoders add to it.

T5's has no scaling by the head's width, and biases by distance (relative.py).
Shape letters are those of layers.py; heads of keys and values may be fewer than
those of queries, K of them, each with G neighbouring heads of queries.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from flan_jax import partitioning
from flan_jax.models import config as config_lib
from flan_jax.models import few_rows
from flan_jax.models import layers
from flan_jax.models import relative
from flan_jax.models import rotary
from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

# Finite, so that a row that may attend to nothing (padding) stays finite too.
MASKED = -1e10

_HEADS = ('batch', 'length', 'heads', 'kv')
_KV_HEADS = ('batch', 'length', 'kv_heads', 'kv')


class KeyValue(NamedTuple):
  """Keys and values [B, K, D, S], or [layers, B, K, D, S] of a whole stack.

  Positions stand last: this is how both products of attention read them, and
  a decoding step that had to copy them first took 40% more on a CPU.
  """

  key: jax.Array
  value: jax.Array

  @property
  def places(self) -> int:
    """S."""
    return self.key.shape[-1]


def positions_last(x_BxSxHxD: jax.Array) -> jax.Array:
  """Returns keys or values [..., S, H, D] as [..., H, D, S]."""
  return jnp.moveaxis(x_BxSxHxD, -3, -1)


class Part(NamedTuple):
  """Some of what a query attends to.

  Attributes:
    memory: Keys and values.
    mask_Bx1xTxS: bool, True where the query may attend; may broadcast.
    bias_BxHxTxS: float32, added to the logits, if there is one; may broadcast.
  """

  memory: KeyValue
  mask_Bx1xTxS: jax.Array
  bias_BxHxTxS: jax.Array | None


def written(past: KeyValue, new: KeyValue, position: jax.Array) -> KeyValue:
  """Returns a cache with the tokens of one more step.

  Args:
    past: The cache, of steps * beams places.
    new: The step's keys and values, [B, K, D, beams].
    position: int32 scalar, the number of steps before this one.
  """
  place = position * new.places
  return jax.tree.map(
      lambda old, row: jax.lax.dynamic_update_slice_in_dim(
          old, row, place, axis=-1
      ),
      past,
      new,
  )


def seen(
    position: jax.Array,
    cache: KeyValue,
    seen_BxKxS: jax.Array | None,
    queries: int,
) -> jax.Array:
  """Returns which places of a cache a step's tokens see, as a mask.

  Args:
    position: int32 scalar, the number of steps before this one.
    cache: That of any layer.
    seen_BxKxS: bool, where it is known; None is all places up to `position`,
      for steps of one token.
    queries: K, the tokens of a step.

  Returns:
    bool [B, 1, K, S], or what broadcasts to it.

  Raises:
    ValueError: Steps have several tokens, and it is not known what they see.
  """
  if seen_BxKxS is not None:
    return seen_BxKxS[:, None]
  if queries > 1:
    raise ValueError(f'What do {queries} tokens of one step see of each other?')
  return (jnp.arange(cache.places) <= position)[None, None, None]


def attention_logits(
    query_BxTxHxD: jax.Array,
    memory: KeyValue,
    mask_Bx1xTxS: jax.Array,
    cap: float = 0.0,
) -> jax.Array:
  """Returns attention's logits, masked, float32 [B, H, T, S].

  Args:
    query_BxTxHxD: Queries.
    memory: Keys and values.
    mask_Bx1xTxS: bool, True where the query may attend; may broadcast.
    cap: Logits x become cap * tanh(x / cap); 0 leaves them.
  """
  batch, length, heads, width = query_BxTxHxD.shape
  kv_heads = memory.key.shape[1]
  if kv_heads == heads:
    logits_BxHxTxS = layers.einsum(
        'bthd,bhds->bhts', jnp.float32, query_BxTxHxD, memory.key
    )
  else:
    # Keys are read once, and not copied for each head of their group.
    logits_BxHxTxS = layers.einsum(
        'btkgd,bkds->bkgts',
        jnp.float32,
        query_BxTxHxD.reshape(batch, length, kv_heads, -1, width),
        memory.key,
    ).reshape(batch, heads, length, memory.places)
  if cap:
    logits_BxHxTxS = cap * jnp.tanh(logits_BxHxTxS / cap)
  # The mask is added, not selected by: a sum keeps nothing for its gradient.
  return logits_BxHxTxS + jnp.where(mask_Bx1xTxS, 0.0, MASKED)


def attention_weights(
    query_BxTxHxD: jax.Array,
    memory: KeyValue,
    mask_Bx1xTxS: jax.Array,
    bias_HxTxS: jax.Array | None,
    cap: float = 0.0,
) -> tuple[jax.Array, jax.Array]:
  """Returns attention weights, not divided by their sum yet, and that sum.

  What was found is divided, [B, T, H, D], and not the weights, which are more:
  on a CPU attention takes a seventh less time so, and its gradient as well.

  Args:
    query_BxTxHxD: Queries.
    memory: Keys and values.
    mask_Bx1xTxS: bool, True where the query may attend; may broadcast.
    bias_HxTxS: float32, added to the logits.
    cap: See `attention_logits`.

  Returns:
    Float32 [B, H, T, S], the largest of each row being 1, and [B, H, T].
  """
  logits_BxHxTxS = attention_logits(query_BxTxHxD, memory, mask_Bx1xTxS, cap)
  if bias_HxTxS is not None:
    logits_BxHxTxS = relative.add_bias(logits_BxHxTxS, bias_HxTxS)
  most_BxHxTx1 = jnp.max(logits_BxHxTxS, axis=-1, keepdims=True)
  weights_BxHxTxS = jnp.exp(
      logits_BxHxTxS - jax.lax.stop_gradient(most_BxHxTx1)
  )
  return weights_BxHxTxS, jnp.sum(weights_BxHxTxS, axis=-1)


def _grouped(weights_BxHxTxS: jax.Array, kv_heads: int) -> jax.Array:
  """Returns weights [B, K, G, T, S]."""
  batch, heads, length, places = weights_BxHxTxS.shape
  return weights_BxHxTxS.reshape(
      batch, kv_heads, heads // kv_heads, length, places
  )


def _products(
    weights_BxHxTxS: jax.Array, memory: KeyValue
) -> tuple[str, jax.Array]:
  """Returns how to multiply weights with values, and the weights for it."""
  kv_heads = memory.value.shape[1]
  if kv_heads == weights_BxHxTxS.shape[1]:
    return 'bhts,bhds->bthd', weights_BxHxTxS
  return 'bkgts,bkds->btkgd', _grouped(weights_BxHxTxS, kv_heads)


def _ungrouped(found_BxTxKxGxD: jax.Array) -> jax.Array:
  """Returns what was found as [B, T, H, D]."""
  batch, length, *_, width = found_BxTxKxGxD.shape
  return found_BxTxKxGxD.reshape(batch, length, -1, width)


class MultiHeadAttention(nn.Module):
  """Multi-head attention with kernels [E, H * D], as T5X stores them.

  Attributes:
    num_heads: Heads of queries.
    head_dim: Width of a head.
    emb_dim: Width of what is read and of the result.
    dropout_rate: Of the weights.
    dtype: What is computed in; weights are float32.
    lora: See `layers.Dense`.
    num_kv_heads: Heads of keys and values; 0 is as many as of queries.
    query_scale: What queries are multiplied with; at 1 their first weights are
      smaller instead, as T5's.
    cap: See `attention_logits`.
    qkv_bias: Whether queries, keys and values have biases.
    out_bias: Whether the result has one.
    norm: Makes the norms of queries and of keys, if they have any.
  """

  num_heads: int
  head_dim: int
  emb_dim: int
  dropout_rate: float
  dtype: Any
  lora: config_lib.Lora | None = None
  num_kv_heads: int = 0
  query_scale: float = 1.0
  cap: float = 0.0
  qkv_bias: bool = False
  out_bias: bool = False
  norm: Callable[..., nn.Module] | None = None

  def setup(self):
    def query_init(*args):
      # T5 puts the usual 1 / sqrt(D) here and not into the forward pass.
      return layers.ATTENTION_INIT(*args) / self.head_dim**0.5

    def heads(init, count):
      return layers.Dense(
          count * self.head_dim,
          ('embed', 'joined_kv'),
          self.dtype,
          kernel_init=init,
          lora=self.lora,
          use_bias=self.qkv_bias,
      )

    init = layers.ATTENTION_INIT
    folded = self.query_scale == 1
    self.query = heads(query_init if folded else init, self.num_heads)
    self.key = heads(init, self.num_kv_heads or self.num_heads)
    self.value = heads(init, self.num_kv_heads or self.num_heads)
    self.out = layers.Dense(
        self.emb_dim,
        ('joined_kv', 'embed'),
        self.dtype,
        kernel_init=init,
        use_bias=self.out_bias,
        lora=self.lora,
    )
    if self.norm is not None:
      self.query_norm = self.norm()
      self.key_norm = self.norm()

  def memory(
      self, x_BxSxE: jax.Array, turn: rotary.Turn | None = None
  ) -> KeyValue:
    """Returns the keys and values of `x_BxSxE`.

    Args:
      x_BxSxE: What they are made of.
      turn: By how much keys are turned, if positions are rotary.
    """
    # Named as heads of queries unless there are fewer, so that an error about
    # the mesh names the number that the user has set.
    fewer = self.num_kv_heads not in (0, self.num_heads)
    names = _KV_HEADS if fewer else _HEADS
    key_BxSxKxD = self._split(self.key(x_BxSxE), names)
    value_BxSxKxD = self._split(self.value(x_BxSxE), names)
    if self.norm is not None:
      key_BxSxKxD = self.key_norm(key_BxSxKxD)
    if turn is not None:
      key_BxSxKxD = rotary.turned(key_BxSxKxD, turn).astype(self.dtype)
    return KeyValue(positions_last(key_BxSxKxD), positions_last(value_BxSxKxD))

  def _queries(self, x_BxTxE: jax.Array, turn: rotary.Turn | None) -> jax.Array:
    """Returns queries [B, T, H, D]."""
    query_BxTxHxD = self._split(self.query(x_BxTxE), _HEADS)
    if self.norm is not None:
      query_BxTxHxD = self.query_norm(query_BxTxHxD)
    if turn is not None:
      query_BxTxHxD = rotary.turned(query_BxTxHxD, turn)
    if self.query_scale != 1:
      query_BxTxHxD *= self.query_scale
    return query_BxTxHxD.astype(self.dtype)

  def __call__(
      self,
      x_BxTxE: jax.Array,
      memory: KeyValue,
      mask_Bx1xTxS: jax.Array,
      bias_HxTxS: jax.Array | None = None,
      turn: rotary.Turn | None = None,
      reading: bool = False,
  ) -> jax.Array:
    """Returns what `x_BxTxE` finds in `memory`, [B, T, E].

    Args:
      x_BxTxE: What queries are made of.
      memory: What `memory` returned, or a cache of it.
      mask_Bx1xTxS: bool, True where the query may attend; may broadcast.
      bias_HxTxS: float32, added to the logits.
      turn: By how much queries are turned, if positions are rotary.
      reading: Whether inputs are read, without dropout or a gradient; see
        `few_rows`.
    """

    def find(
        query_BxTxHxD: jax.Array, memory: KeyValue, mask_Bx1xTxS: jax.Array
    ) -> jax.Array:
      weights_BxHxTxS, total_BxHxT = attention_weights(
          query_BxTxHxD, memory, mask_Bx1xTxS, bias_HxTxS, self.cap
      )
      weights_BxHxTxS = layers.dropout(
          self, weights_BxHxTxS.astype(self.dtype), self.dropout_rate
      )
      letters, weights = _products(weights_BxHxTxS, memory)
      found_BxTxHxD = _ungrouped(jnp.einsum(letters, weights, memory.value))
      total_BxTxHx1 = jnp.swapaxes(total_BxHxT, 1, 2)[..., None]
      return (found_BxTxHxD / total_BxTxHx1).astype(self.dtype)

    query_BxTxHxD = self._queries(x_BxTxE, turn)
    if reading:
      batch, length, heads, _ = query_BxTxHxD.shape
      logits = batch * heads * length * memory.places
      found_BxTxHxD = few_rows.mapped(
          find, logits, query_BxTxHxD, memory, mask_Bx1xTxS
      )
    else:
      found_BxTxHxD = find(query_BxTxHxD, memory, mask_Bx1xTxS)
    return self.out(self._join(found_BxTxHxD))

  def over(
      self,
      x_BxTxE: jax.Array,
      parts: Sequence[Part],
      turn: rotary.Turn | None = None,
  ) -> jax.Array:
    """Returns what `x_BxTxE` finds in all parts together, [B, T, E].

    As if they stood side by side in one memory, without copying them there.
    There is no dropout: it is for decoding.
    """
    query_BxTxHxD = self._queries(x_BxTxE, turn)
    logits = [
        attention_logits(
            query_BxTxHxD, part.memory, part.mask_Bx1xTxS, self.cap
        )
        for part in parts
    ]
    logits = [
        own if part.bias_BxHxTxS is None else own + part.bias_BxHxTxS
        for own, part in zip(logits, parts, strict=True)
    ]
    weights_BxHxTxS = jax.nn.softmax(jnp.concatenate(logits, axis=-1), axis=-1)
    ends = np.cumsum([part.shape[-1] for part in logits])[:-1].tolist()
    found: Any = 0.0
    for part, weights in zip(
        parts, jnp.split(weights_BxHxTxS, ends, axis=-1), strict=True
    ):
      letters, weights = _products(weights.astype(self.dtype), part.memory)
      found += layers.einsum(letters, jnp.float32, weights, part.memory.value)
    return self.out(self._join(_ungrouped(found).astype(self.dtype)))

  def _split(
      self, x_BxTxJ: jax.Array, names: tuple[str, str, str, str]
  ) -> jax.Array:
    x_BxTxHxD = x_BxTxJ.reshape(*x_BxTxJ.shape[:-1], -1, self.head_dim)
    return partitioning.constrain(x_BxTxHxD, names)

  def _join(self, x_BxTxHxD: jax.Array) -> jax.Array:
    x_BxTxHxD = partitioning.constrain(x_BxTxHxD, _HEADS)
    return x_BxTxHxD.reshape(*x_BxTxHxD.shape[:-2], -1)
