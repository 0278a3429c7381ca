"""A checkpoint of ours as other formats are read: one parameter at a time.

Nothing here needs jax.
"""

from collections.abc import Mapping
import functools
import pathlib
from typing import Any

from flan_jax import errors
from flan_jax.checkpoints import carried
from flan_jax.checkpoints import foreign
from flan_jax.checkpoints import integrity
from flan_jax.checkpoints import runs
from flan_jax.models import config as model_config
import numpy as np


class Checkpoint:
  """One of our checkpoints; see `foreign.Source`."""

  format = 'native'
  assumed: tuple[str, ...] = ()

  def __init__(self, directory: pathlib.Path, step: int, whole: bool = True):
    """Reads what says which arrays there are.

    Args:
      directory: The MODEL_DIR.
      step: The step.
      whole: Whether it is to hold all of a model.

    Raises:
      UserError: It is broken, or holds what was trained alone.
    """
    self.step = step
    self.run = runs.read(directory)
    self.config: model_config.ModelConfig = runs.read_model(directory)
    self.path = runs.step_path(directory, step)
    if whole and self.run.get('adapter') is not None:
      raise errors.UserError(
          f'{self.path}: holds what was trained alone, and not a whole model'
      )
    self._directory = directory
    self._item = self.path / integrity.ARRAYS[0]
    self._arrays: dict[str, Any] = {}
    try:
      for name in integrity.array_names(self._item):
        # Orbax writes the way to a leaf with dots.
        array = integrity.open_array(self._item, name)
        self._arrays[name.replace('.', '/')] = array
    except (OSError, ValueError) as error:
      why = integrity.reason(integrity.ARRAYS[0], error)
      raise errors.UserError(f'{self.path}: cannot be read ({why})') from error

  @functools.cached_property
  def shapes(self) -> Mapping[str, tuple[foreign.Shape, np.dtype]]:
    """See `foreign.Source`."""
    return {
        name: (tuple(array.shape), array.dtype.numpy_dtype)
        for name, array in self._arrays.items()
    }

  @property
  def vocabulary(self) -> str | None:
    """See `foreign.Source`."""
    spec = self.run['vocabulary']['path']
    return spec if spec == 'bytes' else str(self._directory / spec)

  @functools.cached_property
  def files(self) -> Mapping[str, pathlib.Path]:
    """See `foreign.Source`."""
    return carried.kept(self._directory)

  def read(self, name: str, index: foreign.Index | None = None) -> np.ndarray:
    """See `foreign.Source`."""
    array = self._arrays[name]
    try:
      return np.asarray(
          (array if index is None else array[index]).read().result()
      )
    except ValueError as error:
      why = integrity.reason(integrity.ARRAYS[0], error)
      raise errors.UserError(f'{self.path}: cannot be read ({why})') from error

  def identity(self) -> str:
    """See `foreign.Source`."""
    return integrity.identity(self.path)

  def origin(self, name: str) -> str:
    """Returns the parameter's own name."""
    return name
