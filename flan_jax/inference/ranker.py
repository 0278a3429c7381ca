"""From token ids of inputs and options to log-likelihoods of the options."""

from collections.abc import Callable, Sequence
from typing import Any

from flan_jax import vocabularies
from flan_jax.inference import batching
from flan_jax.inference import ranking
from flan_jax.inference import running
from flan_jax.models import interface
import jax
import numpy as np

Progress = Callable[[int], Any]

# A row of options has room for at least so many tokens, however short targets
# are: most examples then need one row.
_SHORTEST_OPTION_ROW = 128


class Ranker:
  """Scores options; each input is read once, however many it has."""

  def __init__(
      self,
      model: interface.Model,
      vocabulary: vocabularies.Vocabulary,
      *,
      runner: running.Runner,
      lengths: dict[str, int],
  ):
    """Compiles nothing yet.

    Args:
      model: The model.
      vocabulary: What it was trained with.
      runner: The devices.
      lengths: The most tokens of 'inputs' and of 'targets'.
    """
    self._vocabulary = vocabulary
    self._runner = runner
    self._inputs = batching.ladder(lengths['inputs'])
    self._row = row = max(lengths['targets'], _SHORTEST_OPTION_ROW)

    def log_probabilities(params, tokens_BxS, packed):
      return ranking.log_probabilities(
          model, params, tokens_BxS, packed, row_length=row
      )

    self._compiled = jax.jit(log_probabilities)

  def scored(self, ids: Sequence[int]) -> int:
    """Returns how many tokens of an option its score is a sum over."""
    return len(ids)

  def plan(
      self,
      inputs: Sequence[Sequence[int]],
      options: Sequence[Sequence[Sequence[int]]],
  ) -> list[batching.Batch]:
    """Returns the batches in which options are scored."""
    widths = [
        ranking.width([len(ids) for ids in distinct(own)], self._row)
        for own in options
    ]
    return self._runner.planner.plan(
        'rank',
        [(len(ids), width) for ids, width in zip(inputs, widths, strict=True)],
        [self._inputs, ranking.rungs(self._row, max(widths, default=0))],
    )

  def log_likelihoods(
      self,
      params: Any,
      inputs: Sequence[Sequence[int]],
      options: Sequence[Sequence[Sequence[int]]],
      progress: Progress | None = None,
  ) -> list[np.ndarray]:
    """Returns log p(option | input) of each option of each input, float64.

    Args:
      params: The model's parameters.
      inputs: Ids that end in EOS, no more than lengths['inputs'].
      options: For each input at least one option; ids that end in EOS, no more
        than lengths['targets'].
      progress: Called with the number of inputs of each finished batch.
    """
    once = [distinct(own) for own in options]
    batches = self.plan(inputs, once)
    packed: dict[batching.Batch, ranking.Packed] = {}

    def launch(batch: batching.Batch):
      self._runner.note('rank', batch.rows, batch.shape)
      packed[batch] = ranking.pack(
          [once[i] for i in batch.indices],
          batch.rows,
          self._row,
          batch.shape[1],
      )
      tokens_BxS = batching.pad(
          [inputs[i] for i in batch.indices],
          batch.rows,
          batch.shape[0],
          self._vocabulary.pad_id,
      )
      device = self._runner.put({'inputs': tokens_BxS, **packed[batch].row})
      return self._compiled(params, device.pop('inputs'), device)

    found: dict[int, np.ndarray] = {}
    for batch, log_probs_BxT in self._runner.run(batches, launch):
      scores = ranking.option_scores(packed.pop(batch), log_probs_BxT)
      for i, own in zip(batch.indices, scores, strict=True):
        found[i] = of_each(options[i], once[i], own)
        self._runner.tokens.read += len(inputs[i]) + sum(map(len, once[i]))
      if progress:
        progress(len(batch.indices))
    return [found[i] for i in range(len(inputs))]

  def unconditional(
      self,
      params: Any,
      premise: Sequence[int],
      options: Sequence[Sequence[int]],
  ) -> np.ndarray:
    """Returns log p(option | premise) of each option, float64.

    They are dealt out to as many rows as they need, which all read the premise.
    """
    if not options:
      return np.zeros(0)
    rows = ranking.place([len(ids) for ids in options], self._row)
    scores = self.log_likelihoods(
        params,
        [premise] * len(rows),
        [[options[i] for i in row] for row in rows],
    )
    found = np.zeros(len(options))
    for row, own in zip(rows, scores, strict=True):
      found[row] = own
    return found


def distinct(options: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
  """Returns each option once: equal ones come out equal to the last digit."""
  return list(dict.fromkeys(map(tuple, options)))


def of_each(
    options: Sequence[Sequence[int]],
    once: Sequence[tuple[int, ...]],
    scores: Sequence[float] | np.ndarray,
) -> np.ndarray:
  """Returns the score of each option, float64, equal ones included.

  Args:
    options: The options of an example.
    once: What `distinct` makes of them.
    scores: Those of `once`.
  """
  by_option = dict(zip(once, map(float, scores), strict=True))
  return np.asarray([by_option[tuple(ids)] for ids in options])
