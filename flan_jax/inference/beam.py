"""Beam search: the best of several beginnings at each step.

The search is T5X's (`t5x.decoding.beam_search`): live beams go on by their
log-probability; those that end are kept by their score, the log-probability
divided by the length's penalty; and a row has ended when no live beam can come
to be better than the worst that is kept. Unlike there the best is first, and
answers without an end are filled in, penalised as the others, where too few
have ended.

The cache of a row's beams is never put in order: tokens lie where they were
read, and each beam knows which of them are its own (`ancestors`). Attention
reads all of a row's cache once either way.
"""

import dataclasses
from typing import NamedTuple

from flan_jax.inference import decoding
import jax
import jax.numpy as jnp


class Beams(NamedTuple):
  """The state of `BeamSearch`, of B rows and K beams.

  Attributes:
    last_BxK: int32, the tokens to feed next.
    live_BxK: float32, log-probabilities of the live beams, the best first; -inf
      is none.
    tokens_BxKxT: int32, what they have written.
    ancestors_BxKxT: int32, whose token of each earlier step is the beam's own.
    ended_BxK: float32, scores of the answers kept, the best first; -inf is
      none.
    ended_BxKxT: int32, the answers.
    done_B: bool, whether a row can only get worse.
  """

  last_BxK: jax.Array
  live_BxK: jax.Array
  tokens_BxKxT: jax.Array
  ancestors_BxKxT: jax.Array
  ended_BxK: jax.Array
  ended_BxKxT: jax.Array
  done_B: jax.Array


