"""Weights & Biases, for those who have it installed and ask for it."""

from collections.abc import Mapping
import importlib
import importlib.util
import json
import pathlib
from typing import Any, Protocol
import uuid

from flan_jax import errors
from flan_jax import storage

ID_FILE = 'wandb.json'


class Tracking(Protocol):
  """A service that keeps a run's numbers."""

  def log(self, step: int, scalars: Mapping[str, float]) -> None:
    """Sends numbers of a step."""
    ...

  def close(self) -> None:
    """Sends what is left."""
    ...


def check(project: str | None) -> None:
  """Raises a UserError if W&B is asked for and not installed."""
  if project is not None and importlib.util.find_spec('wandb') is None:
    raise errors.UserError(
        f"WANDB_PROJECT: '{project}' is asked for, and wandb is not installed:"
        ' `pip install wandb`, or leave WANDB_PROJECT out'
    )


class WandB:
  """A run of W&B that goes on as one run when training goes on.

  Steps that are done again after a stop are not sent twice: W&B refuses steps
  before its own last one. How it connects (WANDB_MODE=offline, WANDB_ENTITY,
  WANDB_API_KEY and so on) is left to its own settings.

  Attributes:
    place: Where the run can be seen: an address, or a folder when offline.
  """

  def __init__(
      self, project: str, directory: pathlib.Path, config: Mapping[str, Any]
  ):
    """Starts the run, or goes on with it.

    Args:
      project: W&B's project.
      directory: The MODEL_DIR; its name is the run's, and it keeps the run's
        id.
      config: The settings, fit for JSON.

    Raises:
      UserError: W&B cannot start.
    """
    # No dependency: it is there only if the user has installed it.
    wandb: Any = importlib.import_module('wandb')
    path = directory / ID_FILE
    if path.is_file():
      identity = json.loads(path.read_text())['id']
    else:
      identity = uuid.uuid4().hex[:12]
      identified = json.dumps({'id': identity, 'project': project})
      storage.write(path, f'{identified}\n')
    try:
      self._run = wandb.init(
          project=project,
          id=identity,
          name=directory.name,
          dir=str(directory),
          config=dict(config),
          resume='allow',
          settings=wandb.Settings(silent=True, console='off'),
      )
    except Exception as error:
      # Its errors (no key, no network) have classes of their own.
      message = ' '.join(str(error).split())
      raise errors.UserError(
          f'WANDB_PROJECT: W&B cannot start: {message}; WANDB_MODE=offline'
          ' keeps the numbers here, to be sent by `wandb sync`'
      ) from error
    self.place = self._run.url or self._run.dir

  def log(self, step: int, scalars: Mapping[str, float]) -> None:
    """Sends numbers of a step."""
    self._run.log(dict(scalars), step=step)

  def close(self) -> None:
    """Sends what is left; the run may go on later."""
    self._run.finish()
