"""Stateless randomness: the same numbers give the same choice, anywhere.

Nothing here keeps a state. A choice is a hash of what it is for (a seed, a
name, a row, an epoch), so it does not depend on hosts, workers, batches or
restarts, and whole blocks are computed at once.
"""

import hashlib

import numpy as np

_MASK = (1 << 64) - 1
# Weyl increment and multipliers of SplitMix64 (Steele, Lea and Flood, "Fast
# splittable pseudorandom number generators", OOPSLA 2014; Stafford's mix 13).
_INCREMENT = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


def _mix(values: np.ndarray) -> np.ndarray:
  """SplitMix64's output function: a bijection whose bits all depend on all."""
  values = (values ^ (values >> np.uint64(30))) * _FIRST
  values = (values ^ (values >> np.uint64(27))) * _SECOND
  return values ^ (values >> np.uint64(31))


def _as_uint64(values: np.typing.ArrayLike | int) -> np.ndarray:
  """Integers of any width or sign, taken modulo 2**64."""
  if isinstance(values, int):
    return np.array([values & _MASK], np.uint64)
  array = np.asarray(values)
  if array.dtype == np.uint64:
    return np.atleast_1d(array)
  if array.dtype.kind not in 'iu':
    raise TypeError(f'Only integers can be hashed, not {array.dtype}.')
  return np.atleast_1d(array).astype(np.int64).view(np.uint64)


def hash_ints(seed: int, *arrays: np.typing.ArrayLike | int) -> np.ndarray:
  """Hashes integers, element by element.

  Args:
    seed: Any integer.
    *arrays: Integers or integer arrays, broadcast against each other; their
      order matters.

  Returns:
    uint64 of the broadcast shape (at least one dimension): uniform over all
    64-bit numbers for any pattern of inputs.
  """
  state = _mix(_as_uint64(seed) + _INCREMENT)
  for array in arrays:
    state = _mix((state ^ _as_uint64(array)) + _INCREMENT)
  return state


def name_seed(name: str) -> int:
  """Returns a 64-bit number for a name, the same on every machine."""
  digest = hashlib.blake2b(name.encode('utf-8'), digest_size=8).digest()
  return int.from_bytes(digest, 'little')


def choose(hashes: np.ndarray, count: int) -> np.ndarray:
  """Turns hashes into choices among `count` (int64, 0 <= choice < count).

  The bias of the remainder is below count / 2**64.
  """
  return (hashes % np.uint64(count)).astype(np.int64)


def orders(hashes: np.ndarray, count: int) -> np.ndarray:
  """Turns hashes [B] into random orders, int64 [B, count].

  Each row is a permutation of range(count). The order of the first k places
  among themselves does not depend on `count`.
  """
  places = np.arange(count, dtype=np.int64)
  keys = hash_ints(0, np.asarray(hashes, np.uint64)[:, None], places[None, :])
  return np.argsort(keys, axis=1, kind='stable')
