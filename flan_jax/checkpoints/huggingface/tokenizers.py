"""Files that make a tokenizer of `transformers` of a vocabulary of ours."""

import json
import pathlib

from flan_jax import paths
from flan_jax import storage

_SENTINELS = 100  # As `vocabularies` adds them to a SentencePiece model.


def write(directory: pathlib.Path, vocabulary: str) -> None:
  """Writes a tokenizer's files.

  Args:
    directory: Where they go; the folder exists.
    vocabulary: 'bytes', or a SentencePiece model's path.
  """
  facts: dict[str, object] = {
      'eos_token': '</s>',
      'pad_token': '<pad>',
      'unk_token': '<unk>',
  }
  if vocabulary == 'bytes':
    facts |= {'tokenizer_class': 'ByT5Tokenizer', 'extra_ids': 0}
  else:
    storage.write(
        directory / 'spiece.model', paths.find(vocabulary).read_bytes()
    )
    facts |= {'tokenizer_class': 'T5Tokenizer', 'extra_ids': _SENTINELS}
  storage.write(
      directory / 'tokenizer_config.json',
      json.dumps(facts, indent=2, sort_keys=True) + '\n',
  )
