"""The Linen modules of the encoder-decoder; encoder_decoder.py wraps them.

What they share with the decoder-only family (causal.py) is here as well.

Layers are scanned: traced once, with their parameters stacked on axis 0 under
the name `layers`. Nothing here is stateful; caches go in and come out.

Shape letters are those of layers.py.
"""

from collections.abc import Sequence
import dataclasses
from typing import Any, NamedTuple

from flan_jax import partitioning
from flan_jax.models import attention
from flan_jax.models import config as config_lib
from flan_jax.models import layers
from flan_jax.models import relative
from flax import linen as nn
import jax
import jax.numpy as jnp

# So few layers are computed without a loop: it saves next to nothing to compile
# and copies all that layers keep for the backward pass. (On a CPU the step of 2
# to 8 layers takes 15 to 20% less without it; compiling 8 takes 25% more.)
_UNROLLED = 4

RESIDUAL = ('batch', 'length', 'hidden')

# What `ModelConfig.remat` lets layers keep.
_POLICIES = {
    'minimal': jax.checkpoint_policies.checkpoint_dots_with_no_batch_dims,
    'full': None,
}


class Segments(NamedTuple):
  """Which packed example each place belongs to, int32; 0 is padding.

  Attributes:
    query_BxT: Of the queries.
    key_BxS: Of what they attend to.
  """

  query_BxT: jax.Array
  key_BxS: jax.Array

  def mask(
      self, *, causal: bool = False, both_ways_BxT: jax.Array | None = None
  ) -> jax.Array:
    """Returns bool [B, 1, T, S]: same segment, and not later if `causal`.

    It is made in each layer anew: a comparison that XLA fuses costs less than
    an array of this size that is kept.

    Args:
      causal: Whether a query sees no later key; T is then S.
      both_ways_BxT: Places that see each other all the same, not 0.
    """
    same_BxTxS = self.query_BxT[:, :, None] == self.key_BxS[:, None, :]
    if causal:
      seen_BxTxS = jnp.tri(self.query_BxT.shape[1], dtype=bool)[None]
      if both_ways_BxT is not None:
        both_ways_BxT = both_ways_BxT != 0
        seen_BxTxS |= both_ways_BxT[:, :, None] & both_ways_BxT[:, None, :]
      same_BxTxS &= seen_BxTxS
    return same_BxTxS[:, None]


def norm(config: config_lib.ModelConfig, name: str) -> layers.RMSNorm:
  """Returns a norm of the residual stream, to be called in a module."""
  return layers.RMSNorm(
      dtype=jnp.dtype(config.dtype), epsilon=config.norm_epsilon, name=name
  )


def adapters(
    config: config_lib.ModelConfig, train: bool
) -> config_lib.Lora | None:
  """Returns the adapters that a block's kernels may have."""
  if config.lora is None or train:
    return config.lora
  return dataclasses.replace(config.lora, dropout_rate=0.0)


def attention_block(
    config: config_lib.ModelConfig, train: bool, name: str
) -> attention.MultiHeadAttention:
  """Returns an attention block, to be called in a module."""
  return attention.MultiHeadAttention(
      num_heads=config.num_heads,
      head_dim=config.head_dim,
      emb_dim=config.emb_dim,
      dropout_rate=config.dropout_rate if train else 0.0,
      dtype=jnp.dtype(config.dtype),
      lora=adapters(config, train),
      name=name,
  )


def mlp_block(config: config_lib.ModelConfig, train: bool) -> layers.MlpBlock:
  """Returns a feed-forward block, to be called in a module."""
  return layers.MlpBlock(
      mlp_dim=config.mlp_dim,
      activations=config.mlp_activations,
      dropout_rate=config.dropout_rate if train else 0.0,
      dtype=jnp.dtype(config.dtype),
      lora=adapters(config, train),
      name='mlp',
  )


def relative_bias(
    config: config_lib.ModelConfig, bidirectional: bool
) -> relative.RelativePositionBias:
  """Returns a stack's table of biases, to be called in a module."""
  return relative.RelativePositionBias(
      num_heads=config.num_heads,
      num_buckets=config.relative_attention_num_buckets,
      max_distance=config.relative_attention_max_distance,
      bidirectional=bidirectional,
      name='relpos_bias',
  )


