"""Tokenising a text in parts, where that gives the ids of the whole."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

# SentencePiece writes a space as this character.
SPACE_SYMBOL = '\u2581'
_SENTINEL = '<extra_id_'


class Encoder(Protocol):
  """What a joiner needs of a vocabulary."""

  def encode_arrays(self, texts: Sequence[str]) -> list[np.ndarray]:
    ...


class Joiner(Protocol):
  """Tokenises the parts of a text.

  The parts are one text, and others that each follow a separator. Where no
  part is None and there are at most `longest` ids, the ids of the parts end to
  end are those of the whole text, without exception.
  """

  longest: int

  def first(self, texts: Sequence[str]) -> list[np.ndarray | None]:
    """Returns ids, int32 [length], of parts that begin a text."""
    ...

  def after(self, texts: Sequence[str]) -> list[np.ndarray | None]:
    """Returns ids of parts that follow others, the separator's first."""
    ...


class SentencePieceJoiner:
  """For a model that cuts at the separator (`Facts.cuts_at`)."""

  def __init__(self, vocabulary: Encoder, separator: str, longest: int):
    self.longest = longest
    self._vocabulary = vocabulary
    self._separator = separator
    # The library may begin a text with a space of its own.
    self._own = len(vocabulary.encode_arrays([separator[0]])[0]) - 1

  def first(self, texts: Sequence[str]) -> list[np.ndarray | None]:
    arrays = self._vocabulary.encode_arrays(texts)
    return [
        # An empty text has no ids, so that space would come after it.
        ids if text and _is_exact(text) else None
        for text, ids in zip(texts, arrays, strict=True)
    ]

  def after(self, texts: Sequence[str]) -> list[np.ndarray | None]:
    separator, own = self._separator, self._own
    whole = [separator + text for text in texts]
    arrays = self._vocabulary.encode_arrays(whole)
    return [
        ids[own:] if _is_exact(text) else None
        for text, ids in zip(whole, arrays, strict=True)
    ]


class ByteJoiner:
  """For bytes, which know no context."""

  longest = 1 << 62

  def __init__(self, vocabulary: Encoder, separator: str):
    self._vocabulary = vocabulary
    self._separator = separator

  def first(self, texts: Sequence[str]) -> list[np.ndarray | None]:
    arrays = self._vocabulary.encode_arrays(texts)
    return [
        # Halves of a surrogate pair could meet where texts do.
        ids if _is_unicode(text) else None
        for text, ids in zip(texts, arrays, strict=True)
    ]

  def after(self, texts: Sequence[str]) -> list[np.ndarray | None]:
    return self.first([self._separator + text for text in texts])


def _is_exact(text: str) -> bool:
  # A sentinel's score has no exact sum, and the other character is spelled in
  # a way that depends on the whole text.
  return _SENTINEL not in text and SPACE_SYMBOL not in text


def _is_unicode(text: str) -> bool:
  try:
    text.encode()
  except UnicodeEncodeError:
    return False
  return True
