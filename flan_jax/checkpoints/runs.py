"""What a MODEL_DIR holds beside the arrays: run.json, and where steps lie.

A MODEL_DIR has `config.gin`, `run.json`, `vocabulary.model` (a folder
`vocabulary` where ids are not T5's, nothing where they are bytes), one folder
`checkpoint_<step>` a checkpoint, and the logs.
Nothing here needs jax, so a mistyped path is found at once.
"""

import dataclasses
import json
import os
import pathlib
import re
import tempfile
from typing import Any
import uuid

from flan_jax import errors
from flan_jax import storage
from flan_jax import vocabularies
from flan_jax.models import config as model_config

PREFIX = 'checkpoint'
RUN_FILE = 'run.json'
CONFIG_FILE = 'config.gin'
VOCABULARY_FILE = vocabularies.COPY
_BROKEN = 'broken_'
_UNSET = object()
_STEP = re.compile(rf'{PREFIX}_(\d+)')
# Orbax puts it into a checkpoint in a bucket last of all.
COMPLETE = 'commit_success.txt'
_FAMILIES = {cls.family: cls for cls in model_config.FAMILIES}


def steps(directory: str | os.PathLike[str]) -> list[int]:
  """Returns the steps of a MODEL_DIR's complete checkpoints, ascending.

  A checkpoint gets its name once it is complete, so a folder of that name is
  one. In a bucket it has its name from the start, and a mark at the end.
  """
  folder = storage.path(directory)
  if not folder.is_dir():
    return []
  return sorted(
      int(match.group(1))
      for path in folder.iterdir()
      if (match := _STEP.fullmatch(path.name))
      and (not storage.is_address(path) or (path / COMPLETE).is_file())
  )


def step_path(directory: str | os.PathLike[str], step: int) -> pathlib.Path:
  """Returns the folder of a step's checkpoint."""
  return storage.path(directory) / f'{PREFIX}_{step}'


def set_aside(checkpoint: pathlib.Path) -> pathlib.Path:
  """Gives a broken checkpoint a name that is no checkpoint's; returns it."""
  place = checkpoint.with_name(f'{_BROKEN}{checkpoint.name}')
  number = 1
  while place.exists():
    number += 1
    place = checkpoint.with_name(f'{_BROKEN}{checkpoint.name}_{number}')
  checkpoint.rename(place)
  return place


def check_writable(directory: str | os.PathLike[str]) -> None:
  """Finds out whether a MODEL_DIR can be written; leaves nothing behind.

  Raises:
    UserError: It cannot, or a file in it cannot.
  """
  folder = storage.path(directory)
  if storage.is_address(folder):
    trial = folder / f'.flan_jax_{uuid.uuid4().hex[:12]}'
    with storage.reached('MODEL_DIR', folder):
      storage.write(trial, '')
      trial.unlink()
    return
  nearest = next(
      path for path in (folder, *folder.absolute().parents) if path.exists()
  )
  try:
    with tempfile.TemporaryDirectory(prefix='.flan_jax_', dir=nearest):
      pass
    for path in folder.glob('*'):
      if path.is_file():
        with open(path, 'ab'):
          pass
  except OSError as error:
    where = nearest if error.filename is None else error.filename
    inside = pathlib.Path(where).name.startswith('.flan_jax_')
    raise errors.UserError(
        f'MODEL_DIR: {directory}: {nearest if inside else where} cannot be'
        f' written ({error.strerror}); name a folder that can'
    ) from error


def locate(path: str | os.PathLike[str]) -> tuple[pathlib.Path, int]:
  """Finds the run and the step that a checkpoint path means.

  Args:
    path: A MODEL_DIR (its newest checkpoint is meant) or a checkpoint in one.

  Returns:
    The MODEL_DIR and the step.

  Raises:
    UserError: There is no such run or checkpoint; those that exist are named.
  """
  storage.check('checkpoint', path)
  with storage.reached('checkpoint', path):
    return _locate(storage.path(path))


def _locate(given: pathlib.Path) -> tuple[pathlib.Path, int]:
  match = _STEP.fullmatch(given.name)
  directory = given.parent if match else given
  known = steps(directory)
  if (directory / RUN_FILE).is_file() and known:
    if not match:
      return directory, known[-1]
    if int(match.group(1)) in known:
      return directory, int(match.group(1))
  if known:
    names = ', '.join(f'{PREFIX}_{step}' for step in known)
    missing = (
        'there is no such checkpoint'
        if (directory / RUN_FILE).is_file()
        else f'the run has lost its {RUN_FILE}'
    )
    raise errors.UserError(f'{given}: {missing}; {directory} has {names}')
  if given.is_dir():
    raise errors.UserError(f'{given}: holds no checkpoint.{_runs_near(given)}')
  raise errors.UserError(f'{given}: there is no such run.{_runs_near(given)}')


