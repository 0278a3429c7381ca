"""ROUGE, computed by the rouge-score package, in percent."""

from collections.abc import Sequence
import functools
from typing import Any

from flan_jax.evaluation.metrics import sentences
from flan_jax.evaluation.metrics import tally
from flan_jax.evaluation.metrics import text

_TYPES = ('rougeL', 'rougeLsum', 'rouge1', 'rouge2')


@functools.cache
def _scorer() -> Any:
  # Imported late: the package loads nltk, which costs about a second.
  from rouge_score import rouge_scorer

  return rouge_scorer.RougeScorer(list(_TYPES), use_stemmer=True)


def rouge(
    references: Sequence[Sequence[str]], predictions: Sequence[str]
) -> tally.Tally:
  """The mean F of ROUGE-1, -2, -L and -Lsum, with stemming.

  Each type takes the reference that it likes best (Lin 2004), as in GEM; T5's
  ROUGE has one reference and does not stem, FLAN's takes the best for each
  type. ROUGE-Lsum aligns sentence by sentence (`sentences.split`).

  Args:
    references: The accepted texts of each example.
    predictions: What the model wrote for each example.

  Raises:
    ValueError: As `text.exact_match`.
  """
  text.check(references, predictions)
  scores: dict[str, list[float]] = {name: [] for name in _TYPES}
  for accepted, prediction in zip(references, predictions, strict=True):
    best = _scorer().score_multi(
        [_lines(reference) for reference in accepted], _lines(prediction)
    )
    for name in _TYPES:
      scores[name].append(best[name].fmeasure)
  return tally.of_means(scores)


def _lines(passage: str) -> str:
  """The passage with one sentence a line, as rouge-score reads them."""
  return '\n'.join(sentences.split(passage))
