"""Reading comprehension that takes common sense as well."""

from collections.abc import Mapping
import re
from typing import Any

from flan_jax.data.fields import common

_PLACEHOLDER = '@placeholder'
_HIGHLIGHT = '@highlight'
# What a tokeniser has put a space before.
_LOOSE = re.compile(r" (?=[.,;:!?](?: |$)|'(?:s|re|ve|ll|d|m)\b|n't\b)")


def cosmos_qa(row: Mapping[str, Any]) -> dict[str, Any]:
  """CosmosQA (Huang et al., 2019): everyday stories, questions, four answers.

  The rows are tokenised, 'Why did he leave ?'; here a mark stands right after
  its word.

  Returns:
    `context`, `question`, `answer0` to `answer3`, `label`.
  """
  names = ('context', 'question', 'answer0', 'answer1', 'answer2', 'answer3')
  fields = {name: _LOOSE.sub('', common.one_line(row[name])) for name in names}
  return {**fields, 'label': row['label']}


def record(row: Mapping[str, Any]) -> dict[str, Any]:
  """ReCoRD (Zhang et al., 2018): which name is missing in a sentence?

  The sentence (`query` in the rows) is cut where the name is missing. An option
  is a name of the article with the rest of the sentence.

  Returns:
    `article`: the passage, and as a list below it the highlights that the
    newspaper put beside it; `sentence`, with '___' for the name; `beginning`,
    what comes before it and ' ...'; `candidates`, each name with the rest of
    the sentence; `answer_text`, the first right one; `answers`, all right
    ones; `group`, which passage and query it is.
  """
  passage, *highlights = row['passage'].split(_HIGHLIGHT)
  lines = [common.one_line(line) for line in passage.splitlines()]
  text = '\n'.join(line for line in lines if line)
  listed = [f'- {common.one_line(h)}' for h in highlights if h.strip()]
  article = '\n\n'.join(part for part in (text, '\n'.join(listed)) if part)

  query = common.one_line(row['query'])
  if _PLACEHOLDER not in query:
    raise ValueError(f'the query has no {_PLACEHOLDER}')
  beginning, _, rest = query.partition(_PLACEHOLDER)

  def complete(name: str) -> str:
    name = common.one_line(name)
    return name + rest.replace(_PLACEHOLDER, name)

  answers = [complete(name) for name in row['answers']]
  if not answers:
    raise ValueError('the answers are hidden')
  # An answer is a name of the article, but nothing in the rows enforces it.
  candidates = [*map(complete, row['entities']), answers[0]]
  idx = row['idx']
  return {
      'article': article,
      'sentence': query.replace(_PLACEHOLDER, '___'),
      'beginning': f'{beginning.rstrip()} ...'.lstrip(),
      'candidates': list(dict.fromkeys(candidates)),
      'answer_text': answers[0],
      'answers': list(dict.fromkeys(answers)),
      'group': f'{idx["passage"]}-{idx["query"]}',
  }


def record_has_answer(row: Mapping[str, Any]) -> bool:
  """Whether the row says which names are right: those of the test do not."""
  return bool(row['answers'])
