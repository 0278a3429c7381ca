"""Metrics that compare a written answer with the accepted ones, in percent.

Every example has one or more references; the best of them counts.
"""

import collections
from collections.abc import Callable, Sequence
import re
import string

from flan_jax.evaluation.metrics import tally

_ARTICLES = re.compile(r'\b(a|an|the)\b')
_DROP_PUNCTUATION = str.maketrans('', '', string.punctuation)
# TriviaQA's own list: ASCII punctuation and the quotes its pages use.
_BLANK_PUNCTUATION = str.maketrans(
    {mark: ' ' for mark in string.punctuation + '‘’´`'}
)


def normalize_whitespace(text: str) -> str:
  """Returns `text` with every run of whitespace as one space, none outside.

  T5's vocabulary cannot write line breaks or double spaces, so a model that
  uses it must not be marked down for them. Case and punctuation stay.
  """
  return ' '.join(text.split())


def normalize_squad(text: str) -> str:
  """Returns the form in which SQuAD compares answers.

  Lower case, no ASCII punctuation, no English articles, single spaces
  (Rajpurkar et al. 2016, the official script for version 1.1).
  """
  bare = text.lower().translate(_DROP_PUNCTUATION)
  return normalize_whitespace(_ARTICLES.sub(' ', bare))


def normalize_trivia_qa(text: str) -> str:
  """Returns the form in which TriviaQA compares answers.

  As SQuAD's, but punctuation (with underscores and curly quotes) becomes a
  space, so that 'x-ray' is two words (Joshi et al. 2017, as used by T5).
  """
  bare = text.lower().translate(_BLANK_PUNCTUATION)
  return normalize_whitespace(_ARTICLES.sub(' ', bare))


def is_exact(references: Sequence[str], prediction: str) -> bool:
  """Whether the prediction is one of the references, whitespace aside."""
  written = normalize_whitespace(prediction)
  return any(normalize_whitespace(text) == written for text in references)


def exact_match(
    references: Sequence[Sequence[str]], predictions: Sequence[str]
) -> tally.Tally:
  """The share of predictions that are one of their references.

  Only whitespace is forgiven (`normalize_whitespace`), as in T5's sequence
  accuracy: an answer in the wrong case, or with another full stop, is wrong.

  Args:
    references: The accepted texts of each example.
    predictions: What the model wrote for each example.

  Raises:
    ValueError: The two differ in length, are empty, or an example has no
      reference.
  """
  check(references, predictions)
  right = map(is_exact, references, predictions)
  return tally.of_means({'exact_match': list(right)})


def squad(
    references: Sequence[Sequence[str]], predictions: Sequence[str]
) -> tally.Tally:
  """SQuAD's F1 over words and its exact match.

  Args:
    references: The accepted texts of each example.
    predictions: What the model wrote for each example.

  Raises:
    ValueError: As `exact_match`.
  """
  check(references, predictions)
  return _question_answering('squad', normalize_squad, references, predictions)


def trivia_qa(
    references: Sequence[Sequence[str]], predictions: Sequence[str]
) -> tally.Tally:
  """TriviaQA's exact match and F1 over words, for all aliases.

  Args:
    references: The accepted texts (aliases) of each example.
    predictions: What the model wrote for each example.

  Raises:
    ValueError: As `exact_match`.
  """
  check(references, predictions)
  return _question_answering(
      'trivia_qa', normalize_trivia_qa, references, predictions
  )


def record(
    references: Sequence[Sequence[str]],
    predictions: Sequence[str],
    units: Sequence[int],
) -> tally.Tally:
  """ReCoRD's F1 over words and exact match, each query once.

  Both are SQuAD's, over all answers of a query (Zhang et al. 2018). A query
  that is there once for each of its answers counts once: its first prediction,
  against the references of all of them.

  Args:
    references: The accepted texts of each example.
    predictions: What the model wrote for each example.
    units: The query of each example: 0, 1 ...

  Raises:
    ValueError: As `exact_match`.
  """
  check(references, predictions)
  tally.check(predictions, units)
  first: dict[int, str] = {}
  accepted: dict[int, list[str]] = {}
  for unit, texts, prediction in zip(
      units, references, predictions, strict=True
  ):
    first.setdefault(unit, prediction)
    accepted.setdefault(unit, []).extend(texts)
  return _question_answering(
      'record', normalize_squad, [*accepted.values()], [*first.values()]
  )


def word_f1(reference: str, prediction: str) -> float:
  """Returns the F1 (0 to 1) of two normalised texts as bags of words.

  Where one of them is empty, it is 1 if both are and 0 otherwise (the rule
  of SQuAD 2.0), so that F1 is never below exact match.
  """
  expected = collections.Counter(reference.split())
  written = collections.Counter(prediction.split())
  if not expected or not written:
    return float(expected == written)
  shared = (expected & written).total()
  return 2 * shared / (expected.total() + written.total())


def check(
    references: Sequence[Sequence[str]], predictions: Sequence[str]
) -> None:
  """Raises ValueError unless each prediction has its references."""
  if len(references) != len(predictions):
    raise ValueError(
        f'{len(references)} lists of references but {len(predictions)}'
        ' predictions.'
    )
  tally.check(references, predictions)
  for index, accepted in enumerate(references):
    # A bare string is a sequence of its letters, and would score by letter.
    if isinstance(accepted, str):
      raise ValueError(f'references[{index}] is a text, not a list of texts.')
    if not accepted:
      raise ValueError(f'references[{index}] is empty.')


def _question_answering(
    name: str,
    normalize: Callable[[str], str],
    references: Sequence[Sequence[str]],
    predictions: Sequence[str],
) -> tally.Tally:
  """F1 and exact match after `normalize`, the best reference for each."""
  exact = []
  overlap = []
  for accepted, prediction in zip(references, predictions, strict=True):
    written = normalize(prediction)
    expected = [normalize(text) for text in accepted]
    exact.append(written in expected)
    overlap.append(max(word_f1(text, written) for text in expected))
  return tally.of_means({f'{name}_f1': overlap, f'{name}_em': exact})
