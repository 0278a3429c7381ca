"""Vocabularies with T5's id layout: pad 0, end 1, unknown 2, sentinels on top.

SentencePiece models as T5 uses them, bytes as ByT5 uses them, and a trainer
for models that give every text back as it was.
"""

import os

from flan_jax import paths
from flan_jax import storage
from flan_jax.vocabularies import base
from flan_jax.vocabularies import byte
from flan_jax.vocabularies import pieces
from flan_jax.vocabularies import training

PAD_ID = base.PAD_ID
EOS_ID = base.EOS_ID
UNK_ID = base.UNK_ID

Vocabulary = base.Vocabulary
SentencePieceVocabulary = pieces.SentencePieceVocabulary
ByteVocabulary = byte.ByteVocabulary

joined = base.joined
train_sentencepiece = training.train_sentencepiece


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
