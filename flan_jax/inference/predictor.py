"""From examples to predictions: batches, devices, and back to the order given.

`Predictor` is what predicting, evaluating and serving share, and a class for
notebooks:

    from flan_jax.inference import predictor

    model = predictor.Predictor.from_checkpoint('runs/mini')
    model.generate(['Translate to French: good morning'])[0].text
    model.rank(['Is snow cold?'], ['yes', 'no'])[0].option_scores
    model.score(['Is snow cold?'], ['yes'])
"""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import os
from typing import Any, get_args

from flan_jax import configuration
from flan_jax import errors
from flan_jax import partitioning
from flan_jax import vocabularies
from flan_jax.checkpoints import native
from flan_jax.data import examples as examples_lib
from flan_jax.inference import generating
from flan_jax.inference import masked_ranker
from flan_jax.inference import ranker
from flan_jax.inference import ranking
from flan_jax.inference import reading
from flan_jax.inference import running
from flan_jax.inference import settings
from flan_jax.inference import streaming
from flan_jax.models import decoder_only
from flan_jax.models import encoder_only
from flan_jax.models import interface
import jax
import numpy as np

Progress = Callable[[int], Any]

# What `from_checkpoint` takes where nothing is said.
_BATCH_TOKENS = 8192


@dataclasses.dataclass(frozen=True, slots=True)
class Prediction:
  """What the model says to one example.

  Attributes:
    text: The predicted option, or the generated text; '' where no option has a
      score.
    score: The log-likelihood of `text`, EOS included; of an option, as the
      normalisation has it; of an encoder-only model the pseudo-log-likelihood.
      None if it is no finite number.
    option_scores: The same for each option, in their order; None for
      generation.
    option_index: The place of `text` among the options; None for generation,
      and where no option has a score.
    cut_tokens: How many tokens of the inputs the model did not read, their
      last ones.
  """

  text: str
  score: float | None
  option_scores: tuple[float | None, ...] | None = None
  option_index: int | None = None
  cut_tokens: int = 0


def ranks(example: examples_lib.Example) -> bool:
  """Whether an example is answered by ranking, unless its task says otherwise.

  It is if it has options, and its target is one of them: an inverted template
  asks for something else.
  """
  return bool(example.options) and not example.inverted


