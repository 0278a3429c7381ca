"""Hugging Face's tokenizer.json, by the `tokenizers` library."""

from collections.abc import Sequence
import json
import os
import pathlib
from typing import Any

from flan_jax import errors
from flan_jax import storage
from flan_jax.vocabularies import base
from flan_jax.vocabularies import shifted

FILE = 'tokenizer.json'
# What says which of its tokens ends a text, and the model's size.
_CONFIG = 'tokenizer_config.json'
_MODEL = ('generation_config.json', 'config.json')
# What BERT calls the tokens that its rows have besides those of texts.
_SPECIAL = {'cls_token': '[CLS]', 'sep_token': '[SEP]', 'mask_token': '[MASK]'}
# Of T5's tokenizers, which have these ids in all their forms.
_T5 = {'<pad>': base.PAD_ID, '</s>': base.EOS_ID, '<unk>': base.UNK_ID}
# What else goes where the tokenizer goes.
COMPANIONS = (
    _CONFIG,
    *_MODEL,
    'special_tokens_map.json',
    'added_tokens.json',
    'chat_template.jinja',
)


class TokenizerVocabulary(shifted.Shifted):
  """A tokenizer.json, of byte pairs or whatever it says.

  Ids are those of `transformers` without special tokens, plus 1 unless they are
  T5's. As there,
  special tokens that a text spells out ('<|im_start|>') become what they name.
  What ends a text is tokenizer_config.json's "eos_token", or else the first
  "eos_token_id" of generation_config.json or config.json, or else what stands
  between texts.
  """

  kind = 'huggingface'

  def __init__(self, path: str | os.PathLike[str]):
    """Loads the tokenizer.

    Args:
      path: The file; what says more of it lies beside it.

    Raises:
      UserError: `tokenizers` is not installed, the file is missing or broken,
        or nothing says what ends a text.
    """
    try:
      import tokenizers  # Megabytes of native code: only when needed.
    except ImportError as error:
      raise errors.UserError(
          f'{path}: needs the tokenizers library: pip install'
          ' "flan_jax[huggingface]"'
      ) from error
    file = storage.path(path)
    text = shifted.read(file)
    try:
      self._tokenizer = tokenizers.Tokenizer.from_buffer(text)
    except Exception as error:  # The library raises nothing narrower.
      raise errors.UserError(
          f'{file}: is no tokenizer that the tokenizers library reads ({error})'
      ) from error
    self._tokenizer.no_truncation()
    self._tokenizer.no_padding()
    known = self._tokenizer.get_vocab(with_added_tokens=True)
    size = max(known.values(), default=-1) + 1
    # Tokenizers may know tokens that a model of text has no vectors for.
    facts = _facts(file.parent / 'config.json')
    rows = facts.get('vocab_size')
    if isinstance(rows, int) and 0 < rows < size:
      added = self._tokenizer.get_added_tokens_decoder()
      if set(range(rows, size)) <= set(added):
        size = rows
    shift = 0 if all(known.get(t) == i for t, i in _T5.items()) else 1
    super().__init__(file, size, _end(file, known), shift)
    if not shift:
      self.unk_id = base.UNK_ID
    self._special = {
        name: own + shift
        for name in _SPECIAL
        if (own := _special(file, known, name)) is not None
    }

  def special_id(self, name: str) -> int | None:
    """Returns the id of a token that rows have besides those of texts.

    Args:
      name: As tokenizer_config.json has it: 'cls_token', 'sep_token' or
        'mask_token'. Where it does not say, it is BERT's.

    Returns:
      None where the tokenizer has no such token.
    """
    return self._special.get(name)

  def _own_ids(self, texts: Sequence[str]) -> list[list[int]]:
    return [
        found.ids
        for found in self._tokenizer.encode_batch_fast(
            texts, add_special_tokens=False
        )
    ]

  def _own_text(self, ids: list[int]) -> str:
    return self._tokenizer.decode(ids, skip_special_tokens=True)


def _end(file: pathlib.Path, known: dict[str, int]) -> int:
  """Returns the own id of what ends a text."""
  end = _special(file, known, 'eos_token')
  if end is not None:
    return end
  for name in _MODEL:
    given = _facts(file.parent / name).get('eos_token_id')
    given = given[0] if isinstance(given, list) and given else given
    if isinstance(given, int):
      return given
  between = _special(file, known, 'sep_token')
  if between is not None:
    return between
  raise errors.UserError(
      f'{file}: nothing says which token ends a text; put {{"eos_token":'
      f' "..."}} into {file.parent / _CONFIG}'
  )


def _special(
    file: pathlib.Path, known: dict[str, int], name: str
) -> int | None:
  """Returns the own id of a special token, None if there is none."""
  token = _facts(file.parent / _CONFIG).get(name, _SPECIAL.get(name))
  if isinstance(token, dict):
    token = token.get('content')
  return known.get(token) if isinstance(token, str) else None


def _facts(file: pathlib.Path) -> dict[str, Any]:
  """Returns what a JSON file says; nothing if there is none."""
  if not file.is_file():
    return {}
  try:
    found = json.loads(shifted.read(file))
  except ValueError as error:
    raise errors.UserError(f'{file}: is no JSON: {error}') from error
  return found if isinstance(found, dict) else {}
