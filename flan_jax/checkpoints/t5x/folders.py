"""What lies in a checkpoint of T5X, of either form.

    checkpoint_<step>/checkpoint                T5X's own form: the index,
                      target.encoder. ...       and a folder a parameter
    checkpoint_<step>/state/manifest.ocdbt      Orbax's form: a database,
                            d/, ocdbt.process_*
    checkpoint_<step>/state/target.encoder. ... Orbax's form before that one

In both, names are those of T5X's train state: 'target/encoder/...' for the
parameters, 'state/step', and 'state/param_states/encoder/.../v_row'.
"""

import pathlib
import re

from flan_jax import errors
from flan_jax import storage
from flan_jax.checkpoints.t5x import arrays
from flan_jax.checkpoints.t5x import index

TARGET = 'target'
STATE = 'state'
STEP = 'state/step'
SLOTS = 'state/param_states'
CONFIG = 'config.gin'
# What `writing` says of the model, beside a checkpoint.
MODEL = 'model.gin'

DATABASE = 'manifest.ocdbt'
_METADATA = '_METADATA'
_STEP = re.compile(r'checkpoint_(\d+)')


def is_checkpoint(folder: pathlib.Path) -> bool:
  """Whether a folder is a checkpoint of T5X."""
  state = folder / STATE
  return (folder / index.FILE).is_file() or any(
      (state / name).is_file() for name in (DATABASE, _METADATA, index.FILE)
  )


def locate(given: pathlib.Path) -> pathlib.Path | None:
  """Returns the checkpoint that a path means, or None where there is none.

  Args:
    given: A checkpoint, or the folder of a run, whose newest is meant.
  """
  if is_checkpoint(given):
    return given
  if not given.is_dir():
    return None
  known = [
      (int(match.group(1)), path)
      for path in given.iterdir()
      if (match := _STEP.fullmatch(path.name)) and is_checkpoint(path)
  ]
  return max(known)[1] if known else None


def step(folder: pathlib.Path) -> int:
  """Returns the step in a checkpoint's name, 0 if there is none."""
  match = _STEP.fullmatch(folder.name)
  return int(match.group(1)) if match else 0


def read(folder: pathlib.Path) -> dict[str, arrays.Array]:
  """Returns the arrays of a checkpoint by T5X's names.

  Raises:
    UserError: It cannot be read, or is not whole.
  """
  with storage.reached('checkpoint', folder):
    if (folder / index.FILE).is_file():
      return _indexed(folder, folder)
    state = folder / STATE
    if (state / DATABASE).is_file():
      found = arrays.find(arrays.database(state), folder)
      return {name.replace('.', '/'): array for name, array in found.items()}
    if (state / index.FILE).is_file():
      return _indexed(state, folder)
    found = arrays.find(arrays.files(state), folder)
    return {name.replace('.', '/'): array for name, array in found.items()}


def _indexed(
    folder: pathlib.Path, whole: pathlib.Path
) -> dict[str, arrays.Array]:
  """Returns the arrays of a folder with an index."""
  leaves = index.read(folder / index.FILE)
  kept = arrays.find(arrays.files(folder), whole)
  missing = sorted(
      leaf
      for leaf in leaves.values()
      if isinstance(leaf, str) and leaf not in kept
  )
  if missing:
    more = f' and {len(missing) - 3} more' if len(missing) > 3 else ''
    raise errors.UserError(
        f'{whole}: {", ".join(missing[:3])}{more} are missing, of which'
        f' {index.FILE} speaks; copy the checkpoint again'
    )
  return {
      name: kept[leaf] if isinstance(leaf, str) else arrays.inline(leaf)
      for name, leaf in leaves.items()
  }
