"""Files that make a tokenizer of `transformers` of a vocabulary of ours."""

import json
import pathlib

from flan_jax import storage
from flan_jax import vocabularies
from flan_jax.checkpoints.huggingface import lossless
from flan_jax.vocabularies import exporting


def write(directory: pathlib.Path, spec: str) -> None:
  """Writes a tokenizer's files.

  Args:
    directory: Where they go; the folder exists.
    spec: What `vocabularies.load` makes the vocabulary from.
  """
  vocabulary = vocabularies.load(spec)
  if isinstance(vocabulary, vocabularies.SentencePieceVocabulary):
    kind = lossless if lossless.is_lossless(vocabulary) else exporting
    for name, content in kind.huggingface_files(vocabulary).items():
      storage.write(directory / name, content)
    return
  if spec != 'bytes':
    # A tokenizer of theirs, whose files say what it is.
    _, files = vocabularies.copies(vocabulary, spec)
    for name, path in files.items():
      own = pathlib.PurePath(name).name
      storage.write(directory / own, path.read_bytes())
    return
  facts: dict[str, object] = {
      'eos_token': '</s>',
      'pad_token': '<pad>',
      'unk_token': '<unk>',
      'extra_ids': vocabulary.describe().get('extra_ids', 0),
      'tokenizer_class': 'ByT5Tokenizer',
  }
  storage.write(
      directory / 'tokenizer_config.json',
      json.dumps(facts, indent=2, sort_keys=True) + '\n',
  )
