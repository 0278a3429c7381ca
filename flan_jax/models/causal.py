"""The Linen modules of the decoder-only family; decoder_only.py wraps them.

The layers are those of T5's decoder without attention to an encoder, under the
names of T5X's `examples.decoder_only`. A token attends to two memories: to the
inputs, where they were read before (the context), and to the tokens since then
(the row at hand, or a cache of it). So what follows the inputs begins at the
same place in all rows of a batch, however long their inputs are.

Shape letters are those of layers.py; S is the context's length.
"""

from collections.abc import Callable, Sequence
import functools
from typing import Any, NamedTuple

from flan_jax import partitioning
from flan_jax.models import attention
from flan_jax.models import config as config_lib
from flan_jax.models import layers
from flan_jax.models import readout
from flan_jax.models import transformer
from flan_jax.models import views
from flax import linen as nn
import jax
import jax.numpy as jnp


class Own(NamedTuple):
  """What each layer has of its own, besides parameters and cache.

  Attributes:
    context: Keys and values of the context, if there is one.
    windowed: Whether its attention has the window; None where none has.
  """

  context: attention.KeyValue | None
  windowed: Any


class _Block(transformer.Block):
  """A block with this family's options."""

  config: config_lib.DecoderConfig

  def norm(self, name: str) -> nn.Module:
    """Returns a norm of the residual stream."""
    return self._norm('embed')(name=name)

  def _norm(self, axis: str) -> Callable[..., nn.Module]:
    """Returns what makes norms over an axis."""
    config = self.config
    more: dict[str, Any] = {
        'dtype': jnp.dtype(config.dtype),
        'epsilon': config.norm_epsilon,
        'axis': axis,
    }
    if config.norm == 'layer':
      return functools.partial(layers.LayerNorm, **more)
    offset = 1.0 if config.norm == 'rms_plus_one' else 0.0
    return functools.partial(layers.RMSNorm, offset=offset, **more)

  def attention_block(self) -> attention.MultiHeadAttention:
    """Returns the attention block."""
    config = self.config
    return attention.MultiHeadAttention(
        num_heads=config.num_heads,
        head_dim=config.head_dim,
        emb_dim=config.emb_dim,
        dropout_rate=config.dropout_rate if self.train else 0.0,
        dtype=jnp.dtype(config.dtype),
        num_kv_heads=config.num_kv_heads,
        query_scale=config.query_scale,
        cap=config.attention_cap,
        qkv_bias=config.qkv_bias,
        out_bias=config.out_bias,
        norm=self._norm('kv') if config.query_key_norm else None,
        lora=transformer.adapters(config, self.train),
        name='self_attention',
    )

  def mlp_block(self) -> layers.MlpBlock:
    """Returns the feed-forward block."""
    config = self.config
    return layers.MlpBlock(
        mlp_dim=config.mlp_dim,
        activations=config.mlp_activations,
        dropout_rate=config.dropout_rate if self.train else 0.0,
        dtype=jnp.dtype(config.dtype),
        use_bias=config.mlp_bias,
        lora=transformer.adapters(config, self.train),
        name='mlp',
    )


class Layer(_Block):
  """Self-attention and feed-forward, each on the norm of the residual.

  Attributes:
    keep: Whether to return the rows' own keys and values.
  """

  keep: bool

  @nn.compact
  def __call__(
      self,
      x_BxTxE: jax.Array,
      past: attention.KeyValue | None,
      own: Own,
      view: views.View,
  ) -> tuple[jax.Array, attention.KeyValue | None]:
    """Returns the residual stream and, if `keep`, the tokens' keys and values.

    With a cache, they are the whole cache's.

    Args:
      x_BxTxE: The residual stream; with a cache the tokens of one step.
      past: This layer's cache; None reads whole rows.
      own: What else is this layer's.
      view: What may attend to what.
    """
    attend = self.attention_block()
    turn = view.turn_of(own.windowed)
    y_BxTxE = self.norm('pre_self_attention_layer_norm')(x_BxTxE)
    here = view.here(attend.memory(y_BxTxE, turn), past, own.windowed)
    if own.context is None:
      y_BxTxE = attend(
          y_BxTxE,
          here.memory,
          here.mask_Bx1xTxS,
          view.bias_HxTxS,
          turn,
          reading=self.keep,
      )
    else:
      before = view.before(own.context, own.windowed)
      y_BxTxE = attend.over(y_BxTxE, (before, here), turn)
    x_BxTxE = self._added(x_BxTxE, y_BxTxE, 'post_self_attention_layer_norm')
    y_BxTxE = self.norm('pre_mlp_layer_norm')(x_BxTxE)
    x_BxTxE = self._added(
        x_BxTxE, self.mlp_block()(y_BxTxE), 'post_mlp_layer_norm'
    )
    return x_BxTxE, here.memory if self.keep else None

  def _added(
      self, x_BxTxE: jax.Array, y_BxTxE: jax.Array, norm: str
  ) -> jax.Array:
    """Returns the residual stream after a block, whose end may be a norm."""
    if self.config.norm_after:
      y_BxTxE = self.norm(norm)(y_BxTxE)
    return self.add(x_BxTxE, y_BxTxE)


