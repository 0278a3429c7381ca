"""What a run keeps in a device's memory, said when that does not suffice."""

from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import math
from typing import Any

from flan_jax import errors
from flan_jax import partitioning
from flan_jax.training import settings as settings_lib
from flan_jax.training import state as state_lib
import jax

_GIB = 2**30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
  """Bytes on one device, by kind.

  Attributes:
    parameters: The model's.
    optimizer: Its state's.
    gradients: As many as those of the parameters that are trained, in float32.
    temporaries: What the step needs beside: above all the activations that the
      backward pass reads. None where the compiler did not get that far.
  """

  parameters: int
  optimizer: int
  gradients: int
  temporaries: int | None


def sizes(
    like: state_lib.TrainState, compiled: Any | None, frozen: Any = None
) -> Sizes:
  """Returns what a step needs.

  Args:
    like: Shapes, dtypes and shardings of the state.
    compiled: The compiled step, if there is one.
    frozen: The same of the parameters that are not trained.
  """
  gradients = _bytes(like.params)
  analysis = compiled.memory_analysis() if compiled is not None else None
  temporaries = None
  if analysis is not None:
    # Gradients are temporaries, too.
    temporaries = max(analysis.temp_size_in_bytes - gradients, 0)
  return Sizes(
      parameters=gradients + _bytes(frozen),
      optimizer=_bytes(like.optimizer),
      gradients=gradients,
      temporaries=temporaries,
  )


def table(
    needed: Sizes,
    settings: settings_lib.Train,
    mesh: jax.sharding.Mesh,
) -> str:
  """Returns lines: each kind, its size, and which setting halves it."""
  shards = mesh.shape.get('fsdp', 1)
  fsdp = f'MeshConfig.fsdp = {2 * shards} (now {shards})'
  if mesh.size < 2 * shards:
    fsdp += f', which takes {2 * shards} devices'
  lines = [
      ('parameters', needed.parameters, fsdp),
      ('optimizer', needed.optimizer, f'{fsdp}; Adafactor keeps least'),
      ('gradients', needed.gradients, fsdp),
      (
          'activations and other temporaries',
          needed.temporaries,
          _halving_activations(settings, mesh),
      ),
  ]
  return '\n'.join(
      f'  {kind:<33} {_gib(size):>12}  halved by {how}'
      for kind, size, how in sorted(
          lines, key=lambda line: -math.inf if line[1] is None else -line[1]
      )
  )


@contextlib.contextmanager
def explained(text: Callable[[], str]) -> Iterator[None]:
  """Says what fills the memory when a device has not enough.

  Args:
    text: Makes the lines; called when it has happened.

  Raises:
    UserError: A device's memory did not suffice.
  """
  try:
    yield
  except jax.errors.JaxRuntimeError as error:
    if 'RESOURCE_EXHAUSTED' not in str(error):
      raise
    device = jax.local_devices()[0]
    limit = (device.memory_stats() or {}).get('bytes_limit')
    has = '' if limit is None else f', which has {_gib(limit)}'
    first = str(error).strip().split('\n')[0]
    raise errors.UserError(
        f'out of memory on {device.device_kind}{has} ({first}); a device'
        f' needs, for a step\n{text()}'
    ) from error


def _halving_activations(
    settings: settings_lib.Train, mesh: jax.sharding.Mesh
) -> str:
  """Returns the setting that halves what grows with the rows of a device."""
  parts = settings.num_microbatches
  rows = settings.batch_size // parts
  spread = partitioning.batch_divisor(mesh)
  if rows % 2 == 0 and (rows // 2) % spread == 0:
    how = f'NUM_MICROBATCHES = {2 * parts} (now {parts})'
  elif rows > spread:
    how = f'BATCH_SIZE = {settings.batch_size // 2}'
  else:
    how = 'half of TASK_FEATURE_LENGTHS: a device has one row already'
  if getattr(settings.model, 'remat', 'full') != 'full':
    how += f"; {type(settings.model).__name__}.remat = 'full' keeps fewest"
  return how


def _bytes(tree: Any) -> int:
  """Returns the bytes of a tree's arrays on the device that has most."""
  return sum(
      math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
      for leaf in jax.tree.leaves(tree)
  )


def _gib(size: int | None) -> str:
  return 'unknown' if size is None else f'{size / _GIB:.3f} GiB'
