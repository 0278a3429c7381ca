"""Closed-book question answering."""

from collections.abc import Mapping
from typing import Any

from flan_jax.data.fields import common

# What TFDS puts where TriviaQA keeps its answers to itself.
_HIDDEN = '<unk>'


def natural_questions(row: Mapping[str, Any]) -> dict[str, Any]:
  """NQ-open (Lee et al., 2019): `question`, `answer`, `answers`.

  Queries come without a question mark; the field ends in exactly one, so
  templates add none (FLAN's own prompts often end in two).
  """
  return common.question_answers(row)


def trivia_qa(row: Mapping[str, Any]) -> dict[str, Any]:
  """TriviaQA (Joshi et al., 2017): quiz questions and all names of the answer.

  Returns:
    `question`; `answer`, the normalised (lower-case) value, as FLAN has it, or
    where normalising leaves nothing of an answer, such as '?', the value;
    `answers`, that and the normalised aliases.
  """
  given = row['answer']
  answers = [given['normalized_value'], *given['normalized_aliases']]
  answers = [text for text in answers if text.strip() and text != _HIDDEN]
  if not answers and given['value'] not in ('', _HIDDEN):
    answers = [given['value']]
  if not answers:
    raise ValueError('the answer is hidden')
  return {
      'question': common.one_line(row['question']),
      'answer': answers[0],
      'answers': list(dict.fromkeys(answers)),
  }


def arc(row: Mapping[str, Any]) -> dict[str, Any]:
  """ARC (Clark et al., 2018): science questions of American school tests.

  Returns:
    `question`, at times the beginning of a sentence; `candidates`, the
    answers; `label`, the place of the right one among them.
  """
  choices = row['choices']
  return {
      'question': common.one_line(row['question']),
      'candidates': [common.one_line(text) for text in choices['text']],
      'label': list(choices['label']).index(row['answerKey']),
  }


def arc_has_four_choices(row: Mapping[str, Any]) -> bool:
  """Whether there are four answers to choose from; a few rows have 3 or 5."""
  return len(row['choices']['text']) == 4
