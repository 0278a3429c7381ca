"""Metrics by name: what a dataset's `metrics:` may say.

A metric over classes takes class indices, a metric over texts takes lists of
references and texts; both return named values in percent, the main one first.
"""

from collections.abc import Callable
import dataclasses
from typing import Any

from flan_jax.evaluation.metrics import classification
from flan_jax.evaluation.metrics import rouge
from flan_jax.evaluation.metrics import text


@dataclasses.dataclass(frozen=True)
class Metric:
  """A function from targets and predictions to named values in percent.

  Attributes:
    function: Called with (targets, predictions), lists of equal length:
      class indices, or lists of references and texts.
    over_classes: Whether it compares class indices; otherwise texts.
    values: The names of its values, the main one first.
  """

  function: Callable[[Any, Any], dict[str, float]]
  over_classes: bool
  values: tuple[str, ...]


METRICS: dict[str, Metric] = {
    'accuracy': Metric(classification.accuracy, True, ('accuracy',)),
    'f1': Metric(classification.f1, True, ('f1', 'accuracy')),
    'exact_match': Metric(text.exact_match, False, ('exact_match',)),
    'squad': Metric(text.squad, False, ('squad_f1', 'squad_em')),
    'trivia_qa': Metric(
        text.trivia_qa, False, ('trivia_qa_em', 'trivia_qa_f1')
    ),
    'rouge': Metric(
        rouge.rouge, False, ('rougeL', 'rougeLsum', 'rouge1', 'rouge2')
    ),
}
