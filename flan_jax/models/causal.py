"""The Linen modules of the decoder-only family; decoder_only.py wraps them.

The layers are those of T5's decoder without attention to an encoder, under the
names of T5X's `examples.decoder_only`. A token attends to two memories: to the
inputs, where they were read before (the context), and to the tokens since then
(the row at hand, or a cache of it). So what follows the inputs begins at the
same place in all rows of a batch, however long their inputs are.

Shape letters are those of layers.py; S is the context's length.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from flan_jax import partitioning
from flan_jax.models import attention
from flan_jax.models import config as config_lib
from flan_jax.models import layers
from flan_jax.models import transformer
from flax import linen as nn
import jax
import jax.numpy as jnp


class View(NamedTuple):
  """What the tokens of rows may attend to, and with which bias.

  Attributes:
    own: The rows' segments against themselves; in a decoding step, which places
      of the cache its tokens see, bool [B, 1, T, S].
    both_ways_BxT: Not 0 where tokens see each other in both directions, if any
      do.
    position: int32 scalar, the number of steps in the cache; None without one.
    bias_HxTxS: By distance in the rows, or in the cache.
    context_BxS: bool, True where the context has a token; None without one.
    context_bias_BxHxTxS: By distance to the context's tokens.
  """

  own: transformer.Segments | jax.Array
  both_ways_BxT: jax.Array | None
  position: jax.Array | None
  bias_HxTxS: jax.Array
  context_BxS: jax.Array | None
  context_bias_BxHxTxS: jax.Array | None


class Layer(transformer.Block):
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
      context: attention.KeyValue | None,
      view: View,
  ) -> tuple[jax.Array, attention.KeyValue | None]:
    """Returns the residual stream and, if `keep`, the tokens' keys and values.

    With a cache, they are the whole cache's.

    Args:
      x_BxTxE: The residual stream; with a cache the tokens of one step.
      past: This layer's cache; None reads whole rows.
      context: This layer's keys and values of the context, if there is one.
      view: What may attend to what.
    """
    config = self.config
    attend = transformer.attention_block(config, self.train, 'self_attention')
    y_BxTxE = transformer.norm(config, 'pre_self_attention_layer_norm')(x_BxTxE)
    own = _own(attend.memory(y_BxTxE), past, view)
    if context is None:
      y_BxTxE = attend(y_BxTxE, own.memory, own.mask_Bx1xTxS, view.bias_HxTxS)
    else:
      assert view.context_BxS is not None
      assert view.context_bias_BxHxTxS is not None
      before = attention.Part(
          context, view.context_BxS[:, None, None], view.context_bias_BxHxTxS
      )
      y_BxTxE = attend.over(y_BxTxE, (before, own))
    x_BxTxE = self.add(x_BxTxE, y_BxTxE)
    y_BxTxE = transformer.norm(config, 'pre_mlp_layer_norm')(x_BxTxE)
    x_BxTxE = self.add(
        x_BxTxE, transformer.mlp_block(config, self.train)(y_BxTxE)
    )
    return x_BxTxE, own.memory if self.keep else None


def _own(
    new: attention.KeyValue, past: attention.KeyValue | None, view: View
) -> attention.Part:
  """Returns the rows at hand as what their tokens attend to."""
  bias_1xHxTxS = view.bias_HxTxS[None]
  if isinstance(view.own, transformer.Segments):
    mask_Bx1xTxT = view.own.mask(causal=True, both_ways_BxT=view.both_ways_BxT)
    return attention.Part(new, mask_Bx1xTxT, bias_1xHxTxS)
  assert past is not None
  assert view.position is not None
  memory = attention.written(past, new, view.position)
  return attention.Part(memory, view.own, bias_1xHxTxS)


class Decoder(transformer.Block):
  """The stack, from tokens to logits."""

  config: config_lib.DecoderConfig

  @nn.compact
  def __call__(
      self,
      tokens_BxT: jax.Array,
      own: transformer.Segments | None,
      *,
      both_ways_BxT: jax.Array | None = None,
      context: attention.KeyValue | None = None,
      context_BxS: jax.Array | None = None,
      positions_BxT: jax.Array | None = None,
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
      both_ways_BxT: Not 0 where tokens see each other in both directions.
      context: Keys and values of what stands before the rows, for all layers.
      context_BxS: bool, True where the context has a token.
      positions_BxT: int32, where the tokens stand, counted from the context's
        first; None without a context. In a step one for all tokens of a row.
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
    embedder = layers.Embed(
        config.vocab_size,
        config.emb_dim,
        jnp.dtype(config.dtype),
        name='token_embedder',
    )
    bias = transformer.relative_bias(config, False)
    seen: transformer.Segments | jax.Array
    if steps is None:
      assert own is not None
      seen = own
      farthest = tokens_BxT.shape[1]
      bias_HxTxS = bias(farthest)
    else:
      assert position is not None
      past, queries = steps[0].past, tokens_BxT.shape[1]
      seen = attention.seen(position, past, seen_BxTxS, queries)
      farthest = past.key.shape[-1] // queries
      bias_HxTxS = bias.of_query(position, farthest, queries)
    context_bias = None
    if context_BxS is not None:
      assert positions_BxT is not None
      length = context_BxS.shape[1]
      context_bias = bias.of_queries(positions_BxT, length, length + farthest)
    view = View(
        seen, both_ways_BxT, position, bias_HxTxS, context_BxS, context_bias
    )
    x_BxTxE = partitioning.constrain(
        self.drop(embedder(tokens_BxT)), transformer.RESIDUAL
    )
    if steps is None:
      stack = self.stack(
          Layer, config.num_layers, (nn.broadcast, 0, nn.broadcast), keep=keep
      )
      x_BxTxE, new = stack(x_BxTxE, None, context, view)
    else:
      x_BxTxE, new = self.step(Layer, x_BxTxE, steps, view, keep=True)
    if last_B is not None:
      x_BxTxE = jnp.take_along_axis(x_BxTxE, last_B[:, None, None], axis=1)
    return self.logits(x_BxTxE, embedder, head), new


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
