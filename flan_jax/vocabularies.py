"""Vocabularies with T5's id layout: pad 0, end 1, unknown 2, sentinels on top.

SentencePiece models as T5 uses them, bytes as ByT5 uses them, and a trainer
for models that give every text back as it was.
"""

from collections.abc import Iterable, Iterator, Sequence
import functools
import hashlib
import itertools
import os
import pathlib
from typing import Any, Protocol

from flan_jax import errors
from flan_jax import joining
from flan_jax import paths
from flan_jax import sentencepiece_models
from flan_jax import storage
import numpy as np

PAD_ID = 0
EOS_ID = 1
UNK_ID = 2

# SentencePiece writes a space as U+2581, so the character itself would come
# back as a space. A lossless model spells it in bytes instead: the text goes
# in with a noncharacter in its place, whose three bytes are then exchanged.
_SPACE_SYMBOL = joining.SPACE_SYMBOL
_NONCHARACTERS = tuple(map(chr, range(0xFDD0, 0xFDF0)))


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


class SentencePieceVocabulary:
  """A SentencePiece model with T5's sentinels added on top.

  The ids are those of `seqio.SentencePieceVocabulary` with the same
  `extra_ids`, with one exception: in a lossless model (`train_sentencepiece`)
  the character U+2581 is spelled in bytes, where SentencePiece alone would
  read it as a space.

  Attributes:
    path: The model file.
    extra_ids: The number of sentinels; `<extra_id_0>` has the highest id.
  """

  pad_id = PAD_ID
  eos_id = EOS_ID
  unk_id = UNK_ID

  def __init__(self, path: str | os.PathLike[str], extra_ids: int = 100):
    """Loads the model.

    Args:
      path: A SentencePiece model with pad 0, end 1 and unknown 2.
      extra_ids: Sentinels to add; T5 has 100.

    Raises:
      UserError: The file is missing, is no SentencePiece model, or has other
        ids for pad, end or unknown.
    """
    import sentencepiece  # Half a megabyte of native code: only when needed.

    self.path = storage.path(path)
    self.extra_ids = extra_ids
    try:
      model = self.path.read_bytes()
    except OSError as error:
      raise errors.UserError(
          f'{self.path}: cannot read the vocabulary'
          f' ({storage.reason(error)}); give'
          ' the path of a SentencePiece .model file, or "bytes".'
      ) from error
    self.sha256 = hashlib.sha256(model).hexdigest()
    try:
      base = sentencepiece.SentencePieceProcessor(model_proto=model)
    except RuntimeError as error:
      raise errors.UserError(
          f'{self.path}: this is not a SentencePiece model.'
      ) from error
    found = (base.pad_id(), base.eos_id(), base.unk_id())
    if found != (PAD_ID, EOS_ID, UNK_ID):
      raise errors.UserError(
          f'{self.path}: pad, end and unknown have the ids {found}, not (0, 1,'
          ' 2) as T5 has them; train the model with pad_id=0, eos_id=1,'
          ' unk_id=2.'
      )
    self._base_size = len(base)
    self._processor = sentencepiece.SentencePieceProcessor(
        model_proto=model + sentencepiece_models.sentinels(extra_ids)
    )
    self._facts = functools.cache(lambda: sentencepiece_models.read(model))
    # Without byte fallback there is nothing to spell U+2581 with.
    byte_ids = [base.piece_to_id(f'<0x{byte:02X}>') for byte in range(256)]
    self._byte_ids = byte_ids if UNK_ID not in byte_ids else None

  def __reduce__(self):
    # Worker processes load the file again; the native object cannot travel.
    return type(self), (self.path, self.extra_ids)

  @property
  def size(self) -> int:
    """The number of ids, sentinels included."""
    return self._base_size + self.extra_ids

  @property
  def padded_size(self) -> int:
    """`size` rounded up to a multiple of 128."""
    return _padded(self.size)

  def encode(self, text: str) -> list[int]:
    """Returns the ids of `text`, without an end."""
    return self.encode_batch([text])[0]

  def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
    """Returns the ids of each text, without ends."""
    return [ids.tolist() for ids in self.encode_arrays(texts)]

  def encode_flat(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns all ids in one row, [total] int32, and lengths, [texts] int64."""
    return joined(self.encode_arrays(texts))

  def joiner(self, separator: str) -> joining.Joiner | None:
    """Returns what tokenises texts in parts, if that is always exact.

    It is for models of `train_sentencepiece` and separators that begin with a
    line break, or another character that is in no other piece. It is not for
    T5's model, whose scores are rounded as they are added up; see
    `sentencepiece_models`.

    Args:
      separator: What stands between the parts.
    """
    facts = self._facts()
    if not facts.cuts_at(separator):
      return None
    return joining.SentencePieceJoiner(self, separator, facts.longest)

  def decode(self, ids: Iterable[int]) -> str:
    """Returns the text of `ids` up to the first end, padding dropped.

    Ids from `size` on (the padding of an embedding) read as unknown.
    """
    known = [int(i) if 0 <= i < self.size else UNK_ID for i in _until_end(ids)]
    return self._processor.decode([i for i in known if i != PAD_ID])

  def round_trip(self, text: str) -> str:
    """Returns `text` as it comes back through ids."""
    return self.decode(self.encode(text))

  def describe(self) -> dict[str, Any]:
    """Returns kind, hash of the model file, and sizes."""
    return {
        'kind': 'sentencepiece',
        'sha256': self.sha256,
        'size': self.size,
        'extra_ids': self.extra_ids,
    }

  def encode_arrays(self, texts: Sequence[str]) -> list[np.ndarray]:
    """Returns the ids of each text, int32 [length], without ends."""
    texts = list(texts)
    # One thread: batches are encoded inside the pipeline's own workers, and
    # starting threads costs more than a batch of prompts.
    try:
      arrays = self._processor.encode(texts, num_threads=1, return_type='numpy')
    except (TypeError, UnicodeEncodeError):
      # Half a surrogate pair, as broken JSON has it.
      texts = [_without_surrogates(text) for text in texts]
      arrays = self._processor.encode(texts, num_threads=1, return_type='numpy')
    if self._byte_ids is not None:
      for index, text in enumerate(texts):
        if _SPACE_SYMBOL in text:
          arrays[index] = self._encode_with_space_symbol(text)
    return arrays

  def _encode_with_space_symbol(self, text: str) -> np.ndarray:
    """Returns the ids of a text that holds U+2581, [length] int32."""
    for stand_in in _NONCHARACTERS:
      if stand_in not in text:
        break
    else:  # All 32 in one text: no text in any language.
      return self._processor.encode(text, return_type='numpy')
    ids = self._processor.encode(
        text.replace(_SPACE_SYMBOL, stand_in), return_type='numpy'
    )
    assert self._byte_ids is not None
    wanted, written = (
        np.array([self._byte_ids[byte] for byte in mark.encode()], np.int32)
        for mark in (_SPACE_SYMBOL, stand_in)
    )
    ids = ids.copy()
    if len(ids) >= 3:
      windows = np.lib.stride_tricks.sliding_window_view(ids, 3)
      for start in np.flatnonzero((windows == written).all(axis=1)):
        ids[start : start + 3] = wanted
    return ids


class ByteVocabulary:
  """UTF-8 bytes, each three ids up, as ByT5 has them (arXiv 2105.13626).

  Attributes:
    extra_ids: The number of sentinels above the bytes.
  """

  pad_id = PAD_ID
  eos_id = EOS_ID
  unk_id = UNK_ID
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
    return _padded(self.size)

  def encode(self, text: str) -> list[int]:
    """Returns the ids of `text`, without an end."""
    return self._encode_array(text).tolist()

  def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
    """Returns the ids of each text, without ends."""
    return [self.encode(text) for text in texts]

  def encode_flat(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns all ids in one row, [total] int32, and lengths, [texts] int64."""
    return joined(self.encode_arrays(texts))

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
    kept = bytes(int(i) - low for i in _until_end(ids) if low <= i < high)
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
      data = _without_surrogates(text).encode()
    return np.frombuffer(data, np.uint8).astype(np.int32) + self._OFFSET


def load(spec: str | os.PathLike[str]) -> Vocabulary:
  """Returns the vocabulary that `spec` names.

  Args:
    spec: 'bytes', or the path of a SentencePiece model; paths that start with
      `mixtures/` are found wherever the package is installed.

  Raises:
    UserError: The file is missing or not a model with T5's ids.
  """
  if spec == 'bytes':
    return ByteVocabulary()
  storage.check('VOCABULARY', spec)
  return SentencePieceVocabulary(paths.find(spec))


def train_sentencepiece(
    texts: Iterable[str],
    size: int,
    path: str | os.PathLike[str],
    seed: int = 0,
    *,
    max_texts: int = 500_000,
) -> None:
  """Trains a unigram model that gives every text back as it was.

  Nothing is normalised and no white space is dropped; line breaks, tabs and
  braces are pieces of their own, digits stand alone, and characters too rare
  for a piece are spelled in bytes. Scores are rounded so that a text's ids do
  not depend on what stands before it (`sentencepiece_models`). Same texts, size
  and seed: same file.

  Args:
    texts: What to learn from; texts may hold line breaks.
    size: Pieces in the model, at least 300 (256 of them are bytes); sentinels
      come on top of these when the model is loaded.
    path: Where the model goes; written whole or not at all.
    seed: Chooses the texts where there are more than `max_texts`.
    max_texts: The most texts to learn from.

  Raises:
    UserError: `size` is too small or too large for the texts.
  """
  import io

  import sentencepiece

  path = pathlib.Path(path)
  kept = [_without_surrogates(text) for text in _sample(texts, max_texts, seed)]
  if not any(kept):
    raise errors.UserError(f'{path}: there is no text to train a vocabulary on')
  model = io.BytesIO()
  try:
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(kept),
        model_writer=model,
        model_type='unigram',
        vocab_size=size,
        normalization_rule_name='identity',
        remove_extra_whitespaces=False,
        # A word is the same piece at the start of a text and inside it, and
        # decoding takes the one added space away again.
        add_dummy_prefix=True,
        allow_whitespace_only_pieces=True,
        split_digits=True,
        byte_fallback=True,
        character_coverage=0.9995,
        user_defined_symbols=['\n', '\t', '{', '}'],
        pad_id=PAD_ID,
        eos_id=EOS_ID,
        unk_id=UNK_ID,
        bos_id=-1,
        max_sentence_length=1 << 24,  # Bytes; longer texts would be skipped.
        num_threads=1,  # Sums of floats in one order: the same file each time.
        minloglevel=2,
    )
  except RuntimeError as error:
    reason = str(error).splitlines()[0].split('] ')[-1]  # The C++ line goes.
    raise errors.UserError(
        f'{path}: size: cannot train {size} pieces on {len(kept)} texts'
        f' ({reason})'
    ) from error
  path.parent.mkdir(parents=True, exist_ok=True)
  storage.write(path, sentencepiece_models.with_exact_scores(model.getvalue()))


