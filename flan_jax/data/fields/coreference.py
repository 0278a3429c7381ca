"""Coreference: what does a pronoun stand for?"""

from collections.abc import Mapping
import re
from typing import Any

from flan_jax.data.fields import common

# 'her' may be either kind of pronoun, so it is not here.
_POSSESSIVES = ('his', 'its', 'their', 'my', 'your', 'our')


def wsc(row: Mapping[str, Any]) -> dict[str, Any]:
  """SuperGLUE's Winograd schemas (Levesque et al., 2012): is it this one?

  The rows say at which word of the text, counted from 0, the pronoun is.

  Returns:
    `text`, where the pronoun that is meant stands between asterisks; `noun`,
    what it may refer to; `pronoun`; `label`, 1 if it does.
  """
  text = row['text']
  pronoun = row['span2_text'].strip()
  start, end = _span(text, pronoun, row['span2_index'])
  return {
      'text': common.one_line(_marked(text, start, end)),
      'noun': common.one_line(row['span1_text']),
      'pronoun': common.one_line(pronoun),
      'label': row['label'],
  }


def _span(text: str, pronoun: str, index: int) -> tuple[int, int]:
  """Returns where the pronoun is that the word number `index` begins with.

  A word may begin with a quotation mark. Where the number is off, it is the
  nearest place at which the pronoun is a word.
  """
  words = list(re.finditer(r'\S+', text))
  word = words[min(index, len(words) - 1)]
  places = [
      match.span()
      for match in re.finditer(rf'(?<!\w){re.escape(pronoun)}(?!\w)', text)
  ]
  if places:
    return min(places, key=lambda place: abs(place[0] - word.start()))
  return word.span()


def _marked(text: str, start: int, end: int) -> str:
  return f'{text[:start]}*{text[start:end]}*{text[end:]}'


def wsc273(row: Mapping[str, Any]) -> dict[str, Any]:
  """WSC273 (Levesque et al., 2012): who, in the pronoun's place, makes sense?

  Returns:
    `beginning`, the text up to the pronoun; `candidates`, each of the two with
    the rest of the text (in the genitive where the pronoun is); `text`, with
    the pronoun between asterisks; `pronoun`; `label`.
  """
  text = row['text']
  start, end = row['pronoun_start'], row['pronoun_end']
  options = [row['option1_normalized'], row['option2_normalized']]
  if text[start:end].lower() in _POSSESSIVES:
    options = [_genitive(option) for option in options]
  return {
      'beginning': common.one_line(text[:start]),
      'candidates': [
          common.one_line(option.strip() + text[end:]) for option in options
      ],
      'text': common.one_line(_marked(text, start, end)),
      'pronoun': text[start:end],
      'label': row['label'],
  }


def _genitive(name: str) -> str:
  name = name.strip()
  if name.endswith(("'s", "s'")):
    return name
  return f"{name}'" if name.endswith('s') else f"{name}'s"


def winogrande(row: Mapping[str, Any]) -> dict[str, Any]:
  """WinoGrande (Sakaguchi et al., 2020): which of two fills the blank?

  Returns:
    `sentence`, with '___' for the blank; `beginning`, what comes before it;
    `candidates`, each of the two with what comes after it; `label`.
  """
  sentence = common.one_line(row['sentence'])
  beginning, blank, rest = sentence.partition('_')
  if not blank:
    raise ValueError("the sentence has no blank, '_'")
  return {
      'sentence': f'{beginning}___{rest}',
      'beginning': beginning.rstrip(),
      'candidates': [
          common.one_line(row[name]) + rest for name in ('option1', 'option2')
      ],
      'label': row['label'],
  }


def definite_pronoun_resolution(row: Mapping[str, Any]) -> dict[str, Any]:
  """DPR (Rahman and Ng, 2012): which of two does a pronoun refer to?

  Where the pronoun occurs more than once, the first one is meant.

  Returns:
    `sentence`; `marked_sentence`, where the pronoun stands between asterisks;
    `pronoun`; `candidates`, two of them; `label`.
  """
  sentence = common.one_line(row['sentence'])
  pronoun = common.one_line(row['pronoun'])
  return {
      'sentence': sentence,
      'marked_sentence': _marked(sentence, *_span(sentence, pronoun, 0)),
      'pronoun': pronoun,
      'candidates': [common.one_line(text) for text in row['candidates']],
      'label': row['label'],
  }
