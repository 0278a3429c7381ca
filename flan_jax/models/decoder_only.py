"""A decoder that reads inputs and targets as one row.

In T5 1.1's form the numbers are T5X's (`t5x.examples.decoder_only`), causal and
as a prefix language model; in those of other models they are of Hugging Face's
`transformers`. Rows are SeqIO's (`DecoderFeatureConverter`): 0, the inputs with
their end, the targets with theirs.
"""

from typing import Any

from flan_jax import errors
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
  indices wherever one row holds all, as in T5X; others are decoder_positions,
  without which they are counted from the row's begin.
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
    tokens_BxT = batch['decoder_input_tokens']
    self.check_room(tokens_BxT.shape[1])
    positions_BxT = None
    if self.config.positions != 'relative':
      positions_BxT = batch.get('decoder_positions')
    logits_BxTxV, _ = self._apply(
        params,
        tokens_BxT,
        transformer.Segments(own_BxT, own_BxT),
        positions_BxT=positions_BxT,
        both_ways_BxT=(
            batch['decoder_causal_attention'] if self.config.prefix_lm else None
        ),
        dropout_rng=dropout_rng,
        head=head,
    )
    return logits_BxTxV

  def check_room(self, length: int) -> None:
    """Refuses rows that are longer than positions are known for.

    Raises:
      UserError: They are.
    """
    most = self.config.max_positions
    if self.config.positions == 'learned' and length > most:
      raise errors.UserError(
          f'DecoderConfig.max_positions: the model has {most:,} learned'
          f' positions, and rows have {length:,} tokens; inputs and targets'
          f' together (TASK_FEATURE_LENGTHS) can be {most:,} tokens long'
      )

  def encode(
      self, params: interface.Params, tokens_BxS: jax.Array
  ) -> interface.Context:
    """Reads inputs, one example a row, padded with 0.

    The context is one token longer than the inputs: rows begin with a 0.

    Rows longer than `config.prefill_chunk` are read in parts, so that
    attention's logits take its length times theirs, and not theirs squared. A
    prefix language model reads all at once: its first token sees the last.
    """
    read_BxS = jnp.pad(tokens_BxS, ((0, 0), (1, 0)))
    self.check_room(read_BxS.shape[1])
    length_B = jnp.sum(tokens_BxS != 0, axis=1, dtype=jnp.int32) + 1
    chunk = self.config.prefill_chunk
    if self.config.prefix_lm or not 0 < chunk < read_BxS.shape[1]:
      logits_Bx1xV, memory = self._read_inputs(params, read_BxS, length_B)
    else:
      logits_Bx1xV, memory = self._read_in_parts(
          params, read_BxS, length_B, chunk
      )
    return interface.Context(
        key=family.constrain_layers(memory.key),
        value=family.constrain_layers(memory.value),
        mask_BxS=jnp.arange(read_BxS.shape[1]) < length_B[:, None],
        logits_BxV=partitioning.constrain(
            logits_Bx1xV[:, 0], ('batch', 'vocab')
        ),
    )

  def _read_inputs(
      self, params: interface.Params, read_BxS: jax.Array, length_B: jax.Array
  ) -> tuple[jax.Array, attention.KeyValue]:
    """Returns logits after the last token, and all layers' keys and values."""
    own_BxS = _mask(read_BxS, length_B, 0).astype(jnp.int32)
    positions_BxS = None
    if self.config.positions != 'relative':
      positions_BxS = own_BxS * jnp.arange(read_BxS.shape[1], dtype=jnp.int32)
    return self._apply(
        params,
        read_BxS,
        transformer.Segments(own_BxS, own_BxS),
        positions_BxT=positions_BxS,
        both_ways_BxT=own_BxS if self.config.prefix_lm else None,
        last_B=length_B - 1,
        keep=True,
    )

  def _read_in_parts(
      self,
      params: interface.Params,
      read_BxS: jax.Array,
      length_B: jax.Array,
      chunk: int,
  ) -> tuple[jax.Array, attention.KeyValue]:
    """Returns what `_read_inputs` does: each part follows those before."""
    config = self.config
    batch, length = read_BxS.shape
    parts = -(-length // chunk)
    read_BxS = jnp.pad(read_BxS, ((0, 0), (0, parts * chunk - length)))
    shape = (config.num_layers, batch, config.kv_heads, config.head_dim)
    zeros = jnp.zeros((*shape, parts * chunk), jnp.dtype(config.dtype))
    zeros = family.constrain_layers(zeros)

    def read(part: jax.Array, carry: Any) -> Any:
      logits_Bx1xV, memory = carry
      begin = part * chunk
      part_BxC = jax.lax.dynamic_slice_in_dim(read_BxS, begin, chunk, axis=1)
      own_BxC = _mask(part_BxC, length_B, begin).astype(jnp.int32)
      place_B = length_B - 1 - begin
      found_Bx1xV, new = self._apply(
          params,
          part_BxC,
          transformer.Segments(own_BxC, own_BxC),
          context=memory,
          context_BxS=_mask(read_BxS, jnp.full_like(length_B, begin), 0),
          positions_BxT=own_BxC * (begin + jnp.arange(chunk, dtype=jnp.int32)),
          last_B=jnp.clip(place_B, 0, chunk - 1),
          keep=True,
      )
      here_B = (place_B >= 0) & (place_B < chunk)
      logits_Bx1xV = jnp.where(here_B[:, None, None], found_Bx1xV, logits_Bx1xV)
      return logits_Bx1xV, attention.written(memory, new, part)

    logits_Bx1xV, memory = jax.lax.fori_loop(
        0,
        parts,
        read,
        (
            jnp.zeros((batch, 1, config.vocab_size), jnp.float32),
            attention.KeyValue(zeros, zeros),
        ),
    )
    return logits_Bx1xV, jax.tree.map(lambda x: x[..., :length], memory)

  def start(
      self, steps: interface.Steps, cache: interface.Cache
  ) -> tuple[jax.Array, interface.Cache]:
    """Returns the logits of the first token, which reading the inputs gave."""
    assert steps.logits_BxV is not None
    return steps.logits_BxV[:, None], cache

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
    most = steps.mask_BxS.shape[1] - 1
    self.check_room(most + cache.places // tokens_BxK.shape[1])
    positions_B = _lengths(steps.mask_BxS) + cache.position
    logits_BxKxV, new = self._apply(
        steps.params,
        tokens_BxK,
        None,
        context_BxS=steps.mask_BxS,
        positions_BxT=positions_B[:, None],
        steps=family.each_step(steps, cache),
        position=cache.position,
        seen_BxTxS=seen_BxKxS,
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
    places_BxT = _positions(batch, tokens_BxT)
    first_BxT = places_BxT == 0
    x_BxTxE, _ = self._apply(
        params,
        tokens_BxT,
        # A segment of their own: nothing sees the first places.
        transformer.Segments(own_BxT, jnp.where(first_BxT, -1, own_BxT)),
        context=attention.KeyValue(context.key, context.value),
        context_BxS=context.mask_BxS,
        # Those at padding are never looked at, and so not to be beyond all.
        positions_BxT=jnp.where(
            own_BxT == 0,
            0,
            _lengths(context.mask_BxS)[:, None] + places_BxT - 1,
        ),
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


def _positions(batch: interface.Batch, tokens_BxT: jax.Array) -> jax.Array:
  """Returns where tokens stand in their example, int32 [B, T]."""
  positions_BxT = batch.get('decoder_positions')
  if positions_BxT is not None:
    return positions_BxT
  places_T = jnp.arange(tokens_BxT.shape[1], dtype=jnp.int32)
  return jnp.broadcast_to(places_T, tokens_BxT.shape)


def _lengths(mask_BxS: jax.Array) -> jax.Array:
  """Returns the number of tokens in each row's context, int32 [B]."""
  return jnp.sum(mask_BxS, axis=1, dtype=jnp.int32)


def _mask(tokens_BxS: jax.Array, length_B: jax.Array, begin: Any) -> jax.Array:
  """Returns which places, counted from `begin`, are in the rows' lengths."""
  return begin + jnp.arange(tokens_BxS.shape[1]) < length_B[:, None]
