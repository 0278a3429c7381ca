"""Fields that datasets of several clusters make alike."""

from collections.abc import Mapping
import html
import re
from typing import Any

# With its semicolon: '&copy=1' is part of an address.
_ESCAPE = re.compile(r'&#?\w+;')
# Control characters other than white space, soft hyphens, spaces of no width,
# byte order marks. Joiners have a meaning in some scripts and stay.
_UNSEEN = re.compile('[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u200b\ufeff]')
_LOOSE_PUNCTUATION = re.compile(r' ([.,;:!?]+)(?=\s|\Z)')


def as_is(row: Mapping[str, Any]) -> dict[str, Any]:
  """Every column of the row under its own name."""
  return dict(row)


def has_texts(row: Mapping[str, Any]) -> bool:
  """Whether no text of the row is empty: for `keep`."""
  return all(v.strip() for v in row.values() if isinstance(v, str))


def question_answers(row: Mapping[str, Any]) -> dict[str, Any]:
  """Open questions with one or many accepted answers.

  Reads `question` and the first of `answers`, `answer` and `targets` that the
  row has, a text or a list of texts.

  Returns:
    `question`, ending in exactly one question mark; `answer`, the first one;
    `answers`, all of them.
  """
  for key in ('answers', 'answer', 'targets'):
    if row.get(key):
      answers = row[key]
      break
  else:
    raise ValueError("the row has no 'answers', 'answer' or 'targets'")
  if isinstance(answers, str):
    answers = [answers]
  return {
      'question': bare(row['question']) + '?',
      'answer': answers[0],
      'answers': list(answers),
  }


def bare(question: str) -> str:
  """The question without question marks and spaces at its ends."""
  return question.strip().rstrip('? ')


def one_line(text: str) -> str:
  """A crawled text as one line, without escapes of HTML and odd characters.

  Any run of white space, such as no-break spaces and line breaks, is one space.
  """
  text = _ESCAPE.sub(lambda match: html.unescape(match.group()), text)
  return ' '.join(_UNSEEN.sub('', text).split())


def tidy(text: str) -> str:
  """The text in one line, without spaces before its punctuation."""
  return _LOOSE_PUNCTUATION.sub(r'\1', one_line(text))
