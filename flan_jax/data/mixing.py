"""Which row of which member stands at each place of a mixture's endless order.

The order is computed, never stored: any block of places is looked up at once,
from nothing but the seed, the members' sizes and their rates. So start-up does
not depend on the number of members, a position in the data is one integer, and
any host can look up any place.

How it works. The order goes in cycles of 1,024 places. Each cycle lays a grid
of 1,024 evenly spaced points over the members' rates end to end, shifted by
the cycle's own offset (systematic sampling), so a member's share of a cycle is
its exact part to within one. The offsets are a van der Corput sequence: over
the cycles they fill the gaps evenly, which keeps the shares right in the long
run too and reaches every member, however small its rate. Because that
sequence is made of bits, how often a member was drawn before a cycle has a
closed form. The n-th draw of a member is row n of its endless, reshuffled
epochs.
"""

from collections.abc import Sequence
import functools
from typing import NamedTuple

from flan_jax.data import seeding
import numpy as np

_SLOT_BITS = 10
CYCLE = 1 << _SLOT_BITS
# Tickets a slot: rates are kept to one part in 2**50.
_OFFSET_BITS = 40
_TICKETS = 1 << (_SLOT_BITS + _OFFSET_BITS)
_ROUNDS = 6
# What a hash is for, so that choices do not hang together.
_SLOTS, _SHIFT, _EPOCH, _SUBSET = range(4)


class Draws(NamedTuple):
  """What stands at some places of the order; all int64, of one length.

  Attributes:
    member: The member's number.
    row: The row's number in the member.
    epoch: How many times the member had been gone through before.
  """

  member: np.ndarray
  row: np.ndarray
  epoch: np.ndarray


