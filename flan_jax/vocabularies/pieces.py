"""SentencePiece models with T5's sentinels."""

from collections.abc import Iterable, Sequence
import functools
import hashlib
import itertools
import os
from typing import Any

from flan_jax import errors
from flan_jax import joining
from flan_jax import sentencepiece_models
from flan_jax import storage
from flan_jax.vocabularies import base
from flan_jax.vocabularies import literals
import numpy as np

# SentencePiece writes a space as U+2581, so the character itself would come
# back as a space. A lossless model spells it in bytes instead: the text goes
# in with a noncharacter in its place, whose three bytes are then exchanged.
_SPACE_SYMBOL = joining.SPACE_SYMBOL
_SENTINEL = joining.SPACE_SYMBOL + '<extra_id_{}>'
_NONCHARACTERS = tuple(map(chr, range(0xFDD0, 0xFDF0)))


class SentencePieceVocabulary:
  """A SentencePiece model with T5's sentinels added on top.

  The ids of text are those of `seqio.SentencePieceVocabulary` with the same
  `extra_ids`. In a lossless model (`train_sentencepiece`) the character U+2581
  is spelled in bytes, where SentencePiece alone would read it as a space. In
  any other, T5's among them, ids are those of `transformers`' tokenizer to the
  last: '</s>', '<pad>', '<unk>' and sentinels that a text spells out are those
  tokens wherever they stand, where SeqIO knows sentinels behind a space alone.

  Attributes:
    path: The model file.
    extra_ids: The number of sentinels added; `<extra_id_0>` has the highest id.
    keep: Names of what the model would lose, and the vocabulary keeps; see
      `literals`.
    kept: Those texts, whose ids follow the sentinels'.
  """

  pad_id = base.PAD_ID
  eos_id = base.EOS_ID
  unk_id = base.UNK_ID

  def __init__(
      self,
      path: str | os.PathLike[str],
      extra_ids: int | None = None,
      keep: Sequence[str] = (),
  ):
    """Loads the model.

    Args:
      path: A SentencePiece model with pad 0, end 1 and unknown 2.
      extra_ids: Sentinels to add; by default 100, as T5 has them, and none
        where the model has sentinels itself, as mT5's.
      keep: What to keep that the model would lose.

    Raises:
      UserError: The file is missing, is no SentencePiece model, or has other
        ids for pad, end or unknown; or it loses nothing, and is to keep
        something.
    """
    import sentencepiece  # Half a megabyte of native code: only when needed.

    self.path = storage.path(path)
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
      bare = sentencepiece.SentencePieceProcessor(model_proto=model)
    except RuntimeError as error:
      raise errors.UserError(
          f'{self.path}: this is not a SentencePiece model.'
      ) from error
    found = (bare.pad_id(), bare.eos_id(), bare.unk_id())
    if found != (base.PAD_ID, base.EOS_ID, base.UNK_ID):
      raise errors.UserError(
          f'{self.path}: pad, end and unknown have the ids {found}, not (0, 1,'
          ' 2) as T5 has them; train the model with pad_id=0, eos_id=1,'
          ' unk_id=2.'
      )
    self._base_size = len(bare)
    if extra_ids is None:
      has_own = bare.piece_to_id(_SENTINEL.format(0)) != base.UNK_ID
      extra_ids = 0 if has_own else 100
    self.extra_ids = extra_ids
    self._processor = sentencepiece.SentencePieceProcessor(
        model_proto=model + sentencepiece_models.sentinels(extra_ids)
    )
    self._facts = functools.cache(lambda: sentencepiece_models.read(model))
    # Without byte fallback there is nothing to spell U+2581 with.
    byte_ids = [bare.piece_to_id(f'<0x{byte:02X}>') for byte in range(256)]
    self._byte_ids = byte_ids if base.UNK_ID not in byte_ids else None
    self.keep = tuple(sorted(keep, key=literals.place))
    self.kept: tuple[str, ...] = ()
    if keep:
      self.kept = literals.tokens(self.keep, str(path))
      if self._byte_ids is not None:
        raise errors.UserError(
            f'{path}: keep: this model loses nothing; leave'
            f' {literals.OPTION}... out'
        )
    self._literals = literals.Literals(self._find_literals(bare))

  def _find_literals(self, bare: Any) -> dict[str, int]:
    """Returns the ids of texts that are one token each."""
    if self._byte_ids is not None:
      return {}  # All text is text there.
    found = {
        bare.id_to_piece(i): i for i in (base.PAD_ID, base.EOS_ID, base.UNK_ID)
    }
    top = self._base_size + self.extra_ids
    for number in range(self.extra_ids):
      found[f'<extra_id_{number}>'] = top - 1 - number
    for number in itertools.count(self.extra_ids):
      own = bare.piece_to_id(_SENTINEL.format(number))
      if own == base.UNK_ID:
        break
      found[f'<extra_id_{number}>'] = own
    return found | {text: top + i for i, text in enumerate(self.kept)}

  def __reduce__(self):
    # Worker processes load the file again; the native object cannot travel.
    return type(self), (self.path, self.extra_ids, self.keep)

  @property
  def size(self) -> int:
    """The number of ids, sentinels and what is kept included."""
    return self._base_size + self.extra_ids + len(self.kept)

  @property
  def padded_size(self) -> int:
    """`size` rounded up to a multiple of 128."""
    return base.padded(self.size)

  def encode(self, text: str) -> list[int]:
    """Returns the ids of `text`, without an end."""
    return self.encode_batch([text])[0]

  def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
    """Returns the ids of each text, without ends."""
    return [ids.tolist() for ids in self.encode_arrays(texts)]

  def encode_flat(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns all ids in one row, [total] int32, and lengths, [texts] int64."""
    return base.joined(self.encode_arrays(texts))

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
    first = self.size - len(self.kept)
    texts: list[str] = []
    run: list[int] = []
    for i in map(int, base.until_end(ids)):
      if first <= i < self.size:
        texts += [self._processor.decode(run), self.kept[i - first]]
        run = []
      elif i != base.PAD_ID:
        run.append(i if 0 <= i < self.size else base.UNK_ID)
    return ''.join([*texts, self._processor.decode(run)])

  def round_trip(self, text: str) -> str:
    """Returns `text` as it comes back through ids."""
    return self.decode(self.encode(text))

  def describe(self) -> dict[str, Any]:
    """Returns kind, hash of the model file and what is kept, and sizes."""
    found: dict[str, Any] = {
        'kind': 'sentencepiece',
        'sha256': self.sha256,
        'size': self.size,
        'extra_ids': self.extra_ids,
    }
    if self.kept:
      whole = f'{self.sha256} {self.kept!r}'
      found['sha256'] = hashlib.sha256(whole.encode()).hexdigest()
      found['keep'] = list(self.keep)
    return found

  def encode_arrays(self, texts: Sequence[str]) -> list[np.ndarray]:
    """Returns the ids of each text, int32 [length], without ends."""
    texts = list(texts)
    arrays = self._encode(texts)
    for index, text in enumerate(texts):
      if self._literals.within(text):
        arrays[index] = self._encode_with_literals(text)
    return arrays

  def _encode_with_literals(self, text: str) -> np.ndarray:
    """Returns the ids of a text that holds tokens of `_literals`."""
    parts = list(self._literals.parts(text))
    ids = iter(self._encode([part for part in parts if isinstance(part, str)]))
    return np.concatenate([
        next(ids) if isinstance(part, str) else np.array([part], np.int32)
        for part in parts
    ])

  def _encode(self, texts: list[str]) -> list[np.ndarray]:
    """Returns the ids of texts that hold no other tokens."""
    # One thread: batches are encoded inside the pipeline's own workers, and
    # starting threads costs more than a batch of prompts.
    try:
      arrays = self._processor.encode(texts, num_threads=1, return_type='numpy')
    except (TypeError, UnicodeEncodeError):
      # Half a surrogate pair, as broken JSON has it.
      texts = [base.without_surrogates(text) for text in texts]
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
