"""From examples to predictions: batches, devices, and back to the order given.

`Predictor` is what predicting, evaluating and serving share.
"""

from collections.abc import Callable, Iterable, Sequence
import dataclasses
from typing import Any

from flan_jax import vocabularies
from flan_jax.data import examples as examples_lib
from flan_jax.inference import batching
from flan_jax.inference import generating
from flan_jax.inference import ranking
from flan_jax.inference import running
from flan_jax.inference import settings
from flan_jax.models import interface
import jax
import numpy as np

Progress = Callable[[int], Any]

# A row of options is at least this long, however short the task's targets are:
# most examples then need one row.
_SHORTEST_OPTION_ROW = 64


@dataclasses.dataclass(frozen=True, slots=True)
class Prediction:
  """What the model says to one example.

  Attributes:
    text: The predicted option, or the generated text.
    score: The sum of log-probabilities of `text`, EOS included; under
      normalisation 'mean', of an option, that sum divided by its tokens.
    option_scores: The same for each option, in their order; None for
      generation.
    option_index: The place of `text` among the options; None for generation.
  """

  text: str
  score: float
  option_scores: tuple[float, ...] | None = None
  option_index: int | None = None


def ranks(example: examples_lib.Example) -> bool:
  """Whether an example is answered by ranking, unless its task says otherwise.

  It is if it has options, and its target is one of them: an inverted template
  asks for something else.
  """
  return bool(example.options) and not example.inverted