class IndexMap:
  """The endless order of a mixture.

  Attributes:
    sizes: Rows in use of each member, int64 [members]: all, or the cap.
  """

  def __init__(
      self,
      names: Sequence[str],
      sizes: Sequence[int] | np.ndarray,
      rates: Sequence[float] | np.ndarray,
      *,
      seed: int = 0,
      cap: int | np.ndarray | None = None,
      shuffle: bool = True,
  ):
    """Sets out the members.

    Args:
      names: The members' names: an epoch's order hangs on the name, so other
        members, or the order of members, do not change it.
      sizes: Rows of each member, at least 1.
      rates: How often each is drawn, relative to the others; finite, not
        negative, not all 0. A member whose rate is 0 is never drawn.
      seed: Of everything random here.
      cap: The most rows used of a member, or int64 [members]; which ones, the
        seed chooses.
      shuffle: False draws each member's rows in their own order.

    Raises:
      ValueError: Sizes or rates are outside those ranges.
    """
    self._rows = np.asarray(sizes, np.int64)
    share = np.asarray(rates, np.float64)
    if not len(names) == len(self._rows) == len(share) > 0:
      raise ValueError('A mixture needs members, each with a size and a rate.')
    if (self._rows < 1).any():
      raise ValueError('Every member needs at least one row.')
    if not np.isfinite(share).all() or (share < 0).any() or not share.any():
      raise ValueError('Rates are finite, not negative, and not all 0.')
    if cap is not None and np.any(np.less(cap, 1)):
      raise ValueError('A cap is at least 1.')
    self._seed = seed
    self._shuffle = shuffle
    self.sizes = self._rows if cap is None else np.minimum(self._rows, cap)
    self._capped = bool((self.sizes < self._rows).any())
    self._name_seeds = np.array(
        [seeding.name_seed(name) for name in names], np.uint64
    )
    quotas = _quotas(share)
    self._quotas = quotas
    self._bounds = np.concatenate([[0], np.cumsum(quotas)])
    shift = seeding.hash_ints(seed, _SHIFT)[0] if shuffle else np.uint64(0)
    self._shift = int(shift) % (1 << _OFFSET_BITS)
    # A block lies in one cycle or two; streams come back to a cycle soon.
    self._cycle = functools.lru_cache(maxsize=64)(self._compute_cycle)

  def __getstate__(self):
    state = self.__dict__.copy()
    del state['_cycle']  # The cache stays behind when workers are started.
    return state

  def __setstate__(self, state):
    self.__dict__.update(state)
    self._cycle = functools.lru_cache(maxsize=64)(self._compute_cycle)

  def lookup(self, places: np.ndarray) -> Draws:
    """Returns what stands at `places`, int64 [n], each 0 or more."""
    places = np.asarray(places, np.int64)
    cycles, which = np.unique(places >> _SLOT_BITS, return_inverse=True)
    table = np.array([self._cycle(cycle) for cycle in cycles.tolist()])
    member, draw = table[which, :, places & (CYCLE - 1)].T
    sizes = self.sizes[member]
    epoch, row = np.divmod(draw, sizes)
    if self._shuffle:
      keys = seeding.hash_ints(
          self._seed, _EPOCH, self._name_seeds[member], epoch
      )
      row = permute(row, sizes, keys)
    if self._capped:
      row = self._chosen(member, row)
    return Draws(member, row, epoch)

  def drawn(self, places: int) -> np.ndarray:
    """Returns how often each member stands at the first `places` places.

    It takes as long for many places as for few. int64 [members].
    """
    cycle, rest = divmod(places, CYCLE)
    turn, low = divmod(cycle, 1 << _OFFSET_BITS)
    below = self._tickets_below(self._bounds, low)
    begun = np.bincount(self._cycle(cycle)[0][:rest], minlength=len(self.sizes))
    return np.diff(below) + turn * self._quotas + begun

  def _chosen(self, member: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Returns the row at a place of the capped subset.

    The rows are cut into `cap` runs, as even as can be, and each run gives one
    row: a seeded choice that is in order and needs no memory.
    """
    rows, sizes = self._rows[member], self.sizes[member]
    first = place * rows // sizes
    count = (place + 1) * rows // sizes - first
    hashes = seeding.hash_ints(
        self._seed, _SUBSET, self._name_seeds[member], place
    )
    return first + (hashes % count.astype(np.uint64)).astype(np.int64)

  def _compute_cycle(self, cycle: int) -> np.ndarray:
    """Returns member and draw number of each place, int64 [2, 1024]."""
    turn, low = divmod(cycle, 1 << _OFFSET_BITS)
    offset = _reversed_bits(low, _OFFSET_BITS) ^ self._shift
    slots = np.arange(CYCLE, dtype=np.int64)
    tickets = (slots << _OFFSET_BITS) + offset
    member = np.searchsorted(self._bounds, tickets, side='right') - 1
    if self._shuffle:
      order = np.argsort(
          seeding.hash_ints(self._seed, _SLOTS, cycle, slots), kind='stable'
      )
    else:  # Bits reversed: every member is spread evenly over the cycle.
      order = _bit_reversal()
    member = member[order]
    # Draws are numbered in the order of places: what came before this cycle,
    # then this member's earlier places in it.
    by_member = np.argsort(member, kind='stable')
    present, first, counts = np.unique(
        member[by_member], return_index=True, return_counts=True
    )
    before = (
        self._tickets_below(self._bounds[present + 1], low)
        - self._tickets_below(self._bounds[present], low)
        + turn * self._quotas[present]
    )
    draw = np.empty(CYCLE, np.int64)
    draw[by_member] = slots + np.repeat(before - first, counts)
    return np.stack([member, draw])

  def _tickets_below(self, bound: np.ndarray, cycles: int) -> np.ndarray:
    """Counts the points below `bound` in the first `cycles` cycles, int64.

    A bound is a whole number of slots, which every cycle's grid has, and a
    rest, below which the offsets of some cycles lie. Those below `cycles` fall
    into one aligned run for each bit that is set in it. In a run of 2**k
    numbers the low k bits take every value; reversed, they are the high bits
    of the offset, whose other bits are the same all through the run.
    """
    slots, rest = bound >> _OFFSET_BITS, bound & ((1 << _OFFSET_BITS) - 1)
    total = slots * cycles
    for k in range(cycles.bit_length()):
      if not cycles >> k & 1:
        continue
      start = (cycles >> (k + 1)) << (k + 1)
      step = 1 << (_OFFSET_BITS - k)
      fixed = (_reversed_bits(start, _OFFSET_BITS) ^ self._shift) % step
      # Offsets of the run are fixed + m * step for m = 0 ... 2**k - 1.
      total = total + np.clip(-(-(rest - fixed) // step), 0, 1 << k)
    return total


def permute(
    index: np.ndarray, size: np.ndarray, keys: np.ndarray
) -> np.ndarray:
  """Returns where `index` goes in the random order that each key stands for.

  For one key and size this is a bijection of 0 ... size - 1. An index is cut
  in two numbers, and in turn one of them moves by a hash of the other (a
  Feistel network, with remainders in place of bits); what lands outside is
  sent on until it is inside (cycle walking: Black and Rogaway, "Ciphers with
  arbitrary finite domains", CT-RSA 2002).

  Args:
    index: int64 [n], each 0 <= index < size.
    size: int64 [n], at least 1.
    keys: uint64 [n].

  Returns:
    int64 [n].
  """
  result = np.array(index, np.int64)
  size = np.broadcast_to(np.asarray(size, np.int64), result.shape)
  keys = np.broadcast_to(np.asarray(keys, np.uint64), result.shape)
  high = np.ceil(np.sqrt(size)).astype(np.int64)
  low = -(-size // high)
  outside = np.arange(len(result))
  while outside.size:
    moved = _feistel(
        result[outside], high[outside], low[outside], keys[outside]
    )
    result[outside] = moved
    outside = outside[moved >= size[outside]]
  return result


def _feistel(
    index: np.ndarray, high: np.ndarray, low: np.ndarray, keys: np.ndarray
) -> np.ndarray:
  """One pass over 0 ... high * low - 1, int64 [n]."""
  left, right = np.divmod(index, low)
  left, right = left.astype(np.uint64), right.astype(np.uint64)
  high, low = high.astype(np.uint64), low.astype(np.uint64)
  for number in range(0, _ROUNDS, 2):
    left = (left + seeding.hash_ints(number, keys, right) % high) % high
    right = (right + seeding.hash_ints(number + 1, keys, left) % low) % low
  return (left * low + right).astype(np.int64)


def _quotas(rates: np.ndarray) -> np.ndarray:
  """Returns tickets for each member, int64, in proportion, all given out."""
  quotas = np.floor(rates / rates.sum() * _TICKETS).astype(np.int64)
  # However small a rate, it is drawn at some time.
  quotas = np.where((rates > 0) & (quotas == 0), 1, quotas)
  # What rounding left, less than a ticket a member, goes to the largest.
  quotas[np.argmax(rates)] += _TICKETS - quotas.sum()
  return quotas


def _reversed_bits(value: int, width: int) -> int:
  return int(f'{value:0{width}b}'[::-1], 2)


@functools.cache
def _bit_reversal() -> np.ndarray:
  return np.array([_reversed_bits(i, _SLOT_BITS) for i in range(CYCLE)])
