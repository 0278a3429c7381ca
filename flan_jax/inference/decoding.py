"""The loop that writes: one compiled program over caches that grow in steps.

What is written is a method's to say: the likeliest token or a drawn one
(`Single`), or the best of several beginnings (beam.py). A method is made inside
the compiled function, of arrays and of numbers fixed at compilation.
"""

from collections.abc import Sequence
import dataclasses
from typing import Any, NamedTuple, Protocol

from flan_jax.inference import sampling
from flan_jax.models import interface
import jax
import jax.numpy as jnp

# Caches begin with so many steps, and are made so many times as long when they
# are full. Attention reads a cache whole, so short answers read little; and
# each length is a loop of its own to compile.
_SHORTEST = 64
_GROWTH = 4


class Decoded(NamedTuple):
  """What decoding gives for a batch of B rows.

  Attributes:
    tokens: int32 [B, K, T], best first (K is 1 but for beams); the tokens up to
      and with EOS, then the padding id.
    scores: float32 [B, K]; the sum of the log-probabilities (natural logarithm,
      over the whole vocabulary) of the tokens up to and with EOS; for beams
      divided by the length's penalty.
    finished: bool [B, K]; whether there is an EOS.
  """

  tokens: jax.Array
  scores: jax.Array
  finished: jax.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
  """What may be written.

  Attributes:
    max_length: T, the most tokens, EOS included.
    choices: Only ids below this are written. The model's vocabulary is padded
      beyond the tokenizer's, and an untrained model would pick from there.
    eos_id: The id that ends a row.
    pad_id: The id that fills up a row. As in T5X, it may be written too.
  """

  max_length: int
  choices: int | None = None
  eos_id: int = 1
  pad_id: int = 0

  def allowed(self, logits: jax.Array) -> jax.Array:
    """Returns logits [..., V], -inf where an id is not to be written."""
    size = logits.shape[-1]
    if self.choices is None or self.choices >= size:
      return logits
    return jnp.where(jnp.arange(size) < self.choices, logits, -jnp.inf)


class Method(Protocol):
  """How tokens are chosen; its state is a pytree."""

  @property
  def target(self) -> Target:
    """What may be written."""

  @property
  def beams(self) -> int:
    """K, the tokens that are fed for each row in one step."""

  def begin(self) -> Any:
    """Returns the state before the first token."""

  def take(
      self,
      state: Any,
      logits_BxKxV: jax.Array,
      step: jax.Array,
      read: jax.Array,
  ) -> Any:
    """Returns the state with one more token.

    Args:
      state: The state.
      logits_BxKxV: float32; for the first token [B, 1, V].
      step: int32 scalar, the number of tokens written before.
      read: int32 scalar, the number of steps that the cache has read.
    """

  def feed(self, state: Any) -> jax.Array:
    """Returns the tokens to read next, int32 [B, K]."""

  def seen(self, state: Any, read: jax.Array, length: int) -> jax.Array | None:
    """Returns what those tokens see; see `interface.Model.decode_step`."""

  def over(self, state: Any) -> jax.Array:
    """Returns whether all rows have ended, bool scalar."""

  def result(self, state: Any) -> Decoded:
    """Returns what was written."""


class State(NamedTuple):
  """A batch at work.

  Attributes:
    step: int32 scalar, the number of tokens written.
    own: The method's state.
    cache: The model's.
  """

  step: jax.Array
  own: Any
  cache: interface.Cache


def cache_lengths(max_length: int) -> tuple[int, ...]:
  """Returns the lengths that a cache grows through, the last being the most."""
  lengths = []
  length = _SHORTEST
  while length < max_length:
    lengths.append(length)
    length *= _GROWTH
  return (*lengths, max_length)


def start(
    model: interface.Model, steps: interface.Steps, method: Method, length: int
) -> State:
  """Returns the state with the first token written.

  Args:
    model: The model.
    steps: What its steps read.
    method: How to choose.
    length: The cache's, in steps.
  """
  batch = steps.mask_BxS.shape[0]
  cache = model.init_cache(batch, length, method.beams)
  logits_Bx1xV, cache = model.start(steps, cache)
  zero = jnp.zeros((), jnp.int32)
  own = method.take(method.begin(), logits_Bx1xV, zero, cache.position)
  return State(zero + 1, own, cache)


