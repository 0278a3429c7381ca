"""The jitted parts of a run, put together from its settings."""

from collections.abc import Callable
import functools
from typing import Any

from flan_jax import partitioning
from flan_jax.checkpoints import native
from flan_jax.data import packing
from flan_jax.models import interface
from flan_jax.training import memory
from flan_jax.training import parameter_table
from flan_jax.training import settings as settings_lib
from flan_jax.training import state as state_lib
from flan_jax.training import step as step_lib
import jax
import numpy as np


class Trainer:
  """Makes the state of a run and steps it, over a mesh that is in use.

  Attributes:
    model: The model.
    mesh: The mesh.
  """

  def __init__(
      self,
      settings: settings_lib.Train,
      model: interface.Model,
      mesh: jax.sharding.Mesh,
      members: int = 0,
  ):
    """Compiles nothing yet.

    Args:
      settings: What the gin files say.
      model: The model.
      mesh: The mesh, which is in use.
      members: How many members the mixture has, where batches say whose
        examples they hold (`packing.MEMBER_IDS`) and steps are to sum up each.
    """
    self.model = model
    self.mesh = mesh
    self._settings = settings
    stacked = model.stacked()
    self._optimizer = settings.optimizer.create(settings.schedule, stacked)
    self._like = state_lib.abstract(
        model,
        self._optimizer,
        settings.optimizer.state_axes(
            model.abstract_params(), model.logical_axes(), stacked
        ),
        mesh,
    )
    self._config = step_lib.StepConfig(
        seed=settings.random_seed,
        dropout_rng=settings.dropout_rng,
        z_loss=settings.z_loss,
        label_smoothing=settings.label_smoothing,
        loss_normalizing_factor=settings.loss_normalizing_factor,
        num_microbatches=settings.num_microbatches,
        members=members,
        skip_non_finite=settings.on_non_finite == 'skip',
    )

  def parameter_table(self) -> str:
    """Returns the parameters with their shapes and where they lie, as text."""
    return parameter_table.render(self._like.params, self.model.logical_axes())

  def new_state(self) -> state_lib.TrainState:
    """Returns the state before the first step."""
    path = self._settings.initial_checkpoint_path
    if path is None:
      return state_lib.create(
          self.model, self._optimizer, self._like, self._settings.random_seed
      )
    params = native.load_params(path, self.model, self.mesh)
    return state_lib.with_params(self._optimizer, self._like, params)

  def restored(
      self,
      checkpointer: native.Checkpointer,
      step: int,
      reset_optimizer: bool = False,
      say: Callable[[str], None] = print,
  ) -> state_lib.TrainState:
    """Returns the state after `step`.

    Args:
      checkpointer: The run's.
      step: One of its checkpoints.
      reset_optimizer: Whether to take the parameters alone where the checkpoint
        is of another optimizer; this one then starts afresh, but for the
        schedule.
      say: Takes a line about that.

    Raises:
      UserError: The checkpoint is of another model or another optimizer.
    """
    try:
      params, optimizer = checkpointer.restore(
          step, self._like.params, self._like.optimizer
      )
    except native.OtherOptimizer as error:
      if not reset_optimizer:
        raise native.OtherOptimizer(
            f'{error}; the parameters fit: --reset_optimizer goes on with'
            ' them, and with an optimizer that starts afresh'
        ) from error
      say(f'{error}: it starts afresh')
      params = checkpointer.restore_params(step, self._like.params)
      return state_lib.with_params(self._optimizer, self._like, params, step)
    count = jax.device_put(np.int32(step), self._like.step.sharding)
    return state_lib.TrainState(count, params, optimizer)

  def compiled_step(self) -> Any:
    """Returns the train step, compiled for the shapes of all batches."""
    return self.lowered_step().compile()

  def lowered_step(self) -> Any:
    """Returns the train step, traced for the shapes of all batches.

    The mesh may be of devices that are not there, such as those of
    `jax.experimental.topologies`, if it is not in use.
    """
    settings = self._settings
    sharding = partitioning.batch_sharding(self.mesh)
    batch = {
        name: jax.ShapeDtypeStruct(rows.shape, rows.dtype, sharding=sharding)
        for name, rows in packing.empty(
            settings.batch_size,
            settings.task_feature_lengths,
            members=self._config.members > 0,
            form=packing.FORMS[self.model.config.row_format],
        ).items()
    }
    train_step = functools.partial(
        step_lib.train_step,
        model=self.model,
        optimizer=self._optimizer,
        learning_rate=settings.schedule,
        config=self._config,
    )
    jitted = jax.jit(
        train_step,
        donate_argnums=0,
        out_shardings=(
            state_lib.shardings(self._like),
            partitioning.replicated(self.mesh),
        ),
    )
    with partitioning.use(self.mesh):  # Each thread has a mesh of its own.
      return jitted.lower(self._like, batch)

  def memory_table(self, compiled: Any | None) -> str:
    """Returns what a device's memory is to hold, a line a kind.

    Args:
      compiled: What `compiled_step` returned, if it has.
    """
    needed = memory.sizes(self._like, compiled)
    return memory.table(needed, self._settings, self.mesh)

  def eval_step(self) -> Any:
    """Returns the evaluation step, compiled when first called."""
    return jax.jit(
        functools.partial(
            step_lib.eval_step, model=self.model, config=self._config
        )
    )
