"""Trains a model on a mixture; goes on where it stopped.

    flan-jax train --gin_file=gin/examples/mini.gin --gin.MODEL_DIR=runs/mini

The settings are in training/settings.py; gin/runs/train.gin gives them T5X's
names.
"""

import argparse
from collections.abc import Callable
from concurrent import futures
import contextlib
import dataclasses
import functools
import sys
import time
from typing import Any, TYPE_CHECKING

import flan_jax
from flan_jax import compilation
from flan_jax import configuration
from flan_jax import errors
from flan_jax import heap
from flan_jax import hosts as hosts_lib
from flan_jax import library_log
from flan_jax import partitioning
from flan_jax import paths
from flan_jax import run_folder
from flan_jax import storage
from flan_jax import training_data
from flan_jax.checkpoints import integrity
from flan_jax.checkpoints import models
from flan_jax.checkpoints import places
from flan_jax.checkpoints import runs
from flan_jax.data import access as access_lib
from flan_jax.data import few_shot
from flan_jax.data import mixtures
from flan_jax.models import config as model_config
from flan_jax.training import optimizers
from flan_jax.training import schedules
from flan_jax.training import settings as settings_lib
from flan_jax.training import tracking

if TYPE_CHECKING:
  from flan_jax.checkpoints import native
  from flan_jax.data import pipeline as pipeline_lib
  from flan_jax.models import interface
  from flan_jax.training import feed as feed_lib
  from flan_jax.training import guard as guard_lib
  from flan_jax.training import loop as loop_lib
  from flan_jax.training import state as state_lib
  from flan_jax.training import trainer as trainer_lib
  import jax


def main(args: argparse.Namespace) -> int:
  """Trains as gin files and flags say; returns the exit code.

  The code is 0 where a signal stopped the run, too: it has saved its last step,
  and said which one that is.

  Raises:
    UserError: Something in the configuration, the names, the data or the run
      is wrong.
  """
  started = time.perf_counter()
  if not args.gin_file:
    raise errors.UserError(
        '--gin_file: is needed, such as --gin_file=gin/examples/mini.gin'
    )

  def read() -> _Run:
    loaded = load(args.gin_file, args.gin_bindings, args.gin_search_paths)
    return _Run(
        loaded.settings,
        loaded.text,
        access_lib.Access.from_args(args),
        getattr(args, 'skip_missing', False),
    )

  if getattr(args, 'dry_run', False):
    with library_log.LibraryLog():
      read().describe()
    return 0
  with (
      library_log.LibraryLog() as log,
      hosts_lib.Session.from_args(args) as session,
  ):
    run = session.together(read)
    compilation.use_cache(paths.cache_dir(args.cache_dir))
    going_on = _GoingOn(
        other_settings=getattr(args, 'resume_with_changes', False),
        other_optimizer=getattr(args, 'reset_optimizer', False),
    )
    return run.train(going_on, log, started, session)


