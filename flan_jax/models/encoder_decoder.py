"""T5 1.1's encoder-decoder as pure functions of parameters and batches.

arXiv 1910.10683, with the changes of T5 1.1 (gated GELU, untied logits; arXiv
2002.05202). The numbers are T5X's (`t5x.examples.t5.network`).
"""

from typing import Any

from flan_jax.models import attention
from flan_jax.models import config as config_lib
from flan_jax.models import family
from flan_jax.models import interface
from flan_jax.models import transformer
import jax
import jax.numpy as jnp


class EncoderDecoder(family.Family):
  """See `interface.Model`.

  A batch has SeqIO's features. Segment ids may be left out of unpacked
  batches: what is not 0 is then one segment. Relative positions are those of
  array indices, as in T5X, so positions are not read.
  """

  config: config_lib.EncoderDecoderConfig

  def __init__(self, config: config_lib.EncoderDecoderConfig):
    super().__init__(config, transformer.Transformer, config.num_decoder_layers)

  def _read(
      self,
      params: interface.Params,
      batch: interface.Batch,
      dropout_rng: jax.Array | None,
      head: bool,
  ) -> jax.Array:
    """See `Family._read`.

    Of the batch it needs encoder_input_tokens, decoder_input_tokens and,
    without decoder_segment_ids, decoder_target_tokens.
    """
    return self._apply(
        params,
        batch['encoder_input_tokens'],
        family.segments(batch, 'encoder_segment_ids', 'encoder_input_tokens'),
        batch['decoder_input_tokens'],
        family.segments(batch, 'decoder_segment_ids', 'decoder_target_tokens'),
        dropout_rng=dropout_rng,
        head=head,
    )

  def encode(
      self, params: interface.Params, tokens_BxS: jax.Array
  ) -> interface.Context:
    """Reads inputs, one example a row, padded with 0."""
    mask_BxS = tokens_BxS != 0
    encoded_BxSxE = self._apply(
        params,
        tokens_BxS,
        mask_BxS.astype(jnp.int32),
        reading=True,
        method='encode',
    )
    cross = params['decoder']['layers']['encoder_decoder_attention']
    return interface.Context(
        key=self._cross(encoded_BxSxE, cross['key']['kernel']),
        value=self._cross(encoded_BxSxE, cross['value']['kernel']),
        mask_BxS=mask_BxS,
        logits_BxV=None,
    )

  def start(
      self, steps: interface.Steps, cache: interface.Cache
  ) -> tuple[jax.Array, interface.Cache]:
    """Returns the logits of the first token, which follows T5's start, 0.

    It is read once for all beams: as that of the first of them.
    """
    start_Bx1 = jnp.zeros((steps.mask_BxS.shape[0], 1), jnp.int32)
    return self.decode_step(steps, cache, start_Bx1)

  def decode_step(
      self,
      steps: interface.Steps,
      cache: interface.Cache,
      tokens_BxK: jax.Array,
      seen_BxKxS: jax.Array | None = None,
  ) -> tuple[jax.Array, interface.Cache]:
    """Reads one more token of each row, or of each of its beams.

    Args:
      steps: What `steps` returned.
      cache: What `start` or the last step returned. It must have room: past
        its end JAX would overwrite the last place.
      tokens_BxK: int32.
      seen_BxKxS: See `interface.Model.decode_step`.

    Returns:
      Float32 logits [B, K, V] of the tokens that follow, and the new cache.
    """
    logits_BxKxV, new = self._apply(
        steps.params,
        tokens_BxK,
        None,
        transformer.Segments(
            jnp.ones_like(tokens_BxK), steps.mask_BxS.astype(jnp.int32)
        ),
        steps=family.each_step(steps, cache),
        position=cache.position,
        seen_BxTxS=seen_BxKxS,
        method='decode',
    )
    return logits_BxKxV, family.extended(cache, new)

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
    own_BxT = family.segments(
        batch, 'decoder_segment_ids', 'decoder_target_tokens'
    )
    x_BxTxE, _ = self._apply(
        params,
        batch['decoder_input_tokens'],
        transformer.Segments(own_BxT, own_BxT),
        transformer.Segments(
            jnp.ones_like(own_BxT), context.mask_BxS.astype(jnp.int32)
        ),
        cross=attention.KeyValue(context.key, context.value),
        head=False,
        method='decode',
    )
    return self._log_probabilities(params, x_BxTxE, targets_BxT, own_BxT != 0)

  def _init_arguments(self, ones_Bx1: jax.Array) -> tuple[Any, ...]:
    return (ones_Bx1,) * 4

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
    return family.constrain_layers(attention.positions_last(heads_LxBxSxHxD))
