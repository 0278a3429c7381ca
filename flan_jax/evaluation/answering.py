"""Loads models, one at a time, and lets them answer."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any, TYPE_CHECKING

import flan_jax
from flan_jax import heap
from flan_jax import hosts
from flan_jax import partitioning
from flan_jax import storage
from flan_jax.checkpoints import places
from flan_jax.data import examples as examples_lib
from flan_jax.evaluation import kept
from flan_jax.evaluation import protocol
from flan_jax.evaluation import scoring
from flan_jax.evaluation import settings as settings_lib
from flan_jax.evaluation import systems
from flan_jax.inference import batching
import tqdm

if TYPE_CHECKING:
  from flan_jax.checkpoints import adapted
  from flan_jax.checkpoints import native
  from flan_jax.inference import predictor

# So many examples of each task decide on the shapes of batches.
_SAMPLED = 64


@dataclasses.dataclass(frozen=True)
class Answers:
  """What one model says.

  Attributes:
    main: To the evaluated split, by task.
    validation: To the validation split, by task.
    parameters: How many the model has.
  """

  main: list[list[scoring.Answer]]
  validation: list[list[scoring.Answer]]
  parameters: int


class Answerer:
  """Puts everything to one model after the other.

  Attributes:
    remarks: What was odd about the texts, in sentences, as the first model read
      them.
    compilations: Of each run's programs, how many there were and their time.
    reused: How many answers were there from an evaluation that was stopped.
  """

  def __init__(self, settings: settings_lib.Eval, output_dir: str, first: bool):
    """Makes the mesh.

    Args:
      settings: Of the evaluation.
      output_dir: Where the answers of finished blocks are kept.
      first: Whether this host is the one that writes.
    """
    self.remarks: list[str] = []
    self.compilations: list[str] = []
    self.reused = 0
    self._settings = settings
    self._output_dir = output_dir
    self._first = first
    self._mesh = partitioning.make_mesh(settings.mesh)
    heap.keep_on(self._mesh)
    hosts.meet(self._mesh)
    self._predictor: predictor.Predictor | None = None
    self._loaded: native.Loaded | None = None
    self._holds: systems.Model | None = None
    self._bases: adapted.Bases | None = None

  def ask(
      self,
      model: systems.Model,
      main: Sequence[protocol.Work],
      validation: Sequence[protocol.Work],
  ) -> Answers:
    """Puts all rows to a model, with a progress bar."""
    from flan_jax.models import interface

    keeper = kept.Keeper(self._output_dir, self._depends_on(model), self._first)
    count = sum(len(each.examples) for each in (*main, *validation))

    def answering(
        examples: Sequence[examples_lib.Example],
        ranked: bool,
        progress: protocol.Progress,
    ) -> list[scoring.Answer]:
      if self._holds is not model:
        self._load(model, [*main, *validation])
        self._holds = model
      return self._answers(examples, ranked, progress)

    with tqdm.tqdm(
        total=count,
        desc=model.name,
        unit='ex',
        disable=None if self._first else True,
    ) as bar:
      on_main, on_validation = (
          protocol.answer(work, answering, bar.update, keeper)
          for work in (main, validation)
      )
    self.reused += keeper.reused
    # Not all answers may have been there already.
    if self._holds is model and self._predictor is not None:
      self.remarks = self.remarks or self._predictor.remarks.lines()
      self.compilations[-1] = self._predictor.compilations()
    # Counted whether or not it was loaded, so that a report says it always.
    described = interface.create(model.place.config())
    parameters = interface.count_parameters(described)
    return Answers(on_main, on_validation, parameters)

  def _depends_on(self, model: systems.Model) -> dict[str, Any]:
    """Returns what the answers to an example depend on."""
    folder = model.place.folder
    return {
        'flan_jax': flan_jax.__version__,
        'checkpoint': str(storage.resolved(folder)),
        'model': places.identity(folder),
        'use_ema': self._use_ema(model),
        'lengths': self._settings.task_feature_lengths or model.run['lengths'],
        'normalisation': self._settings.normalisation,
        'pmi_premise': self._settings.pmi_premise,
        'decoding': dataclasses.asdict(self._settings.decoding),
    }

  def _use_ema(self, model: systems.Model) -> bool:
    # An untuned model may have no average, and is its own.
    return self._settings.use_ema and model.kind == 'tuned'

  def _answers(
      self,
      examples: Sequence[examples_lib.Example],
      ranked: bool,
      progress: protocol.Progress,
  ) -> list[scoring.Answer]:
    """Asks the model that is loaded."""
    assert self._predictor is not None
    method = self._predictor.rank if ranked else self._predictor.generate
    return [
        scoring.Answer.of(
            said.text,
            said.option_index,
            said.score,
            said.option_scores,
            example.options or (),
        )
        for said, example in zip(
            method(examples, progress=progress), examples, strict=True
        )
    ]

  def _load(self, model: systems.Model, work: Sequence[protocol.Work]) -> None:
    """Makes the predictor of a checkpoint.

    Another checkpoint of the same run, or of one alike, goes into the same
    compiled programs; and adapters go to the same base.

    Args:
      model: The checkpoint.
      work: All that is asked, answered already or not.
    """
    from flan_jax.checkpoints import adapted
    from flan_jax.checkpoints import native
    from flan_jax.inference import predictor

    before = self._loaded
    use_ema = self._use_ema(model)
    if self._predictor:
      self._predictor.params = None  # Two models may not fit.
    if self._bases is None or model.base is None:
      self._bases = adapted.Bases()
    if self._predictor and before and _alike(before.run, model.run):
      self._predictor.params = native.load_params(
          model.path, before.model, self._mesh, use_ema, known=self._bases
      )
      return
    self._predictor = self._loaded = before = None
    loaded = native.load_model(
        model.path, mesh=self._mesh, use_ema=use_ema, known=self._bases
    )
    self._predictor = predictor.Predictor(
        loaded.model,
        loaded.params,
        loaded.vocabulary,
        mesh=self._mesh,
        lengths=self._settings.task_feature_lengths or loaded.lengths,
        **self._settings.of_predictor(),
    )
    # So that what is said does not depend on what was there already.
    self._predictor.settle(_sample(work))
    self.compilations.append('')
    # The predictor alone holds the parameters, so that they can go.
    self._loaded = dataclasses.replace(loaded, params=None)


def _sample(
    work: Sequence[protocol.Work],
) -> list[tuple[Sequence[examples_lib.Example], str, int]]:
  """Returns examples from all over the work, for `Predictor.settle`."""
  chosen = batching.evenly([len(each.examples) for each in work], _SAMPLED)
  return [
      ([each.examples[place] for place in places], each.item.how, times)
      for each, (places, times) in zip(work, chosen, strict=True)
  ]


def _alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
  """Whether what two runs trained goes into the same compiled programs."""
  names = ('model', 'vocabulary', 'lengths')
  # Checkpoints of others say nothing of their model: each has its own programs.
  return all(name in one and one[name] == other.get(name) for name in names)
