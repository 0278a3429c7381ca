"""BLEU, computed by the sacrebleu package, in percent."""

from collections.abc import Sequence
import functools
from typing import Any

from flan_jax.evaluation.metrics import tally
from flan_jax.evaluation.metrics import text
import numpy as np

_ORDER = 4


@functools.cache
def _scorer() -> Any:
  import sacrebleu  # Late: a quarter of a second, and not every table has BLEU.

  # Effective order only touches a sentence's own score, which is not used;
  # without it sacrebleu warns at every sentence.
  return sacrebleu.BLEU(tokenize='13a', effective_order=True)


def bleu(
    references: Sequence[Sequence[str]], predictions: Sequence[str]
) -> tally.Tally:
  """Corpus BLEU as sacrebleu's `corpus_score`, for any number of references.

  Signature: case:mixed|eff:no|tok:13a|smooth:exp. n-grams are clipped by all
  references of an example, and the closest one gives the length (Papineni et
  al. 2002, Post 2018). T5 took the tokenisation `intl`.

  Args:
    references: The accepted texts of each example.
    predictions: What the model wrote for each example.

  Raises:
    ValueError: As `text.exact_match`.
  """
  text.check(references, predictions)
  scorer = _scorer()
  columns = []
  for accepted, prediction in zip(references, predictions, strict=True):
    found = scorer.sentence_score(prediction, list(accepted))
    columns.append((*found.counts, *found.totals, found.sys_len, found.ref_len))

  def finish(sums_RxK: np.ndarray) -> tally.Values:
    scores = []
    for sums in np.rint(sums_RxK).astype(int).tolist():
      score = scorer.compute_bleu(
          correct=sums[:_ORDER],
          total=sums[_ORDER : 2 * _ORDER],
          sys_len=sums[-2],
          ref_len=sums[-1],
          smooth_method='exp',
          effective_order=False,
      )
      scores.append(score.score)
    return {'bleu': np.array(scores)}

  return tally.of_sums(columns, finish)
