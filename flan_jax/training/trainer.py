"""The jitted parts of a run, put together from its settings."""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any

from flan_jax import partitioning
from flan_jax.checkpoints import native
from flan_jax.data import packing
from flan_jax.models import adapters
from flan_jax.models import interface
from flan_jax.models import naming
from flan_jax.training import memory
from flan_jax.training import parameter_table
from flan_jax.training import settings as settings_lib
from flan_jax.training import starts
from flan_jax.training import state as state_lib
from flan_jax.training import step as step_lib
import jax
import numpy as np


class Trainer:
  """Makes the state of a run and steps it, over a mesh that is in use.

  Attributes:
    model: The model, with its adapters if it has some.
    mesh: The mesh.
    split: What of it is trained.
  """

  def __init__(
      self,
      settings: settings_lib.Train,
      model: interface.Model,
      mesh: jax.sharding.Mesh,
      members: int = 0,
      base: str | None = None,
  ):
    """Compiles nothing yet.

    Args:
      settings: What the gin files say.
      model: The model, of `settings.training_model`.
      mesh: The mesh, which is in use.
      members: How many members the mixture has, where batches say whose
        examples they hold (`packing.MEMBER_IDS`) and steps are to sum up each.
      base: The checkpoint to start from; by default as the settings say.
    """
    self.model = model
    self.mesh = mesh
    self._settings = settings
    self._base = base or settings.initial_checkpoint_path
    self.split = adapters.Split(model, settings.trained)
    stacked = self.split.stacked()
    self._optimizer = settings.optimizer.create(settings.schedule, stacked)
    self._like = state_lib.abstract(
        model,
        self._optimizer,
        settings.optimizer.state_axes(
            self.split.trained, self.split.trained_axes, stacked
        ),
        mesh,
        self.split,
    )
    self._frozen_like = partitioning.placed(
        self.split.frozen, self.split.frozen_axes, mesh
    )
    # What is not trained; it is read where a state is made.
    self._frozen: Any = None
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
    return parameter_table.render(
        partitioning.placed(
            self.model.abstract_params(), self.model.logical_axes(), self.mesh
        ),
        self.model.logical_axes(),
        trained=None if self.split.whole else self._like.params,
    )

  def new_state(
      self, say: Callable[[str], None] = print
  ) -> state_lib.TrainState:
    """Returns the state before the first step.

    Args:
      say: Takes a line on what of a checkpoint is not gone on with.
    """
    seed = self._settings.random_seed
    if self._base is None:
      return state_lib.create(self.model, self._optimizer, self._like, seed)
    if self.split.whole:
      params = native.load_params(self._base, self.model, self.mesh)
    else:
      params = self._begin_part(seed)
    state = state_lib.with_params(self._optimizer, self._like, params)
    return starts.continued(self._base, state, self._like, say)

  def _begin_part(self, seed: int) -> Any:
    """Returns what is trained before the first step; keeps what is not."""
    trained, self._frozen = self._read_base()
    # Adapters are all that the base does not have.
    new = jax.jit(
        lambda key: self.split.divide(self.model.init(key))[0],
        out_shardings=state_lib.shardings(self._like.params),
    )(jax.random.key(seed))
    own = naming.flatten(trained)
    return naming.unflatten(
        {n: own.get(n, leaf) for n, leaf in naming.flatten(new).items()}
    )

  def _read_base(self) -> tuple[Any, Any]:
    """Returns the trained and the frozen part of the initial checkpoint."""
    assert self._base is not None
    plain = dataclasses.replace(self.model.config, lora=None)
    model = interface.create(plain)
    like = partitioning.placed(
        self.split.base(), model.logical_axes(), self.mesh
    )
    params = native.load_params(self._base, model, self.mesh, like=like)
    trained, frozen = self.split.divide(params)
    return trained, jax.tree.map(
        lambda array, leaf: array.astype(leaf.dtype), frozen, self._frozen_like
    )

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
    if self._frozen is None and not self.split.whole:
      _, self._frozen = self._read_base()
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
    """Returns the train step, compiled for the shapes of all batches.

    It takes a state, a batch and, where not all is trained, the `frozen` part.
    """
    return self.lowered_step().compile()

  def with_frozen(self, step: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a compiled step as a function of a state and a batch."""
    if self.split.whole:
      return step

    def of_two(state: state_lib.TrainState, batch: Any) -> Any:
      return step(state, batch, self._frozen)

    return of_two

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
        split=self.split,
    )
    jitted = jax.jit(
        train_step,
        donate_argnums=0,
        out_shardings=(
            state_lib.shardings(self._like),
            partitioning.replicated(self.mesh),
        ),
    )
    rest = () if self.split.whole else (self._frozen_like,)
    with partitioning.use(self.mesh):  # Each thread has a mesh of its own.
      return jitted.lower(self._like, batch, *rest)

  def memory_table(self, compiled: Any | None) -> str:
    """Returns what a device's memory is to hold, a line a kind.

    Args:
      compiled: What `compiled_step` returned, if it has.
    """
    needed = memory.sizes(self._like, compiled, self._frozen_like)
    return memory.table(needed, self._settings, self.mesh)

  def eval_step(self) -> Callable[..., Any]:
    """Returns the evaluation step, compiled when first called.

    It takes what is trained, and a batch.
    """
    return self.with_frozen(
        jax.jit(
            functools.partial(
                step_lib.eval_step,
                model=self.model,
                config=self._config,
                split=self.split,
            )
        )
    )
