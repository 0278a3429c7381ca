"""Trains SentencePiece models that give every text back as it was."""

from collections.abc import Iterable, Iterator
import itertools
import os
import pathlib

from flan_jax import errors
from flan_jax import sentencepiece_models
from flan_jax import storage
from flan_jax.vocabularies import base
import numpy as np


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
  kept = [
      base.without_surrogates(text) for text in _sample(texts, max_texts, seed)
  ]
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
        pad_id=base.PAD_ID,
        eos_id=base.EOS_ID,
        unk_id=base.UNK_ID,
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
