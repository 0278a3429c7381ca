"""Reading comprehension: a passage, a question, an answer."""

from collections.abc import Mapping
from typing import Any
import urllib.parse

from flan_jax.data.fields import common


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
  return {
      'title': urllib.parse.unquote(row['title']).replace('_', ' '),
      'context': row['context'],
      # Some questions have a stray space at either end.
      'question': row['question'].strip(),
      'answer': answers[0],
      'answers': answers,
  }
