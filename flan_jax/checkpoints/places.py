"""Where a checkpoint is, in whatever format, and what is known of it.

Nothing here needs jax, so a mistyped path is found at once.
"""

import dataclasses
import functools
import os
import pathlib
from typing import Any

from flan_jax import errors
from flan_jax import storage
from flan_jax import vocabularies
from flan_jax.checkpoints import carried
from flan_jax.checkpoints import foreign
from flan_jax.checkpoints import formats
from flan_jax.checkpoints import integrity
from flan_jax.checkpoints import runs
from flan_jax.models import config as model_config

# Tokens of a foreign checkpoint's inputs and targets, where nothing says more:
# T5's in pre-training, and those of FLAN's targets.
LENGTHS = {'inputs': 512, 'targets': 256}


def lengths(config: model_config.ModelConfig) -> dict[str, int]:
  """Returns the lengths of a checkpoint that says nothing of them.

  Where positions are learned, inputs and targets share them; an encoder alone
  has another token in front.
  """
  if isinstance(config, model_config.EncoderConfig):
    most = config.max_positions - 1
  elif (
      isinstance(config, model_config.DecoderConfig)
      and config.positions == 'learned'
      and config.max_positions < sum(LENGTHS.values())
  ):
    most = config.max_positions
  else:
    return dict(LENGTHS)
  targets = min(LENGTHS['targets'], max(config.max_positions // 4, 2))
  return {'inputs': most - targets, 'targets': targets}


@dataclasses.dataclass(frozen=True)
class Place:
  """A checkpoint that is there.

  Attributes:
    format: One of `formats.ALL`.
    directory: The MODEL_DIR, or the foreign checkpoint's own folder.
    step: Its step.
    run: What run.json says; of a foreign checkpoint, what stands for it.
  """

  format: str
  directory: pathlib.Path
  step: int
  run: dict[str, Any]

  @property
  def native(self) -> bool:
    """Whether it is one of ours."""
    return self.format == formats.NATIVE

  @property
  def folder(self) -> pathlib.Path:
    """The folder of the checkpoint itself."""
    if not self.native:
      return self.directory
    return runs.step_path(self.directory, self.step)

  @functools.cached_property
  def source(self) -> foreign.Source:
    """The checkpoint, opened; for foreign ones."""
    return formats.open_source(self.directory)

  def config(self) -> model_config.ModelConfig:
    """Returns the configuration of the model.

    Raises:
      UserError: There is none that this version knows.
    """
    return (
        runs.read_model(self.directory) if self.native else (self.source.config)
    )

  def vocabulary(self) -> vocabularies.Vocabulary:
    """Returns the vocabulary that comes with it.

    Raises:
      UserError: None comes with it, or not the right one.
    """
    if self.native:
      return runs.read_vocabulary(self.directory)
    spec = self.source.vocabulary
    if spec is None:
      raise errors.UserError(
          f'{self.directory}: holds no vocabulary; convert it with'
          ' `flan-jax convert --vocabulary=FILE`'
      )
    return foreign.vocabulary(self.source, spec)

  def files(
      self, vocabulary: vocabularies.Vocabulary
  ) -> dict[str, pathlib.Path]:
    """Returns the files that a run keeps which starts from it, by name.

    Args:
      vocabulary: The run's; a tokenizer's files are not kept if the checkpoint
        has another.
    """
    if self.native:
      found = carried.kept(self.directory)
    else:
      found = dict(self.source.files)
    try:
      same = self.vocabulary().describe() == vocabulary.describe()
    except errors.UserError:  # There is none, or none that we know.
      same = False
    if same:
      return found
    return {n: found[n] for n in carried.OF_THE_MODEL if n in found}

  def candidates(self, given: str | os.PathLike[str]) -> list[pathlib.Path]:
    """Returns the checkpoint that is named, or all of a run, newest first.

    Args:
      given: What it was located by.
    """
    if not self.native or storage.path(given).name == self.folder.name:
      return [self.folder]
    steps = reversed(runs.steps(self.directory))
    return [runs.step_path(self.directory, step) for step in steps]


def identity(folder: str | os.PathLike[str]) -> str:
  """Returns what tells a checkpoint from all others, wherever it lies.

  It is '' where there is none, or a broken one.

  Args:
    folder: `Place.folder` of a checkpoint.
  """
  if formats.find(folder) == formats.NATIVE:
    return integrity.identity(storage.path(folder))
  return formats.open_source(folder).identity()


def fault(folder: pathlib.Path, index: int = 0, count: int = 1) -> str | None:
  """Reads a share of a checkpoint; returns what is wrong, as `integrity.fault`.

  Args:
    folder: `Place.folder` of a checkpoint.
    index: Of `count` equal shares, which one to read.
    count: How many readers there are.
  """
  if formats.find(folder) == formats.NATIVE:
    return integrity.fault(folder, index, count)
  try:
    formats.open_source(folder)  # It looks at the lengths of all files.
  except errors.UserError as error:
    return str(error)
  return None


def locate(path: str | os.PathLike[str]) -> Place:
  """Finds the checkpoint that a path means.

  Args:
    path: A MODEL_DIR (its newest checkpoint is meant), a checkpoint in one, or
      a folder in one of the other formats.

  Raises:
    UserError: There is no such checkpoint, or it cannot be read.
  """
  found = formats.find(path)
  if found == formats.NATIVE:
    directory, step = runs.locate(path)
    return Place(found, directory, step, runs.read(directory))
  folder = storage.path(path)
  source = formats.open_source(folder)
  run = {'lengths': lengths(source.config), 'format': found}
  return Place(found, folder, source.step, run)


def first_step(path: str | os.PathLike[str] | None) -> int:
  """Returns the step that a run begins at which starts from a checkpoint.

  As in T5X, that of a checkpoint of T5X goes on; any other gives parameters.

  Raises:
    UserError: There is no such checkpoint.
  """
  if path is None:
    return 0
  place = locate(path)
  return place.step if place.format == formats.T5X else 0
