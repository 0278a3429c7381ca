"""The mesh, and which of its axes share which array axes.

Arrays name their axes ('batch', 'embed', ...); rules say where each name goes:
RULES, unless a run's MeshConfig says otherwise. A name that RULES does not know
is an error: JAX and Flax would silently keep such an array whole on every
device.

The mesh is entered with `use`, which is `jax.set_mesh`: inside `with mesh:`
constraints on activations do nothing on this JAX, without a word.
"""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import functools
import itertools
import math
from typing import Any, TYPE_CHECKING

from flan_jax import errors

if TYPE_CHECKING:
  import jax

AXES = ('data', 'fsdp', 'tensor')

# Logical name -> the mesh axes that share it; () is: every device has all.
# Where two axes of one array want the same mesh axis, the name that is earlier
# here has it, as in T5X; that does not happen under these rules, but may under
# a run's own.
RULES: dict[str, tuple[str, ...]] = {
    'batch': ('data', 'fsdp'),
    # Parameters, and activations that parameters' sharding reaches.
    'heads': ('tensor',),
    'kv_heads': ('tensor',),
    'joined_kv': ('tensor',),
    'mlp': ('tensor',),
    'vocab': ('tensor',),
    'embed': ('fsdp',),
    'relpos_buckets': (),
    'lora_rank': (),
    'positions': (),
    'layers': (),
    # Activations alone. 'hidden' is the residual stream's width, which stays
    # whole because 'fsdp' already shares the batch.
    'length': (),
    'hidden': (),
    'kv': (),
}