def own_bias(
    bias: relative.RelativePositionBias,
    queries: int,
    past: attention.KeyValue | None,
    position: jax.Array | None,
) -> jax.Array:
  """Returns the decoder's biases float32 [H, T, S], of rows or of a step.

  Args:
    bias: The table.
    queries: T: the rows' length, or the tokens of a step.
    past: A layer's cache; None reads whole rows.
    position: int32 scalar, the number of steps in it.
  """
  if past is None:
    return bias(queries)
  assert position is not None
  return bias.of_query(position, past.places // queries, queries)


class Step(NamedTuple):
  """What a decoding step reads in one layer, besides what all layers share.

  Arrays of one layer's own, and not slices of all layers' arrays: XLA would
  copy such slices in each step, which took longer than all products.

  Attributes:
    params: The layer's parameters.
    past: Its cache.
    context: Its keys and values of what was read before, and whatever else its
      class wants.
  """

  params: Any
  past: attention.KeyValue
  context: Any


class Block(nn.Module):
  """What layers and stacks share."""

  config: config_lib.ModelConfig
  train: bool

  def drop(self, x: jax.Array) -> jax.Array:
    """Applies dropout along the length, while training."""
    rate = self.config.dropout_rate if self.train else 0.0
    return layers.dropout(self, x, rate)

  def norm(self, name: str) -> nn.Module:
    """Returns a norm of the residual stream."""
    return norm(self.config, name)

  def add(self, x: jax.Array, y: jax.Array) -> jax.Array:
    """Returns the residual stream after a block's output, in x's dtype.

    Where `y` is float32 the sum is too, and is rounded once.
    """
    total = (x + self.drop(y)).astype(x.dtype)
    return partitioning.constrain(total, RESIDUAL)

  def stack(
      self, layer: Any, length: int, in_axes: tuple, **fields: Any
  ) -> Any:
    """Returns a module that runs `length` layers of a class after each other.

    Args:
      layer: The class of a layer.
      length: The number of layers.
      in_axes: For each argument after the residual stream: 0 if each layer has
        its own, `nn.broadcast` if all share it.
      **fields: Further fields of the class, the same for all.
    """
    config = self.config
    unroll = config.unroll_layers
    if not unroll:
      whole = config.remat == 'none' and length <= _UNROLLED
      unroll = length if whole else 1
    if self.is_initializing():
      unroll = 1
    unroll = min(unroll, length)
    if config.remat != 'none':
      # A loop keeps the two computations of a layer apart; without one, XLA
      # would find them to be the same, and keep the first.
      layer = nn.remat(
          layer, prevent_cse=unroll > 1, policy=_POLICIES[config.remat]
      )
    return nn.scan(
        layer,
        variable_axes={'params': 0},
        split_rngs={'params': True, 'dropout': True},
        in_axes=in_axes,
        length=length,
        unroll=unroll,
        metadata_params={nn.PARTITION_NAME: 'layers'},
    )(config=config, train=self.train, name='layers', **fields)

  def step(
      self,
      layer: Any,
      x_BxKxE: jax.Array,
      steps: Sequence[Step],
      *shared: Any,
      **fields: Any,
  ) -> tuple[jax.Array, tuple[attention.KeyValue, ...]]:
    """Runs a decoding step through layers that are apart from each other.

    Args:
      layer: The class of a layer.
      x_BxKxE: The residual stream.
      steps: What each layer reads.
      *shared: What all layers read: further arguments of the class.
      **fields: Further fields of the class.

    Returns:
      The residual stream, and each layer's cache with the step's tokens.
    """
    module = layer(config=self.config, train=False, parent=None, **fields)
    caches = []
    for own in steps:
      x_BxKxE, cache = module.apply(
          {'params': own.params}, x_BxKxE, own.past, own.context, *shared
      )
      caches.append(cache)
    return x_BxKxE, tuple(caches)

  def logits(
      self, x_BxTxE: jax.Array, embedder: layers.Embed, head: bool
  ) -> jax.Array:
    """Returns float32 logits [B, T, V] of a decoder's last residual stream.

    Args:
      x_BxTxE: The residual stream.
      embedder: The table of token vectors.
      head: False returns what logits are made of, [B, T, E].
    """
    config = self.config
    x_BxTxE = self.drop(self.norm('decoder_norm')(x_BxTxE))
    if not head:
      return x_BxTxE
    if config.logits_via_embedding:
      logits_BxTxV = embedder.logits(x_BxTxE)
    else:
      if config.scale_untied_logits:
        x_BxTxE = layers.scaled_down(x_BxTxE)
      logits_BxTxV = layers.Dense(
          config.vocab_size,
          ('embed', 'vocab'),
          jnp.float32,
          name='logits_dense',
      )(x_BxTxE)
    return partitioning.constrain(logits_BxTxV, ('batch', 'length', 'vocab'))


class EncoderLayer(Block):
  """Self-attention and feed-forward, each on the norm of the residual.

  Attributes:
    reading: See `attention.MultiHeadAttention`.
  """

  reading: bool

  @nn.compact
  def __call__(
      self,
      x_BxTxE: jax.Array,
      segments: Segments,
      bias_HxTxS: jax.Array | None,
  ) -> tuple[jax.Array, None]:
    """Returns the residual stream; without a bias the layer has its own."""
    config = self.config
    if bias_HxTxS is None:
      bias_HxTxS = relative_bias(config, True)(x_BxTxE.shape[1])
    attend = attention_block(config, self.train, 'attention')
    y_BxTxE = norm(config, 'pre_attention_layer_norm')(x_BxTxE)
    y_BxTxE = attend(
        y_BxTxE,
        attend.memory(y_BxTxE),
        segments.mask(),
        bias_HxTxS,
        reading=self.reading,
    )
    x_BxTxE = self.add(x_BxTxE, y_BxTxE)
    y_BxTxE = norm(config, 'pre_mlp_layer_norm')(x_BxTxE)
    return self.add(x_BxTxE, mlp_block(config, self.train)(y_BxTxE)), None


class DecoderLayer(Block):
  """Self-attention, attention to the encoder's output, and feed-forward."""

  @nn.compact
  def __call__(
      self,
      x_BxTxE: jax.Array,
      past: attention.KeyValue | None,
      cross: attention.KeyValue | None,
      encoded_BxSxE: jax.Array | None,
      position: jax.Array | None,
      own: Segments | jax.Array,
      segments: Segments,
      bias_HxTxS: jax.Array | None,
  ) -> tuple[jax.Array, attention.KeyValue | None]:
    """Returns the residual stream and, with a cache, the new cache.

    Args:
      x_BxTxE: The residual stream; with a cache the tokens of one step.
      past: This layer's cache; None reads whole rows at once.
      cross: This layer's keys and values of the encoder's output, or None to
        make them from `encoded_BxSxE`.
      encoded_BxSxE: The encoder's output where `cross` is None.
      position: int32 scalar, the number of steps in the cache.
      own: The decoder's segments against themselves; with a cache, which of its
        places each token sees, bool [B, 1, T, S].
      segments: The decoder's against the encoder's.
      bias_HxTxS: Self-attention's bias by distance; None where the layer has
        its own.
    """
    config = self.config
    if bias_HxTxS is None:
      bias_HxTxS = own_bias(
          relative_bias(config, False), x_BxTxE.shape[1], past, position
      )
    attend = attention_block(config, self.train, 'self_attention')
    y_BxTxE = norm(config, 'pre_self_attention_layer_norm')(x_BxTxE)
    memory, new = attend.memory(y_BxTxE), None
    if isinstance(own, Segments):
      mask_Bx1xTxS = own.mask(causal=True)
    else:
      assert past is not None
      assert position is not None
      memory = new = attention.written(past, memory, position)
      mask_Bx1xTxS = own
    y_BxTxE = attend(y_BxTxE, memory, mask_Bx1xTxS, bias_HxTxS)
    x_BxTxE = self.add(x_BxTxE, y_BxTxE)

    attend = attention_block(config, self.train, 'encoder_decoder_attention')
    y_BxTxE = norm(config, 'pre_cross_attention_layer_norm')(x_BxTxE)
    if cross is None:
      assert encoded_BxSxE is not None
      cross = attend.memory(encoded_BxSxE)
    x_BxTxE = self.add(x_BxTxE, attend(y_BxTxE, cross, segments.mask()))

    y_BxTxE = norm(config, 'pre_mlp_layer_norm')(x_BxTxE)
    return self.add(x_BxTxE, mlp_block(config, self.train)(y_BxTxE)), new


class Encoder(Block):
  """The encoder's stack, from embedded tokens to its output [B, S, E]."""

  config: config_lib.EncoderDecoderConfig

  @nn.compact
  def __call__(
      self, x_BxSxE: jax.Array, segments: Segments, reading: bool
  ) -> jax.Array:
    config = self.config
    bias_HxSxS = None
    if not config.relative_attention_per_layer:
      bias_HxSxS = relative_bias(config, True)(x_BxSxE.shape[1])
    x_BxSxE = partitioning.constrain(self.drop(x_BxSxE), RESIDUAL)
    stack = self.stack(
        EncoderLayer,
        config.num_encoder_layers,
        (nn.broadcast, nn.broadcast),
        reading=reading,
    )
    x_BxSxE, _ = stack(x_BxSxE, segments, bias_HxSxS)
    x_BxSxE = norm(config, 'encoder_norm')(x_BxSxE)
    # Alone among T5X's places, this one drops each entry for itself.
    rate = config.dropout_rate if self.train else 0.0
    return layers.dropout(self, x_BxSxE, rate, axis=None)


class Decoder(Block):
  """The decoder's stack, from embedded tokens to logits."""

  config: config_lib.EncoderDecoderConfig
  embedder: layers.Embed

  @nn.compact
  def __call__(
      self,
      x_BxTxE: jax.Array,
      own: Segments | None,
      segments: Segments,
      *,
      encoded_BxSxE: jax.Array | None = None,
      cross: attention.KeyValue | None = None,
      steps: Sequence[Step] | None = None,
      position: jax.Array | None = None,
      seen_BxTxS: jax.Array | None = None,
      head: bool = True,
  ) -> tuple[jax.Array, tuple[attention.KeyValue, ...] | None]:
    """Returns float32 logits [B, T, V] and, in a step, the new caches.

    Args:
      x_BxTxE: Embedded tokens; in a step one, or one for each beam.
      own: The decoder's segments against themselves; None in a step.
      segments: The decoder's against the encoder's.
      encoded_BxSxE: The encoder's output, where `cross` is None.
      cross: Keys and values of the encoder's output, for all layers.
      steps: What a decoding step reads in each layer; None reads whole rows.
      position: int32 scalar, the number of steps before.
      seen_BxTxS: bool, the places of the cache that each token sees. None is
        all so far, where T is 1.
      head: See `logits`.
    """
    config = self.config
    bias_HxTxS = None
    if not config.relative_attention_per_layer:
      bias_HxTxS = own_bias(
          relative_bias(config, False),
          x_BxTxE.shape[1],
          steps[0].past if steps is not None else None,
          position,
      )
    x_BxTxE = partitioning.constrain(self.drop(x_BxTxE), RESIDUAL)
    if steps is None:
      stack = self.stack(
          DecoderLayer,
          config.num_decoder_layers,
          (nn.broadcast, 0) + (nn.broadcast,) * 5,
      )
      x_BxTxE, _ = stack(
          x_BxTxE, None, cross, encoded_BxSxE, None, own, segments, bias_HxTxS
      )
      return self.logits(x_BxTxE, self.embedder, head), None
    assert position is not None
    queries = x_BxTxE.shape[1]
    past = steps[0].past
    x_BxTxE, new = self.step(
        DecoderLayer,
        x_BxTxE,
        steps,
        None,
        position,
        attention.seen(position, past, seen_BxTxS, queries),
        segments,
        bias_HxTxS,
    )
    return self.logits(x_BxTxE, self.embedder, head), new


class Transformer(nn.Module):
  """Encoder and decoder over one table of token vectors.

  Attributes:
    config: The sizes.
    train: Whether dropout is on; it then needs the 'dropout' random stream.
  """

  config: config_lib.EncoderDecoderConfig
  train: bool = False

  def setup(self):
    config = self.config
    self.token_embedder = layers.Embed(
        config.vocab_size,
        config.emb_dim,
        jnp.dtype(config.dtype),
        scale_logits=config.scale_tied_logits,
    )
    self.encoder = Encoder(config, self.train)
    self.decoder = Decoder(config, self.train, self.token_embedder)

  def encode(
      self,
      tokens_BxS: jax.Array,
      segments_BxS: jax.Array,
      reading: bool = False,
  ) -> jax.Array:
    """Returns the encoder's output [B, S, E]."""
    return self.encoder(
        self.token_embedder(tokens_BxS),
        Segments(segments_BxS, segments_BxS),
        reading,
    )

  def decode(
      self,
      tokens_BxT: jax.Array,
      own: Segments | None,
      segments: Segments,
      **memory: Any,
  ) -> tuple[jax.Array, tuple[attention.KeyValue, ...] | None]:
    """Returns what `Decoder` does, for tokens; `memory` is its keywords."""
    return self.decoder(
        self.token_embedder(tokens_BxT), own, segments, **memory
    )

  def __call__(
      self,
      encoder_tokens_BxS: jax.Array,
      encoder_segments_BxS: jax.Array,
      decoder_tokens_BxT: jax.Array,
      decoder_segments_BxT: jax.Array,
      *,
      head: bool = True,
  ) -> jax.Array:
    """Returns float32 logits [B, T, V]; for `head` see `Block.logits`."""
    encoded_BxSxE = self.encode(encoder_tokens_BxS, encoder_segments_BxS)
    logits_BxTxV, _ = self.decode(
        decoder_tokens_BxT,
        Segments(decoder_segments_BxT, decoder_segments_BxT),
        Segments(decoder_segments_BxT, encoder_segments_BxS),
        encoded_BxSxE=encoded_BxSxE,
        head=head,
    )
    return logits_BxTxV
