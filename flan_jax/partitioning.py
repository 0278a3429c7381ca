"""The mesh, and which of its axes share which array axes.

Arrays name their axes ('batch', 'embed', ...); RULES alone says where each name
goes. A name that RULES does not know is an error: JAX and Flax would silently
keep such an array whole on every device.

The mesh is entered with `use`, which is `jax.set_mesh`: inside `with mesh:`
constraints on activations do nothing on this JAX, without a word.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import math
from typing import Any, TYPE_CHECKING

from flan_jax import errors

if TYPE_CHECKING:
  import jax

AXES = ('data', 'fsdp', 'tensor')

# Logical name -> the mesh axes that share it; () is: every device has all.
RULES: dict[str, tuple[str, ...]] = {
    # Activations. 'hidden' is the residual stream's width, which stays whole
    # because 'fsdp' already shares the batch.
    'batch': ('data', 'fsdp'),
    'length': (),
    'hidden': (),
    'kv': (),
    # Parameters, and activations that parameters' sharding reaches.
    'layers': (),
    'embed': ('fsdp',),
    'heads': ('tensor',),
    'joined_kv': ('tensor',),
    'mlp': ('tensor',),
    'vocab': ('tensor',),
    'relpos_buckets': (),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshConfig:
  """How many devices along each axis of the mesh.

  At most one of the three is -1: all devices that the others leave.

  Attributes:
    data: Each has other rows of the batch and all parameters.
    fsdp: Each has other rows of the batch and a share of the parameters.
    tensor: Each has a share of heads, feed-forward and vocabulary.
  """

  data: int = -1
  fsdp: int = 1
  tensor: int = 1

  def __post_init__(self):
    sizes = dataclasses.asdict(self)
    for name, size in sizes.items():
      if not isinstance(size, int) or (size < 1 and size != -1):
        raise errors.UserError(
            f'MeshConfig.{name}: must be a positive integer, or -1 for the'
            f' devices that are left, not {size!r}.'
        )
    if list(sizes.values()).count(-1) > 1:
      raise errors.UserError(
          'MeshConfig: only one of data, fsdp and tensor can be -1.'
      )

  def shape(self, devices: int) -> tuple[int, int, int]:
    """Returns the mesh's shape over so many devices.

    Raises:
      UserError: The axes' product is not the number of devices.
    """
    sizes = (self.data, self.fsdp, self.tensor)
    fixed = math.prod(size for size in sizes if size != -1)
    named = ', '.join(
        f'{name}={size}' for name, size in zip(AXES, sizes, strict=True)
    )
    if -1 in sizes:
      if devices % fixed:
        raise errors.UserError(
            f'MeshConfig: {named} needs a multiple of {fixed} devices, and'
            f' there are {devices}.'
        )
      return tuple(devices // fixed if n == -1 else n for n in sizes)  # type: ignore[return-value]
    if fixed != devices:
      raise errors.UserError(
          f'MeshConfig: {named} needs {fixed} devices, and there are {devices};'
          ' set one of them to -1 to use all.'
      )
    return sizes


def make_mesh(
    config: MeshConfig | None = None,
    devices: Sequence['jax.Device'] | None = None,
) -> 'jax.sharding.Mesh':
  """Returns a mesh with the axes 'data', 'fsdp' and 'tensor'.

  Args:
    config: Its shape; by default all devices are along 'data'.
    devices: What it is made of; by default all devices of all hosts.

  Raises:
    UserError: `config` does not fit the number of devices.
  """
  import jax
  from jax.experimental import mesh_utils

  if devices is None:
    devices = jax.devices()
  shape = (config or MeshConfig()).shape(len(devices))
  # It lays neighbours on a TPU's torus side by side, 'tensor' innermost.
  array = mesh_utils.create_device_mesh(shape, list(devices))
  # Mesh() and not jax.make_mesh(): the latter makes Explicit axes, under which
  # every operation must say how its result is shared.
  return jax.sharding.Mesh(array, AXES)


def use(mesh: 'jax.sharding.Mesh'):
  """Returns the context in which constraints refer to `mesh`."""
  import jax

  return jax.set_mesh(mesh)


def spec(names: Sequence[str | None]) -> 'jax.sharding.PartitionSpec':
  """Returns where an array goes whose axes have these names.

  Args:
    names: A logical name for each axis; None is: whole on every device.

  Raises:
    ValueError: RULES does not have a name, or two axes want one mesh axis.
  """
  from jax.sharding import PartitionSpec as P

  taken: list[str] = []
  parts: list[str | tuple[str, ...] | None] = []
  for name in names:
    if name is not None and name not in RULES:
      raise ValueError(
          f'partitioning.RULES has no logical axis {name!r}.'
          f'{errors.nearest(name, list(RULES))}'
      )
    axes = RULES[name] if name is not None else ()
    if set(axes) & set(taken):
      raise ValueError(
          f'the axes {tuple(names)} would share the mesh axis'
          f' {next(iter(set(axes) & set(taken)))!r} twice.'
      )
    taken += axes
    parts.append(axes[0] if len(axes) == 1 else axes or None)
  return P(*parts)


def constrain(x: 'jax.Array', names: Sequence[str | None]) -> 'jax.Array':
  """Fixes where an activation goes, inside `use(mesh)`; else returns it as is.

  The names are checked with a mesh or without.

  Raises:
    ValueError: A name is not in RULES, or there are more or fewer than axes.
    UserError: An axis does not divide over the mesh.
  """
  import jax

  partition = spec(names)
  if len(names) != x.ndim:
    raise ValueError(f'{tuple(names)} names {len(names)} axes of {x.shape}.')
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty:
    return x
  check(mesh.shape, names, x.shape)
  return jax.lax.with_sharding_constraint(x, partition)


def check(
    mesh_shape: Mapping[str, int],
    names: Sequence[str | None],
    shape: Sequence[int],
):
  """Raises a UserError if an axis does not divide over its mesh axes."""
  for name, size in zip(names, shape, strict=True):
    axes = RULES[name] if name is not None else ()
    parts = math.prod(mesh_shape[axis] for axis in axes)
    if size % parts:
      product = ' x '.join(f'{axis}={mesh_shape[axis]}' for axis in axes)
      what = 'the batch' if name == 'batch' else f'the axis {name!r}'
      fix = (
          f'use a multiple of {parts} rows'
          if name == 'batch'
          else f'take a divisor of {size} for {" x ".join(axes)}'
      )
      raise errors.UserError(
          f'MeshConfig.{axes[-1]}: {what} has {size} entries, which {product}'
          f' cannot share evenly; {fix}.'
      )


def shardings(
    mesh: 'jax.sharding.Mesh', logical_axes: Any, abstract: Any = None
) -> Any:
  """Returns the tree of shardings for a tree of logical names.

  Args:
    mesh: The mesh.
    logical_axes: A tree (of dicts, tuples are leaves) of tuples of names, as
      `Model.logical_axes` gives it.
    abstract: The same tree of shapes, as `Model.abstract_params` gives it. If
      given, sizes are checked too.

  Raises:
    ValueError: A name is not in RULES.
    UserError: A size does not divide over the mesh.
  """
  import jax

  def one(names, leaf=None):
    sharding = jax.sharding.NamedSharding(mesh, spec(names))
    if leaf is not None:
      check(mesh.shape, names, leaf.shape)
    return sharding

  trees = (logical_axes,) if abstract is None else (logical_axes, abstract)
  return jax.tree.map(one, *trees, is_leaf=is_names)


def is_names(leaf: Any) -> bool:
  """Whether `leaf` is a tuple of logical names (and not a branch of a tree)."""
  return type(leaf) is tuple and all(
      name is None or isinstance(name, str) for name in leaf
  )


def batch_divisor(mesh: 'jax.sharding.Mesh | None' = None) -> int:
  """Returns what the number of rows of a global batch must be a multiple of.

  Args:
    mesh: The mesh; None is the one in use, and 1 is returned if there is none.
  """
  import jax

  shape = (jax.sharding.get_abstract_mesh() if mesh is None else mesh).shape
  return math.prod(shape.get(axis, 1) for axis in RULES['batch'])


def batch_sharding(mesh: 'jax.sharding.Mesh') -> 'jax.sharding.NamedSharding':
  """Returns the sharding of arrays whose first axis is the batch."""
  import jax

  return jax.sharding.NamedSharding(mesh, spec(('batch',)))


def replicated(mesh: 'jax.sharding.Mesh') -> 'jax.sharding.NamedSharding':
  """Returns the sharding of arrays that every device has whole."""
  import jax

  return jax.sharding.NamedSharding(mesh, spec(()))


def put_batch(batch: Mapping[str, Any], mesh: 'jax.sharding.Mesh') -> dict:
  """Moves this host's rows to its devices, as its part of the global batch.

  Args:
    batch: Arrays [rows of this host, ...].
    mesh: The mesh.

  Returns:
    Global arrays [rows of all hosts, ...], shared as `batch_sharding` says.

  Raises:
    UserError: The rows do not divide over the mesh.
  """
  import jax

  sharding = batch_sharding(mesh)
  divisor = batch_divisor(mesh)
  for name, rows in batch.items():
    total = len(rows) * jax.process_count()
    if total % divisor:
      raise errors.UserError(
          f'BATCH_SIZE: {name} has {total} rows over all hosts, which the'
          f" mesh's {divisor} parts of the batch cannot share evenly; use a"
          f' multiple of {divisor}.'
      )
  return {
      name: jax.make_array_from_process_local_data(sharding, rows)
      for name, rows in batch.items()
  }
