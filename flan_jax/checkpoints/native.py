"""Our own checkpoints: Orbax, T5X's parameter names, the data position inside.

    MODEL_DIR/checkpoint_<step>/params      arrays, one entry a layer
                               /optimizer   arrays, named after the parameters
                               /position    JSON: the step, the data position,
                                           the step's numbers

Random numbers follow from the seed and the step. A checkpoint is written under
a temporary name and renamed when it is complete (in a bucket: is marked then),
so a crash or a full disk leaves the earlier ones as they were.
"""

from collections.abc import Callable, Mapping
import contextlib
import dataclasses
import functools
import os
import pathlib
from typing import Any, TypeVar

from flan_jax import errors
from flan_jax import hosts
from flan_jax import partitioning
from flan_jax import storage
from flan_jax import vocabularies
from flan_jax.checkpoints import adapted
from flan_jax.checkpoints import bases
from flan_jax.checkpoints import failures
from flan_jax.checkpoints import integrity
from flan_jax.checkpoints import layout
from flan_jax.checkpoints import places
from flan_jax.checkpoints import reading
from flan_jax.checkpoints import retention
from flan_jax.checkpoints import runs
from flan_jax.checkpoints import sharded
from flan_jax.models import config as model_configs
from flan_jax.models import interface
from flan_jax.models import naming
import jax
from jax.experimental import multihost_utils
import numpy as np
import orbax.checkpoint as ocp

# Where training stands in its data, fit for JSON.
Position = dict[str, Any]

OtherOptimizer = reading.OtherOptimizer
Unreadable = reading.Unreadable

_PARAMS, _OPTIMIZER = integrity.ARRAYS
_POSITION = integrity.POSITION
_T = TypeVar('_T')


