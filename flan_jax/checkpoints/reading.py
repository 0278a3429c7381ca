"""Reads one item of a checkpoint: what fits is read, the rest has a name."""

from collections.abc import Iterable, Iterator, Mapping
import contextlib
import pathlib
from typing import Any

from flan_jax import errors
from flan_jax import storage
from flan_jax.checkpoints import integrity
from flan_jax.checkpoints import layout
from flan_jax.models import naming
import jax
import orbax.checkpoint as ocp


class OtherModel(errors.UserError):
  """The parameters are of another model."""

  whose = 'model'


class OtherOptimizer(errors.UserError):
  """The state is of another optimizer."""

  whose = 'optimizer'


class Unreadable(errors.UserError):
  """A checkpoint is broken.

  Attributes:
    why: Half a sentence such as 'params: files are cut short'.
  """

  def __init__(self, path: pathlib.Path, why: str):
    super().__init__(
        f'{path.parent}: cannot be read ({why}); name an earlier checkpoint'
    )
    self.why = why


@contextlib.contextmanager
def readable(path: pathlib.Path) -> Iterator[None]:
  """Turns whatever a broken item of a checkpoint leads to into `Unreadable`.

  Orbax and tensorstore raise errors of many kinds. Those that say nothing of
  the checkpoint are left as they are: there is no memory, the user is at fault.
  """
  try:
    yield
  except (errors.UserError, MemoryError, jax.errors.JaxRuntimeError):
    raise
  except Exception as error:
    raise Unreadable(path, integrity.reason(path.name, error)) from error


def check(
    path: pathlib.Path,
    tree: Any,
    other: type[OtherModel | OtherOptimizer] = OtherModel,
) -> None:
  """Compares an item's arrays with those of `tree`.

  Args:
    path: The item.
    tree: Of `jax.ShapeDtypeStruct`.
    other: What to raise where they differ.

  Raises:
    UserError: `other`, which names the first array that does not fit; or
      `Unreadable`.
  """
  differing = _difference(names(path), layout.flatten(tree), other.whose)
  if differing is not None:
    raise other(f'{path}: belongs to another {other.whose}: {differing}')


def restore(path: pathlib.Path, tree: Any) -> Any:
  """Reads an item that fits.

  Args:
    path: The item.
    tree: Of `jax.ShapeDtypeStruct` with shardings: where the arrays go.

  Raises:
    Unreadable: It is broken.
  """
  return stacked(restore_named(path, layout.flatten(tree)), tree)


def names(path: pathlib.Path) -> dict[str, tuple[int, ...]]:
  """Returns the shapes of an item's arrays by name.

  Raises:
    Unreadable: It is broken.
  """
  with readable(path):
    handler = ocp.PyTreeCheckpointHandler()
    saved = naming.flatten(handler.metadata(storage.absolute(path)).tree)
    return {name: tuple(leaf.shape) for name, leaf in saved.items()}


def restore_named(
    path: pathlib.Path, wanted: Mapping[str, jax.ShapeDtypeStruct]
) -> dict[str, jax.Array]:
  """Reads some arrays of an item, which it has, by their names.

  Raises:
    Unreadable: It is broken.
  """
  nested = naming.unflatten(wanted)
  with readable(path):
    read = ocp.Checkpointer(ocp.PyTreeCheckpointHandler()).restore(
        storage.absolute(path),
        args=ocp.args.PyTreeRestore(
            item=nested,
            restore_args=ocp.checkpoint_utils.construct_restore_args(nested),
            partial_restore=True,
        ),
    )
  return naming.flatten(read)


def stacked(flat: Mapping[str, jax.Array], tree: Any) -> Any:
  """Returns `tree` of the arrays of these names, sharded as it says."""
  stack = jax.jit(
      lambda flat: layout.unflatten(flat, tree),
      out_shardings=jax.tree.map(lambda leaf: leaf.sharding, tree),
  )
  return stack(flat)


def _difference(
    saved: Mapping[str, tuple[int, ...]],
    wanted: Mapping[str, jax.ShapeDtypeStruct],
    whose: str,
) -> str | None:
  """Names the first array that does not fit."""
  for name, leaf in wanted.items():
    if name not in saved:
      return f'{name} {_shape(leaf.shape)} is not in it'
    if saved[name] != tuple(leaf.shape):
      return (
          f'{name} is {_shape(saved[name])} there and {_shape(leaf.shape)} in'
          f' the {whose} asked for'
      )
  for name, shape in saved.items():
    if name not in wanted:
      return f'it has {name} {_shape(shape)}, and the {whose} asked for has not'
  return None


def _shape(shape: Iterable[int]) -> str:
  return '[' + ', '.join(map(str, shape)) + ']'
