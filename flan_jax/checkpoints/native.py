"""Our own checkpoints: Orbax, T5X's parameter names, the data position inside.

    MODEL_DIR/checkpoint_<step>/params      arrays, one entry a layer
                               /optimizer   arrays, named after the parameters
                               /position    JSON: the step, the data position

A checkpoint is written under a temporary name and renamed when it is complete,
so a crash or a full disk leaves the earlier ones as they were.
"""

from collections.abc import Callable, Iterable, Mapping
import contextlib
import dataclasses
import json
import os
import pathlib
from typing import Any

from flan_jax import errors
from flan_jax import partitioning
from flan_jax import vocabularies
from flan_jax.checkpoints import failures
from flan_jax.checkpoints import layout
from flan_jax.checkpoints import runs
from flan_jax.models import config as model_configs
from flan_jax.models import interface
from flan_jax.models import naming
import jax
from jax.experimental import multihost_utils
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

# Where training stands in its data, fit for JSON.
Position = dict[str, Any]

_PARAMS = 'params'
_OPTIMIZER = 'optimizer'
_POSITION = 'position'


class Checkpointer:
  """Writes and reads the checkpoints of one run.

  Writing goes on in the background: `save` returns once the arrays are copied.
  """

  def __init__(
      self,
      directory: str | os.PathLike[str],
      keep: int,
      merge: Callable[[list[Position]], Position] | None = None,
  ):
    """Opens a MODEL_DIR, and clears away what an interrupted write left there.

    Args:
      directory: The MODEL_DIR.
      keep: How many checkpoints stay; checkpoint_0, the untuned model, stays
        beside them.
      merge: Makes one data position of those of all hosts; needed only where
        there are several.
    """
    self._directory = pathlib.Path(directory).absolute()
    self._merge = merge
    self._quiet = failures.Quiet()
    self._quiet.begin()
    self._flatten = jax.jit(
        lambda trees: {
            name: naming.unflatten(layout.flatten(tree))
            for name, tree in trees.items()
        }
    )
    self._manager = ocp.CheckpointManager(
        self._directory,
        item_names=(_PARAMS, _OPTIMIZER, _POSITION),
        options=ocp.CheckpointManagerOptions(
            step_prefix=runs.PREFIX,
            preservation_policy=checkpoint_managers.AnyPreservationPolicy([
                checkpoint_managers.LatestN(keep),
                checkpoint_managers.CustomSteps([0]),
            ]),
            cleanup_tmp_directories=True,
            # The name itself says that a checkpoint is complete, on every
            # file system.
            atomicity_options=ocp.options.AtomicityOptions(
                mode=ocp.options.AtomicityMode.ATOMIC_RENAME
            ),
        ),
    )

  def steps(self) -> list[int]:
    """Returns the steps of the complete checkpoints, ascending."""
    return runs.steps(self._directory)

  def latest_step(self) -> int | None:
    """Returns the newest complete checkpoint's step, None if there is none."""
    known = self.steps()
    return known[-1] if known else None

  def save(
      self,
      step: int,
      params: Any,
      optimizer: Any,
      position: Position,
      block: bool = False,
  ) -> None:
    """Writes a checkpoint, after the one that is being written.

    Args:
      step: Its step.
      params: The parameters.
      optimizer: The optimizer's state.
      position: This host's data position after that step, fit for JSON.
      block: Whether to wait until it is complete.

    Raises:
      UserError: This checkpoint, or the one before it, could not be written
        (a full disk).
    """
    with _one_line(self._directory, self._quiet):
      self._manager.wait_until_finished()
      trees = self._flatten({_PARAMS: params, _OPTIMIZER: optimizer})
      args = {name: ocp.args.PyTreeSave(tree) for name, tree in trees.items()}
      self._manager.save(
          step,
          args=ocp.args.Composite(
              **args,
              **{
                  _POSITION: ocp.args.JsonSave(
                      {'step': step, 'data': self._whole(position)}
                  )
              },
          ),
          force=True,
      )
      if block:
        self._manager.wait_until_finished()

  def _whole(self, position: Position) -> Position:
    """Returns the position of all hosts together."""
    if jax.process_count() == 1:
      return position
    if self._merge is None:
      raise ValueError('Several hosts have positions, and none merges them.')
    text = np.frombuffer(json.dumps(position).encode(), np.uint8)
    lengths = multihost_utils.process_allgather(np.array(len(text)))
    padded = np.zeros(lengths.max(), np.uint8)
    padded[: len(text)] = text
    rows = multihost_utils.process_allgather(padded)
    return self._merge([
        json.loads(row[:length].tobytes())
        for row, length in zip(rows, lengths.ravel(), strict=True)
    ])

  def position(self, step: int) -> Position:
    """Returns the data position that was saved with `step`."""
    return read_position(self._directory, step)

  def restore(self, step: int, params: Any, optimizer: Any) -> tuple[Any, Any]:
    """Reads a checkpoint, onto whatever mesh is asked for.

    Args:
      step: One of `steps()`.
      params: The parameters' tree of `jax.ShapeDtypeStruct`, with shardings.
      optimizer: The same for the optimizer's state.

    Returns:
      Parameters and optimizer state.

    Raises:
      UserError: An array has another shape than the model's.
    """
    path = runs.step_path(self._directory, step)
    return (
        _restore(path / _PARAMS, params),
        _restore(path / _OPTIMIZER, optimizer),
    )

  def wait(self) -> None:
    """Waits until the checkpoint that is being written is complete.

    Raises:
      UserError: It could not be written.
    """
    with _one_line(self._directory, self._quiet):
      self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits, and stops the background threads.

    Raises:
      UserError: The last checkpoint could not be written.
    """
    try:
      with _one_line(self._directory, self._quiet):
        self._manager.close()
    finally:
      self._quiet.end()

  def __enter__(self) -> 'Checkpointer':
    return self

  def __exit__(self, *_: Any) -> None:
    self.close()


@dataclasses.dataclass(frozen=True)
class Loaded:
  """A trained model, ready to be used.

  Attributes:
    model: The model.
    params: Its parameters, float32, on the mesh asked for.
    vocabulary: Its vocabulary.
    lengths: Tokens of 'inputs' and 'targets' in training.
    run: What run.json says.
    step: The checkpoint's step.
  """

  model: interface.Model
  params: Any
  vocabulary: vocabularies.Vocabulary
  lengths: dict[str, int]
  run: dict[str, Any]
  step: int


def read_position(directory: str | os.PathLike[str], step: int) -> Position:
  """Returns the data position that a run saved with a step."""
  path = runs.step_path(directory, step) / _POSITION
  return ocp.Checkpointer(ocp.JsonCheckpointHandler()).restore(path)['data']


def load_model(
    path: str | os.PathLike[str],
    mesh: jax.sharding.Mesh | None = None,
    model_config: model_configs.EncoderDecoderConfig | None = None,
) -> Loaded:
  """Loads a model from a run.

  Args:
    path: A MODEL_DIR (its newest checkpoint) or MODEL_DIR/checkpoint_<step>.
    mesh: Where the parameters go; by default all devices, along 'data'.
    model_config: The model that is expected; by default the run's own.

  Raises:
    UserError: There is no such checkpoint (those that exist are named), or it
      belongs to another model than `model_config` (the first parameter that
      differs is named, with both shapes).
  """
  directory, step = runs.locate(path)
  run = runs.read(directory)
  config = model_config or runs.read_model(directory)
  model = interface.create(config)
  mesh = mesh or partitioning.make_mesh()
  return Loaded(
      model=model,
      params=load_params(path, model, mesh),
      vocabulary=runs.read_vocabulary(directory),
      lengths=dict(run['lengths']),
      run=run,
      step=step,
  )


def load_params(
    path: str | os.PathLike[str],
    model: interface.Model,
    mesh: jax.sharding.Mesh,
) -> Any:
  """Loads a checkpoint's parameters into `model`'s tree, sharded over `mesh`.

  Raises:
    UserError: As `load_model`.
  """
  directory, step = runs.locate(path)
  return _restore(
      runs.step_path(directory, step) / _PARAMS,
      abstract_params(model, mesh),
  )


def abstract_params(model: interface.Model, mesh: jax.sharding.Mesh) -> Any:
  """Returns the parameters' shapes, dtypes and shardings over `mesh`.

  Raises:
    UserError: A size does not divide over the mesh.
  """
  abstract = model.abstract_params()
  return jax.tree.map(
      lambda leaf, sharding: jax.ShapeDtypeStruct(
          leaf.shape, leaf.dtype, sharding=sharding
      ),
      abstract,
      partitioning.shardings(mesh, model.logical_axes(), abstract),
  )


def _restore(path: pathlib.Path, tree: Any) -> Any:
  """Reads one item of a checkpoint as `tree` describes it."""
  wanted = layout.flatten(tree)
  checkpointer = ocp.Checkpointer(ocp.PyTreeCheckpointHandler())
  handler = ocp.PyTreeCheckpointHandler()
  saved = naming.flatten(handler.metadata(path.absolute()).tree)
  _compare(path, {name: leaf.shape for name, leaf in saved.items()}, wanted)
  nested = naming.unflatten(wanted)
  flat = naming.flatten(
      checkpointer.restore(
          path.absolute(),
          args=ocp.args.PyTreeRestore(
              item=nested,
              restore_args=ocp.checkpoint_utils.construct_restore_args(nested),
          ),
      )
  )
  stack = jax.jit(
      lambda flat: layout.unflatten(flat, tree),
      out_shardings=jax.tree.map(lambda leaf: leaf.sharding, tree),
  )
  return stack(flat)


def _compare(
    path: pathlib.Path,
    saved: Mapping[str, tuple[int, ...]],
    wanted: Mapping[str, jax.ShapeDtypeStruct],
) -> None:
  """Raises a UserError that names the first array that does not fit."""
  for name, leaf in wanted.items():
    if name not in saved:
      raise errors.UserError(
          f'{path}: belongs to another model: {name} {_shape(leaf.shape)} is'
          ' not in it'
      )
    if tuple(saved[name]) != tuple(leaf.shape):
      raise errors.UserError(
          f'{path}: belongs to another model: {name} is {_shape(saved[name])}'
          f' there and {_shape(leaf.shape)} in the model asked for'
      )
  extra = _first(name for name in saved if name not in wanted)
  if extra is not None:
    raise errors.UserError(
        f'{path}: belongs to another model: it has {extra}'
        f' {_shape(saved[extra])}, and the model asked for has not'
    )


def _first(names: Iterable[str]) -> str | None:
  return next(iter(names), None)


def _shape(shape: Iterable[int]) -> str:
  return '[' + ', '.join(map(str, shape)) + ']'


@contextlib.contextmanager
def _one_line(directory: pathlib.Path, quiet: failures.Quiet):
  """Makes one line of what goes wrong while a checkpoint is written."""
  try:
    yield
  except Exception as error:  # Orbax passes on what each file system raises.
    quiet.stay()
    known = [f'{runs.PREFIX}_{step}' for step in runs.steps(directory)]
    kept = f'{known[-1]} is complete' if known else 'none is complete'
    raise errors.UserError(
        f'{directory}: a checkpoint could not be written'
        f' ({failures.reason(error)}); {kept}'
    ) from error