# What the run's MeshConfig puts in the place of RULES. It holds for the whole
# process: activations are constrained deep inside models, in whatever thread
# compiles them.
_changed: dict[str, tuple[str, ...]] = {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshConfig:
  """How many devices along each axis of the mesh.

  At most one of the three is -1: all devices that the others leave.

  Attributes:
    data: Each has other rows of the batch and all parameters.
    fsdp: Each has other rows of the batch and a share of the parameters.
    tensor: Each has a share of heads, feed-forward and vocabulary.
    rules: Where logical axes go that are not to go where RULES says: a mesh
      axis, several, or None (every device has all), by name.
  """

  data: int = -1
  fsdp: int = 1
  tensor: int = 1
  rules: Mapping[str, str | Sequence[str] | None] = dataclasses.field(
      default_factory=dict
  )

  def __post_init__(self):
    sizes = self._sizes()
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

    self.changed_rules()

  def _sizes(self) -> dict[str, int]:
    return {name: getattr(self, name) for name in AXES}

  def changed_rules(self) -> dict[str, tuple[str, ...]]:
    """Returns `rules` in the form that RULES has.

    Raises:
      UserError: A logical axis or a mesh axis is unknown.
    """
    if not isinstance(self.rules, Mapping):
      raise errors.UserError(
          "MeshConfig.rules: must be like {'hidden': 'tensor', 'embed':"
          f' None}}, not {self.rules!r}'
      )
    changed = {}
    for name, goal in self.rules.items():
      if name not in RULES:
        raise errors.UserError(
            f'MeshConfig.rules: there is no logical axis {name!r}.'
            + (errors.nearest(str(name), list(RULES)) or _these(RULES))
        )
      if goal is None:
        axes: tuple[Any, ...] = ()
      else:
        axes = (goal,) if isinstance(goal, str) else tuple(goal)
      for axis in axes:
        if axis not in AXES:
          raise errors.UserError(
              f'MeshConfig.rules: {name!r} is to go along {axis!r}, which is no'
              f' axis of the mesh.{_these(AXES)}'
          )
      if len(set(axes)) < len(axes):
        raise errors.UserError(
            f'MeshConfig.rules: {name!r} is to go along {axes} and so along one'
            ' axis twice'
        )
      changed[name] = axes
    return changed

  def shape(self, devices: int) -> tuple[int, int, int]:
    """Returns the mesh's shape over so many devices.

    Raises:
      UserError: The axes' product is not the number of devices.
    """
    sizes = tuple(self._sizes().values())
    fixed = math.prod(size for size in sizes if size != -1)
    if -1 in sizes and devices % fixed == 0:
      return tuple(devices // fixed if n == -1 else n for n in sizes)  # type: ignore[return-value]
    if -1 not in sizes and fixed == devices:
      return sizes  # type: ignore[return-value]
    multiple = 'a multiple of ' if -1 in sizes else ''
    raise errors.UserError(
        f'MeshConfig: {_named(sizes)} needs {multiple}{fixed} devices, and'
        f' there are {devices}; nearest: {_nearest_meshes(sizes, devices)}'
    )


def _named(sizes: Sequence[int]) -> str:
  return ', '.join(
      f'{name}={size}' for name, size in zip(AXES, sizes, strict=True)
  )


def _these(names: Iterable[str]) -> str:
  return f' There are {", ".join(names)}.'


def _nearest_meshes(sizes: Sequence[int], devices: int) -> str:
  """Names the two meshes of all devices that are most like `sizes`."""
  divisors = [n for n in range(1, devices + 1) if devices % n == 0]
  choices = [[-1] if size == -1 else divisors for size in sizes]

  def unlike(mesh: tuple[int, ...]) -> tuple[int, float]:
    # Few axes are to change, and those not by much.
    pairs = [(a, b) for a, b in zip(sizes, mesh, strict=True) if a != b]
    return len(pairs), sum(abs(math.log(a / b)) for a, b in pairs)

  valid = [
      mesh
      for mesh in itertools.product(*choices)
      if -1 in mesh
      and devices % -math.prod(mesh) == 0
      or math.prod(mesh) == devices
  ]
  return ' or '.join(f'({_named(m)})' for m in sorted(valid, key=unlike)[:2])


def nearest_multiples(value: int, divisor: int) -> str:
  """Returns the multiples of `divisor` on either side of `value`, as words."""
  below = value // divisor * divisor
  return f'{below} or {below + divisor}' if below else f'{divisor}'


def make_mesh(
    config: MeshConfig | None = None,
    devices: Sequence['jax.Device'] | None = None,
) -> 'jax.sharding.Mesh':
  """Returns a mesh with the axes 'data', 'fsdp' and 'tensor'.

  From here on the rules of `config` hold, in the whole process.

  Args:
    config: Its shape and rules; by default all devices are along 'data'.
    devices: What it is made of; by default all devices of all hosts.

  Raises:
    UserError: `config` does not fit the number of devices.
  """
  import jax
  from jax.experimental import mesh_utils

  if devices is None:
    devices = jax.devices()
  config = config or MeshConfig()
  shape = config.shape(len(devices))
  if config.changed_rules() != _changed:
    _changed.clear()
    _changed.update(config.changed_rules())
    jax.clear_caches()  # What was traced is constrained by the rules before.
  # It lays neighbours on a TPU's torus side by side, 'tensor' innermost.
  # Axes that are no product of the torus's own axes are laid across them.
  array = mesh_utils.create_device_mesh(
      shape, list(devices), allow_split_physical_axes=True
  )
  # Mesh() and not jax.make_mesh(): the latter makes Explicit axes, under which
  # every operation must say how its result is shared.
  return jax.sharding.Mesh(array, AXES)


def use(mesh: 'jax.sharding.Mesh'):
  """Returns the context in which constraints refer to `mesh`."""
  import jax

  return jax.set_mesh(mesh)


def _axes(names: Sequence[str | None]) -> list[tuple[str, ...]]:
  """Returns the mesh axes that share each axis of an array.

  Raises:
    ValueError: RULES does not have a name.
  """
  for name in names:
    if name is not None and name not in RULES:
      raise ValueError(
          f'partitioning.RULES has no logical axis {name!r}.'
          f'{errors.nearest(name, list(RULES))}'
      )
  order = list(RULES)
  found: list[tuple[str, ...]] = [()] * len(names)
  taken: set[str] = set()
  for place, name in sorted(
      ((p, n) for p, n in enumerate(names) if n is not None),
      key=lambda pair: order.index(pair[1]),
  ):
    wanted = _changed.get(name, RULES[name])
    found[place] = tuple(axis for axis in wanted if axis not in taken)
    taken.update(found[place])
  return found


def spec(names: Sequence[str | None]) -> 'jax.sharding.PartitionSpec':
  """Returns where an array goes whose axes have these names.

  Args:
    names: A logical name for each axis; None is: whole on every device.

  Raises:
    ValueError: RULES does not have a name.
  """
  # Not `from jax.sharding import`: this runs in threads, while others import
  # libraries that make imports lazy, and would get a module of that name.
  import jax

  return jax.P(
      *(axes[0] if len(axes) == 1 else axes or None for axes in _axes(names))
  )


def constrain(x: 'jax.Array', names: Sequence[str | None]) -> 'jax.Array':
  """Fixes where an activation goes, inside `use(mesh)`; else returns it as is.

  The names are checked with a mesh or without. An axis of one entry stays
  whole, as the length of what is decoded token by token; the batch's does not.

  Raises:
    ValueError: A name is not in RULES, or there are more or fewer than axes.
    UserError: An axis does not divide over the mesh.
  """
  import jax

  if len(names) != x.ndim:
    raise ValueError(f'{tuple(names)} names {len(names)} axes of {x.shape}.')
  partition = spec(names)  # Knows all names.
  if 1 in x.shape:
    names = [
        None if size == 1 and name != 'batch' else name
        for name, size in zip(names, x.shape, strict=True)
    ]
    partition = spec(names)
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
  for name, size, axes in zip(names, shape, _axes(names), strict=True):
    parts = math.prod(mesh_shape[axis] for axis in axes)
    if size % parts:
      product = ' x '.join(f'{axis}={mesh_shape[axis]}' for axis in axes)
      what = 'the batch' if name == 'batch' else f'the axis {name!r}'
      fix = (
          f'use a multiple of {parts} rows, such as'
          f' {nearest_multiples(size, parts)}'
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


def placed(abstract: Any, logical_axes: Any, mesh: 'jax.sharding.Mesh') -> Any:
  """Returns a tree of `jax.ShapeDtypeStruct` with shardings.

  Args:
    abstract: The tree without.
    logical_axes: The same tree of tuples of logical names.
    mesh: The mesh.

  Raises:
    ValueError, UserError: As `shardings`.
  """
  import jax

  return jax.tree.map(
      lambda leaf, sharding: jax.ShapeDtypeStruct(
          leaf.shape, leaf.dtype, sharding=sharding
      ),
      abstract,
      shardings(mesh, logical_axes, abstract),
  )


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
  (axes,) = _axes(('batch',))
  return math.prod(shape.get(axis, 1) for axis in axes)


def batch_sharding(mesh: 'jax.sharding.Mesh') -> 'jax.sharding.NamedSharding':
  """Returns the sharding of arrays whose first axis is the batch."""
  import jax

  return jax.sharding.NamedSharding(mesh, spec(('batch',)))


def replicated(mesh: 'jax.sharding.Mesh') -> 'jax.sharding.NamedSharding':
  """Returns the sharding of arrays that every device has whole."""
  import jax

  return jax.sharding.NamedSharding(mesh, spec(()))


def host_share(mesh: 'jax.sharding.Mesh') -> tuple[int, int]:
  """Returns which part of each batch this host reads, and of how many.

  Each host reads what its own devices hold. So hosts between which an axis
  lies that does not share the batch ('tensor') read the same part.

  Raises:
    UserError: Two hosts would have some rows in common, but not all.
  """
  shares, own = _host_shares(batch_sharding(mesh), batch_divisor(mesh))
  if sum(map(len, shares)) > batch_divisor(mesh):
    raise errors.UserError(
        f'MeshConfig: {_named([mesh.shape[axis] for axis in AXES])}: some hosts'
        ' would hold some rows of a batch in common, but not all; take a tensor'
        ' that divides the devices of a host, or that they divide'
    )
  return shares.index(own), len(shares)


@functools.cache
def _host_shares(
    sharding: 'jax.sharding.NamedSharding', divisor: int
) -> tuple[list[tuple[int, ...]], tuple[int, ...]]:
  """Returns the different sets of batch parts that hosts hold, and our own."""
  import jax

  held: dict[int, set[int]] = {}
  device: Any
  for device, (part,) in sharding.devices_indices_map((divisor,)).items():
    held.setdefault(device.process_index, set()).update(
        range(*part.indices(divisor))
    )
  own = tuple(sorted(held[jax.process_index()]))
  return sorted({tuple(sorted(parts)) for parts in held.values()}), own


def put_batch(batch: Mapping[str, Any], mesh: 'jax.sharding.Mesh') -> dict:
  """Moves this host's rows to its devices, as its part of the global batch.

  Args:
    batch: Arrays [rows of this host, ...]: the part that `host_share` says.
    mesh: The mesh.

  Returns:
    Global arrays [rows of all hosts, ...], shared as `batch_sharding` says.

  Raises:
    UserError: The rows do not divide over the mesh.
  """
  import jax

  sharding = batch_sharding(mesh)
  divisor = batch_divisor(mesh)
  _, shares = host_share(mesh)
  for name, rows in batch.items():
    total = len(rows) * shares
    if total % divisor:
      raise errors.UserError(
          f'BATCH_SIZE: {name} has {total} rows over all hosts, which the'
          f" mesh's {divisor} parts of the batch cannot share evenly; nearest:"
          f' {nearest_multiples(total, divisor)}'
      )
  return {
      name: jax.make_array_from_process_local_data(
          sharding, rows, (len(rows) * shares, *rows.shape[1:])
      )
      for name, rows in batch.items()
  }
