"""From token ids to written token ids, in batches of few shapes."""

from collections.abc import Callable, Sequence
import dataclasses
import functools
from typing import Any

from flan_jax import vocabularies
from flan_jax.inference import batching
from flan_jax.inference import decoding as decoding_lib
from flan_jax.inference import running
from flan_jax.inference import settings
from flan_jax.models import interface
import jax
import numpy as np

Progress = Callable[[int], Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Generated:
  """An answer.

  Attributes:
    tokens: Its ids, up to and with its end if it has one.
    score: The sum of their log-probabilities.
  """

  tokens: list[int]
  score: float


class Generator:
  """Writes answers to inputs that are token ids."""

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
    self._model = model
    self._vocabulary = vocabulary
    self._runner = runner
    self._lengths = dict(lengths)
    self._compiled = functools.partial(
        jax.jit, static_argnames=('max_length',)
    )(self._greedy)

  def plan(
      self, inputs: Sequence[Sequence[int]], decoding: settings.Decoding
  ) -> list[batching.Batch]:
    """Returns the batches in which inputs are answered."""
    return self._runner.planner.plan(
        'generate',
        [(len(ids),) for ids in inputs],
        [batching.ladder(self._lengths['inputs'])],
        decoding.max_length or self._lengths['targets'],
    )

  def generate(
      self,
      params: Any,
      inputs: Sequence[Sequence[int]],
      decoding: settings.Decoding,
      keys: Sequence[str],
      progress: Progress | None = None,
  ) -> list[Generated]:
    """Returns an answer to each of `inputs`, in their order.

    Args:
      params: The model's parameters.
      inputs: Ids that end in EOS, no more than lengths['inputs'].
      decoding: How to write.
      keys: For each input what its random numbers depend on, besides the seed.
      progress: Called with the number of inputs of each finished batch.
    """
    del keys  # Nothing is random yet.
    max_length = decoding.max_length or self._lengths['targets']
    batches = self.plan(inputs, decoding)

    def launch(batch: batching.Batch):
      self._runner.note('generate', batch.rows, batch.shape)
      tokens_BxS = batching.pad(
          [inputs[i] for i in batch.indices],
          batch.rows,
          batch.shape[0],
          self._vocabulary.pad_id,
      )
      active_B = np.arange(batch.rows) < len(batch.indices)
      device = self._runner.put({'tokens': tokens_BxS, 'active': active_B})
      return self._compiled(
          params, device['tokens'], device['active'], max_length=max_length
      )

    found: dict[int, Generated] = {}
    for batch, out in self._runner.run(batches, launch):
      for i, ids, score in zip(
          batch.indices, out.tokens, out.scores, strict=False
      ):
        found[i] = Generated(self._written(ids), float(score))
        self._runner.tokens.read += len(inputs[i])
        self._runner.tokens.written += len(found[i].tokens)
      if progress:
        progress(len(batch.indices))
    return [found[i] for i in range(len(inputs))]

  def _greedy(self, params, tokens_BxS, active_B, *, max_length):
    return decoding_lib.greedy(
        self._model,
        params,
        self._model.encode(params, tokens_BxS),
        active_B,
        max_length=max_length,
        choices=self._vocabulary.size,
        eos_id=self._vocabulary.eos_id,
        pad_id=self._vocabulary.pad_id,
    )

  def _written(self, ids_T: np.ndarray) -> list[int]:
    """Returns the ids up to and with EOS, or all."""
    ids = ids_T.tolist()
    eos_id = self._vocabulary.eos_id
    return ids[: ids.index(eos_id) + 1] if eos_id in ids else ids