class Predictor:
  """Runs a model over examples, in batches of few shapes, on a mesh.

  The same examples give the same predictions in any order of calls. On several
  hosts, each host passes the same examples and gets all predictions.
  """

  def __init__(
      self,
      model: interface.Model,
      params: Any,
      vocabulary: vocabularies.Vocabulary,
      *,
      mesh: jax.sharding.Mesh,
      lengths: dict[str, int],
      batch_size: int,
      normalisation: ranking.Normalisation = 'sum',
      decoding: settings.Decoding | None = None,
  ):
    """Compiles nothing yet.

    Args:
      model: The model.
      params: Its parameters; they stay where they are.
      vocabulary: What it was trained with.
      mesh: Where to run.
      lengths: The most tokens of 'inputs' and of 'targets'. Longer inputs and
        options are cut, with EOS kept.
      batch_size: Examples a batch, rounded up to what the mesh divides.
      normalisation: How options of different lengths compare; see
        `ranking.option_scores`.
      decoding: How answers are written where a call does not say; greedy by
        default.
    """
    self.params = params
    self.cut_inputs = 0
    self._runner = running.Runner(mesh)
    self.batch_size = self._runner.rows(batch_size)
    self._vocabulary = vocabulary
    self._decoding = decoding or settings.Decoding()
    self._lengths = dict(lengths)
    self._normalisation = normalisation
    self._option_row = max(lengths['targets'], _SHORTEST_OPTION_ROW)

    self._generator = generating.Generator(
        model,
        vocabulary,
        runner=self._runner,
        lengths=lengths,
        batch_size=self.batch_size,
    )
    self._encode = jax.jit(model.encode)
    self._score = jax.jit(model.score)

  @property
  def shapes(self) -> set[tuple[str, tuple[int, ...]]]:
    """What was compiled so far: names with padded lengths."""
    return self._runner.shapes

  @property
  def tokens(self) -> running.Tokens:
    """Tokens that were read and written so far."""
    return self._runner.tokens

  def predict(
      self,
      examples: Sequence[examples_lib.Example],
      evaluation: str = '',
      progress: Progress | None = None,
  ) -> list[Prediction]:
    """Ranks where an example has options to rank, and generates otherwise.

    Args:
      examples: What to predict.
      evaluation: The task's setting: '', 'rank' or 'generate'. The last one
        generates throughout; the first two are the same here, as an inverted
        template has nothing to rank.
      progress: Called with the number of examples of each finished batch.

    Returns:
      Predictions in the order of `examples`.
    """
    by_rank = [
        evaluation != 'generate' and ranks(example) for example in examples
    ]
    predictions: list[Prediction | None] = [None] * len(examples)
    for method, wanted in ((self.rank, True), (self.generate, False)):
      places = [i for i, ranked in enumerate(by_rank) if ranked == wanted]
      found = method([examples[i] for i in places], progress)
      for i, prediction in zip(places, found, strict=True):
        predictions[i] = prediction
    return [prediction for prediction in predictions if prediction is not None]

  def generate(
      self,
      examples: Sequence[examples_lib.Example],
      progress: Progress | None = None,
      decoding: settings.Decoding | None = None,
  ) -> list[Prediction]:
    """Writes an answer to each example."""
    generated = self._generator.generate(
        self.params,
        self._inputs(examples),
        decoding or self._decoding,
        [f'{example.task} {example.row_id}' for example in examples],
        progress,
    )
    return [
        Prediction(self._vocabulary.decode(each.tokens), each.score)
        for each in generated
    ]

  def rank(
      self,
      examples: Sequence[examples_lib.Example],
      progress: Progress | None = None,
  ) -> list[Prediction]:
    """Chooses the likeliest option of each example; the first one of equals.

    Raises:
      ValueError: An example has no options.
    """
    inputs = self._inputs(examples)
    options = self._options(examples)
    batches = batching.plan(
        [
            (
                len(ids),
                ranking.width([len(o) for o in own], self._option_row),
            )
            for ids, own in zip(inputs, options, strict=True)
        ],
        [self._lengths['inputs'], self._option_row],
        self.batch_size,
    )
    packed: dict[batching.Batch, ranking.Packed] = {}

    def launch(batch: batching.Batch):
      self._runner.note('encode', self.batch_size, batch.shape[:1])
      self._runner.note('score', self.batch_size, batch.shape)
      packed[batch] = ranking.pack(
          [options[i] for i in batch.indices],
          self.batch_size,
          self._option_row,
          batch.shape[1],
      )
      tokens_BxS = self._pad(inputs, batch.indices, batch.shape[0])
      context = self._encode(
          self.params, self._runner.put({'tokens': tokens_BxS})['tokens']
      )
      return [
          self._score(self.params, context, self._runner.put(row))
          for row in packed[batch].rows
      ]

    predictions: dict[int, Prediction] = {}
    for batch, log_probs in self._runner.run(batches, launch):
      scores = ranking.option_scores(
          packed.pop(batch), log_probs, self._normalisation
      )
      for i, own in zip(batch.indices, scores, strict=True):
        best = int(np.argmax(own))
        predictions[i] = Prediction(
            text=(examples[i].options or ())[best],
            score=float(own[best]),
            option_scores=tuple(own.tolist()),
            option_index=best,
        )
        self._runner.tokens.read += len(inputs[i]) + sum(map(len, options[i]))
      if progress:
        progress(len(batch.indices))
    return [predictions[i] for i in range(len(examples))]

  def _inputs(
      self, examples: Sequence[examples_lib.Example]
  ) -> list[list[int]]:
    tokens, cut = batching.tokens_of(
        self._vocabulary,
        [example.inputs for example in examples],
        self._lengths['inputs'],
    )
    self.cut_inputs += cut
    return tokens

  def _options(
      self, examples: Sequence[examples_lib.Example]
  ) -> list[list[list[int]]]:
    for example in examples:
      if not example.options:
        raise ValueError(
            f'{example.task}: {example.row_id} has no options to rank'
        )
    tokens, _ = batching.tokens_of(
        self._vocabulary,
        [option for example in examples for option in example.options or ()],
        self._lengths['targets'],
    )
    rest = iter(tokens)
    return [[next(rest) for _ in example.options or ()] for example in examples]

  def _pad(
      self, inputs: list[list[int]], indices: Iterable[int], length: int
  ) -> np.ndarray:
    return batching.pad(
        [inputs[i] for i in indices],
        self.batch_size,
        length,
        self._vocabulary.pad_id,
    )