def _runs_near(given: pathlib.Path) -> str:
  """Says which runs lie in `given`, or else in the first parent there is."""
  folder = given
  while not folder.is_dir() and storage.has_parent(folder):
    folder = folder.parent
  runs = sorted(str(found.parent) for found in folder.glob(f'*/{RUN_FILE}'))
  if not runs and (folder / RUN_FILE).is_file() and folder != given:
    runs = [str(folder)]
  if not runs:
    return f' There is no run in {folder} either.'
  return f' There are {", ".join(runs)}.'


def write(
    directory: str | os.PathLike[str],
    model: model_config.ModelConfig,
    vocabulary: vocabularies.Vocabulary,
    vocabulary_spec: str,
    facts: dict[str, Any],
) -> None:
  """Writes run.json and a copy of the vocabulary.

  Args:
    directory: The MODEL_DIR, which exists.
    model: The model's configuration.
    vocabulary: The vocabulary.
    vocabulary_spec: What `vocabularies.load` made it from.
    facts: Whatever else the run wants to say of itself, fit for JSON.
  """
  folder = storage.path(directory)
  described = dict(vocabulary.describe(), path=vocabulary_spec)
  if vocabulary_spec != 'bytes':
    described['path'] = vocabularies.keep(vocabulary, vocabulary_spec, folder)
  info = {
      'model': {'family': model.family, **dataclasses.asdict(model)},
      'vocabulary': described,
      **facts,
  }
  storage.write(folder / RUN_FILE, json.dumps(info, indent=2) + '\n')


def changes(
    directory: str | os.PathLike[str], settings: dict[str, Any]
) -> list[str]:
  """Says what differs between a run's settings and new ones.

  Args:
    directory: A MODEL_DIR with a run.json.
    settings: The new settings by name, as `write` was given them in
      facts['settings'].

  Returns:
    Lines such as 'BATCH_SIZE: 32 -> 64', in the order of the new settings.
  """
  old = read(directory).get('settings', {})
  new = json.loads(json.dumps(settings))  # Tuples become lists, as in the file.
  return [
      f'{name}: {_shown(old, name)} -> {_shown(new, name)}'
      for name in (*new, *(name for name in old if name not in new))
      if old.get(name, _UNSET) != new.get(name, _UNSET)
  ]


def _shown(settings: dict[str, Any], name: str) -> str:
  return repr(settings[name]) if name in settings else 'not set'


def read(directory: str | os.PathLike[str]) -> dict[str, Any]:
  """Returns what run.json says.

  Raises:
    UserError: It is missing or no JSON.
  """
  path = storage.path(directory) / RUN_FILE
  try:
    return json.loads(path.read_text(encoding='utf-8'))
  except OSError as error:
    raise errors.UserError(f'{path}: {storage.reason(error)}') from error
  except ValueError as error:
    raise errors.UserError(f'{path}: is no JSON: {error}') from error


def read_model(
    directory: str | os.PathLike[str],
) -> model_config.ModelConfig:
  """Returns the configuration of a run's model.

  Raises:
    UserError: run.json does not describe a model that this version knows.
  """
  path = storage.path(directory) / RUN_FILE
  fields = dict(read(directory).get('model', {}))
  family = fields.pop('family', None)
  if family not in _FAMILIES:
    raise errors.UserError(
        f'{path}: model.family: {family!r} is none of'
        f' {", ".join(map(repr, _FAMILIES))}'
    )
  try:
    return _FAMILIES[family](**fields)
  except TypeError as error:
    raise errors.UserError(f'{path}: model: {error}') from error


def read_vocabulary(
    directory: str | os.PathLike[str],
) -> vocabularies.Vocabulary:
  """Returns a run's vocabulary.

  Raises:
    UserError: The copy in the run is missing or is not the one it was.
  """
  folder = storage.path(directory)
  described = read(folder)['vocabulary']
  spec = described['path']
  vocabulary = vocabularies.load(
      spec if spec == 'bytes' else storage.resolved(folder) / spec
  )
  found = vocabulary.describe()
  if found['sha256'] != described['sha256']:
    raise errors.UserError(
        f'{folder / spec}: is not the vocabulary that the run was trained with'
        f' (sha256 {found["sha256"][:12]}, not {described["sha256"][:12]})'
    )
  return vocabulary
