"""What every vocabulary can do, and T5's layout of ids."""

from collections.abc import Iterable, Iterator, Sequence
import itertools
from typing import Any, Protocol

from flan_jax import joining
import numpy as np

PAD_ID = 0
EOS_ID = 1
UNK_ID = 2


class Vocabulary(Protocol):
  """Text to ids and back. Ids are 0 to `size` - 1, sentinels included."""

  pad_id: int
  eos_id: int
  unk_id: int

  @property
  def size(self) -> int:
    """The number of ids, sentinels included."""
    ...

  @property
  def padded_size(self) -> int:
    """`size` rounded up to a multiple of 128, as embeddings want it."""
    ...

  def encode(self, text: str) -> list[int]:
    """Returns the ids of `text`, without an end."""
    ...

  def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
    """Returns `encode` of each text."""
    ...

  def encode_arrays(self, texts: Sequence[str]) -> list[np.ndarray]:
    """Returns `encode` of each text, int32 [length]."""
    ...

  def encode_flat(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns all ids in one row, [total] int32, and lengths, [texts] int64."""
    ...

  def joiner(self, separator: str) -> joining.Joiner | None:
    """Returns what tokenises texts in parts, if that is always exact.

    Args:
      separator: What stands between the parts.
    """
    ...

  def decode(self, ids: Iterable[int]) -> str:
    """Returns the text of `ids` up to the first end, padding dropped."""
    ...

  def round_trip(self, text: str) -> str:
    """Returns `text` as it comes back through ids."""
    ...

  def describe(self) -> dict[str, Any]:
    """Returns what tells this vocabulary from others, fit for JSON."""
    ...


def joined(arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
  """Returns the arrays end to end, [total] int32, and lengths [n] int64."""
  lengths = np.fromiter(map(len, arrays), np.int64, len(arrays))
  if not arrays:
    return np.empty(0, np.int32), lengths
  return np.concatenate(arrays), lengths


def until_end(ids: Iterable[int]) -> Iterator[int]:
  if isinstance(ids, np.ndarray):
    ids = ids.tolist()
  return itertools.takewhile(lambda i: i != EOS_ID, ids)


def padded(size: int) -> int:
  return -(-size // 128) * 128


def without_surrogates(text: str) -> str:
  """Returns `text` with U+FFFD for each half of a surrogate pair."""
  try:
    text.encode()
  except UnicodeEncodeError:
    # Whole pairs become the character they stand for.
    data = text.encode('utf-16-le', 'surrogatepass')
    return data.decode('utf-16-le', 'replace')
  return text
