"""Drawing tokens, each row by settings and random numbers of its own.

A row's random numbers depend on its key and on the place that is written, and
on nothing else: not on the batch, its order, the devices or what ran before.
Logits differ in their last bits between batch sizes; that changes a text only
where two tokens are as good as even.

Nothing is sorted. The bounds of top-k and top-p are found by halving: 32 passes
over the logits, one for each bit of a float, where a sort of a vocabulary of
32,128 takes some nine times as long on a CPU.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from flan_jax.data import seeding
from flan_jax.inference import settings
import jax
import jax.numpy as jnp
import numpy as np

# The largest of logits is looked for among the largest of so many each.
_PART = 128


class Draws(NamedTuple):
  """How each of B rows is drawn.

  Attributes:
    key: uint32 [B, 2], what all of a row's random numbers are made of.
    temperature: float32 [B]; 0 takes the likeliest token.
    top_k: int32 [B]; 0 is all tokens.
    top_p: float32 [B]; 1 is all tokens.
  """

  key: jax.Array | np.ndarray
  temperature: jax.Array | np.ndarray
  top_k: jax.Array | np.ndarray
  top_p: jax.Array | np.ndarray


def draws_of(
    decodings: Sequence[settings.Decoding], keys: Sequence[str]
) -> Draws:
  """Returns the settings of rows as arrays.

  Args:
    decodings: Each row's.
    keys: What each row's random numbers depend on, with its seed.
  """
  hashes = np.empty(len(keys), np.uint64)
  for row, (decoding, key) in enumerate(zip(decodings, keys, strict=True)):
    hashes[row] = seeding.hash_ints(decoding.seed, seeding.name_seed(key))[0]
  halves = [hashes >> np.uint64(32), hashes & np.uint64(0xFFFFFFFF)]
  return Draws(
      key=np.stack(halves, axis=1).astype(np.uint32),
      temperature=np.asarray([d.temperature for d in decodings], np.float32),
      top_k=np.asarray([d.top_k for d in decodings], np.int32),
      top_p=np.asarray([d.top_p for d in decodings], np.float32),
  )


def first_best(scores_BxV: jax.Array) -> jax.Array:
  """Returns the first of the largest entries, int32 [B], as `jnp.argmax`.

  In two plain reductions, which XLA's CPU backend does in a third of the time.
  Where there is a NaN, any place is returned.
  """
  size = scores_BxV.shape[-1]
  best_Bx1 = jnp.max(scores_BxV, axis=-1, keepdims=True)
  places_V = jnp.arange(size, dtype=jnp.int32)
  return jnp.min(jnp.where(scores_BxV == best_Bx1, places_V, size - 1), axis=-1)


def likeliest(
    logits_BxV: jax.Array, choices: int
) -> tuple[jax.Array, jax.Array]:
  """Returns the first of the largest logits, and its log-probability.

  The logits are read twice: for the largest of each part, which say where the
  largest of all is, and for the sum of the softmax, over all of the vocabulary.
  Masking what may not be chosen and looking for it took 1.7 times as long on a
  CPU. Where there is a NaN, any place is returned, with a score of NaN.

  Args:
    logits_BxV: float32.
    choices: Only ids below this are returned; at least 1, at most V.

  Returns:
    int32 [B] and float32 [B].
  """
  rows, size = logits_BxV.shape
  parts_BxNxP = jnp.pad(
      logits_BxV, ((0, 0), (0, -size % _PART)), constant_values=-jnp.inf
  ).reshape(rows, -1, _PART)
  most_BxN = jnp.max(parts_BxNxP, axis=-1)
  whole, rest = divmod(choices, _PART)
  allowed_BxN = most_BxN[:, :whole]
  if rest:
    last_Bx1 = jnp.max(parts_BxNxP[:, whole, :rest], axis=-1, keepdims=True)
    allowed_BxN = jnp.concatenate([allowed_BxN, last_Bx1], axis=1)
  part_B = first_best(allowed_BxN)
  own_BxP = jnp.take_along_axis(parts_BxNxP, part_B[:, None, None], axis=1)[
      :, 0
  ]
  places_BxP = part_B[:, None] * _PART + jnp.arange(_PART)
  own_BxP = jnp.where(places_BxP < choices, own_BxP, -jnp.inf)
  best_B = jnp.minimum(part_B * _PART + first_best(own_BxP), choices - 1)
  most_B = jnp.max(most_BxN, axis=-1)
  sum_B = jnp.sum(jnp.exp(logits_BxV - most_B[:, None]), axis=-1)
  return best_B, jnp.max(own_BxP, axis=-1) - most_B - jnp.log(sum_B)


def log_probability(logits_BxV: jax.Array, ids_B: jax.Array) -> jax.Array:
  """Returns log p of an id in each row, float32 [B]."""
  chosen_Bx1 = jnp.take_along_axis(logits_BxV, ids_B[:, None], axis=-1)
  return chosen_Bx1[:, 0] - jax.nn.logsumexp(logits_BxV, axis=-1)


def draw(logits_BxV: jax.Array, draws: Draws, step: jax.Array) -> jax.Array:
  """Returns a token for each row, int32 [B].

  The largest of the logits with Gumbel noise is a draw from their softmax.

  Args:
    logits_BxV: float32; -inf is never drawn.
    draws: How.
    step: int32 scalar, the place that is written.
  """
  likeliest_B = draws.temperature == 0
  temperature_B = jnp.where(likeliest_B, 1.0, draws.temperature)
  logits_BxV = logits_BxV / temperature_B[:, None]
  logits_BxV = jax.lax.cond(
      jnp.any(draws.top_k > 0), _top_k, _all, logits_BxV, draws.top_k
  )
  logits_BxV = jax.lax.cond(
      jnp.any(draws.top_p < 1), _top_p, _all, logits_BxV, draws.top_p
  )

  def noise(key: jax.Array) -> jax.Array:
    own = jax.random.wrap_key_data(key, impl='threefry2x32')
    return jax.random.gumbel(
        jax.random.fold_in(own, step), logits_BxV.shape[-1:]
    )

  noise_BxV = jax.vmap(noise)(jnp.asarray(draws.key))
  noise_BxV = jnp.where(likeliest_B[:, None], 0.0, noise_BxV)
  return first_best(logits_BxV + noise_BxV)


def _all(logits_BxV: jax.Array, bound_B: jax.Array) -> jax.Array:
  del bound_B
  return logits_BxV


def _top_k(logits_BxV: jax.Array, top_k_B: jax.Array) -> jax.Array:
  """Returns the logits, -inf where one is not among the `top_k_B` largest."""
  most = logits_BxV.shape[-1]
  wanted_B = jnp.where(top_k_B > 0, jnp.minimum(top_k_B, most), most)

  def enough(chosen_BxV: jax.Array) -> jax.Array:
    return jnp.sum(chosen_BxV, axis=-1, dtype=jnp.int32) >= wanted_B

  return _from_the_top(logits_BxV, enough)


def _top_p(logits_BxV: jax.Array, top_p_B: jax.Array) -> jax.Array:
  """Returns the logits, -inf beyond the fewest of probability `top_p_B`."""
  probabilities_BxV = jax.nn.softmax(logits_BxV, axis=-1)

  def enough(chosen_BxV: jax.Array) -> jax.Array:
    mass_B = jnp.sum(jnp.where(chosen_BxV, probabilities_BxV, 0.0), axis=-1)
    return mass_B >= top_p_B

  kept_BxV = _from_the_top(logits_BxV, enough)
  return jnp.where((top_p_B < 1)[:, None], kept_BxV, logits_BxV)


def _from_the_top(
    logits_BxV: jax.Array, enough: Callable[[jax.Array], jax.Array]
) -> jax.Array:
  """Returns the fewest largest logits that are enough, the others -inf.

  Equal logits stay or go together.

  Args:
    logits_BxV: float32.
    enough: Says for each row, bool [B], whether the chosen, bool [B, V], are
      enough. If some are, more are too.
  """
  # Integers in the floats' order: those of negative floats run backwards.
  bits_BxV = jax.lax.bitcast_convert_type(logits_BxV, jnp.uint32)
  high = jnp.uint32(1 << 31)
  order_BxV = jnp.where(bits_BxV >= high, ~bits_BxV, bits_BxV | high)

  def set_bit(i: jax.Array, bound_B: jax.Array) -> jax.Array:
    higher_B = bound_B | (high >> i.astype(jnp.uint32))
    return jnp.where(enough(order_BxV >= higher_B[:, None]), higher_B, bound_B)

  # The largest bound that leaves enough, from its highest bit to its lowest.
  bound_B = jax.lax.fori_loop(
      0, 32, set_bit, jnp.zeros(logits_BxV.shape[:1], jnp.uint32)
  )
  return jnp.where(order_BxV >= bound_B[:, None], logits_BxV, -jnp.inf)
