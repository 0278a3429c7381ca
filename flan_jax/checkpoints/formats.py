"""Which format a checkpoint has, and how it is opened.

    native       MODEL_DIR or MODEL_DIR/checkpoint_<step>, written by training
    t5x          a checkpoint of T5X
    huggingface  a folder with config.json and *.safetensors

Nothing here needs jax.
"""

import os
import pathlib

from flan_jax import errors
from flan_jax import storage
from flan_jax.checkpoints import foreign
from flan_jax.checkpoints import native_source
from flan_jax.checkpoints import runs
from flan_jax.checkpoints.huggingface import bert
from flan_jax.checkpoints.huggingface import reading as huggingface
from flan_jax.checkpoints.huggingface import safetensors
from flan_jax.checkpoints.t5x import folders as t5x_folders
from flan_jax.checkpoints.t5x import reading as t5x

NATIVE = 'native'
T5X = 't5x'
HUGGINGFACE = 'huggingface'
ALL = (HUGGINGFACE, T5X, NATIVE)
# Of adapters; written only.
PEFT = 'peft'

_PICKLE_NAMES = ('*.bin', '*.bin.index.json', '*.pt', '*.pth')
_SHARDS = '*.safetensors'


def find(path: str | os.PathLike[str]) -> str:
  """Returns the format of a checkpoint.

  Where there is none it is ours, whose reader says which runs are near.

  Raises:
    UserError: There are several, or one that cannot be read.
  """
  storage.check('checkpoint', path)
  with storage.reached('checkpoint', path):
    return _find(storage.path(path))


def _find(given: pathlib.Path) -> str:
  found = _formats(given)
  if len(found) > 1:
    raise errors.UserError(
        f'{given}: holds several checkpoints, in the formats'
        f' {", ".join(found)}; put each into a folder of its own, or say which'
        ' to convert with --from'
    )
  if not found:
    _check_near(given)
    return NATIVE
  if found[0] == HUGGINGFACE:
    _check_huggingface(given)
  return found[0]


def _formats(given: pathlib.Path) -> list[str]:
  """Returns the formats of the checkpoints that a folder holds."""
  found = []
  if _has(given, huggingface.CONFIG, _SHARDS, *_PICKLE_NAMES):
    found.append(HUGGINGFACE)
  if t5x_folders.locate(given) is not None:
    found.append(T5X)
  if (given / runs.RUN_FILE).is_file():
    found.append(NATIVE)
  return found


def _has(folder: pathlib.Path, *names: str) -> bool:
  """Whether a folder has a file of one of these names, or patterns."""
  return folder.is_dir() and any(
      path.is_file() for name in names for path in folder.glob(name)
  )


def _check_near(given: pathlib.Path) -> None:
  """Raises a UserError for a folder whose folders are foreign checkpoints."""
  if not given.is_dir():
    return
  inside = sorted(path for path in given.iterdir() if path.is_dir())
  foreign_ones = {
      str(path): formats
      for path in inside
      if (formats := _formats(path)) and formats != [NATIVE]
  }
  if foreign_ones:
    raise errors.UserError(
        f'{given}: is no checkpoint itself; it holds'
        f' {", ".join(foreign_ones)}: name one'
    )


def _check_huggingface(folder: pathlib.Path) -> None:
  """Refuses a folder whose tensors are not there, or are not safetensors."""
  single, index = (
      (folder / name).is_file()
      for name in (safetensors.SINGLE, safetensors.INDEX)
  )
  if single and index:
    raise errors.UserError(
        f'{folder}: holds several checkpoints: {safetensors.SINGLE}, and the'
        f' shards of {safetensors.INDEX}; remove one'
    )
  if not (folder / huggingface.CONFIG).is_file():
    raise errors.UserError(
        f'{folder}: is not complete: {huggingface.CONFIG} is missing; download'
        ' it'
    )
  if single or index:
    return
  if _has(folder, _SHARDS):
    raise errors.UserError(
        f'{folder}: is not complete: {safetensors.INDEX} is missing; download'
        ' it'
    )
  if _has(folder, *_PICKLE_NAMES):
    facts = huggingface.read_config(folder)
    names = facts.get('architectures') or ()
    model = 'AutoModelForSeq2SeqLM'
    if not facts.get('is_encoder_decoder', True) or any(
        str(name).endswith(('ForCausalLM', 'LMHeadModel')) for name in names
    ):
      model = 'AutoModelForCausalLM'
    # Encoders alone: each head is a class.
    model = next((name for name in names if name in bert.ARCHITECTURES), model)
    raise errors.UserError(
        f'{folder}: holds a pickle (.bin), which can run code when it is read;'
        ' make safetensors of it, if you trust it, with: python -c "import'
        f" transformers; transformers.{model}.from_pretrained('{folder}')"
        f".save_pretrained('{folder}_safetensors')\""
    )
  raise errors.UserError(
      f'{folder}: is not complete: {safetensors.SINGLE} is missing; download it'
  )


def open_source(
    path: str | os.PathLike[str],
    named: str | None = None,
    step: int | None = None,
) -> foreign.Source:
  """Opens a checkpoint.

  Args:
    path: Where it is.
    named: Its format; None looks.
    step: Which of several checkpoints; None is the newest.

  Raises:
    UserError: It cannot be read.
  """
  place = storage.path(path)
  found = find(place) if named is None else named
  if found == HUGGINGFACE:
    _check_huggingface(place)
    source: foreign.Source = huggingface.Checkpoint(place)
  elif found == T5X:
    source = t5x.open_source(at(place, step))
  else:
    source = _open_native(*runs.locate(at(place, step)))
  if step is not None and source.step != step:
    raise errors.UserError(f'--step: {path} has step {source.step} alone')
  return source


def _open_native(directory: pathlib.Path, step: int) -> foreign.Source:
  """Opens a checkpoint of ours, which may need another one beside itself."""
  if runs.read(directory).get('adapter') is None:
    return native_source.Checkpoint(directory, step)
  # It imports this module.
  from flan_jax.checkpoints import adapted_source

  return adapted_source.Checkpoint(directory, step)


def at(folder: pathlib.Path, step: int | None) -> pathlib.Path:
  """Returns the folder of a step's checkpoint, if one is named."""
  if step is None or folder.name == f'{runs.PREFIX}_{step}':
    return folder
  return runs.step_path(folder, step)
