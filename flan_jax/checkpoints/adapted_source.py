"""A run that holds what it trained alone, read as the whole model it makes.

One parameter at a time: that of its base, with what was trained put in its
place, or its adapter added. Nothing here needs jax.
"""

from collections.abc import Mapping
import functools
import pathlib

from flan_jax.checkpoints import bases
from flan_jax.checkpoints import foreign
from flan_jax.checkpoints import formats
from flan_jax.checkpoints import integrity
from flan_jax.checkpoints import native_source
from flan_jax.checkpoints import runs
from flan_jax.models import config as model_config
import numpy as np


class Checkpoint:
  """A checkpoint of such a run; see `foreign.Source`."""

  format = formats.NATIVE
  assumed: tuple[str, ...] = ()

  def __init__(self, directory: pathlib.Path, step: int):
    """Reads what says which arrays there are.

    Args:
      directory: The MODEL_DIR.
      step: The step.

    Raises:
      UserError: It is broken, or its base is not what it was.
    """
    adapter = bases.Adapter.read(directory)
    assert adapter is not None
    adapter.base.check(directory)
    self._lora = adapter.lora
    self._base = formats.open_source(adapter.base.path)
    self._own = native_source.Checkpoint(directory, step, whole=False)
    self.step = step
    self.path = runs.step_path(directory, step)
    self.config: model_config.ModelConfig = runs.read_model(directory)

  @property
  def shapes(self) -> Mapping[str, tuple[foreign.Shape, np.dtype]]:
    """See `foreign.Source`; dtypes are the base's."""
    return self._base.shapes

  @property
  def vocabulary(self) -> str | None:
    """See `foreign.Source`."""
    return self._own.vocabulary

  @functools.cached_property
  def files(self) -> Mapping[str, pathlib.Path]:
    """See `foreign.Source`."""
    return {**self._base.files, **self._own.files}

  def read(self, name: str, index: foreign.Index | None = None) -> np.ndarray:
    """See `foreign.Source`."""
    if name in self._own.shapes:
      found = self._own.read(name, index)
      return found.astype(self.shapes[name][1], copy=False)
    kernel = self._base.read(name, index)
    module = name.removesuffix('/kernel')
    if self._lora is None or f'{module}/lora_a' not in self._own.shapes:
      return kernel
    rows, columns = index or (slice(None), slice(None))
    a = self._own.read(f'{module}/lora_a', (rows, slice(None)))
    b = self._own.read(f'{module}/lora_b', (slice(None), columns))
    whole = kernel.astype(np.float32) + a @ b * np.float32(self._lora.scale)
    return whole.astype(kernel.dtype, copy=False)

  def identity(self) -> str:
    """See `foreign.Source`."""
    return integrity.identity(self.path)

  def origin(self, name: str) -> str:
    """Returns what the base itself calls a parameter."""
    return self._base.origin(name)
