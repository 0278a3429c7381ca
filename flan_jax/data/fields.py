"""From rows to fields, for datasets whose rows need more than renaming.

A declaration names one of these functions, or the user's own:
`fields: flan_jax.data.fields:squad`, with the fields listed in `field_names`.
A function takes a row (a dict as the source gives it) and returns a new dict
of texts, lists of texts, and the label as it is. It must not change the row.

What the rows hold was read from the datasets themselves; what FLAN does with
them, and which of it is a mistake, is in the FLAN 2021 registry (Wei et al.,
arXiv 2109.01652, and its released code).
"""

from collections.abc import Mapping
import re
from typing import Any
import urllib.parse

_LINE_BREAK = re.compile(r'<br\s*/?>', re.IGNORECASE)
# DART marks what a table cell has for a subject with such words; other
# brackets, as in '[♀3 ]', belong to the data.
_MARKER = re.compile(r'\[[A-Z_]+\]')


def as_is(row: Mapping[str, Any]) -> dict[str, Any]:
  """Every column of the row under its own name."""
  return dict(row)


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
      'question': _bare(row['question']) + '?',
      'answer': answers[0],
      'answers': list(answers),
  }


def bool_q(row: Mapping[str, Any]) -> dict[str, Any]:
  """BoolQ (Clark et al., 2019): `title`, `passage`, `question`, `label`.

  The rows' questions have no question mark; the field has none whatever the
  row has, so that a template may put it inside a sentence. `label` is 0 (no)
  or 1 (yes).
  """
  return {
      'title': row['title'],
      'passage': row['passage'],
      'question': _bare(row['question']),
      'label': int(row['answer']),
  }


def dart(row: Mapping[str, Any]) -> dict[str, Any]:
  """DART (Nan et al., 2021): triples to sentences.

  Returns:
    `triples`, all of them in one line; `triple_lines`, one a line; `target`,
    the first reference; `references`, all of them. Markers that stand for the
    table itself ([TABLECONTEXT], [TITLE]) are left out of both forms, and an
    underscore in a relation's name is a space.
  """
  triples = [_triple(triple) for triple in row['tripleset']]
  references = [text for text in row['references'] if text.strip()]
  return {
      'triples': '; '.join(triples),
      'triple_lines': '\n'.join(triples),
      'target': row['target'] or references[0],
      'references': references or [row['target']],
  }


def imdb_reviews(row: Mapping[str, Any]) -> dict[str, Any]:
  """IMDB (Maas et al., 2011): `text` with real line breaks, and `label`."""
  return {
      'text': _LINE_BREAK.sub('\n', row['text']),
      'label': row['label'],
  }


def natural_questions(row: Mapping[str, Any]) -> dict[str, Any]:
  """NQ-open (Lee et al., 2019): `question`, `answer`, `answers`.

  Queries come without a question mark; the field ends in exactly one, so
  templates add none (FLAN's own prompts often end in two).
  """
  return question_answers(row)


def qqp(row: Mapping[str, Any]) -> dict[str, Any]:
  """QQP: `question1`, `question2` and `label`.

  GLUE's file carries the quoting of the CSV file that it was made from:
  quotes around a whole question go, and doubled ones become apostrophes.
  """
  return {
      'question1': _without_csv_quotes(row['question1']),
      'question2': _without_csv_quotes(row['question2']),
      'label': row['label'],
  }


def squad(row: Mapping[str, Any]) -> dict[str, Any]:
  """SQuAD 1.1 (Rajpurkar et al., 2016): spans of a paragraph.

  Returns:
    `title`, as it reads on the page (in the rows it is the page's address);
    `context`, `question`; `answer`, the first annotator's; `answers`, the
    different ones.
  """
  answers = list(dict.fromkeys(row['answers']['text']))
  if not answers:
    raise ValueError('the question has no answer: not a row of SQuAD 1.1')
  return {
      'title': urllib.parse.unquote(row['title']).replace('_', ' '),
      'context': row['context'],
      # Some questions have a stray space at either end.
      'question': row['question'].strip(),
      'answer': answers[0],
      'answers': answers,
  }


def _bare(question: str) -> str:
  """The question without question marks and spaces at its ends."""
  return question.strip().rstrip('? ')


def _triple(triple: list[str]) -> str:
  subject, relation, *rest = [_MARKER.sub('', part).strip() for part in triple]
  parts = [subject, relation.replace('_', ' '), *rest]
  return ', '.join(part for part in parts if part)


def _without_csv_quotes(text: str) -> str:
  inner = text[1:-1]
  if len(text) > 1 and text[0] == text[-1] == '"':
    if '"' not in inner.replace('""', ''):
      text = inner
  return text.replace('""', "'")
