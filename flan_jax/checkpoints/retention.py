"""Which checkpoints stay: the newest, every so many steps, the best."""

from collections.abc import Mapping, Sequence
import dataclasses
import math
from typing import Any

from flan_jax import errors

MODES = ('min', 'max')
_EVALUATED = 'eval/'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Retention:
  """What stays; the first checkpoint, the untuned model, always does.

  Attributes:
    first: The step of that one.
    newest: So many of the newest.
    every: Those at a multiple of so many steps; 0 for none.
    best: So many of the best by `metric`; of equal ones the later. Checkpoints
      without the metric are none of them.
    metric: A number of metrics.jsonl, such as 'eval/loss'.
    mode: Which is better: 'min' or 'max'.
  """

  first: int = 0
  newest: int
  every: int = 0
  best: int = 0
  metric: str = 'eval/loss'
  mode: str = 'min'

  def kept(
      self, steps: Sequence[int], numbers: Mapping[int, Mapping[str, float]]
  ) -> set[int]:
    """Returns those of `steps` that stay.

    Args:
      steps: Of all checkpoints.
      numbers: The record of each step in metrics.jsonl, as far as it is known.
    """
    ordered = sorted(steps)
    kept = set(ordered[-self.newest :]) | ({self.first} & set(ordered))
    if self.every:
      kept |= {step for step in ordered if step % self.every == 0}
    scores = {
        step: numbers[step][self.metric]
        for step in ordered
        if math.isfinite(numbers.get(step, {}).get(self.metric, math.nan))
    }
    sign = 1 if self.mode == 'max' else -1
    ranked = sorted(scores, key=lambda step: (sign * scores[step], step))
    return kept | set(ranked[len(ranked) - min(self.best, len(ranked)) :])

  def check(self, step: int, numbers: Mapping[str, float]) -> None:
    """Raises a UserError where a step's record lacks the metric for good.

    Records of steps after which the model was not evaluated lack what begins
    with 'eval/', and nothing else.
    """
    evaluated = any(name.startswith(_EVALUATED) for name in numbers)
    if not self.best or self.metric in numbers:
      return
    if evaluated or not self.metric.startswith(_EVALUATED):
      raise errors.UserError(
          f'BEST_METRIC: step {step} has no number {self.metric!r}.'
          f'{errors.nearest(self.metric, list(numbers))}'
      )


class Policy:
  """A `Retention`, as Orbax asks for it."""

  def __init__(self, retention: Retention):
    self.retention = retention
    self.numbers: dict[int, Mapping[str, float]] = {}

  def should_preserve(
      self, checkpoints: Sequence[Any], *, context: Any
  ) -> list[bool]:
    """Returns for each checkpoint, with its `step`, whether it stays."""
    del context
    steps = [checkpoint.step for checkpoint in checkpoints]
    kept = self.retention.kept(steps, self.numbers)
    return [step in kept for step in steps]
