"""Common sense: which of some endings, causes or ways is the plausible one?"""

from collections.abc import Mapping
import re
from typing import Any

from flan_jax.data.fields import common

# The parts of a WikiHow article, as HellaSwag marks them.
_MARKER = re.compile(r'\s*\[(?:header|title|step|substeps?)\]\s*')
_CONNECTIVES = {'cause': 'because', 'effect': 'so'}


def copa(row: Mapping[str, Any]) -> dict[str, Any]:
  """COPA (Roemmele et al., 2011): which is the cause, or the effect?

  Returns:
    `premise`, a sentence; `premise_open`, the same without its full stop;
    `question`, 'cause' or 'effect'; `connective`, 'because' or 'so';
    `choice1`, `choice2`, sentences; `label`.
  """
  premise = common.one_line(row['premise'])
  question = row['question']
  if question not in _CONNECTIVES:
    raise ValueError(f"asks for '{question}', which is no cause or effect")
  return {
      'premise': premise,
      'premise_open': premise.rstrip('.'),
      'question': question,
      'connective': _CONNECTIVES[question],
      'choice1': common.one_line(row['choice1']),
      'choice2': common.one_line(row['choice2']),
      'label': row['label'],
  }


def piqa(row: Mapping[str, Any]) -> dict[str, Any]:
  """PIQA (Bisk et al., 2020): which way of doing something works?

  Returns:
    `goal`: a question, a phrase or the beginning of a sentence, with or
    without a mark at its end; `solution1`, `solution2`, `label`.
  """
  return {
      'goal': common.one_line(row['goal']),
      'solution1': common.one_line(row['sol1']),
      'solution2': common.one_line(row['sol2']),
      'label': row['label'],
  }


def hellaswag(row: Mapping[str, Any]) -> dict[str, Any]:
  """HellaSwag (Zellers et al., 2019): how does a description go on?

  Half of the rows caption a film and stop in the middle of a sentence, half are
  from WikiHow, where '[title]' and the like mark the parts of an article.

  Returns:
    `activity`, what it is about; `context`; `endings`, four of them; `label`.
    The parts of an article are sentences that follow each other.
  """
  return {
      'activity': common.one_line(row['activity_label']),
      'context': _without_markers(row['context']),
      'endings': [_without_markers(text) for text in row['endings']],
      'label': row['label'],
  }


def _without_markers(text: str) -> str:
  *parts, last = _MARKER.split(common.one_line(text))
  # A title has no full stop of its own. The last part may go on in the ending.
  parts = [
      part if part.endswith(tuple('.!?:;,')) else f'{part}.'
      for part in parts
      if part
  ]
  return ' '.join([*parts, last]).rstrip()


def story_cloze(row: Mapping[str, Any]) -> dict[str, Any]:
  """Story Cloze (Mostafazadeh et al., 2016): which ending fits the story?

  Returns:
    `context`, four sentences; `endings`, two of them; `label`, which the rows
    count from 1, counted from 0.
  """
  return {
      'context': common.one_line(row['context']),
      'endings': [common.one_line(text) for text in row['endings']],
      'label': row['label'] - 1,
  }


def story_cloze_csv(row: Mapping[str, Any]) -> dict[str, Any]:
  """The same from the files that the authors send out."""
  sentences = [row[f'InputSentence{number}'] for number in range(1, 5)]
  return story_cloze({
      'context': ' '.join(sentences),
      'endings': [row[f'RandomFifthSentenceQuiz{n}'] for n in (1, 2)],
      'label': int(row['AnswerRightEnding']),
  })
