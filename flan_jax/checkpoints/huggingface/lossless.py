"""A lossless vocabulary as a tokenizer.json, for `transformers`.

`transformers`' T5Tokenizer collapses white space, whatever the model says. Its
general tokenizer does what the file says: unigram pieces, bytes for what is in
none, and nothing changed before.
"""

import json
from typing import Any

from flan_jax import sentencepiece_models
from flan_jax import storage
from flan_jax import vocabularies

_SPACE = '\u2581'


def is_lossless(vocabulary: vocabularies.SentencePieceVocabulary) -> bool:
  """Whether a model is of the kind that `train_sentencepiece` makes."""
  model = storage.path(vocabulary.path).read_bytes()
  return sentencepiece_models.read(model).plain and b'<0x00>' in model


def huggingface_files(
    vocabulary: vocabularies.SentencePieceVocabulary,
) -> dict[str, bytes]:
  """Returns files by name, of which `transformers` makes the same ids.

  But for texts that nobody writes: U+2581 reads as a space there, as it does to
  SentencePiece itself, and what looks like a byte's piece ('<0x0A>') as one.

  Args:
    vocabulary: One that `is_lossless`.
  """
  import sentencepiece

  model = storage.path(vocabulary.path).read_bytes()
  processor = sentencepiece.SentencePieceProcessor(
      model_proto=model + sentencepiece_models.sentinels(vocabulary.extra_ids)
  )
  pieces: list[tuple[str, float]] = [
      (processor.id_to_piece(i), processor.get_score(i))
      for i in range(len(processor))
  ]
  special = {
      i: pieces[i][0]
      for i in (vocabulary.pad_id, vocabulary.eos_id, vocabulary.unk_id)
  }
  tokenizer = {
      'version': '1.0',
      'truncation': None,
      'padding': None,
      'added_tokens': [_added(i, text) for i, text in special.items()],
      'normalizer': {
          'type': 'Sequence',
          'normalizers': [
              {'type': 'Prepend', 'prepend': _SPACE},
              _replace(' ', _SPACE),
          ],
      },
      'pre_tokenizer': None,
      'post_processor': _ends(special[vocabulary.eos_id], vocabulary.eos_id),
      'decoder': {
          'type': 'Sequence',
          'decoders': [
              _replace(_SPACE, ' '),
              {'type': 'ByteFallback'},
              {'type': 'Fuse'},
              {'type': 'Strip', 'content': ' ', 'start': 1, 'stop': 0},
          ],
      },
      'model': {
          'type': 'Unigram',
          'unk_id': vocabulary.unk_id,
          'vocab': pieces,
          'byte_fallback': True,
      },
  }
  facts = {
      'tokenizer_class': 'PreTrainedTokenizerFast',
      'pad_token': special[vocabulary.pad_id],
      'eos_token': special[vocabulary.eos_id],
      'unk_token': special[vocabulary.unk_id],
      'clean_up_tokenization_spaces': False,
  }
  return {
      'tokenizer.json': _text(tokenizer),
      'tokenizer_config.json': _text(facts),
      # So that what reads the folder as ours finds the model itself.
      'spiece.model': model,
  }


def _added(number: int, text: str) -> dict[str, Any]:
  return {
      'id': number,
      'content': text,
      'single_word': False,
      'lstrip': False,
      'rstrip': False,
      'normalized': False,
      'special': True,
  }


def _replace(old: str, new: str) -> dict[str, Any]:
  return {'type': 'Replace', 'pattern': {'String': old}, 'content': new}


def _ends(text: str, number: int) -> dict[str, Any]:
  """Returns what puts an end after each text."""

  def sequence(name: str) -> list[dict[str, Any]]:
    return [
        {'Sequence': {'id': name, 'type_id': 0}},
        {'SpecialToken': {'id': text, 'type_id': 0}},
    ]

  return {
      'type': 'TemplateProcessing',
      'single': sequence('A'),
      'pair': sequence('A') + sequence('B'),
      'special_tokens': {text: {'id': text, 'ids': [number], 'tokens': [text]}},
  }


def _text(facts: dict[str, Any]) -> bytes:
  return (json.dumps(facts, indent=1, ensure_ascii=False) + '\n').encode()
