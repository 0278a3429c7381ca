"""Reads checkpoints of T5X; see `foreign.Source`."""

from collections.abc import Mapping
import functools
import hashlib
import logging
import pathlib

from flan_jax import errors
from flan_jax import storage
from flan_jax.checkpoints import foreign
from flan_jax.checkpoints.t5x import arrays
from flan_jax.checkpoints.t5x import folders
from flan_jax.checkpoints.t5x import layers
from flan_jax.checkpoints.t5x import sizes
from flan_jax.models import config as model_config
import numpy as np

# Bytes of each file by which checkpoints are told apart.
_BEGINNING = 1024


class Checkpoint:
  """A checkpoint of T5X, of either form.

  Attributes:
    path: Its folder.
    step: Its step.
    config: The model that it is of.
    assumed: The fields of it that no file says.
    vocabulary: The SentencePiece model that the run's config.gin names.
    files: Nothing: T5X carries no vocabulary along.
    layout: Where our parameters are among T5X's.
  """

  format = 't5x'

  def __init__(self, path: pathlib.Path):
    """Looks at what there is; reads no parameters.

    Args:
      path: The checkpoint, or a run whose newest is meant.

    Raises:
      UserError: There is none, it is not whole, or it is of no model that is
        known.
    """
    found = folders.locate(path)
    if found is None:
      raise errors.UserError(f'{path}: holds no checkpoint of T5X')
    self.path = found
    self._arrays = folders.read(found)
    head = f'{folders.TARGET}/'
    self._params = {
        name.removeprefix(head): array
        for name, array in self._arrays.items()
        if name.startswith(head)
    }
    try:
      self.layout = layers.Layout(
          {name: array.shape for name, array in self._params.items()}
      )
    except errors.UserError as error:
      raise errors.UserError(f'{found}: has {error}') from error
    known = sizes.read(found, self.layout)
    self.config: model_config.ModelConfig = known.config
    self.assumed = known.assumed
    self.vocabulary = known.vocabulary
    self.files: Mapping[str, pathlib.Path] = {}
    self.step = self._step()

  @functools.cached_property
  def shapes(self) -> Mapping[str, tuple[foreign.Shape, np.dtype]]:
    """See `foreign.Source`."""
    return {
        name: (self.layout.shape(name), self._params[place.name].dtype)
        for name, place in self.layout.places.items()
    }

  @functools.cached_property
  def slots(self) -> Mapping[str, arrays.Array]:
    """What the optimizer keeps, by T5X's names, such as 'encoder/.../v_row'."""
    head = f'{folders.SLOTS}/'
    return {
        name.removeprefix(head): array
        for name, array in self._arrays.items()
        if name.startswith(head)
    }

  def read(self, name: str, index: foreign.Index | None = None) -> np.ndarray:
    """See `foreign.Source`."""
    array = self._params[self.layout.places[name].name]
    return self.layout.read(array, name, index)

  def origin(self, name: str) -> str:
    """Returns T5X's name of a parameter."""
    place = self.layout.places.get(name)
    return f'{folders.TARGET}/{place.name if place else name}'

  def identity(self) -> str:
    """Returns what tells this checkpoint from others, wherever it lies.

    It is a hash of the names and shapes, the step, the norms' scales, and
    what else tells numbers without reading them all: the list of Orbax's files,
    which are called anew at each save, or the beginnings of T5X's own.
    """
    found = hashlib.sha256(f'{self.step}'.encode())
    for name, array in sorted(self._params.items()):
      found.update(f'{name} {array.dtype} {array.shape}'.encode())
    for name in self._params:
      if name.endswith('_norm/scale'):
        found.update(self._params[name].read().tobytes())
    manifest = self.path / folders.STATE / folders.DATABASE
    if manifest.is_file():
      found.update(manifest.read_bytes())
    elif not storage.is_address(self.path):
      for part in sorted(self.path.rglob(f'{folders.TARGET}.*/0*')):
        with part.open('rb') as file:
          found.update(file.read(_BEGINNING))
    return found.hexdigest()[:16]

  def _step(self) -> int:
    kept = self._arrays.get(folders.STEP)
    if kept is None or kept.shape not in ((), (1,)):
      return folders.step(self.path)
    return int(kept.read().reshape(()))


def open_source(path: pathlib.Path) -> Checkpoint:
  """Opens a checkpoint, and says once what is taken for granted of it.

  Raises:
    UserError: See `Checkpoint`.
  """
  with storage.reached('checkpoint', path):
    found = Checkpoint(path)
  if 'mlp_activations' in found.assumed:
    _say(str(found.path), found.config.mlp_activations)
  return found


@functools.cache  # Once, however often it is opened.
def _say(path: str, activations: tuple[str, ...]) -> None:
  logging.getLogger(__name__).warning(
      '%s: has no %s beside it: taken for a T5 %s (mlp_activations %s),'
      ' computed in float32 where nothing else is said',
      path,
      folders.CONFIG,
      '1.1' if len(activations) > 1 else '1.0',
      activations,
  )
