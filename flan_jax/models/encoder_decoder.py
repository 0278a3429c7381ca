"""T5 1.1's encoder-decoder as pure functions of parameters and batches.

arXiv 1910.10683, with the changes of T5 1.1 (gated GELU, untied logits; arXiv
2002.05202). The numbers are T5X's (`t5x.examples.t5.network`).
"""

from collections.abc import Mapping
import functools
from typing import Any

from flan_jax import partitioning
from flan_jax.models import attention
from flan_jax.models import config as config_lib
from flan_jax.models import interface
from flan_jax.models import losses
from flan_jax.models import naming
from flan_jax.models import transformer
from flax import linen as nn
import jax
import jax.numpy as jnp


class EncoderDecoder:
  """See `interface.Model`. Holds sizes only, never parameters.

  A batch has SeqIO's features. Segment ids may be left out of unpacked
  batches: what is not 0 is then one segment. Relative positions are those of
  array indices, as in T5X, so positions are not read.
  """

  def __init__(self, config: config_lib.EncoderDecoderConfig):
    self.config = config
    self._eval = transformer.Transformer(config, train=False)
    self._train = transformer.Transformer(config, train=True)

  def init(self, rng: jax.Array) -> interface.Params:
    """Returns float32 parameters with T5X's initial distributions.

    Jit it with `out_shardings` to make each device's part in place.
    """
    return jax.tree.map(
        lambda box: box.value, self._boxed(rng), is_leaf=_is_box
    )

  @functools.cached_property
  def _abstract(self) -> Any:
    return jax.eval_shape(self._boxed, jax.random.key(0))

  def abstract_params(self) -> interface.Params:
    """Returns the parameters' tree of `jax.ShapeDtypeStruct`."""
    return jax.tree.map(
        lambda box: jax.ShapeDtypeStruct(box.value.shape, box.value.dtype),
        self._abstract,
        is_leaf=_is_box,
    )

  def logical_axes(self) -> interface.Params:
    """Returns the parameters' tree of tuples of logical axis names."""
    return jax.tree.map(
        lambda box: tuple(box.names), self._abstract, is_leaf=_is_box
    )

  def stacked(self) -> interface.Params:
    """Returns the parameters' tree with True where axis 0 counts layers."""
    flat = naming.flatten(self.abstract_params())
    return naming.unflatten({name: naming.is_stacked(name) for name in flat})

  def logits(
      self,
      params: interface.Params,
      batch: interface.Batch,
      *,
      dropout_rng: jax.Array | None = None,
  ) -> jax.Array:
    """Returns float32 logits [B, T, V]; those at padding mean nothing.

    Args:
      params: The parameters.
      batch: encoder_input_tokens, decoder_input_tokens and, without
        decoder_segment_ids, decoder_target_tokens.
      dropout_rng: Switches dropout on.
    """
    module = self._eval if dropout_rng is None else self._train
    return _apply(
        module,
        params,
        batch['encoder_input_tokens'],
        _segments(batch, 'encoder_segment_ids', 'encoder_input_tokens'),
        batch['decoder_input_tokens'],
        _segments(batch, 'decoder_segment_ids', 'decoder_target_tokens'),
        rngs={} if dropout_rng is None else {'dropout': dropout_rng},
    )

  def loss(
      self,
      params: interface.Params,
      batch: interface.Batch,
      *,
      dropout_rng: jax.Array | None = None,
      z_loss: float = 1e-4,
      label_smoothing: float = 0.0,
  ) -> losses.LossSums:
    """Returns sums over target tokens, weighted by decoder_loss_weights.

    Args:
      params: The parameters.
      batch: As for `logits`, with decoder_target_tokens; without
        decoder_loss_weights every token that is not 0 counts once.
      dropout_rng: Switches dropout on.
      z_loss: See `losses.token_losses`.
      label_smoothing: See `losses.token_losses`.
    """
    targets_BxT = batch['decoder_target_tokens']
    weights_BxT = batch.get('decoder_loss_weights')
    if weights_BxT is None:
      weights_BxT = targets_BxT != 0
    return losses.loss_sums(
        self.logits(params, batch, dropout_rng=dropout_rng),
        targets_BxT,
        weights_BxT,
        z_loss=z_loss,
        label_smoothing=label_smoothing,
    )

  def encode(
      self, params: interface.Params, tokens_BxS: jax.Array
  ) -> interface.Context:
    """Reads inputs, one example a row, padded with 0."""
    mask_BxS = tokens_BxS != 0
    encoded_BxSxE = _apply(
        self._eval,
        params,
        tokens_BxS,
        mask_BxS.astype(jnp.int32),
        method='encode',
    )
    cross = params['decoder']['layers']['encoder_decoder_attention']
    return interface.Context(
        cross_key=self._cross(encoded_BxSxE, cross['key']['kernel']),
        cross_value=self._cross(encoded_BxSxE, cross['value']['kernel']),
        mask_BxS=mask_BxS,
    )

  def init_cache(self, batch: int, max_length: int) -> interface.Cache:
    """Returns an empty cache for `batch` rows of up to `max_length` tokens."""
    config = self.config
    shape = (
        config.num_decoder_layers,
        batch,
        config.num_heads,
        config.head_dim,
        max_length,
    )
    zeros = functools.partial(jnp.zeros, shape, jnp.dtype(config.dtype))
    return interface.Cache(
        key=_constrain_layers(zeros()),
        value=_constrain_layers(zeros()),
        position=jnp.zeros((), jnp.int32),
    )

  def decode_step(
      self,
      params: interface.Params,
      context: interface.Context,
      cache: interface.Cache,
      tokens_B: jax.Array,
  ) -> tuple[jax.Array, interface.Cache]:
    """Reads one more token of each row.

    Args:
      params: The parameters.
      context: What `encode` returned.
      cache: What `init_cache` or the last step returned. It must have room:
        past its end JAX would overwrite the last place.
      tokens_B: int32 [B]; the first token of a row is 0.

    Returns:
      Float32 logits [B, V] of the tokens that follow, and the new cache.
    """
    ones_Bx1 = jnp.ones((tokens_B.shape[0], 1), jnp.int32)
    logits_Bx1xV, new = _apply(
        self._eval,
        params,
        tokens_B[:, None],
        None,
        transformer.Segments(ones_Bx1, context.mask_BxS.astype(jnp.int32)),
        cross=attention.KeyValue(context.cross_key, context.cross_value),
        past=attention.KeyValue(cache.key, cache.value),
        position=cache.position,
        method='decode',
    )
    # All layers' new entries are written at once, which XLA does in place.
    place = (0, 0, 0, 0, cache.position)
    return logits_Bx1xV[:, 0], interface.Cache(
        key=jax.lax.dynamic_update_slice(cache.key, new.key, place),
        value=jax.lax.dynamic_update_slice(cache.value, new.value, place),
        position=cache.position + 1,
    )

  def score(
      self,
      params: interface.Params,
      context: interface.Context,
      batch: interface.Batch,
  ) -> jax.Array:
    """Returns log p of each target token, float32 [B, T], 0 at padding.

    Args:
      params: The parameters.
      context: What `encode` returned.
      batch: decoder_input_tokens and decoder_target_tokens, with
        decoder_segment_ids where a row has several targets (the options of one
        example, say). Each sees the whole context and nothing of the others.
    """
    targets_BxT = batch['decoder_target_tokens']
    own_BxT = _segments(batch, 'decoder_segment_ids', 'decoder_target_tokens')
    logits_BxTxV, _ = _apply(
        self._eval,
        params,
        batch['decoder_input_tokens'],
        transformer.Segments(own_BxT, own_BxT),
        transformer.Segments(
            jnp.ones_like(own_BxT), context.mask_BxS.astype(jnp.int32)
        ),
        cross=attention.KeyValue(context.cross_key, context.cross_value),
        method='decode',
    )
    scores_BxT = losses.log_probabilities(logits_BxTxV, targets_BxT)
    return jnp.where(own_BxT != 0, scores_BxT, 0.0)

  def stack(self, flat: Mapping[str, Any]) -> interface.Params:
    """Returns parameters from T5X's names; see `naming.stack`."""
    return naming.stack(flat, self.abstract_params())

  def unstack(self, params: interface.Params) -> dict[str, Any]:
    """Returns parameters under T5X's names; see `naming.unstack`."""
    return naming.unstack(params)

  def _boxed(self, rng: jax.Array) -> Any:
    """Returns the parameters in Flax's boxes, which carry axis names."""
    # Only shapes matter, but rows must divide over a mesh that is in use.
    ones = jnp.ones((partitioning.batch_divisor(), 1), jnp.int32)
    return self._eval.init(rng, ones, ones, ones, ones)['params']

  def _cross(
      self, encoded_BxSxE: jax.Array, kernel_LxExJ: jax.Array
  ) -> jax.Array:
    """Returns all layers' keys or values of the encoder's output."""
    config = self.config
    joined_LxBxSxJ = jnp.einsum(
        'bse,lej->lbsj', encoded_BxSxE, kernel_LxExJ.astype(config.dtype)
    )
    heads_LxBxSxHxD = joined_LxBxSxJ.reshape(
        *joined_LxBxSxJ.shape[:-1], config.num_heads, config.head_dim
    )
    return _constrain_layers(attention.positions_last(heads_LxBxSxHxD))


def _apply(module: nn.Module, params: interface.Params, *args, **kwargs) -> Any:
  # Flax declares `apply` as returning changed variables too.
  return module.apply({'params': params}, *args, **kwargs)


def _segments(batch: interface.Batch, name: str, tokens: str) -> jax.Array:
  """Returns the segment ids, or one segment of all that is not padding."""
  if batch.get(name) is not None:
    return batch[name]
  return (batch[tokens] != 0).astype(jnp.int32)


def _constrain_layers(x_LxBxHxDxS: jax.Array) -> jax.Array:
  return partitioning.constrain(
      x_LxBxHxDxS, ('layers', 'batch', 'heads', 'kv', 'length')
  )


def _is_box(leaf: Any) -> bool:
  return isinstance(leaf, nn.LogicallyPartitioned)
