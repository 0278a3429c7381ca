"""Vocabularies of others, whose own ids may begin with a token like any other.

Rows of data have 0 for padding and where they begin, so that ids here are one
higher than the model's own; see `models.config.DecoderConfig`.
"""

import abc
from collections.abc import Iterable, Sequence
import hashlib
import itertools
import os
from typing import Any

from flan_jax import errors
from flan_jax import joining
from flan_jax import storage
from flan_jax.vocabularies import base
import numpy as np


class Shifted(abc.ABC):
  """See `base.Vocabulary`.

  Attributes:
    path: The tokenizer's file.
    eos_id: What ends inputs and targets.
    unk_id: The unknown token, or padding where there is none.
    shift: How much higher ids are than the model's own: 1, or 0 where those
      are T5's, which begin with padding.
  """

  pad_id = base.PAD_ID
  kind = ''

  def __init__(
      self,
      path: str | os.PathLike[str],
      own_size: int,
      own_eos: int,
      shift: int = 1,
  ):
    """Takes the tokenizer's own size and end.

    Args:
      path: Its file.
      own_size: The number of its ids.
      own_eos: The end's own id.
      shift: See the attribute.
    """
    self.path = storage.path(path)
    self.shift = shift
    self.eos_id = own_eos + shift
    self.unk_id = base.PAD_ID
    self._own_size = own_size
    self.sha256 = hashlib.sha256(
        read(self.path) + f' {own_size} {own_eos}'.encode()
    ).hexdigest()

  @abc.abstractmethod
  def _own_ids(self, texts: Sequence[str]) -> list[list[int]]:
    """Returns the tokenizer's own ids of each text, without begin and end."""

  @abc.abstractmethod
  def _own_text(self, ids: list[int]) -> str:
    """Returns the text of the tokenizer's own ids."""

  def __reduce__(self):
    # Worker processes load the file again; the native object cannot travel.
    return type(self), (self.path,)

  @property
  def size(self) -> int:
    """The number of ids, padding included."""
    return self._own_size + self.shift

  @property
  def padded_size(self) -> int:
    """`size` rounded up to a multiple of 128."""
    return base.padded(self.size)

  def encode(self, text: str) -> list[int]:
    """Returns the ids of `text`, without an end."""
    return self.encode_arrays([text])[0].tolist()

  def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
    """Returns the ids of each text, without ends."""
    return [ids.tolist() for ids in self.encode_arrays(texts)]

  def encode_arrays(self, texts: Sequence[str]) -> list[np.ndarray]:
    """Returns the ids of each text, int32 [length], without ends.

    Tokens that the model has no vector for (of images, say) are left out.
    """
    texts = list(texts)
    try:
      found = self._own_ids(texts)
    except (TypeError, UnicodeEncodeError):
      # Half a surrogate pair, as broken JSON has it.
      found = self._own_ids([base.without_surrogates(text) for text in texts])
    arrays = [np.asarray(ids, np.int32) + self.shift for ids in found]
    return [ids[ids < self.size] for ids in arrays]

  def encode_flat(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns all ids in one row, [total] int32, and lengths, [texts] int64."""
    return base.joined(self.encode_arrays(texts))

  def joiner(self, separator: str) -> joining.Joiner | None:
    """Returns None: pieces may reach over any separator."""
    del separator
    return None

  def decode(self, ids: Iterable[int]) -> str:
    """Returns the text of `ids` up to the first end, padding dropped."""
    if isinstance(ids, np.ndarray):
      ids = ids.tolist()
    until_end = itertools.takewhile(lambda i: i != self.eos_id, map(int, ids))
    return self._own_text(
        [i - self.shift for i in until_end if 0 < i < self.size]
    )

  def round_trip(self, text: str) -> str:
    """Returns `text` as it comes back through ids."""
    return self.decode(self.encode(text))

  def describe(self) -> dict[str, Any]:
    """Returns kind, hash of the file and what goes with it, and sizes."""
    return {
        'kind': self.kind,
        'sha256': self.sha256,
        'size': self.size,
        'eos_id': self.eos_id,
    }


class OwnSentencePieceVocabulary(Shifted):
  """A SentencePiece model that does not have T5's ids, as Llama 2's."""

  kind = 'sentencepiece_plus_1'

  def __init__(self, path: str | os.PathLike[str]):
    """Loads the model.

    Raises:
      UserError: The file is missing, is no SentencePiece model, or has no end.
    """
    import sentencepiece  # Half a megabyte of native code: only when needed.

    model = read(path)
    try:
      self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    except RuntimeError as error:
      raise errors.UserError(
          f'{path}: this is not a SentencePiece model.'
      ) from error
    end = self._processor.eos_id()
    if end < 0:
      raise errors.UserError(f'{path}: has no piece for the end of a text')
    super().__init__(path, len(self._processor), end)
    self.unk_id = self._processor.unk_id() + 1

  def _own_ids(self, texts: Sequence[str]) -> list[list[int]]:
    return self._processor.encode(list(texts), num_threads=1)

  def _own_text(self, ids: list[int]) -> str:
    return self._processor.decode(ids)


def has_t5_ids(path: str | os.PathLike[str]) -> bool:
  """Whether a SentencePiece model has pad 0, end 1 and unknown 2."""
  import sentencepiece

  try:
    model = sentencepiece.SentencePieceProcessor(model_proto=read(path))
  except RuntimeError:
    return False
  found = (model.pad_id(), model.eos_id(), model.unk_id())
  return found == (base.PAD_ID, base.EOS_ID, base.UNK_ID)


def read(path: str | os.PathLike[str]) -> bytes:
  """Returns what a vocabulary's file holds.

  Raises:
    UserError: It cannot be read.
  """
  file = storage.path(path)
  try:
    return file.read_bytes()
  except OSError as error:
    raise errors.UserError(
        f'{file}: cannot read the vocabulary ({storage.reason(error)})'
    ) from error
