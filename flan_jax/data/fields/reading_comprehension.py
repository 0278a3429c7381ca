"""Reading comprehension: a passage, a question, an answer."""

from collections.abc import Mapping
import re
from typing import Any
import urllib.parse

from flan_jax.data.fields import common

# What a SQuAD 2.0 question without an answer is answered with.
UNANSWERABLE = 'unanswerable'
# MultiRC's paragraphs may come with markup that numbers their sentences.
_NUMBERED_SENTENCE = re.compile(r'<b>\s*Sent \d+:\s*</b>')
_TAG = re.compile(r'</?(?:br|b|i)\s*/?>', re.IGNORECASE)
# How TFDS writes DROP's dates; year and month may be empty.
_DATE = re.compile(r'(\d*)-([A-Za-z]*)-(\d+)')


def bool_q(row: Mapping[str, Any]) -> dict[str, Any]:
  """BoolQ (Clark et al., 2019): `title`, `passage`, `question`, `label`.

  The rows' questions have no question mark; the field has none whatever the
  row has, so that a template may put it inside a sentence. `label` is 0 (no)
  or 1 (yes).
  """
  return {
      'title': row['title'],
      'passage': row['passage'],
      'question': common.bare(row['question']),
      'label': int(row['answer']),
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
  return _squad(row, answers)


def squad_v2(row: Mapping[str, Any]) -> dict[str, Any]:
  """SQuAD 2.0 (Rajpurkar et al., 2018): some questions have no answer.

  Returns:
    As `squad`; the one answer to a question that the paragraph does not answer
    is `UNANSWERABLE`.
  """
  answers = list(dict.fromkeys(row['answers']['text']))
  if row['is_impossible']:
    answers = [UNANSWERABLE]
  if not answers:
    raise ValueError('the question has no answer and is not marked so')
  return _squad(row, answers)


def _squad(row: Mapping[str, Any], answers: list[str]) -> dict[str, Any]:
  return {
      'title': urllib.parse.unquote(row['title']).replace('_', ' '),
      'context': row['context'],
      # Some questions have a stray space at either end.
      'question': row['question'].strip(),
      'answer': answers[0],
      'answers': answers,
  }


def drop(row: Mapping[str, Any]) -> dict[str, Any]:
  """DROP (Dua et al., 2019): counting, adding and comparing over a passage.

  TFDS gives an answer as one text: a number, the first of several spans, or a
  date as year-month-day, whose parts may lack ('-March-12'). Here a date is
  written as the official evaluation writes it, '12 March 1983'.

  Returns:
    `passage`, `question`; `answer`, the first annotator's; `answers`, the
    different ones, those of the annotators who validated it included.
  """
  answers = [_drop_answer(text) for text in _drop_answers(row)]
  if not answers:
    raise ValueError('the question has no answer')
  return {
      'passage': common.one_line(row['passage']),
      'question': common.one_line(row['question']),
      'answer': answers[0],
      'answers': list(dict.fromkeys(answers)),
  }


def drop_has_answer(row: Mapping[str, Any]) -> bool:
  """Whether TFDS made an answer: a month and a year alone are lost to it."""
  return bool(_drop_answers(row))


def _drop_answers(row: Mapping[str, Any]) -> list[str]:
  answers = (row['answer'], *row['validated_answers'])
  return [answer for answer in answers if answer.strip()]


def _drop_answer(text: str) -> str:
  text = common.one_line(text)
  date = _DATE.fullmatch(text)
  if date is None:
    return text
  year, month, day = date.groups()
  return ' '.join(part for part in (day, month, year) if part)


def multirc(row: Mapping[str, Any]) -> dict[str, Any]:
  """MultiRC (Khashabi et al., 2018): is a candidate a right answer?

  A question has several candidates, any number of them right; each is a row.

  Returns:
    `paragraph`, without the markup that numbers its sentences; `question`;
    `candidate`; `label`, 1 if it is right; `group`, the same for all
    candidates of a question ('3-17').
  """
  idx = row['idx']
  paragraph = _NUMBERED_SENTENCE.sub(' ', row['paragraph'])
  return {
      'paragraph': common.one_line(_TAG.sub(' ', paragraph)),
      'question': common.one_line(row['question']),
      'candidate': common.one_line(row['answer']),
      'label': row['label'],
      'group': f'{idx["paragraph"]}-{idx["question"]}',
  }


def openbookqa(row: Mapping[str, Any]) -> dict[str, Any]:
  """OpenBookQA (Mihaylov et al., 2018): science, from a fact of the book.

  Returns:
    `fact`, without a full stop (most have none); `question`, often the
    beginning of a sentence; `candidates`, the four answers; `label`.
  """
  question = row['question']
  return {
      'fact': common.one_line(row['fact1']).rstrip('.'),
      'question': common.one_line(question['stem']),
      'candidates': [
          common.one_line(question[f'choice_{letter}']) for letter in 'ABCD'
      ],
      'label': row['answerKey'],
  }
