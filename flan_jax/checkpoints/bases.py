"""What a run says that keeps no more than it trains: adapters, chosen layers.

Its checkpoints hold what is trained alone. run.json says what the rest is:

    "adapter": {"lora": {"rank": 8, ...} or null,
                "trained": ["decoder/.*"] or null,
                "base": {"path": ..., "fingerprint": ...}}

Nothing here needs jax.
"""

from collections.abc import Mapping
import dataclasses
import os
import pathlib
from typing import Any

from flan_jax import errors
from flan_jax import storage
from flan_jax.checkpoints import places
from flan_jax.checkpoints import runs
from flan_jax.models import config as model_config

_KEY = 'adapter'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Base:
  """The checkpoint that a run began with, and goes on needing.

  Attributes:
    path: Of one checkpoint, whole.
    fingerprint: Tells its parameters from all others; a copy has the same.
  """

  path: str
  fingerprint: str

  @classmethod
  def of(cls, path: str | os.PathLike[str]) -> 'Base':
    """Returns what a path means now.

    Raises:
      UserError: There is no checkpoint.
    """
    folder = storage.resolved(places.locate(path).folder)
    return cls(path=str(folder), fingerprint=places.identity(folder))

  def check(self, directory: str | os.PathLike[str]) -> None:
    """Finds out whether the checkpoint is there, and is what it was.

    Args:
      directory: Of the run that needs it.

    Raises:
      UserError: It is not.
    """
    try:
      found = Base.of(self.path)
    except errors.UserError as error:
      raise errors.UserError(
          f'{directory}: holds what was trained alone, and its base is not'
          f' there: {error} Where it is now is to be said in'
          f' {runs.RUN_FILE}, {_KEY}.base.path'
      ) from error
    if found.fingerprint != self.fingerprint:
      raise errors.UserError(
          f'{directory}: was trained on top of {self.path}, whose parameters'
          f' are others now (fingerprint {found.fingerprint}, not'
          f' {self.fingerprint}); bring back those it was trained with'
      )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adapter:
  """How a run's checkpoints become a model.

  Attributes:
    lora: Its adapters, if it has some.
    trained: Patterns of the other parameters that it trained.
    base: What they belong to.
  """

  lora: model_config.Lora | None
  trained: tuple[str, ...] | None
  base: Base

  @classmethod
  def read(cls, directory: str | os.PathLike[str]) -> 'Adapter | None':
    """Returns what a run's run.json says; None: it keeps whole models.

    Raises:
      UserError: There is no run.json, or it says something else.
    """
    return cls.of_run(runs.read(directory), storage.path(directory))

  @classmethod
  def of_run(
      cls, run: Mapping[str, Any], directory: pathlib.Path
  ) -> 'Adapter | None':
    """Returns the same of what a run.json held."""
    said = run.get(_KEY)
    if said is None:
      return None
    try:
      lora, trained = said['lora'], said['trained']
      return cls(
          lora=None if lora is None else model_config.Lora(**lora),
          trained=None if trained is None else tuple(trained),
          base=Base(**said['base']),
      )
    except (TypeError, KeyError) as error:
      raise errors.UserError(
          f'{directory / runs.RUN_FILE}: {_KEY}: {error}'
      ) from error

  def facts(self) -> dict[str, Any]:
    """Returns what run.json is to say."""
    return {_KEY: dataclasses.asdict(self)}
