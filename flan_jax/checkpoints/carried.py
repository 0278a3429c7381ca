"""What comes along with a checkpoint besides parameters: a tokenizer's files.

A run keeps the files of the checkpoint that it started from, so that what it
becomes can be written as a folder of the same kind. Nothing here needs jax.
"""

from collections.abc import Mapping
import pathlib

from flan_jax import storage

# The folder of a MODEL_DIR that they are in.
FOLDER = 'carried'
# Those that say nothing of a vocabulary.
OF_THE_MODEL = ('config.json', 'generation_config.json')


def kept(directory: pathlib.Path) -> dict[str, pathlib.Path]:
  """Returns the files that a MODEL_DIR has kept, by name."""
  folder = directory / FOLDER
  if not folder.is_dir():
    return {}
  return {path.name: path for path in sorted(folder.iterdir())}


def keep(files: Mapping[str, pathlib.Path], directory: pathlib.Path) -> None:
  """Copies files into a MODEL_DIR, which exists."""
  if not files:
    return
  storage.make_folder(directory / FOLDER)
  for name, path in files.items():
    storage.write(directory / FOLDER / name, path.read_bytes())
