"""Miscellaneous: conversations, arithmetic, formatting, kinds of question."""

from collections.abc import Mapping
import re
from typing import Any

from flan_jax.data.fields import common

# What QuAC writes after a passage, and as the answer that is not in it.
_NO_ANSWER = 'CANNOTANSWER'
UNANSWERABLE = 'unanswerable'
_PUNCTUATION = re.compile(r'[^\w\s]')
# TREC's questions are cut into tokens: "What 's the origin of ` news ' ?".
_THOUSANDS = re.compile(r'(?<=\d) , (?=\d{3}\b)')
_ENDS_A_WORD = re.compile(r" (?=(?:[?.,:;!]|'')(?: |$)|'(?![0-9]|em\b)|n't )")


def trec(row: Mapping[str, Any]) -> dict[str, Any]:
  """TREC (Li and Roth, 2002): `question`, joined from tokens, and `label`."""
  question = _THOUSANDS.sub(',', row['text'].strip())
  question = _ENDS_A_WORD.sub('', question)
  question = question.replace('`` ', '"').replace("''", '"').replace('` ', "'")
  return {'question': question, 'label': row['label-coarse']}


def math_dataset(row: Mapping[str, Any]) -> dict[str, Any]:
  """DeepMind mathematics (Saxton et al., 2019): `question` and `answer`."""
  return {
      'question': row['question'].strip(),
      'answer': row['answer'].strip(),
  }


def coqa(row: Mapping[str, Any]) -> dict[str, Any]:
  """CoQA (Reddy et al., 2019): a whole conversation about a text.

  Returns:
    `story`; `questions` and `answers`, a numbered line for each turn. A turn
    that lacks its question or its answer is left out of both.
  """
  questions = map(common.one_line, row['questions'])
  answers = map(common.one_line, row['answers']['input_text'])
  turns = [
      (question, answer)
      for question, answer in zip(questions, answers, strict=True)
      if question and answer
  ]
  return {
      'story': _paragraphs(row['story']),
      'questions': _numbered([question for question, _ in turns]),
      'answers': _numbered([answer for _, answer in turns]),
  }


def quac(row: Mapping[str, Any]) -> dict[str, Any]:
  """QuAC (Choi et al., 2018): one question of a conversation, on its own.

  Returns:
    `title` and `background` of the Wikipedia page, `context`, a section of it,
    and `question`; `answer`, what the teacher of the conversation replied;
    `answers`, that and what other teachers would have replied. Where a teacher
    found no answer in the section, the answer is 'unanswerable', as in SQuAD
    2.0; the marker that the rows have for it is cut from the section's end.
  """
  answers = [row['orig_answer']['text'], *row['answers']['text']]
  answers = list(dict.fromkeys(map(_quac_answer, answers)))
  context = row['context'].strip()
  return {
      'title': row['title'].strip(),
      'background': row['background'].removesuffix(_NO_ANSWER).strip(),
      'context': context.removesuffix(_NO_ANSWER).strip(),
      'question': row['question'].strip(),
      'answer': answers[0],
      'answers': answers,
  }


def true_case(row: Mapping[str, Any]) -> dict[str, Any]:
  """English of ParaCrawl: `sentence`, and in small letters `lower`."""
  sentence = common.one_line(row['en'])
  return {'lower': sentence.lower(), 'sentence': sentence}


def has_capitals(row: Mapping[str, Any]) -> bool:
  """Whether small letters change the sentence: for `keep`."""
  fields = true_case(row)
  return fields['lower'] != fields['sentence']


def fix_punct(row: Mapping[str, Any]) -> dict[str, Any]:
  """English of ParaCrawl: `sentence`, and without punctuation `unpunctuated`.

  What is neither a letter, a digit, an underscore nor white space goes; of a
  dash between two spaces one space stays.
  """
  sentence = common.one_line(row['en'])
  words = _PUNCTUATION.sub('', sentence).split()
  return {'unpunctuated': ' '.join(words), 'sentence': sentence}


def has_punctuation(row: Mapping[str, Any]) -> bool:
  """Whether there is punctuation to lose, and more than that: for `keep`."""
  fields = fix_punct(row)
  return fields['unpunctuated'] not in ('', fields['sentence'])


def word_segment(row: Mapping[str, Any]) -> dict[str, Any]:
  """English of ParaCrawl: `sentence`, and without spaces `joined`."""
  sentence = common.one_line(row['en'])
  return {'joined': sentence.replace(' ', ''), 'sentence': sentence}


def has_spaces(row: Mapping[str, Any]) -> bool:
  """Whether the sentence has more than one word: for `keep`."""
  return ' ' in common.one_line(row['en'])


def _quac_answer(text: str) -> str:
  text = text.strip()
  return UNANSWERABLE if text == _NO_ANSWER else text


def _numbered(lines: list[str]) -> str:
  return '\n'.join(f'{n}. {line}' for n, line in enumerate(lines, 1))


def _paragraphs(text: str) -> str:
  """The text with at most one empty line in a row, and no stray spaces."""
  lines = [' '.join(line.split()) for line in text.strip().splitlines()]
  return re.sub(r'\n{3,}', '\n\n', '\n'.join(lines))