class Predictor:
  """Runs a model over examples, in batches of few shapes, on a mesh.

  The same examples give the same predictions in any order of calls, up to
  rounding. On several hosts, each host passes the same examples and gets all
  predictions.
  """

  def __init__(
      self,
      model: interface.Model,
      params: Any,
      vocabulary: vocabularies.Vocabulary,
      *,
      mesh: jax.sharding.Mesh,
      lengths: dict[str, int],
      batch_size: int | None = None,
      batch_tokens: int | None = None,
      normalisation: settings.Normalisation = 'sum',
      pmi_premise: str = 'Answer:',
      too_long: settings.TooLong = 'cut',
      decoding: settings.Decoding | None = None,
      most_shapes: int = 12,
  ):
    """Compiles nothing yet.

    Args:
      model: The model.
      params: Its parameters; they stay where they are.
      vocabulary: What it was trained with.
      mesh: Where to run.
      lengths: The most tokens of 'inputs' and of 'targets', EOS included.
      batch_size: Examples a batch, rounded up to what the mesh divides; or
      batch_tokens: Tokens a batch, padding and what is to be written included:
        what there is memory for.
      normalisation: How options compare. 'sum': by log-likelihood. 'mean': by
        that over the number of tokens, EOS included, which takes away the
        advantage of short options. 'pmi': by the log-likelihood under the
        inputs less that under `pmi_premise`, which takes away the advantage of
        options that are likely anyway (arXiv 2104.08315, equation 2).
      pmi_premise: For 'pmi', what says no more than that an answer follows.
      too_long: What becomes of inputs and options of too many tokens: 'cut'
        takes their last ones away, with EOS kept, and 'refuse' raises.
      decoding: How answers are written where a call does not say; greedy by
        default.
      most_shapes: The most compilations, of ranking and writing together.

    Raises:
      UserError: A setting is wrong.
    """
    configuration.one_of(
        'normalisation', normalisation, get_args(settings.Normalisation)
    )
    configuration.one_of('too_long', too_long, get_args(settings.TooLong))
    configuration.text('pmi_premise', pmi_premise)
    configuration.whole_number('most_shapes', most_shapes, 2)
    _check_batch(batch_size, batch_tokens, lengths, mesh)
    self._reader = reading.Reader(vocabulary, lengths, too_long)
    self._params = params
    self._runner = running.Runner(
        mesh,
        batch_size=batch_size,
        batch_tokens=batch_tokens,
        most=most_shapes,
    )
    self._vocabulary = vocabulary
    self._decoding = decoding or settings.Decoding()
    self._normalisation = normalisation
    self._premise = self._reader.tokens(
        [pmi_premise], 'inputs', ['pmi_premise']
    )[0][0]
    self._settled = False
    # What options are worth under the premise, under these parameters.
    self._unconditional: dict[tuple[int, ...], float] = {}
    if isinstance(model, decoder_only.DecoderOnly):
      # Before anything is read, and not in the middle of it.
      model.check_room(sum(lengths.values()))
    self._generator = generating.Generator(
        model, vocabulary, runner=self._runner, lengths=lengths
    )
    self._ranker: ranker.Ranker | masked_ranker.MaskedRanker
    if isinstance(model, encoder_only.EncoderOnly):
      if model.config.head == 'score' and normalisation != 'sum':
        raise errors.UserError(
            "normalisation: must be 'sum' for a model with a head that scores"
            f' options, which has no probabilities, not {normalisation!r}'
        )
      self._ranker = masked_ranker.MaskedRanker(
          model, vocabulary, runner=self._runner, lengths=lengths
      )
    else:
      self._ranker = ranker.Ranker(
          model, vocabulary, runner=self._runner, lengths=lengths
      )
    self._writes = model.config.writes

  @classmethod
  def from_checkpoint(
      cls,
      path: str | os.PathLike[str],
      *,
      mesh: jax.sharding.Mesh | None = None,
      use_ema: bool = False,
      lengths: dict[str, int] | None = None,
      **more: Any,
  ) -> 'Predictor':
    """Returns the predictor of a run, ready to be asked.

    Args:
      path: A MODEL_DIR (its newest checkpoint), MODEL_DIR/checkpoint_<step>, or
        a checkpoint in another format (docs/checkpoints.md).
      mesh: Where to run; by default on all devices, which share the batch.
      use_ema: Whether to take the moving average of the parameters.
      lengths: The most tokens of 'inputs' and 'targets'; by default the run's.
      **more: See `Predictor`. By default batches are of 8,192 tokens, or of as
        many as one example may have.

    Raises:
      UserError: There is no such checkpoint, or a setting is wrong.
    """
    mesh = mesh or partitioning.make_mesh()
    loaded = native.load_model(path, mesh=mesh, use_ema=use_ema)
    lengths = lengths or loaded.lengths
    if 'batch_size' not in more and 'batch_tokens' not in more:
      more['batch_tokens'] = max(_BATCH_TOKENS, _least_tokens(lengths, mesh))
    return cls(
        loaded.model,
        loaded.params,
        loaded.vocabulary,
        mesh=mesh,
        lengths=lengths,
        **more,
    )

  @property
  def params(self) -> Any:
    """The parameters; others of the same model may be put in their place."""
    return self._params

  @params.setter
  def params(self, params: Any) -> None:
    self._params = params
    self._unconditional.clear()

  @property
  def remarks(self) -> reading.Remarks:
    """What was odd about the examples so far."""
    return self._reader.remarks

  @property
  def cut_inputs(self) -> int:
    """How many inputs were too long and lost their end."""
    return self.remarks.cut_inputs

  @cut_inputs.setter
  def cut_inputs(self, count: int) -> None:
    self.remarks.cut_inputs = count

  @property
  def shapes(self) -> set[tuple[str, tuple[int, ...]]]:
    """What was compiled so far: names with rows and padded lengths."""
    return self._runner.shapes

  @property
  def tokens(self) -> running.Tokens:
    """How many tokens the model has read and written so far."""
    return self._runner.tokens

  def compilations(self) -> str:
    """Says how many compilations there were and how long they took."""
    count = len(self.shapes)
    return (
        f'{count} compilation{"s" * (count != 1)},'
        f' {self._runner.compile_seconds:.1f} s'
    )

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
    ranked, asked = _by_method(examples, evaluation)
    found = {
        True: iter(self.rank(asked[True], progress=progress)),
        False: iter(self.generate(asked[False], progress=progress)),
    }
    return [next(found[by_rank]) for by_rank in ranked]

  def settle(
      self,
      samples: Sequence[tuple[Sequence[examples_lib.Example], str, int]],
  ) -> None:
    """Decides on the shapes of batches once, by samples of what will come.

    From then on what `predict`, `rank` and `generate` give does not depend, in
    any digit, on the calls before.

    Args:
      samples: Examples, their task's setting, and how many each of them stands
        for.
    """
    inputs: dict[bool, list[list[int]]] = {True: [], False: []}
    options: list[list[list[int]]] = []
    for examples, evaluation, times in samples:
      _, asked = _by_method(examples, evaluation)
      for by_rank, own in asked.items():
        tokens = self._reader.measured([each.inputs for each in own], 'inputs')
        inputs[by_rank] += tokens * times
      own_options = [
          self._reader.measured(each.options or (), 'targets')
          for each in asked[True]
      ]
      options += own_options * times
      self._check_writes(asked[False])
    # A call opens at most half of the shapes that are left, so that the first
    # method leaves some to the other; what that leaves may be used as well.
    for _ in range(3):
      self._ranker.plan(inputs[True], options)
      self._generator.plan(inputs[False], self._decoding)
    self._runner.planner.settle()
    self._generator.settle(inputs[False], self._decoding)
    self._settled = True

  def generate(
      self,
      examples: Sequence[examples_lib.Example] | Sequence[str],
      progress: Progress | None = None,
      decoding: settings.Decoding | None = None,
  ) -> list[Prediction]:
    """Writes an answer to each example, or text.

    Args:
      examples: What to answer.
      progress: Called with the number of examples of each finished batch.
      decoding: How to write; by default as the predictor was made.

    Raises:
      UserError: Inputs are too long, and are not to be cut; or the model is an
        encoder alone, which only ranks.
    """
    examples = reading.examples_of(examples)
    self._check_writes(examples)
    inputs, cut = self._reader.inputs(examples)
    generated = self._generator.generate(
        self.params,
        inputs,
        decoding or self._decoding,
        [f'{example.task} {example.row_id}' for example in examples],
        progress,
    )
    predictions = []
    for example, each, tokens in zip(examples, generated, cut, strict=True):
      text = self._vocabulary.decode(each.tokens)
      score = _finite(each.score)
      if score is None:
        self.remarks.not_numbers.append(reading.name_of(example))
      predictions.append(Prediction(text, score, cut_tokens=tokens))
    return predictions

  def stream(
      self,
      prompt: str,
      decoding: settings.Decoding | None = None,
      key: str = '',
  ) -> Iterator[str]:
    """Yields the answer to one prompt, piece by piece, as it is written.

    The pieces together are what `generate` gives. On one host.

    Args:
      prompt: The input.
      decoding: How to write, other than by beams.
      key: What random numbers depend on, besides the seed.

    Raises:
      UserError: There are beams; or the prompt is too long, and is not to be
        cut.
    """
    examples = reading.examples_of([prompt])
    self._check_writes(examples)
    (ids,), _ = self._reader.inputs(examples)
    tokens = self._generator.stream(
        self.params, ids, decoding or self._decoding, key
    )
    return streaming.pieces(self._vocabulary, tokens)

  def rank(
      self,
      examples: Sequence[examples_lib.Example] | Sequence[str],
      options: Sequence[str] | Sequence[Sequence[str]] | None = None,
      *,
      progress: Progress | None = None,
  ) -> list[Prediction]:
    """Chooses the best option of each example, or text; the first of equals.

    Args:
      examples: What to answer.
      options: The options of all of them, or those of each; by default the
        examples' own.
      progress: Called with the number of examples of each finished batch.

    Raises:
      UserError: There are no options; options that were given here are equal,
        or have no tokens; something is too long, and is not to be cut.
    """
    if self._settled:
      self._unconditional.clear()
    examples = reading.with_options(reading.examples_of(examples), options)
    inputs, cut = self._reader.inputs(examples)
    choices = self._reader.options(examples, given=options is not None)
    scores = self._ranker.log_likelihoods(
        self.params, inputs, choices, progress
    )
    if self._normalisation == 'mean':
      scores = [
          own / np.asarray([self._ranker.scored(ids) for ids in ids_of])
          for own, ids_of in zip(scores, choices, strict=True)
      ]
    elif self._normalisation == 'pmi':
      self._read_premise(choices)
      scores = [
          own - [self._unconditional[tuple(ids)] for ids in ids_of]
          for own, ids_of in zip(scores, choices, strict=True)
      ]
    return [
        self._ranked(example, own.tolist(), tokens)
        for example, own, tokens in zip(examples, scores, cut, strict=True)
    ]

  def score(
      self,
      inputs: Sequence[str],
      targets: Sequence[str],
      progress: Progress | None = None,
  ) -> list[float]:
    """Returns log p(target | inputs) of each pair, EOS included.

    Natural logarithms, whatever the normalisation. Equal inputs are read once.
    Of an encoder-only model they are pseudo-log-likelihoods, without EOS, or
    what its head that scores says.

    Args:
      inputs: What the model reads.
      targets: As many texts.
      progress: Called with the number of different inputs of each finished
        batch.

    Raises:
      UserError: There are more of the one than of the other, or something is
        too long, and is not to be cut.
    """
    if len(inputs) != len(targets):
      raise errors.UserError(
          f'score: there are {len(inputs)} inputs and {len(targets)} targets;'
          ' each needs the other'
      )
    pairs: dict[str, list[int]] = {}
    for i, text in enumerate(inputs):
      pairs.setdefault(text, []).append(i)
    read, _ = self._reader.inputs(reading.examples_of(list(pairs)))
    names = [f'targets {i + 1}' for i in range(len(targets))]
    written, cut = self._reader.tokens(targets, 'targets', names)
    self.remarks.cut_options += sum(map(bool, cut))
    found = self._ranker.log_likelihoods(
        self.params,
        read,
        [[written[i] for i in places] for places in pairs.values()],
        progress,
    )
    scores = np.zeros(len(inputs))
    for places, own in zip(pairs.values(), found, strict=True):
      scores[places] = own
    return scores.tolist()

  def _check_writes(self, examples: Sequence[examples_lib.Example]) -> None:
    """Raises a UserError if there are examples, and no model to write."""
    if examples and not self._writes:
      raise errors.UserError(
          f'{reading.name_of(examples[0])}: an encoder-only model ranks options'
          ' and cannot write an answer; ask it tasks that have options, or give'
          ' it some'
      )

  def _ranked(
      self, example: examples_lib.Example, scores: list[float], cut: int
  ) -> Prediction:
    """Returns the prediction, given the options' scores."""
    finite = tuple(map(_finite, scores))
    if None in finite:
      self.remarks.not_numbers.append(reading.name_of(example))
    place = ranking.best(scores)
    if place is None:
      return Prediction('', None, finite, cut_tokens=cut)
    text = (example.options or ())[place]
    return Prediction(text, finite[place], finite, place, cut)

  def _read_premise(self, choices: Sequence[Sequence[Sequence[int]]]) -> None:
    """Scores options under the premise that were not yet."""
    new = [
        ids
        for ids in dict.fromkeys(tuple(ids) for own in choices for ids in own)
        if ids not in self._unconditional
    ]
    scores = self._ranker.unconditional(self.params, self._premise, new)
    self._unconditional.update(zip(new, scores.tolist(), strict=True))


