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
from flan_jax.checkpoints.huggingface import reading as huggingface
from flan_jax.checkpoints.huggingface import safetensors
from flan_jax.checkpoints.t5x import folders as t5x_folders
from flan_jax.checkpoints.t5x import reading as t5x

NATIVE = 'native'
T5X = 't5x'
HUGGINGFACE = 'huggingface'
ALL = (HUGGINGFACE, T5X, NATIVE)

_PICKLES = ('pytorch_model.bin', 'pytorch_model.bin.index.json')


def find(path: str | os.PathLike[str]) -> str:
  """Returns the format of a checkpoint.

  Raises:
    UserError: There is none, or several, or one that cannot be read.
  """
  storage.check('checkpoint', path)
  with storage.reached('checkpoint', path):
    return _find(storage.path(path))


def _find(given: pathlib.Path) -> str:
  if (given / huggingface.CONFIG).is_file():
    _check_huggingface(given)
    return HUGGINGFACE
  if t5x_folders.locate(given) is not None:
    return T5X
  return NATIVE


def _check_huggingface(folder: pathlib.Path) -> None:
  """Refuses a folder whose tensors are not there, or are not safetensors."""
  if any(
      (folder / name).is_file()
      for name in (safetensors.INDEX, safetensors.SINGLE)
  ):
    return
  if any((folder / name).is_file() for name in _PICKLES):
    raise errors.UserError(
        f'{folder}: holds a pickle (.bin), which can run code when it is read;'
        ' make safetensors of it where you trust it: python -c "import'
        ' transformers as t; t.AutoModelForSeq2SeqLM.from_pretrained'
        f"('{folder}').save_pretrained('{folder}')\""
    )
  raise errors.UserError(f'{folder}: holds no {safetensors.SINGLE}')


def open_source(path: str | os.PathLike[str]) -> foreign.Source:
  """Opens a checkpoint that is not ours.

  Raises:
    UserError: It cannot be read.
  """
  place = storage.path(path)
  found = find(place)
  if found == HUGGINGFACE:
    return huggingface.Checkpoint(place)
  if found == T5X:
    return t5x.open_source(place)
  raise errors.UserError(f'{path}: is a run of our own')