def load(
    files: list[str], bindings: list[str], search_paths: list[str]
) -> configuration.Configuration[settings_lib.Train]:
  """Reads a training configuration; imports nothing slow.

  Raises:
    UserError: Something in it is wrong.
  """
  configurables: tuple[Callable[..., Any], ...] = (
      *model_config.FAMILIES,
      model_config.Lora,
      *optimizers.ALL,
      optimizers.ParameterGroup,
      partitioning.MeshConfig,
      *schedules.ALL,
  )
  for configurable in configurables:
    configuration.register(configurable)
  configuration.register(few_shot.Layout, 'FewShotLayout')
  configuration.register(models.checkpoint_model, 'CheckpointModel')
  return configuration.load(
      files, bindings, search_paths, entry=settings_lib.Train
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _GoingOn:
  """What may differ where a run goes on."""

  other_settings: bool
  other_optimizer: bool


class _Run:
  """A run, from names that are checked to the trained model."""

  def __init__(
      self,
      settings: settings_lib.Train,
      text: str,
      access: access_lib.Access,
      skip_missing: bool = False,
  ):
    """Looks up names and data and reads the vocabulary; imports nothing slow.

    Args:
      settings: What the gin files say.
      text: The same, as they are written down with the run.
      access: The declarations and rows.
      skip_missing: Whether to do without datasets whose rows are not here.

    Raises:
      UserError: A name is unknown, rows are missing, or vocabulary and model do
        not fit.
    """
    self._start = run_folder.start(settings)
    settings = settings.counted(self._start)
    self._settings = settings
    self._text = text
    self._data = training_data.TrainingData(settings, access, skip_missing)
    self._folder = run_folder.RunFolder(settings, text, self._data, self._start)
    self._directory = self._folder.path

  def describe(self) -> None:
    """Prints the configuration, the mixture and the size of the model."""
    print(self._text)
    counts = self._data.counts()
    rates = mixtures.rates(self._data.mixture, list(counts.values()))
    width = max(map(len, counts))
    print(f'{"task":<{width}}  {"examples":>10}  {"rate":>10}  share')
    for (name, count), rate in zip(counts.items(), rates, strict=True):
      share = rate / rates.sum()
      print(f'{name:<{width}}  {count:>10,}  {rate:>10,.6g}  {share:.2%}')

    from flan_jax.models import interface

    print(f'\n{self._summary(interface.create(self._settings.training_model))}')

  def train(
      self,
      going_on: _GoingOn,
      log: library_log.LibraryLog,
      started: float,
      session: hosts_lib.Session,
  ) -> int:
    """Trains to the last step, or until told to stop; returns the exit code.

    Args:
      going_on: What may differ from the run that is there.
      log: Gets a file in the MODEL_DIR once that is sure to be one.
      started: When the program started, by `time.perf_counter`.
      session: This host and the others.

    Raises:
      UserError: As `main`.
    """
    step, done = session.together(lambda: self._prepare(going_on))
    session.agree(lambda: self._common(step))
    if done:
      if session.first:
        _say(
            f'{self._directory}: is at step {step} of'
            f' {self._settings.last_step} already; nothing is left to do'
        )
      return 0

    # jax from here on: names, settings and rows are right.
    from flan_jax.models import interface
    from flan_jax.training import trainer as trainer_lib

    def make() -> 'trainer_lib.Trainer':
      mesh = partitioning.make_mesh(self._settings.mesh)
      heap.keep_on(mesh)
      self._check_batch(partitioning.batch_divisor(mesh))
      with partitioning.use(mesh):
        return trainer_lib.Trainer(
            self._settings,
            interface.create(self._settings.training_model),
            mesh,
            members=len(self._data.mixture.members),
            base=self._folder.base_path,
        )

    trainer = session.together(make)
    hosts_lib.meet(trainer.mesh)
    with (
        self._folder.staging(session) as staging,
        partitioning.use(trainer.mesh),
    ):
      log.keep(staging.folder, session.index)
      if session.first:
        self._folder.write(trainer, session.count)
        _say(f'{self._summary(trainer.model)}; {_mesh_line(trainer.mesh)}')
      return self._loop(trainer, going_on, started, session, staging)

  def _prepare(self, going_on: _GoingOn) -> tuple[int | None, bool]:
    """Checks that the run may go on, and reads its rows.

    Returns:
      The step of its newest checkpoint, and whether nothing is left to do.

    Raises:
      UserError: As `main`.
    """
    tracking.check(self._settings.wandb_project)
    with storage.reached('MODEL_DIR', self._directory):
      steps = runs.steps(self._directory)
    if steps:
      self._folder.check_same_run(
          other_settings=going_on.other_settings,
          other_optimizer=going_on.other_optimizer,
      )
      last = runs.step_path(self._directory, steps[-1])
      if steps[-1] >= self._settings.last_step and not integrity.fault(last):
        return steps[-1], True
    elif self._settings.initial_checkpoint_path:
      places.locate(self._settings.initial_checkpoint_path)
    self._folder.find_base(begun=bool(steps))
    runs.check_writable(self._directory)
    self._data.prepare()
    return (steps[-1] if steps else None), False

  def _common(self, step: int | None) -> dict[str, Any]:
    """Returns what must be the same on all hosts."""
    return {
        'flan_jax': flan_jax.__version__,
        **configuration.by_name(self._settings),
        **self._data.facts(),
        # A MODEL_DIR that hosts do not share has it on one of them alone.
        'the newest checkpoint in MODEL_DIR': step,
        'the step that the run begins at': self._start,
        'the fingerprint of what is not trained': self._folder.base,
        **{
            f'the number of examples of {name}': count
            for name, count in self._data.counts().items()
        },
    }

  def _loop(
      self,
      trainer: 'trainer_lib.Trainer',
      going_on: _GoingOn,
      started: float,
      session: hosts_lib.Session,
      staging: storage.Staging,
  ) -> int:
    """Opens what the loop needs, runs it, and closes everything again."""
    from flan_jax.checkpoints import native
    from flan_jax.data import pipeline as pipeline_lib
    from flan_jax.training import loop
    from flan_jax.training import memory
    from flan_jax.training import preemption

    settings = self._settings
    train_step = None
    with (
        contextlib.ExitStack() as stack,
        session.guard(),
        memory.explained(lambda: trainer.memory_table(train_step)),
    ):
      watch = stack.enter_context(preemption.Watch())
      pipeline = stack.enter_context(
          contextlib.closing(self._data.pipeline(trainer.mesh))
      )
      checkpointer = stack.enter_context(
          native.Checkpointer(
              self._directory,
              settings.retention(self._start),
              pipeline_lib.merge_states,
          )
      )
      with futures.ThreadPoolExecutor(1, 'compile') as pool:
        compiling = pool.submit(trainer.compiled_step)
        step, state, batches = self._begin(
            trainer, checkpointer, pipeline, going_on, session.first
        )
        stack.callback(batches.close)
        train_step = compiling.result()
      writer = self._folder.writer(
          trainer.mesh,
          step,
          started,
          session.first,
          staging,
          trainer.split.share,
      )
      stack.callback(writer.close)
      step = loop.train(
          loop.LoopConfig(
              train_steps=settings.last_step,
              eval_period=settings.eval_period,
              checkpoint_period=settings.checkpoint_period,
          ),
          state,
          trainer.with_frozen(train_step),
          batches,
          self._evaluator(trainer),
          checkpointer,
          writer,
          watch,
          self._guard(checkpointer),
      )
    last = runs.step_path(self._directory, step)
    if not session.first:
      return 0
    if step < settings.last_step:
      _say(
          f'told to stop: saved step {step} of {settings.last_step} as'
          f' {last}; the same command goes on from there'
      )
    else:
      _say(f'done: {last}{self._folder.skipped()}')
    return 0

  def _guard(self, checkpointer: 'native.Checkpointer') -> 'guard_lib.Guard':
    """Returns what watches for numbers that are not finite."""
    from flan_jax.training import guard
    from flan_jax.training import periods

    def last_good() -> str | None:
      checkpointer.wait()
      step = checkpointer.latest_step()
      if step is None:
        return None
      return str(runs.step_path(self._directory, step))

    return guard.Guard(
        last_good,
        periods.Members.of(self._data.mixture),
        skips=self._settings.on_non_finite == 'skip',
    )

  def _begin(
      self,
      trainer: 'trainer_lib.Trainer',
      checkpointer: 'native.Checkpointer',
      pipeline: 'pipeline_lib.TrainPipeline',
      going_on: _GoingOn,
      first: bool,
  ) -> 'tuple[int, state_lib.TrainState, feed_lib.Feed]':
    """Returns step, state and batches of the newest checkpoint, or new ones.

    Batches are read ahead while the state is made.
    """
    from flan_jax.training import feed

    def beside_batches(make: 'Callable[[], state_lib.TrainState]'):
      batches = feed.Feed(pipeline, trainer.mesh)
      try:
        return make(), batches
      except BaseException:
        batches.close()
        raise

    def restored(step: int):
      position = checkpointer.position(step)
      pipeline.set_state(position, other_data=going_on.other_settings)
      found = beside_batches(
          lambda: trainer.restored(
              checkpointer, step, going_on.other_optimizer, _say
          )
      )
      if first:
        _say(f'going on from {runs.step_path(self._directory, step)}')
      return step, *found

    def new() -> 'state_lib.TrainState':
      state = trainer.new_state(_say)
      checkpointer.save(self._start, state.params, state.optimizer, position)
      return state

    found = checkpointer.newest(restored, _say)
    if found is not None:
      return found
    position = pipeline.get_state()
    return self._start, *beside_batches(new)

  def _evaluator(
      self, trainer: 'trainer_lib.Trainer'
  ) -> 'loop_lib.Evaluator | None':
    from flan_jax.training import loop

    if self._data.eval_mixture is None:
      return None
    return loop.Evaluator(
        trainer.eval_step(),
        functools.partial(self._data.evaluation_batches, trainer.mesh),
        trainer.mesh,
    )

  def _check_batch(self, divisor: int) -> None:
    rows, parts = self._settings.batch_size, self._settings.num_microbatches
    if rows % (divisor * parts):
      microbatches = f' in {parts} microbatches' if parts > 1 else ''
      raise errors.UserError(
          f'BATCH_SIZE: {rows} rows{microbatches} cannot be shared out evenly'
          f' to the {divisor} parts that the mesh makes of a batch; nearest:'
          f' {partitioning.nearest_multiples(rows, divisor * parts)}'
      )

  def _summary(self, model: 'interface.Model') -> str:
    from flan_jax.models import interface

    members = len(self._data.mixture.members)
    less = (
        f' ({len(self._data.left_out)} left out)' if self._data.left_out else ''
    )
    trained = ''
    if self._settings.trains_part:
      from flan_jax.models import adapters

      count = adapters.Split(model, self._settings.trained).count
      trained = f', {count:,} of them trained'
    return (
        f'{self._data.mixture.name}: {members}'
        f' task{"s" if members > 1 else ""}{less}; model:'
        f' {interface.count_parameters(model):,} parameters{trained}'
    )


def _mesh_line(mesh: 'jax.sharding.Mesh') -> str:
  shape = ', '.join(f'{name}={size}' for name, size in mesh.shape.items())
  kind = mesh.devices.flat[0].device_kind
  return f'mesh: {shape} ({mesh.size} x {kind})'


def _say(text: str) -> None:
  print(text, file=sys.stderr, flush=True)
