"""What a SentencePiece model file says, and a change that makes sums exact.

A unigram model cuts a text where the sum of its pieces' scores is highest, and
the library adds the scores up as 32-bit floats from the text's beginning. So
where two ways to cut have the same sum, or nearly, what stands before decides
by its rounding: the ids of a text are not always those that the same text has
behind another one. `with_exact_scores` rounds the scores of a model to
multiples of 1/64, whose sums have no rounding; then a text cut at a character
that no other piece holds can be tokenised in parts (`Facts.cuts_at`).

Files are protocol buffers (`sentencepiece_model.proto`), of which a few fields
are read here; so no compiled schema is needed.
"""

from collections.abc import Iterator
import dataclasses
import math
import struct
from typing import Any

# Scores are multiples of this. Sums below 2**24 of it are exact in 32 bits.
QUANTUM = 1 / 64
_EXACT_SUM = 2**24 * QUANTUM
_UNKNOWN_PENALTY = 10.0  # Of the library: below the lowest score.

# Fields of ModelProto, TrainerSpec, NormalizerSpec and SentencePiece.
_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3
_MODEL_TYPE, _SPACE_AS_SUFFIX = 3, 24
_CHARACTERS_MAP, _REMOVE_SPACES = 2, 4
_PIECE, _SCORE, _TYPE = 1, 2, 3
_UNIGRAM = 1
_NORMAL, _UNKNOWN, _USER_DEFINED = 1, 2, 4
_VARINT, _EIGHT, _TEXT, _FOUR = 0, 1, 2, 5

_Value = Any  # int or bytes, as the field's number says.


@dataclasses.dataclass(frozen=True)
class Facts:
  """What decides whether texts can be tokenised in parts.

  Attributes:
    plain: It is a unigram model of texts as they are: none is changed.
    exact: The ids of a text do not depend on rounding.
    longest: Tokens up to which that holds.
    single: Characters that are a piece, and in no other piece.
  """

  plain: bool
  exact: bool
  longest: int
  single: frozenset[str]

  def cuts_at(self, separator: str) -> bool:
    """Whether texts are always cut before a separator, with the same ids.

    No piece reaches over the separator's first character, so the best way to
    cut all is the best way before it and the best way from it on; and sums
    being exact, what stands before changes no comparison.
    """
    return self.exact and separator[:1] in self.single


def read(model: bytes) -> Facts:
  """Reads a model file.

  Models of other kinds than unigram, and those that change texts (T5's does:
  it collapses white space, line breaks too), count as not exact.

  Args:
    model: The file, without sentinels.
  """
  pieces: list[tuple[str, float, int]] = []
  kind, suffix, mapped, removes = _UNIGRAM, 0, b'', 1
  for number, value in _fields(model):
    if number == _PIECES:
      pieces.append(_piece(value))
    elif number == _TRAINER:
      trainer = dict(_fields(value))
      kind = trainer.get(_MODEL_TYPE, _UNIGRAM)
      suffix = trainer.get(_SPACE_AS_SUFFIX, 0)
    elif number == _NORMALIZER:
      normalizer = dict(_fields(value))
      mapped = normalizer.get(_CHARACTERS_MAP, b'')
      removes = normalizer.get(_REMOVE_SPACES, 1)
  scores = [score for _, score, type_ in pieces if type_ == _NORMAL]
  lowest = min(scores, default=0.0) - _UNKNOWN_PENALTY
  texts = [text for text, _, type_ in pieces if type_ == _NORMAL]
  plain = kind == _UNIGRAM and not (suffix or mapped or removes)
  exact = (
      plain
      and all(type_ != _USER_DEFINED for *_, type_ in pieces)
      and all(score <= 0 and (score / QUANTUM).is_integer() for score in scores)
  )
  # A sum on the way is at most that of the best way up to there (each piece
  # of it counts as an unknown character at worst), and the longest piece
  # beyond it, made of unknown characters.
  most = math.floor(_EXACT_SUM / -lowest) if lowest < 0 else 0
  longest = most - max(map(len, texts), default=0) - 1
  return Facts(plain, exact, max(longest, 0), _single(texts))


def with_exact_scores(model: bytes) -> bytes:
  """Returns a model with rounded scores, whose sums are exact.

  Pieces that a user defined (line breaks, braces) become plain ones: the
  library adds -0.1 for those, which is no exact number. That is right only for
  characters that no other piece holds: those are always cut out anyway.

  Raises:
    ValueError: A longer piece is defined by the user.
  """
  result = bytearray()
  for number, value in _fields(model):
    if number == _PIECES:
      text, score, type_ = _piece(value)
      if type_ == _USER_DEFINED:
        if len(text) > 1:
          raise ValueError(f'{text!r} has more than one character.')
        type_, score = _NORMAL, -1.0
      if type_ == _NORMAL:
        score = min(round(score / QUANTUM), -1) * QUANTUM
      value = piece(text, score, type_)
    result += _message(number, value)
  return bytes(result)


def sentinels(count: int) -> bytes:
  """Returns T5's sentinels, as bytes to append to a model.

  Appending is how protocol buffers merge.
  """
  return b''.join(
      _message(_PIECES, piece(f'\u2581<extra_id_{i}>', 0.0, _USER_DEFINED))
      for i in reversed(range(count))
  )


def piece(text: str, score: float, type_: int) -> bytes:
  """Returns a serialized SentencePiece message."""
  return (
      _message(_PIECE, text.encode())
      + _number(_SCORE << 3 | _FOUR)
      + struct.pack('<f', score)
      + _number(_TYPE << 3 | _VARINT)
      + _number(type_)
  )


def _single(texts: list[str]) -> frozenset[str]:
  within = {character for text in texts if len(text) > 1 for character in text}
  return frozenset(text for text in texts if len(text) == 1) - within


def _piece(value: bytes) -> tuple[str, float, int]:
  found = dict(_fields(value))
  score = struct.unpack('<f', found.get(_SCORE, bytes(4)))[0]
  return found.get(_PIECE, b'').decode(), score, found.get(_TYPE, _NORMAL)


def _fields(message: bytes) -> Iterator[tuple[int, _Value]]:
  """Yields the fields of a protocol buffer: numbers, or bytes."""
  place = 0
  while place < len(message):
    key, place = _read_number(message, place)
    wire = key & 7
    value: _Value
    if wire == _VARINT:
      value, place = _read_number(message, place)
    else:
      if wire == _TEXT:
        size, place = _read_number(message, place)
      else:
        size = {_EIGHT: 8, _FOUR: 4}[wire]
      value = message[place : place + size]
      place += size
    yield key >> 3, value


def _read_number(message: bytes, place: int) -> tuple[int, int]:
  value = shift = 0
  while True:
    byte = message[place]
    place += 1
    value |= (byte & 127) << shift
    if byte < 128:
      return value, place
    shift += 7


def _message(number: int, value: bytes) -> bytes:
  return _number(number << 3 | _TEXT) + _number(len(value)) + value


def _number(value: int) -> bytes:
  result = bytearray()
  while value > 127:
    result.append(value & 127 | 128)
    value >>= 7
  result.append(value)
  return bytes(result)