def one_more(
    model: interface.Model, steps: interface.Steps, method: Method, state: State
) -> State:
  """Returns the state with one more token written."""
  read = state.cache.position
  length = state.cache.places // method.beams
  logits_BxKxV, cache = model.decode_step(
      steps,
      state.cache,
      method.feed(state.own),
      method.seen(state.own, read, length),
  )
  own = method.take(state.own, logits_BxKxV, state.step, cache.position)
  return State(state.step + 1, own, cache)


def advance(
    model: interface.Model,
    steps: interface.Steps,
    method: Method,
    state: State,
    until: int | jax.Array,
) -> State:
  """Writes until there are `until` tokens, or every row has ended.

  The cache must have room for `until` steps.
  """

  def unfinished(state: State) -> jax.Array:
    return (state.step < until) & ~method.over(state.own)

  return jax.lax.while_loop(
      unfinished, lambda state: one_more(model, steps, method, state), state
  )


def decode(
    model: interface.Model,
    params: Any,
    context: interface.Context,
    method: Method,
    lengths: Sequence[int] | None = None,
) -> Decoded:
  """Writes until every row has ended, or is as long as it may be.

  Runs under `jax.jit`: one `lax.while_loop` for each length of the cache.

  Args:
    model: The model; its `encode` has made `context`, once.
    params: The model's parameters.
    context: What was read, of B rows.
    method: How to choose.
    lengths: What the caches grow through, ending with the target's length.
  """
  lengths = lengths or cache_lengths(method.target.max_length)
  steps = model.steps(params, context)
  state = start(model, steps, method, lengths[0])
  for length in lengths:
    grown = state.cache.grown(length * method.beams)
    state = advance(model, steps, method, state._replace(cache=grown), length)
  return method.result(state.own)


class Rows(NamedTuple):
  """The state of `Single`.

  Attributes:
    last_B: int32, the token to feed next.
    done_B: bool; EOS has been written, or the row is padding.
    tokens_BxT: int32.
    scores_B: float32.
  """

  last_B: jax.Array
  done_B: jax.Array
  tokens_BxT: jax.Array
  scores_B: jax.Array


@dataclasses.dataclass(frozen=True)
class Single:
  """One token a row and step: the likeliest, or one that is drawn.

  Attributes:
    target: What may be written.
    active_B: bool; rows that are False only fill up the batch: they get
      padding, a score of 0, and do not hold up the loop.
    draws: How to draw; None takes the likeliest.
  """

  target: Target
  active_B: jax.Array
  draws: sampling.Draws | None = None

  beams = 1

  def begin(self) -> Rows:
    """Returns the state before the first token."""
    batch = self.active_B.shape[0]
    pad_id, length = self.target.pad_id, self.target.max_length
    return Rows(
        last_B=jnp.full((batch,), pad_id, jnp.int32),
        done_B=~self.active_B,
        tokens_BxT=jnp.full((batch, length), pad_id, jnp.int32),
        scores_B=jnp.zeros((batch,), jnp.float32),
    )

  def take(
      self,
      state: Rows,
      logits_BxKxV: jax.Array,
      step: jax.Array,
      read: jax.Array,
  ) -> Rows:
    """Returns the state with one more token in each row that has not ended."""
    del read
    logits_BxV = logits_BxKxV[:, 0]
    if self.draws is None:
      most = logits_BxV.shape[-1]
      best_B, gain_B = sampling.likeliest(
          logits_BxV, min(self.target.choices or most, most)
      )
    else:
      best_B = sampling.draw(self.target.allowed(logits_BxV), self.draws, step)
      gain_B = sampling.log_probability(logits_BxV, best_B)
    token_B = jnp.where(state.done_B, self.target.pad_id, best_B)
    return Rows(
        last_B=token_B,
        done_B=state.done_B | (token_B == self.target.eos_id),
        tokens_BxT=jax.lax.dynamic_update_slice_in_dim(
            state.tokens_BxT, token_B[:, None], step, axis=1
        ),
        scores_B=state.scores_B + jnp.where(state.done_B, 0.0, gain_B),
    )

  def feed(self, state: Rows) -> jax.Array:
    """Returns the last tokens, int32 [B, 1]."""
    return state.last_B[:, None]

  def seen(self, state: Rows, read: jax.Array, length: int) -> None:
    """Returns None: a token sees all that stands before it."""
    del state, read, length

  def over(self, state: Rows) -> jax.Array:
    """Returns whether all rows have ended."""
    return jnp.all(state.done_B)

  def result(self, state: Rows) -> Decoded:
    """Returns what was written."""
    finished_B = state.done_B & self.active_B
    return Decoded(
        state.tokens_BxT[:, None], state.scores_B[:, None], finished_B[:, None]
    )