@dataclasses.dataclass(frozen=True)
class BeamSearch:
  """See the module.

  Attributes:
    target: What may be written.
    active_B: bool; rows that are False only fill up the batch.
    beams: K.
    alpha_B: float32; scores are divided by ((5 + length) / 6) ** alpha (arXiv
      1609.08144, equation 14).
  """

  target: decoding.Target
  active_B: jax.Array
  beams: int
  alpha_B: jax.Array

  def begin(self) -> Beams:
    """Returns one live beam a row, with nothing written."""
    batch, beams = self.active_B.shape[0], self.beams
    none_BxK = jnp.full((batch, beams), -jnp.inf, jnp.float32)
    shape = (batch, beams, self.target.max_length)
    blank_BxKxT = jnp.full(shape, self.target.pad_id, jnp.int32)
    return Beams(
        last_BxK=jnp.zeros((batch, beams), jnp.int32),
        live_BxK=none_BxK.at[:, 0].set(0.0),
        tokens_BxKxT=blank_BxKxT,
        ancestors_BxKxT=jnp.zeros(shape, jnp.int32),
        ended_BxK=none_BxK,
        ended_BxKxT=blank_BxKxT,
        done_B=~self.active_B,
    )

  def take(
      self,
      state: Beams,
      logits_BxKxV: jax.Array,
      step: jax.Array,
      read: jax.Array,
  ) -> Beams:
    """Returns the state with one more token."""
    # Twice as many as beams: should all of the best end, as many go on.
    log_probs_BxN, parents_BxN, tokens_BxN = self._best(
        state.live_BxK, logits_BxKxV
    )
    texts_BxNxT = jax.lax.dynamic_update_slice_in_dim(
        _rows(state.tokens_BxKxT, parents_BxN), tokens_BxN[..., None], step, 2
    )
    ends_BxN = tokens_BxN == self.target.eos_id

    live_BxK, places_BxK = jax.lax.top_k(
        jnp.where(ends_BxN, -jnp.inf, log_probs_BxN), self.beams
    )
    parents_BxK = jnp.take_along_axis(parents_BxN, places_BxK, axis=1)
    # What was read last lies at the parent's place.
    ancestors_BxKxT = jax.lax.dynamic_update_slice_in_dim(
        _rows(state.ancestors_BxKxT, parents_BxK),
        parents_BxK[..., None],
        read - 1,
        2,
    )

    scores_BxN = log_probs_BxN / self._penalty(step + 1)
    ended_BxK, kept_BxK = jax.lax.top_k(
        jnp.concatenate(
            [state.ended_BxK, jnp.where(ends_BxN, scores_BxN, -jnp.inf)], axis=1
        ),
        self.beams,
    )
    all_BxMxT = jnp.concatenate([state.ended_BxKxT, texts_BxNxT], axis=1)

    # A live beam only loses, and the most it is divided by is the longest's.
    hope_B = live_BxK[:, 0] / self._penalty(self.target.max_length)[:, 0]
    done_B = state.done_B | (ended_BxK[:, -1] > hope_B)
    return Beams(
        last_BxK=jnp.take_along_axis(tokens_BxN, places_BxK, axis=1),
        live_BxK=live_BxK,
        tokens_BxKxT=_rows(texts_BxNxT, places_BxK),
        ancestors_BxKxT=ancestors_BxKxT,
        ended_BxK=ended_BxK,
        ended_BxKxT=_rows(all_BxMxT, kept_BxK),
        done_B=done_B,
    )

  def feed(self, state: Beams) -> jax.Array:
    """Returns the last token of each beam, int32 [B, K]."""
    return state.last_BxK

  def seen(self, state: Beams, read: jax.Array, length: int) -> jax.Array:
    """Returns which places of the cache each beam sees, bool [B, K, S]."""
    batch, beams, _ = state.ancestors_BxKxT.shape
    steps_T = jnp.arange(length)
    own_Kx1 = jnp.arange(beams)[:, None]
    owner_BxKxT = jnp.where(
        steps_T < read, state.ancestors_BxKxT[..., :length], own_Kx1
    )
    seen_BxKxTxK = owner_BxKxT[..., None] == jnp.arange(beams)
    seen_BxKxTxK &= (steps_T <= read)[:, None]
    return seen_BxKxTxK.reshape(batch, beams, length * beams)

  def over(self, state: Beams) -> jax.Array:
    """Returns whether no row can become better."""
    return jnp.all(state.done_B)

  def result(self, state: Beams) -> decoding.Decoded:
    """Returns the answers, the best first, those without an end last."""
    unended_BxK = state.live_BxK / self._penalty(self.target.max_length)
    scores_BxM = jnp.concatenate([state.ended_BxK, unended_BxK], axis=1)
    texts_BxMxT = jnp.concatenate(
        [state.ended_BxKxT, state.tokens_BxKxT], axis=1
    )
    # Both halves are in order; first those that ended, last those that are not.
    rank_M = jnp.arange(2 * self.beams) // self.beams
    rank_BxM = jnp.where(scores_BxM > -jnp.inf, rank_M, 2)
    places_BxK = jnp.argsort(rank_BxM, axis=1, stable=True)[:, : self.beams]
    active_Bx1 = self.active_B[:, None]
    scores_BxK = jnp.take_along_axis(scores_BxM, places_BxK, axis=1)
    texts_BxKxT = _rows(texts_BxMxT, places_BxK)
    finished_BxK = jnp.take_along_axis(rank_BxM, places_BxK, axis=1) == 0
    return decoding.Decoded(
        tokens=jnp.where(
            active_Bx1[..., None], texts_BxKxT, self.target.pad_id
        ),
        scores=jnp.where(active_Bx1, scores_BxK, 0.0),
        finished=finished_BxK & active_Bx1,
    )

  def _best(
      self, live_BxK: jax.Array, logits_BxKxV: jax.Array
  ) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns log-probabilities, beams and tokens of the best, [B, 2 * K].

    Args:
      live_BxK: Log-probabilities of what the beams have written.
      logits_BxKxV: Of the next token; for the first [B, 1, V].
    """
    size = logits_BxKxV.shape[-1]
    totals_BxKx1 = jax.nn.logsumexp(logits_BxKxV, axis=-1, keepdims=True)
    log_probs_BxKxV = (
        self.target.allowed(logits_BxKxV) - totals_BxKx1 + live_BxK[..., None]
    )
    flat_BxC = log_probs_BxKxV.reshape(live_BxK.shape[0], -1)
    best_BxN, places_BxN = jax.lax.top_k(flat_BxC, 2 * self.beams)
    return best_BxN, places_BxN // size, places_BxN % size

  def _penalty(self, length: int | jax.Array) -> jax.Array:
    """Returns what the scores of that many tokens are divided by, [B, 1]."""
    return (((5.0 + length) / 6.0) ** self.alpha_B)[:, None]


def _rows(x_BxMxT: jax.Array, places_BxN: jax.Array) -> jax.Array:
  """Returns the chosen rows [B, N, T]."""
  return jnp.take_along_axis(x_BxMxT, places_BxN[..., None], axis=1)
