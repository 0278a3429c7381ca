"""Vocabularies: texts to ids and back.

Those with T5's ids (pad 0, end 1, unknown 2, sentinels on top): SentencePiece
models as T5 uses them, bytes as ByT5 uses them, and a trainer for models that
give every text back as it was. And those with other models' ids, one higher
than their own, since 0 is padding: SentencePiece models, and tokenizer.json.
"""

import os
import pathlib

from flan_jax import errors
from flan_jax import paths
from flan_jax import storage
from flan_jax.vocabularies import base
from flan_jax.vocabularies import byte
from flan_jax.vocabularies import literals
from flan_jax.vocabularies import losses
from flan_jax.vocabularies import pieces
from flan_jax.vocabularies import shifted
from flan_jax.vocabularies import tokenizer
from flan_jax.vocabularies import training

PAD_ID = base.PAD_ID
EOS_ID = base.EOS_ID
UNK_ID = base.UNK_ID

Vocabulary = base.Vocabulary
SentencePieceVocabulary = pieces.SentencePieceVocabulary
ByteVocabulary = byte.ByteVocabulary
TokenizerVocabulary = tokenizer.TokenizerVocabulary

joined = base.joined
losses_notice = losses.notice
train_sentencepiece = training.train_sentencepiece


# What a folder may hold, the first that is there: T5's folders have both.
FILES = ('spiece.model', tokenizer.FILE, 'tokenizer.model')
# What a run's copy is called.
COPY = 'vocabulary.model'
_COPIES = 'vocabulary'


def load(spec: str | os.PathLike[str]) -> Vocabulary:
  """Returns the vocabulary that `spec` names.

  Args:
    spec: 'bytes', or a path: of a SentencePiece model with T5's ids; of one
      called tokenizer.model, with whatever ids; of a tokenizer.json; or of a
      folder with one of them. Paths that start with `mixtures/` are found
      wherever the package is installed. Of a SentencePiece model with T5's ids,
      '?keep=newline,tab,braces' says what to keep that it would lose; see
      `literals`.

  Raises:
    UserError: The file is missing or not what its name says.
  """
  if spec == 'bytes':
    return ByteVocabulary()
  storage.check('VOCABULARY', spec)
  path, keep = _file(spec)
  if keep:
    return SentencePieceVocabulary(path, keep=keep)
  if path.name.endswith('.json'):
    return tokenizer.TokenizerVocabulary(path)
  if path.name == FILES[-1] and path.is_file() and not shifted.has_t5_ids(path):
    return shifted.OwnSentencePieceVocabulary(path)
  return SentencePieceVocabulary(path)


def copies(
    vocabulary: Vocabulary, spec: str | os.PathLike[str]
) -> tuple[str, dict[str, pathlib.Path]]:
  """Returns what a run keeps of a vocabulary.

  Args:
    vocabulary: The vocabulary.
    spec: What `load` made it from; not 'bytes'.

  Returns:
    What `load` takes in the run's folder, and the files by their names there.
  """
  path, keep = _file(spec)
  if not isinstance(vocabulary, shifted.Shifted):
    option = f'{literals.OPTION}{",".join(keep)}' if keep else ''
    return f'{COPY}{option}', {COPY: path}
  own = f'{_COPIES}/{path.name}'
  more = {
      f'{_COPIES}/{name}': path.parent / name
      for name in tokenizer.COMPANIONS
      if (path.parent / name).is_file()
  }
  return own, {own: path, **more}


def keep(
    vocabulary: Vocabulary,
    spec: str | os.PathLike[str],
    folder: pathlib.Path,
) -> str:
  """Copies a vocabulary's files into a folder; returns what `load` takes there.

  Args:
    vocabulary: The vocabulary.
    spec: What `load` made it from; not 'bytes'.
    folder: Where to.
  """
  own, files = copies(vocabulary, spec)
  for name, path in files.items():
    storage.make_folder((folder / name).parent)
    storage.write(folder / name, path.read_bytes())
  return own


def _file(
    spec: str | os.PathLike[str],
) -> tuple[pathlib.Path, tuple[str, ...]]:
  """Returns a vocabulary's file, and what of a text it is to keep.

  Raises:
    UserError: A folder has none.
  """
  named, keep = literals.split(os.fspath(spec))
  path = paths.find(named)
  if not path.is_dir():
    return path, keep
  for name in FILES:
    if (path / name).is_file():
      return path / name, keep
  raise errors.UserError(
      f'VOCABULARY: {path}: has none of {", ".join(FILES)}; name a file'
  )
