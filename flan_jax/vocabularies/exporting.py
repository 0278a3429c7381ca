"""A T5 vocabulary as `transformers` loads it: spiece.model and its settings."""

import json
from typing import Any

from flan_jax import storage
from flan_jax.vocabularies import pieces

MODEL = 'spiece.model'
CONFIG = 'tokenizer_config.json'


def huggingface_files(
    vocabulary: pieces.SentencePieceVocabulary,
) -> dict[str, bytes]:
  """Returns files by name, of which T5Tokenizer makes the same ids.

  What the vocabulary keeps of a text beyond its model are added tokens there.

  Args:
    vocabulary: One with T5's ids, whose model spells nothing in bytes.
  """
  facts: dict[str, Any] = {
      'tokenizer_class': 'T5Tokenizer',
      'pad_token': '<pad>',
      'eos_token': '</s>',
      'unk_token': '<unk>',
      'extra_ids': vocabulary.extra_ids,
      'clean_up_tokenization_spaces': False,
  }
  first = vocabulary.size - len(vocabulary.kept)
  if vocabulary.kept:
    facts['added_tokens_decoder'] = {
        str(first + place): {
            'content': text,
            'lstrip': False,
            'normalized': False,
            'rstrip': False,
            'single_word': False,
            'special': False,
        }
        for place, text in enumerate(vocabulary.kept)
    }
  return {
      MODEL: storage.path(vocabulary.path).read_bytes(),
      CONFIG: (json.dumps(facts, indent=2) + '\n').encode(),
  }
