"""What the tokens of a decoder's rows may attend to, in each of its layers.

Shape letters are those of layers.py; S is the length of what is attended to.
"""

from typing import Any, NamedTuple

from flan_jax.models import attention
from flan_jax.models import config as config_lib
from flan_jax.models import relative
from flan_jax.models import rotary
from flan_jax.models import transformer
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
    bias_HxTxS: By distance in the rows, or in the cache, if there is a bias.
    context_BxS: bool, True where the context has a token; None without one.
    context_bias_BxHxTxS: By distance to the context's tokens.
    turn: By how much tokens are turned, if positions are rotary.
    local_turn: The same in layers with a window, if it is not the same there.
    near_1x1xTxS: bool, where rows or the cache lie in the window of layers that
      have one.
    context_near_Bx1xTxS: The same of the context.
  """

  own: transformer.Segments | jax.Array
  both_ways_BxT: jax.Array | None = None
  position: jax.Array | None = None
  bias_HxTxS: jax.Array | None = None
  context_BxS: jax.Array | None = None
  context_bias_BxHxTxS: jax.Array | None = None
  turn: rotary.Turn | None = None
  local_turn: rotary.Turn | None = None
  near_1x1xTxS: jax.Array | None = None
  context_near_Bx1xTxS: jax.Array | None = None

  def turn_of(self, windowed: Any) -> rotary.Turn | None:
    """Returns by how much a layer's tokens are turned.

    Args:
      windowed: Whether the layer has the window, bool; None where none has.
    """
    if self.local_turn is None:
      return self.turn
    return jax.tree.map(
        lambda local, other: jnp.where(windowed, local, other),
        self.local_turn,
        self.turn,
    )

  def before(
      self, context: attention.KeyValue, windowed: Any
  ) -> attention.Part:
    """Returns the context as what a layer's tokens attend to."""
    assert self.context_BxS is not None
    mask_Bx1xTxS = self.context_BxS[:, None, None]
    return attention.Part(
        context,
        _seen(mask_Bx1xTxS, self.context_near_Bx1xTxS, windowed),
        self.context_bias_BxHxTxS,
    )

  def here(
      self,
      new: attention.KeyValue,
      past: attention.KeyValue | None,
      windowed: Any,
  ) -> attention.Part:
    """Returns the rows at hand as what a layer's tokens attend to.

    Args:
      new: The tokens' keys and values.
      past: The layer's cache, if there is one.
      windowed: As for `turn_of`.
    """
    memory = new
    if isinstance(self.own, transformer.Segments):
      mask_Bx1xTxS = self.own.mask(
          causal=True, both_ways_BxT=self.both_ways_BxT
      )
    else:
      assert past is not None
      assert self.position is not None
      mask_Bx1xTxS = self.own
      memory = attention.written(past, new, self.position)
    return attention.Part(
        memory,
        _seen(mask_Bx1xTxS, self.near_1x1xTxS, windowed),
        None if self.bias_HxTxS is None else self.bias_HxTxS[None],
    )


def _seen(
    mask_Bx1xTxS: jax.Array, near: jax.Array | None, windowed: Any
) -> jax.Array:
  """Returns what a layer's tokens see: all, or what is in its window."""
  if near is None:
    return mask_Bx1xTxS
  return mask_Bx1xTxS & (near | jnp.logical_not(windowed))


def of_rows(
    config: config_lib.DecoderConfig,
    bias: relative.RelativePositionBias | None,
    own: transformer.Segments,
    both_ways_BxT: jax.Array | None,
) -> View:
  """Returns the view of whole rows.

  Args:
    config: The model.
    bias: Its relative positions, if it has them.
    own: The rows' segments against themselves.
    both_ways_BxT: Not 0 where tokens see each other in both directions.
  """
  length = own.query_BxT.shape[1]
  near = None
  if any(config.window_layers):
    place_T = jnp.arange(length)
    # A segment's tokens stand beside each other, so places tell distances.
    near = jnp.abs(place_T[:, None] - place_T) < config.window
  return View(
      own,
      both_ways_BxT=both_ways_BxT,
      bias_HxTxS=None if bias is None else bias(length),
      near_1x1xTxS=None if near is None else near[None, None],
  )


def of_step(
    config: config_lib.DecoderConfig,
    bias: relative.RelativePositionBias | None,
    position: jax.Array,
    cache: attention.KeyValue,
    seen_BxTxS: jax.Array | None,
    queries: int,
) -> View:
  """Returns the view of a decoding step.

  Args:
    config: The model.
    bias: Its relative positions, if it has them.
    position: int32 scalar, the number of steps before.
    cache: That of any layer.
    seen_BxTxS: bool, the places of the cache that each token sees. None is all
      so far, where there is one token.
    queries: The tokens of a step.
  """
  places = cache.places
  near = None
  if any(config.window_layers):
    near = position - jnp.arange(places) // queries < config.window
  return View(
      attention.seen(position, cache, seen_BxTxS, queries),
      position=position,
      bias_HxTxS=None
      if bias is None
      else bias.of_query(position, places // queries, queries),
      near_1x1xTxS=None if near is None else near[None, None, None],
  )


def placed(
    config: config_lib.DecoderConfig,
    bias: relative.RelativePositionBias | None,
    view: View,
    positions_BxT: jax.Array,
    context_BxS: jax.Array | None,
    places: int,
) -> View:
  """Returns a view with what depends on where in their example tokens stand.

  Args:
    config: The model.
    bias: Its relative positions, if it has them.
    view: The view of rows or of a step.
    positions_BxT: int32, counted from the example's first token; in a step one
      for all tokens of a row.
    context_BxS: bool, True where the context has a token, if there is one.
    places: How far beyond the context tokens may stand.
  """
  if config.positions == 'rotary':
    width, theta = config.head_dim, config.rope_theta
    plain = rotary.frequencies(width, theta, config.rope_scaling)
    view = view._replace(turn=rotary.turn(plain, positions_BxT))
    if any(config.window_layers) and config.rope_local_theta:
      local = rotary.frequencies(width, config.rope_local_theta)
      view = view._replace(local_turn=rotary.turn(local, positions_BxT))
  if context_BxS is None:
    return view
  length = context_BxS.shape[1]
  view = view._replace(context_BxS=context_BxS)
  if bias is not None:
    bias_BxHxTxS = bias.of_queries(positions_BxT, length, length + places)
    view = view._replace(context_bias_BxHxTxS=bias_BxHxTxS)
  if any(config.window_layers):
    distance_BxTxS = positions_BxT[:, :, None] - jnp.arange(length)
    near = (distance_BxTxS < config.window)[:, None]
    view = view._replace(context_near_Bx1xTxS=near)
  return view
