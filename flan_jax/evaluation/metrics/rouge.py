"""ROUGE, computed by the rouge-score package, in percent."""

from collections.abc import Sequence
import functools
import re
from typing import Any

from flan_jax.evaluation.metrics import text

_TYPES = ('rougeL', 'rougeLsum', 'rouge1', 'rouge2')

# A sentence ends at . ! ? (and a closing quote or bracket) before whitespace.
_SENTENCE_END = re.compile(r'([.!?][\'")\]]*)\s+')


@functools.cache
def _scorer() -> Any:
  # Imported late: the package loads nltk, which costs about a second.
  from rouge_score import rouge_scorer

  return rouge_scorer.RougeScorer(list(_TYPES), use_stemmer=True)


def split_sentences(passage: str) -> str:
  """Returns `passage` with one sentence a line.

  ROUGE-Lsum aligns sentence by sentence and reads sentences as lines. The
  package's own splitter downloads a model when it is called; this rule needs
  none, and splits wherever T5 did (it broke lines after ' . ').
  """
  return _SENTENCE_END.sub(r'\1\n', passage)


def rouge(
    references: Sequence[Sequence[str]], predictions: Sequence[str]
) -> dict[str, float]:
  """Returns the mean F of ROUGE-1, -2, -L and -Lsum, with stemming.

  Each type takes the reference that it likes best (Lin 2004; T5 takes the
  only one it has, FLAN the best).

  Args:
    references: The accepted texts of each example.
    predictions: What the model wrote for each example.

  Raises:
    ValueError: As `text.exact_match`.
  """
  text.check(references, predictions)
  totals = dict.fromkeys(_TYPES, 0.0)
  for accepted, prediction in zip(references, predictions, strict=True):
    best = _scorer().score_multi(
        [split_sentences(reference) for reference in accepted],
        split_sentences(prediction),
    )
    for name in _TYPES:
      totals[name] += best[name].fmeasure
  return {
      name: 100.0 * total / len(predictions) for name, total in totals.items()
  }
