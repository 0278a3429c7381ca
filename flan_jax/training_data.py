"""What a run trains on and is evaluated on: vocabulary, mixtures, their rows.

Names are looked up, and missing rows said, before anything slow is imported.
"""

import dataclasses
import itertools
import sys
from typing import Any, TYPE_CHECKING

from flan_jax import errors
from flan_jax import partitioning
from flan_jax import vocabularies
from flan_jax.data import access as access_lib
from flan_jax.data import mixtures
from flan_jax.data import presence
from flan_jax.training import settings as settings_lib
import numpy as np

if TYPE_CHECKING:
  from flan_jax.data import packing
  from flan_jax.data import pipeline as pipeline_lib
  import jax

_SPLIT = 'train'
_EVAL_SPLIT = 'validation'
# A sample that tells what the vocabulary loses: of so many members so many.
_MEMBERS, _EXAMPLES = 32, 8


class TrainingData:
  """The data of a run.

  Attributes:
    vocabulary: Makes ids of texts.
    mixture: What is trained on, less what is left out.
    eval_mixture: What loss and accuracy are measured on; None for nothing.
    left_out: Names of the datasets done without, since their rows are missing.
  """

  def __init__(
      self,
      settings: settings_lib.Train,
      access: access_lib.Access,
      skip_missing: bool = False,
  ):
    """Looks up names and data and reads the vocabulary; imports nothing slow.

    Args:
      settings: What the gin files say.
      access: The declarations and rows.
      skip_missing: Whether to do without datasets whose rows are not here.

    Raises:
      UserError: A name is unknown, rows are missing, or vocabulary and model do
        not fit.
    """
    self._settings = settings
    self._access = access
    self.vocabulary = vocabularies.load(settings.vocabulary)
    if self.vocabulary.size > settings.model.most_ids:
      raise errors.UserError(
          f'MODEL: {type(settings.model).__name__}.vocab_size is'
          f' {settings.model.most_ids}, and {settings.vocabulary} has'
          f' {self.vocabulary.size} ids; set it to'
          f' {self.vocabulary.padded_size}'
      )
    catalogue = access.catalogue
    self.mixture = mixtures.as_mixture(
        mixtures.resolve(catalogue, settings.mixture_or_task_name)
    )
    self.eval_mixture = (
        self._validation(catalogue) if settings.eval_period else None
    )
    self.left_out = self._leave_out_missing(skip_missing)

  def _validation(self, catalogue: Any) -> mixtures.Mixture:
    """Returns the members of the validation mixture that have the split."""
    name = self._settings.eval_mixture_or_task_name
    mixture = (
        mixtures.as_mixture(mixtures.resolve(catalogue, name))
        if name
        else self.mixture
    )
    kept = mixture.only(lambda task: _EVAL_SPLIT in task.dataset.splits)
    if not kept.parts:
      raise errors.UserError(
          f'EVAL_MIXTURE_OR_TASK_NAME: {mixture.name} has no split'
          f' {_EVAL_SPLIT!r}; name another, or set EVAL_PERIOD to 0'
      )
    return kept

  def _leave_out_missing(self, skip: bool) -> list[str]:
    """Returns the datasets done without; both mixtures lose them.

    Raises:
      UserError: Rows are not here, or nothing is left.
    """
    name = self.mixture.name
    tasks = [task for task, _ in self.mixture.members]
    untrained = [t.name for t in tasks if _SPLIT not in t.dataset.splits]
    if untrained:
      raise errors.UserError(
          f'MIXTURE_OR_TASK_NAME: {name}: {", ".join(untrained)}: for'
          f' evaluation only, without a split {_SPLIT!r}'
      )
    wanted = presence.needs(tasks, _SPLIT)
    if self.eval_mixture is not None:
      evaluated = [task for task, _ in self.eval_mixture.members]
      wanted += presence.needs(evaluated, _EVAL_SPLIT)
    missing = presence.require(self._access, wanted, name, skip)
    if missing:
      _say(presence.left_out(missing))

      def here(task: Any) -> bool:
        return task.dataset.name not in missing

      self.mixture = self.mixture.only(here)
      if self.eval_mixture is not None:
        self.eval_mixture = self.eval_mixture.only(here)
      for mixture in filter(None, (self.mixture, self.eval_mixture)):
        if not mixture.parts:
          raise errors.UserError(
              f'--skip_missing: leaves nothing of {mixture.name}'
          )
    return sorted(missing)

  def counts(self) -> dict[str, int]:
    """Returns how many training examples each task has."""
    store = self._access.store
    return {
        task.name: len(store.open(task.dataset, _SPLIT))
        for task, _ in self.mixture.members
    }

  def prepare(self) -> None:
    """Reads the rows that are not stored yet, with a bar if that takes long."""
    import tqdm

    wanted = [(task, _SPLIT) for task, _ in self.mixture.members]
    if self.eval_mixture is not None:
      wanted += [(task, _EVAL_SPLIT) for task, _ in self.eval_mixture.members]
    with tqdm.tqdm(wanted, desc='rows', disable=None, leave=False) as bar:
      for task, split in bar:
        bar.set_postfix_str(task.dataset.name, refresh=False)
        self._access.store.prepare(task.dataset, [split])
    line = self._losses()
    if line is not None:
      _say(line)

  def _losses(self) -> str | None:
    """Says what the vocabulary loses of some members' examples, if it does."""
    from flan_jax.data import drawing

    tasks = [task for task, _ in self.mixture.members]
    random = np.random.default_rng(self._settings.random_seed)
    some = random.permutation(len(tasks))[:_MEMBERS].tolist()
    examples = itertools.chain.from_iterable(
        drawing.examples(
            tasks[place],
            _SPLIT,
            self._access.store,
            _EXAMPLES,
            seed=self._settings.random_seed,
            vocabulary=self.vocabulary,
            lengths=self._settings.task_feature_lengths,
            layout=self._settings.few_shot_layout,
        )
        for place in some
    )
    return vocabularies.losses_notice(
        self.vocabulary,
        self.mixture.name,
        (text for each in examples for text in (each.inputs, each.targets)),
    )

  def pipeline(self, mesh: 'jax.sharding.Mesh') -> 'pipeline_lib.TrainPipeline':
    """Returns this host's share of the endless training data."""
    from flan_jax.data import pipeline

    return pipeline.TrainPipeline(
        self.mixture,
        _SPLIT,
        self.vocabulary,
        self._access.store,
        dataclasses.replace(self._pipeline_config(), member_ids=True),
        *partitioning.host_share(mesh),
    )

  def _pipeline_config(self) -> 'pipeline_lib.PipelineConfig':
    from flan_jax.data import pipeline

    return pipeline.PipelineConfig(
        lengths=self._settings.task_feature_lengths,
        row_format=self._settings.model.row_format,
        batch_size=self._settings.batch_size,
        seed=self._settings.random_seed,
        pack=self._settings.pack,
        workers=self._settings.data_workers,
        few_shot=self._settings.few_shot_layout,
    )

  def evaluation_batches(
      self, mesh: 'jax.sharding.Mesh'
  ) -> 'list[packing.Batch]':
    """Returns this host's rows of the batches that are evaluated on."""
    from flan_jax.data import pipeline

    assert self.eval_mixture is not None
    return pipeline.evaluation_batches(
        self.eval_mixture,
        _EVAL_SPLIT,
        self.vocabulary,
        self._access.store,
        self._pipeline_config(),
        self._settings.eval_steps,
        *partitioning.host_share(mesh),
    )

  def facts(self) -> dict[str, Any]:
    """Returns the settings that must not change while the run goes on."""
    facts = self._settings.by_name()
    if not any(task.setting.shots for task, _ in self.mixture.members):
      # Nothing depends on it.
      facts = {
          name: value
          for name, value in facts.items()
          if not name.startswith('FEW_SHOT_LAYOUT')
      }
    facts['VOCABULARY.sha256'] = self.vocabulary.describe()['sha256']
    for task, _ in self.mixture.members:
      facts[f'MIXTURE_OR_TASK_NAME.{task.name}'] = (
          f'version {task.dataset.version}'
      )
    return facts


def _say(text: str) -> None:
  print(text, file=sys.stderr, flush=True)