def _by_method(
    examples: Sequence[examples_lib.Example], evaluation: str
) -> tuple[list[bool], dict[bool, list[examples_lib.Example]]]:
  """Returns which examples are to be ranked, and both kinds of them."""
  ranked = [evaluation != 'generate' and ranks(example) for example in examples]
  asked: dict[bool, list[examples_lib.Example]] = {True: [], False: []}
  for example, by_rank in zip(examples, ranked, strict=True):
    asked[by_rank].append(example)
  return ranked, asked


def _least_tokens(lengths: dict[str, int], mesh: jax.sharding.Mesh) -> int:
  """Returns the tokens of a batch with one longest example on each device."""
  return sum(lengths.values()) * partitioning.batch_divisor(mesh)


def _check_batch(
    batch_size: int | None,
    batch_tokens: int | None,
    lengths: dict[str, int],
    mesh: jax.sharding.Mesh,
) -> None:
  """Raises a UserError unless the size of batches is given once, and fits."""
  if (batch_size is None) == (batch_tokens is None):
    raise errors.UserError(
        'batch_tokens: give either it or batch_size, and not both'
    )
  if batch_size is not None:
    configuration.whole_number('batch_size', batch_size, 1)
  else:
    assert batch_tokens is not None
    configuration.whole_number('batch_tokens', batch_tokens, 1)
    least = _least_tokens(lengths, mesh)
    if batch_tokens < least:
      raise errors.UserError(
          f'batch_tokens: must be at least {least:,}, which is one example of'
          f' the longest on each device, not {batch_tokens:,}'
      )


def _finite(score: float) -> float | None:
  return score if np.isfinite(score) else None