class Checkpointer:
  """Writes and reads the checkpoints of one run.

  Writing goes on in the background: `save` returns once the arrays are copied.
  """

  def __init__(
      self,
      directory: str | os.PathLike[str],
      keep: int | retention.Retention,
      merge: Callable[[list[Position]], Position] | None = None,
  ):
    """Opens a MODEL_DIR, and clears away what an interrupted write left there.

    Args:
      directory: The MODEL_DIR.
      keep: Which checkpoints stay, or how many of the newest; checkpoint_0,
        the untuned model, stays beside them.
      merge: Makes one data position of those of all hosts; needed only where
        there are several.
    """
    self._directory = storage.absolute(storage.path(directory))
    self._merge = merge
    self._quiet = failures.Quiet()
    self._quiet.begin()
    self._flatten = jax.jit(
        lambda trees: {
            name: naming.unflatten(layout.flatten(tree))
            for name, tree in trees.items()
        }
    )
    self._policy = retention.Policy(
        retention.Retention(newest=keep) if isinstance(keep, int) else keep
    )
    if self._policy.retention.best:
      self._policy.numbers.update(_numbers(self._directory))
    self._manager = ocp.CheckpointManager(
        self._directory,
        item_names=(_PARAMS, _OPTIMIZER, _POSITION),
        options=ocp.CheckpointManagerOptions(
            step_prefix=runs.PREFIX,
            preservation_policy=self._policy,
            cleanup_tmp_directories=True,
            # The name itself says that a checkpoint is complete, on every
            # file system; a bucket renames nothing in one go.
            atomicity_options=ocp.options.AtomicityOptions(
                mode=ocp.options.AtomicityMode.COMMIT_FILE
                if storage.is_address(self._directory)
                else ocp.options.AtomicityMode.ATOMIC_RENAME
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
      numbers: Mapping[str, float] | None = None,
      block: bool = False,
  ) -> None:
    """Writes a checkpoint, after the one that is being written.

    Args:
      step: Its step.
      params: The parameters.
      optimizer: The optimizer's state.
      position: This host's data position after that step, fit for JSON.
      numbers: The step's record, by which the best checkpoints are kept.
      block: Whether to wait until it is complete.

    Raises:
      UserError: This checkpoint, or the one before it, could not be written
        (a full disk); or the metric that best checkpoints are kept by is not
        among the numbers.
    """
    numbers = dict(numbers or {})
    self._policy.numbers[step] = numbers
    with _one_line(self._directory, self._quiet):
      self._manager.wait_until_finished()
      trees = self._flatten({_PARAMS: params, _OPTIMIZER: optimizer})
      args = {name: ocp.args.PyTreeSave(tree) for name, tree in trees.items()}
      self._manager.save(
          step,
          args=ocp.args.Composite(
              **args,
              **{
                  _POSITION: ocp.args.JsonSave({
                      'step': step,
                      'data': self._whole(position),
                      'numbers': numbers,
                  })
              },
          ),
          force=True,
      )
      if block:
        self._manager.wait_until_finished()
    if numbers:
      self._policy.retention.check(step, numbers)

  def _whole(self, position: Position) -> Position:
    """Returns the position of all hosts together."""
    if jax.process_count() == 1:
      return position
    if self._merge is None:
      raise ValueError('Several hosts have positions, and none merges them.')
    return self._merge(hosts.gather(position))

  def newest(
      self, attempt: Callable[[int], _T], say: Callable[[str], None]
  ) -> _T | None:
    """Returns what `attempt` makes of the newest checkpoint it can read.

    Newer ones, which it could not, get another name ('broken_checkpoint_8'):
    the run will write those steps again. Nothing is deleted.

    Args:
      attempt: Reads the checkpoint of a step; on several hosts, all of them
        read the same one.
      say: Takes a line about each checkpoint that is passed over.

    Returns:
      None if there is no checkpoint.

    Raises:
      UserError: There are checkpoints, and none can be read; or `attempt`
        raised one that is not `Unreadable`.
    """
    faults: dict[int, str] = {}
    for step in reversed(self.steps()):
      found, why = attempted(
          runs.step_path(self._directory, step),
          functools.partial(attempt, step),
      )
      if why is None:
        self._set_aside(faults, step, say)
        return found
      faults[step] = why
    if faults:
      raise errors.UserError(
          f'{self._directory}: no checkpoint can be read ('
          + '; '.join(
              f'{runs.PREFIX}_{step}: {why}' for step, why in faults.items()
          )
          + ')'
      )
    return None

  def _set_aside(
      self, faults: Mapping[int, str], step: int, say: Callable[[str], None]
  ) -> None:
    """Renames broken checkpoints, and forgets them; says so."""
    if not faults:
      return
    for broken, why in faults.items():
      path = runs.step_path(self._directory, broken)
      if jax.process_index() == 0:
        say(
            f'warning: {path} cannot be read ({why}); it is now'
            f' {runs.set_aside(path).name}, and {runs.PREFIX}_{step} is used'
        )
    if jax.process_count() > 1:
      multihost_utils.sync_global_devices('broken checkpoints set aside')
    self._manager.reload()

  def position(self, step: int) -> Position:
    """Returns the data position that was saved with `step`.

    Raises:
      Unreadable: It is missing or broken.
    """
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
      UserError: An array has another shape than the model's; it is an
        `OtherOptimizer` where the parameters fit, and `Unreadable` where the
        checkpoint is broken.
    """
    path = runs.step_path(self._directory, step)
    reading.check(path / _PARAMS, params)
    reading.check(path / _OPTIMIZER, optimizer, OtherOptimizer)
    return (
        reading.restore(path / _PARAMS, params),
        reading.restore(path / _OPTIMIZER, optimizer),
    )

  def restore_params(self, step: int, params: Any) -> Any:
    """Reads a checkpoint's parameters alone.

    Raises:
      UserError: As `restore`.
    """
    path = runs.step_path(self._directory, step) / _PARAMS
    reading.check(path, params)
    return reading.restore(path, params)

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


def attempted(
    checkpoint: pathlib.Path, attempt: Callable[[], _T]
) -> tuple[_T | None, str | None]:
  """Returns what was read, or why it could not be.

  Args:
    checkpoint: Where it is read from.
    attempt: Reads it; on several hosts, all of them read the same one.

  Raises:
    UserError: `attempt` raised one that is not `Unreadable`.
  """
  if jax.process_count() == 1:
    try:
      return attempt(), None
    except Unreadable as error:
      return None, error.why
  # Hosts that read wait for each other, so all must know beforehand.
  why = places.fault(checkpoint, jax.process_index(), jax.process_count())
  broken = multihost_utils.process_allgather(np.array(why is not None))
  if not broken.any():
    return attempt(), None
  return None, why or f'host {broken.argmax()} cannot read it'


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
  """Returns the data position that a run saved with a step.

  Raises:
    Unreadable: It is missing or broken.
  """
  path = runs.step_path(directory, step)
  with reading.readable(path / _POSITION):
    return integrity.read_position(path)['data']


def load_model(
    path: str | os.PathLike[str],
    mesh: jax.sharding.Mesh | None = None,
    model_config: model_configs.ModelConfig | None = None,
    use_ema: bool = False,
    known: adapted.Bases | None = None,
) -> Loaded:
  """Loads a model.

  Args:
    path: A MODEL_DIR (its newest checkpoint), MODEL_DIR/checkpoint_<step>, or a
      checkpoint in one of the other formats (`formats`).
    mesh: Where the parameters go; by default all devices, along 'data'.
    model_config: The model that is expected; by default the run's own.
    use_ema: Whether to take the moving average of the parameters.
    known: Where a base is kept from one run of adapters to the next.

  Raises:
    UserError: There is no such checkpoint (those that exist are named), it
      keeps no average, or it belongs to another model than `model_config` (the
      first parameter that differs is named, with both shapes).
  """
  place = places.locate(path)
  model = interface.create(model_config or place.config())
  mesh = mesh or partitioning.make_mesh()
  return Loaded(
      model=model,
      params=load_params(path, model, mesh, use_ema, known=known),
      vocabulary=place.vocabulary(),
      lengths=dict(place.run['lengths']),
      run=place.run,
      step=place.step,
  )


def load_params(
    path: str | os.PathLike[str],
    model: interface.Model,
    mesh: jax.sharding.Mesh,
    use_ema: bool = False,
    *,
    like: Any = None,
    known: adapted.Bases | None = None,
) -> Any:
  """Loads a checkpoint's parameters into `model`'s tree, sharded over `mesh`.

  Args:
    path: As for `load_model`.
    model: The model.
    mesh: Where they go.
    use_ema: Whether to take the average of those that have one; those that
      were frozen have none, and need none.
    like: The parameters' shapes, dtypes and shardings; by default as
      `abstract_params` says.
    known: Where a base is kept from one run of adapters to the next.

  Raises:
    UserError: As `load_model`; or a base of adapters is not what it was.
  """
  place = places.locate(path)
  folder = place.folder
  adapter = bases.Adapter.of_run(place.run, place.directory)
  if adapter is not None:
    at, known = adapter.base, known or adapted.Bases()
    params = adapted.load(
        folder,
        adapter,
        model,
        mesh,
        use_ema,
        lambda: known.params(at, lambda at: load_params(at, model, mesh)),
    )
    return params if like is None else _as(params, like)
  like = like or abstract_params(model, mesh)
  if not place.native:
    if use_ema:
      raise errors.UserError(f'{folder}: keeps no average of the parameters')
    return sharded.load(place.source, model, like)
  reading.check(folder / _PARAMS, like)
  if not use_ema:
    return reading.restore(folder / _PARAMS, like)
  return adapted.averaged(folder, like)


def abstract_params(model: interface.Model, mesh: jax.sharding.Mesh) -> Any:
  """Returns the parameters' shapes, dtypes and shardings over `mesh`.

  Raises:
    UserError: A size does not divide over the mesh.
  """
  return partitioning.placed(
      model.abstract_params(), model.logical_axes(), mesh
  )


def _as(params: Any, like: Any) -> Any:
  """Returns arrays in the dtypes and shardings of `like`."""
  return jax.jit(
      lambda tree: jax.tree.map(
          lambda array, leaf: array.astype(leaf.dtype), tree, like
      ),
      out_shardings=jax.tree.map(lambda leaf: leaf.sharding, like),
  )(params)


def _numbers(directory: pathlib.Path) -> dict[int, Mapping[str, float]]:
  """Returns the numbers that each checkpoint was saved with."""
  found = {}
  for step in runs.steps(directory):
    # A broken one is none of the best; who reads it will say so.
    with contextlib.suppress(OSError, ValueError):
      saved = integrity.read_position(runs.step_path(directory, step))
      found[step] = saved.get('numbers', {})
  return found


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
