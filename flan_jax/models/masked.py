"""The Linen modules of an encoder alone; encoder_only.py wraps them.

BERT's layers (arXiv 1810.04805): each block's output is added to the residual
stream, and the sum has the norm; all products have biases. A token's vector is
the sum of its own, its position's and its type's. There is no dropout, since
nothing here is trained.

Shape letters are those of layers.py.
"""

from flan_jax import partitioning
from flan_jax.models import attention
from flan_jax.models import config as config_lib
from flan_jax.models import layers
from flan_jax.models import readout
from flan_jax.models import transformer
from flax import linen as nn
import jax
import jax.numpy as jnp


class _Block(transformer.Block):
  """A block with this family's norm."""

  config: config_lib.EncoderConfig

  def norm(self, name: str) -> nn.Module:
    """Returns a norm of the residual stream."""
    config = self.config
    return layers.LayerNorm(
        dtype=jnp.dtype(config.dtype), epsilon=config.norm_epsilon, name=name
    )


class Layer(_Block):
  """Self-attention in both directions and feed-forward, norms after sums."""

  @nn.compact
  def __call__(
      self, x_BxTxE: jax.Array, segments: transformer.Segments
  ) -> tuple[jax.Array, None]:
    """Returns the residual stream."""
    config = self.config
    dtype = jnp.dtype(config.dtype)
    attend = attention.MultiHeadAttention(
        num_heads=config.num_heads,
        head_dim=config.head_dim,
        emb_dim=config.emb_dim,
        dropout_rate=0.0,
        dtype=dtype,
        query_scale=config.head_dim**-0.5,
        qkv_bias=True,
        out_bias=True,
        name='attention',
    )
    y_BxTxE = attend(
        x_BxTxE, attend.memory(x_BxTxE), segments.mask(), reading=True
    )
    x_BxTxE = self._added('post_attention_layer_norm', x_BxTxE, y_BxTxE)
    mlp = layers.MlpBlock(
        mlp_dim=config.mlp_dim,
        activations=config.mlp_activations,
        dropout_rate=0.0,
        dtype=dtype,
        use_bias=True,
        name='mlp',
    )
    return self._added('post_mlp_layer_norm', x_BxTxE, mlp(x_BxTxE)), None

  def _added(self, name: str, x: jax.Array, y: jax.Array) -> jax.Array:
    """Returns the norm of the residual stream after a block's output."""
    return partitioning.constrain(self.norm(name)(x + y), transformer.RESIDUAL)


class Encoder(_Block):
  """The stack, from embedded tokens to hidden states [B, T, E]."""

  @nn.compact
  def __call__(
      self,
      x_BxTxE: jax.Array,
      types_BxT: jax.Array,
      segments: transformer.Segments,
  ) -> jax.Array:
    """Returns the last layer's output, in the model's dtype."""
    config = self.config

    def table(rows: int, name: str) -> layers.Positions:
      dtype = jnp.dtype(config.dtype)
      return layers.Positions(rows, config.emb_dim, dtype, name=name)

    places_T = jnp.arange(x_BxTxE.shape[1], dtype=jnp.int32)
    x_BxTxE += table(config.num_types, 'type_embedder')(types_BxT)
    x_BxTxE += table(config.max_positions, 'position_embedder')(places_T)
    x_BxTxE = self.norm('embedder_norm')(x_BxTxE)
    x_BxTxE = partitioning.constrain(x_BxTxE, transformer.RESIDUAL)
    stack = self.stack(Layer, config.num_layers, (nn.broadcast,))
    x_BxTxE, _ = stack(x_BxTxE, segments)
    return x_BxTxE


class Head(_Block):
  """From hidden states to logits, by the table of token vectors."""

  @nn.compact
  def __call__(self, x: jax.Array, embedder: layers.Embed) -> jax.Array:
    """Returns float32 logits [..., V] of hidden states [..., E]."""
    config = self.config
    x = layers.Dense(
        config.emb_dim,
        ('embed', 'hidden'),
        jnp.dtype(config.dtype),
        to_float32=True,
        use_bias=True,
        name='dense',
    )(x)
    x = layers.activated(config.mlp_activations[0], x)
    x = self.norm('norm')(x)
    bias_V = layers.parameter(
        self, 'bias', nn.initializers.zeros, ('vocab',), (config.vocab_size,)
    )
    logits = embedder.logits(x) + bias_V
    names = ('batch', *('length',) * (logits.ndim - 2), 'vocab')
    return readout.of(config).logits(partitioning.constrain(logits, names))


class Score(_Block):
  """From the first token's hidden state to one number.

  As BertForMultipleChoice of `transformers` has it.
  """

  @nn.compact
  def __call__(self, x_BxE: jax.Array) -> jax.Array:
    """Returns float32 [B]."""
    config = self.config

    def dense(features: int, name: str) -> layers.Dense:
      return layers.Dense(
          features,
          ('embed', 'hidden'),
          jnp.dtype(config.dtype),
          to_float32=True,
          use_bias=True,
          name=name,
      )

    x_BxE = jnp.tanh(dense(config.emb_dim, 'pooler')(x_BxE))
    return dense(1, 'out')(x_BxE)[:, 0]


class MaskedTransformer(nn.Module):
  """The encoder, and the head that says what stands at masked places.

  Or, if the configuration says so, the head that makes a number of each row.

  Attributes:
    config: The sizes.
    train: Not read; other families have dropout.
  """

  config: config_lib.EncoderConfig
  train: bool = False

  def setup(self):
    config = self.config
    self.token_embedder = layers.Embed(
        config.vocab_size,
        config.emb_dim,
        jnp.dtype(config.dtype),
        scale_logits=False,
    )
    self.encoder = Encoder(config, self.train)
    if config.head == 'score':
      self.score = Score(config, self.train)
    else:
      self.head = Head(config, self.train)

  def __call__(
      self,
      tokens_BxT: jax.Array,
      types_BxT: jax.Array,
      place_B: jax.Array | None = None,
      *,
      head: bool = True,
  ) -> jax.Array:
    """Returns float32 logits [B, T, V], or [B, V] of one place a row.

    With the head that scores, float32 [B].

    Args:
      tokens_BxT: int32, padded with 0.
      types_BxT: int32, below `config.num_types`.
      place_B: int32, the place of each row; None is all.
      head: False returns hidden states, [B, T, E] or [B, E].
    """
    own_BxT = (tokens_BxT != 0).astype(jnp.int32)
    x = self.encoder(
        self.token_embedder(tokens_BxT),
        types_BxT,
        transformer.Segments(own_BxT, own_BxT),
    )
    if head and self.config.head == 'score':
      return self.score(x[:, 0])
    if place_B is not None:
      x = jnp.take_along_axis(x, place_B[:, None, None], axis=1)[:, 0]
    return self.head(x, self.token_embedder) if head else x