def _sample(texts: Iterable[str], limit: int, seed: int) -> Iterator[str]:
  """Yields at most `limit` of `texts`, in their order, a seeded choice."""
  iterator = iter(texts)
  kept = list(itertools.islice(iterator, limit))
  order = list(range(len(kept)))
  generator = np.random.default_rng(seed)
  # Reservoir sampling (Vitter's algorithm R): one pass, `limit` texts held.
  for index, text in enumerate(iterator, start=limit):
    place = int(generator.integers(index + 1))
    if place < limit:
      kept[place], order[place] = text, index
  for place in np.argsort(order, kind='stable'):
    yield kept[place]


def joined(arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
  """Returns the arrays end to end, [total] int32, and lengths [n] int64."""
  lengths = np.fromiter(map(len, arrays), np.int64, len(arrays))
  if not arrays:
    return np.empty(0, np.int32), lengths
  return np.concatenate(arrays), lengths


def _until_end(ids: Iterable[int]) -> Iterator[int]:
  if isinstance(ids, np.ndarray):
    ids = ids.tolist()
  return itertools.takewhile(lambda i: i != EOS_ID, ids)


def _padded(size: int) -> int:
  return -(-size // 128) * 128


def _without_surrogates(text: str) -> str:
  """Returns `text` with U+FFFD for each half of a surrogate pair."""
  try:
    text.encode()
  except UnicodeEncodeError:
    # Whole pairs become the character they stand for.
    data = text.encode('utf-16-le', 'surrogatepass')
    return data.decode('utf-16-le', 'replace')
  return text
