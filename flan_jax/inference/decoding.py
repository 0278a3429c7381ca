"""Greedy decoding: one compiled loop over an explicit cache."""

from typing import Any, NamedTuple

from flan_jax.models import interface
import jax
import jax.numpy as jnp


class Decoded(NamedTuple):
  """What decoding gives for a batch of B rows.

  Attributes:
    tokens: int32 [B, T]; the tokens up to and with EOS, then the padding id.
    scores: float32 [B]; the sum of the log-probabilities (natural logarithm,
      over the whole vocabulary) of the tokens up to and with EOS.
  """

  tokens: jax.Array
  scores: jax.Array


class _State(NamedTuple):
  step: jax.Array  # int32 [].
  last_B: jax.Array  # int32 [B]: the token to feed next.
  done_B: jax.Array  # bool [B]: EOS has been written, or the row is padding.
  tokens_BxT: jax.Array  # int32 [B, T].
  scores_B: jax.Array  # float32 [B].
  cache: Any


def greedy(
    model: interface.Model,
    params: Any,
    context: Any,
    active_B: jax.Array,
    *,
    max_length: int,
    choices: int | None = None,
    eos_id: int = 1,
    pad_id: int = 0,
) -> Decoded:
  """Takes the likeliest token at each step, until every row has ended.

  Runs under `jax.jit` as one `lax.while_loop`; it stops at the step at which
  the last row writes EOS, or after `max_length` steps. As in T5X, the padding
  id itself may be written before EOS.

  Args:
    model: The model; its `encode` has made `context`, once.
    params: The model's parameters.
    context: What was read, of B rows.
    active_B: bool [B]; rows that are False only fill up the batch: they get
      padding, a score of 0, and do not hold up the loop.
    max_length: T, the most tokens to write, EOS included.
    choices: Only ids below this are written. The model's vocabulary is padded
      beyond the tokenizer's, and an untrained model would pick from there.
    eos_id: The id that ends a row.
    pad_id: The id that fills up a row.
  """
  batch = active_B.shape[0]

  def write(state: _State, logits_BxV: jax.Array) -> _State:
    """Writes the likeliest token; the cache stays as it is."""
    allowed_BxV = logits_BxV
    if choices is not None and choices < logits_BxV.shape[-1]:
      allowed_V = jnp.arange(logits_BxV.shape[-1]) < choices
      allowed_BxV = jnp.where(allowed_V[None], logits_BxV, -jnp.inf)
    best_B = jnp.argmax(allowed_BxV, axis=-1).astype(jnp.int32)
    gain_B = jnp.take_along_axis(logits_BxV, best_B[:, None], axis=-1)[
        :, 0
    ] - jax.nn.logsumexp(logits_BxV, axis=-1)
    token_B = jnp.where(state.done_B, pad_id, best_B)
    return _State(
        step=state.step + 1,
        last_B=token_B,
        done_B=state.done_B | (token_B == eos_id),
        tokens_BxT=jax.lax.dynamic_update_slice_in_dim(
            state.tokens_BxT, token_B[:, None], state.step, axis=1
        ),
        scores_B=state.scores_B + jnp.where(state.done_B, 0.0, gain_B),
        cache=state.cache,
    )

  def unfinished(state: _State) -> jax.Array:
    return (state.step < max_length) & ~jnp.all(state.done_B)

  def step(state: _State) -> _State:
    logits_BxV, cache = model.decode_step(
        params, context, state.cache, state.last_B
    )
    return write(state._replace(cache=cache), logits_BxV)

  logits_BxV, cache = model.start(
      params, context, model.init_cache(batch, max_length)
  )
  first = _State(
      step=jnp.zeros((), jnp.int32),
      last_B=jnp.full((batch,), pad_id, jnp.int32),
      done_B=~active_B,
      tokens_BxT=jnp.full((batch, max_length), pad_id, jnp.int32),
      scores_B=jnp.zeros((batch,), jnp.float32),
      cache=cache,
  )
  end = jax.lax.while_loop(unfinished, step, write(first, logits_BxV))
  return Decoded(end.tokens_BxT, end.scores_B)
