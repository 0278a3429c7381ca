"""A decoder that reads inputs and targets as one row, in T5 1.1's form.

The numbers are T5X's (`t5x.examples.decoder_only`), causal and as a prefix
language model. Rows are SeqIO's (`DecoderFeatureConverter`): 0, the inputs with
their end, the targets with theirs.
"""

from typing import Any

from flan_jax import partitioning
from flan_jax.models import attention
from flan_jax.models import causal
from flan_jax.models import config as config_lib
from flan_jax.models import family
from flan_jax.models import interface
from flan_jax.models import transformer
import jax
import jax.numpy as jnp


class DecoderOnly(family.Family):
  """See `interface.Model`.

  A batch has SeqIO's features; a prefix language model reads
  decoder_causal_attention too. Segment ids may be left out of unpacked batches:
  what is not 0 is then one segment. Relative positions are those of array
  indices wherever one row holds all, as in T5X.
  """

  config: config_lib.DecoderConfig

  def __init__(self, config: config_lib.DecoderConfig):
    super().__init__(config, causal.CausalTransformer, config.num_layers)

  def _read(
      self,
      params: interface.Params,
      batch: interface.Batch,
      dropout_rng: jax.Array | None,
      head: bool,
  ) -> jax.Array:
    """See `Family._read`.

    Of the batch it needs decoder_input_tokens; without decoder_segment_ids,
    decoder_target_tokens; and for a prefix language model
    decoder_causal_attention, 1 where a token of the inputs is read.
    """
    own_BxT = family.segments(
        batch, 'decoder_segment_ids', 'decoder_target_tokens'
    )
    logits_BxTxV, _ = self._apply(
        params,
        batch['decoder_input_tokens'],
        transformer.Segments(own_BxT, own_BxT),
        both_ways_BxT=(
            batch['decoder_causal_attention'] if self.config.prefix_lm else None
        ),
        dropout_rng=dropout_rng,
        head=head,
    )
    return logits_BxTxV

  def encode(
      self, params: interface.Params, tokens_BxS: jax.Array
  ) -> interface.Context:
    """Reads inputs, one example a row, padded with 0.

    The context is one token longer than the inputs: rows begin with a 0.
    """
    read_BxS = jnp.pad(tokens_BxS, ((0, 0), (1, 0)))
    length_B = jnp.sum(tokens_BxS != 0, axis=1, dtype=jnp.int32) + 1
    mask_BxS = jnp.arange(read_BxS.shape[1]) < length_B[:, None]
    own_BxS = mask_BxS.astype(jnp.int32)
    logits_Bx1xV, memory = self._apply(
        params,
        read_BxS,
        transformer.Segments(own_BxS, own_BxS),
        both_ways_BxT=own_BxS if self.config.prefix_lm else None,
        last_B=length_B - 1,
        keep=True,
    )
    return interface.Context(
        key=family.constrain_layers(memory.key),
        value=family.constrain_layers(memory.value),
        mask_BxS=mask_BxS,
        logits_BxV=partitioning.constrain(
            logits_Bx1xV[:, 0], ('batch', 'vocab')
        ),
    )

  def start(
      self,
      params: interface.Params,
      context: interface.Context,
      cache: interface.Cache,
  ) -> tuple[jax.Array, interface.Cache]:
    """Returns the logits of the first token, which reading the inputs gave."""
    del params
    assert context.logits_BxV is not None
    return context.logits_BxV, cache

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
      cache: What `start` or the last step returned. It must have room: past
        its end JAX would overwrite the last place.
      tokens_B: int32 [B].

    Returns:
      Float32 logits [B, V] of the tokens that follow, and the new cache.
    """
    positions_B = _lengths(context) + cache.position
    logits_Bx1xV, new = self._apply(
        params,
        tokens_B[:, None],
        None,
        context=attention.KeyValue(context.key, context.value),
        context_BxS=context.mask_BxS,
        positions_BxT=positions_B[:, None],
        past=attention.KeyValue(cache.key, cache.value),
        position=cache.position,
        keep=True,
    )
    return logits_Bx1xV[:, 0], family.extended(cache, new)

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
        decoder_segment_ids and decoder_positions where a row has several
        targets (the options of one example, say). Each follows the whole
        inputs and sees nothing of the others. The input token of position 0 is
        not read: what stands before the first target token is the inputs.
    """
    tokens_BxT = batch['decoder_input_tokens']
    targets_BxT = batch['decoder_target_tokens']
    own_BxT = family.segments(
        batch, 'decoder_segment_ids', 'decoder_target_tokens'
    )
    places_BxT = batch.get('decoder_positions')
    if places_BxT is None:
      places_BxT = jnp.broadcast_to(
          jnp.arange(tokens_BxT.shape[1], dtype=jnp.int32), tokens_BxT.shape
      )
    first_BxT = places_BxT == 0
    x_BxTxE, _ = self._apply(
        params,
        tokens_BxT,
        # A segment of their own: nothing sees the first places.
        transformer.Segments(own_BxT, jnp.where(first_BxT, -1, own_BxT)),
        context=attention.KeyValue(context.key, context.value),
        context_BxS=context.mask_BxS,
        positions_BxT=_lengths(context)[:, None] + places_BxT - 1,
        head=False,
    )
    assert context.logits_BxV is not None
    log_z_B = jax.nn.logsumexp(context.logits_BxV, axis=-1)
    # Few numbers of each row, so that a gather is cheap.
    first_scores_BxT = (
        jnp.take_along_axis(context.logits_BxV, targets_BxT, axis=1)
        - log_z_B[:, None]
    )
    scores_BxT = self._log_probabilities(
        params, x_BxTxE, targets_BxT, (own_BxT != 0) & ~first_BxT
    )
    return jnp.where(first_BxT & (own_BxT != 0), first_scores_BxT, scores_BxT)

  def _init_arguments(self, ones_Bx1: jax.Array) -> tuple[Any, ...]:
    return ones_Bx1, transformer.Segments(ones_Bx1, ones_Bx1)


def _lengths(context: interface.Context) -> jax.Array:
  """Returns the number of tokens in each row's context, int32 [B]."""
  return jnp.sum(context.mask_BxS, axis=1, dtype=jnp.int32)