class Decoder(_Block):
  """The stack, from tokens to logits."""

  @nn.compact
  def __call__(
      self,
      tokens_BxT: jax.Array,
      own: transformer.Segments | None,
      *,
      positions_BxT: jax.Array | None = None,
      both_ways_BxT: jax.Array | None = None,
      context: attention.KeyValue | None = None,
      context_BxS: jax.Array | None = None,
      steps: Sequence[transformer.Step] | None = None,
      position: jax.Array | None = None,
      seen_BxTxS: jax.Array | None = None,
      last_B: jax.Array | None = None,
      keep: bool = False,
      head: bool = True,
  ) -> tuple[jax.Array, Any]:
    """Returns float32 logits [B, T, V], and keys and values.

    The second result is the rows' own in all layers, if `keep`; in a decoding
    step it is each layer's new cache.

    Args:
      tokens_BxT: int32; in a step one a row, or one for each beam.
      own: The rows' segments against themselves; None in a step.
      positions_BxT: int32, where the tokens stand in their example, counted
        from its first; in a step one for all tokens of a row. None, without a
        context, is their places in the row.
      both_ways_BxT: Not 0 where tokens see each other in both directions.
      context: Keys and values of what stands before the rows, for all layers.
      context_BxS: bool, True where the context has a token.
      steps: What a decoding step reads in each layer; None reads whole rows.
      position: int32 scalar, the number of steps before.
      seen_BxTxS: bool, the places of the cache that each token sees. None is
        all so far, where T is 1.
      last_B: int32, the only place of each row whose logits are wanted; T is 1
        in the result. None is all places.
      keep: Whether to return keys and values of whole rows.
      head: See `logits`.
    """
    config = self.config
    dtype = jnp.dtype(config.dtype)
    embedder = layers.Embed(
        config.vocab_size,
        config.emb_dim,
        dtype,
        config.scale_embedding,
        config.scale_tied_logits,
        name='token_embedder',
    )
    bias = None
    if config.positions == 'relative':
      bias = transformer.relative_bias(config, False)
    places = queries = tokens_BxT.shape[1]
    if steps is None:
      assert own is not None
      view = views.of_rows(config, bias, own, both_ways_BxT)
    else:
      assert position is not None
      past = steps[0].past
      places = past.places // queries
      view = views.of_step(config, bias, position, past, seen_BxTxS, queries)
    if positions_BxT is None and config.positions != 'relative':
      assert context_BxS is None
      place_T = jnp.arange(queries, dtype=jnp.int32)
      positions_BxT = jnp.broadcast_to(place_T, tokens_BxT.shape)
    if positions_BxT is not None:
      view = views.placed(
          config, bias, view, positions_BxT, context_BxS, places
      )
    if config.begin_id:
      tokens_BxT = jnp.where(tokens_BxT == 0, config.begin_id, tokens_BxT)
    x_BxTxE = embedder(tokens_BxT)
    if config.positions == 'learned':
      assert positions_BxT is not None
      x_BxTxE += layers.Positions(
          config.max_positions, config.emb_dim, dtype, name='position_embedder'
      )(positions_BxT)
    x_BxTxE = partitioning.constrain(self.drop(x_BxTxE), transformer.RESIDUAL)
    windowed = config.window_layers if any(config.window_layers) else None
    if steps is None:
      stack = self.stack(
          Layer, config.num_layers, (nn.broadcast, 0, nn.broadcast), keep=keep
      )
      flags = None if windowed is None else jnp.array(windowed)
      x_BxTxE, new = stack(x_BxTxE, None, Own(context, flags), view)
    else:
      each = [
          step._replace(context=Own(step.context, windowed and windowed[i]))
          for i, step in enumerate(steps)
      ]
      x_BxTxE, new = self.step(Layer, x_BxTxE, each, view, keep=True)
    if last_B is not None:
      x_BxTxE = jnp.take_along_axis(x_BxTxE, last_B[:, None, None], axis=1)
    found = self.logits(x_BxTxE, embedder, head)
    return readout.of(config).logits(found) if head else found, new


class CausalTransformer(nn.Module):
  """The decoder alone; it stands here for the `decoder/` in T5X's names.

  Attributes:
    config: The sizes.
    train: Whether dropout is on; it then needs the 'dropout' random stream.
  """

  config: config_lib.DecoderConfig
  train: bool = False

  def setup(self):
    self.decoder = Decoder(self.config, self.train)

  def __call__(
      self, tokens_BxT: jax.Array, own: transformer.Segments | None, **more
  ) -> tuple[jax.Array, Any]:
    """Returns what `Decoder` does; `more` is its keywords."""
    return self.decoder(tokens_BxT, own, **more)
