"""From examples to predictions: batches, devices, and back to the order given.

`Predictor` is what predicting, evaluating and serving share.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
import dataclasses
from typing import Any

from absl import logging
from flan_jax import partitioning
from flan_jax import vocabularies
from flan_jax.data import examples as examples_lib
from flan_jax.inference import batching
from flan_jax.inference import decoding
from flan_jax.inference import ranking
from flan_jax.models import interface
import jax
from jax.experimental import multihost_utils
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
    """
    self.params = params
    self.batch_size = batching.round_up(
        batch_size, partitioning.batch_divisor(mesh)
    )
    self.shapes: set[tuple[str, tuple[int, ...]]] = set()
    self.cut_inputs = 0
    self._vocabulary = vocabulary
    self._mesh = mesh
    self._lengths = dict(lengths)
    self._normalisation = normalisation
    self._option_row = max(lengths['targets'], _SHORTEST_OPTION_ROW)

    def generate(params, tokens_BxS, active_B):
      return decoding.greedy(
          model,
          params,
          model.encode(params, tokens_BxS),
          active_B,
          max_length=lengths['targets'],
          choices=vocabulary.size,
          eos_id=vocabulary.eos_id,
          pad_id=vocabulary.pad_id,
      )

    self._generate = jax.jit(generate)
    self._encode = jax.jit(model.encode)
    self._score = jax.jit(model.score)

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
  ) -> list[Prediction]:
    """Writes an answer to each example by greedy decoding."""
    inputs = self._inputs(examples)
    batches = batching.plan(
        [(len(ids),) for ids in inputs],
        [self._lengths['inputs']],
        self.batch_size,
    )

    def launch(batch: batching.Batch):
      self._note('generate', batch.shape)
      active_B = np.arange(self.batch_size) < len(batch.indices)
      device = self._put({
          'tokens': self._pad(inputs, batch.indices, batch.shape[0]),
          'active': active_B,
      })
      return self._generate(self.params, device['tokens'], device['active'])

    predictions: dict[int, Prediction] = {}
    for batch, out in self._run(batches, launch):
      for i, ids, score in zip(
          batch.indices, out.tokens, out.scores, strict=False
      ):
        text = self._vocabulary.decode(ids.tolist())
        predictions[i] = Prediction(text, float(score))
      if progress:
        progress(len(batch.indices))
    return [predictions[i] for i in range(len(examples))]

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
      self._note('encode', batch.shape[:1])
      self._note('score', batch.shape)
      packed[batch] = ranking.pack(
          [options[i] for i in batch.indices],
          self.batch_size,
          self._option_row,
          batch.shape[1],
      )
      tokens_BxS = self._pad(inputs, batch.indices, batch.shape[0])
      context = self._encode(
          self.params, self._put({'tokens': tokens_BxS})['tokens']
      )
      return [
          self._score(self.params, context, self._put(row))
          for row in packed[batch].rows
      ]

    predictions: dict[int, Prediction] = {}
    for batch, log_probs in self._run(batches, launch):
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

  def _put(self, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """Puts this host's rows of a batch that every host holds on the mesh."""
    index, count = partitioning.host_share(self._mesh)
    share = self.batch_size // count
    local = {
        name: rows[index * share : (index + 1) * share]
        for name, rows in batch.items()
    }
    return partitioning.put_batch(local, self._mesh)

  def _note(self, what: str, shape: tuple[int, ...]) -> None:
    if (what, shape) in self.shapes:
      return
    self.shapes.add((what, shape))
    logging.info(
        'Compiling %s for %d rows of %s tokens: %d compilations so far.',
        what,
        self.batch_size,
        ' and '.join(map(str, shape)),
        len(self.shapes),
    )

  def _run(
      self,
      batches: Iterable[batching.Batch],
      launch: Callable[[batching.Batch], Any],
  ) -> Iterator[tuple[batching.Batch, Any]]:
    """Yields each batch with its results as numpy arrays.

    While results are read, the device already works on the next batch.
    """
    waiting: tuple[batching.Batch, Any] | None = None
    for batch in batches:
      with partitioning.use(self._mesh):
        launched = launch(batch)
      if waiting is not None:
        yield waiting[0], _fetch(waiting[1])
      waiting = batch, launched
    if waiting is not None:
      yield waiting[0], _fetch(waiting[1])


def _fetch(arrays: Any) -> Any:
  if jax.process_count() > 1:
    return multihost_utils.process_allgather(arrays, tiled=True)
  return jax.device_get(arrays)
