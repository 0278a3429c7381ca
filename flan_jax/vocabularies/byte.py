"""Bytes as ids, as ByT5 has them."""

from collections.abc import Iterable, Sequence
import hashlib
from typing import Any

from flan_jax import joining
from flan_jax.vocabularies import base
import numpy as np


class ByteVocabulary:
  """UTF-8 bytes, each three ids up, as ByT5 has them (arXiv 2105.13626).

  Attributes:
    extra_ids: The number of sentinels above the bytes.
  """

  pad_id = base.PAD_ID
  eos_id = base.EOS_ID
  unk_id = base.UNK_ID
  _OFFSET = 3

  def __init__(self, extra_ids: int = 0):
    self.extra_ids = extra_ids

  @property
  def size(self) -> int:
    """The number of ids, sentinels included."""
    return self._OFFSET + 256 + self.extra_ids

  @property
  def padded_size(self) -> int:
    """`size` rounded up to a multiple of 128."""
    return base.padded(self.size)

  def encode(self, text: str) -> list[int]:
    """Returns the ids of `text`, without an end."""
    return self._encode_array(text).tolist()

  def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
    """Returns the ids of each text, without ends."""
    return [self.encode(text) for text in texts]

  def encode_flat(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns all ids in one row, [total] int32, and lengths, [texts] int64."""
    return base.joined(self.encode_arrays(texts))

  def encode_arrays(self, texts: Sequence[str]) -> list[np.ndarray]:
    """Returns the ids of each text, int32 [length], without ends."""
    return [self._encode_array(text) for text in texts]

  def joiner(self, separator: str) -> joining.Joiner | None:
    """Returns what tokenises texts in parts: bytes know no context."""
    return joining.ByteJoiner(self, separator)

  def decode(self, ids: Iterable[int]) -> str:
    """Returns the text of `ids` up to the first end.

    Padding, unknown and sentinels are dropped, and so are bytes that are not
    UTF-8.
    """
    low, high = self._OFFSET, self._OFFSET + 256
    kept = bytes(int(i) - low for i in base.until_end(ids) if low <= i < high)
    return kept.decode('utf-8', errors='ignore')

  def round_trip(self, text: str) -> str:
    """Returns `text` as it comes back through ids."""
    return self.decode(self.encode(text))

  def describe(self) -> dict[str, Any]:
    """Returns kind and sizes; the hash stands for the layout of ids."""
    layout = f'bytes+{self._OFFSET}'.encode()
    return {
        'kind': 'bytes',
        'sha256': hashlib.sha256(layout).hexdigest(),
        'size': self.size,
        'extra_ids': self.extra_ids,
    }

  def _encode_array(self, text: str) -> np.ndarray:
    try:
      data = text.encode()
    except UnicodeEncodeError:
      data = base.without_surrogates(text).encode()
    return np.frombuffer(data, np.uint8).astype(np.int32) + self._OFFSET
