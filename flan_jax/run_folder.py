"""A run's folder, its MODEL_DIR: what says what the run is, and its numbers."""

import dataclasses
import sys
from typing import TYPE_CHECKING

import flan_jax
from flan_jax import errors
from flan_jax import hosts as hosts_lib
from flan_jax import library_log
from flan_jax import storage
from flan_jax import training_data
from flan_jax.checkpoints import bases
from flan_jax.checkpoints import carried
from flan_jax.checkpoints import places
from flan_jax.checkpoints import runs
from flan_jax.checkpoints import starts
from flan_jax.training import settings as settings_lib
from flan_jax.training import tracking

if TYPE_CHECKING:
  from flan_jax.training import metrics as metrics_lib
  from flan_jax.training import trainer as trainer_lib
  import jax

_PARAMETERS_FILE = 'parameters.txt'


def start(settings: settings_lib.Train) -> int:
  """Returns the step that a run begins at, or began at.

  Raises:
    UserError: The checkpoint that it starts from is not there.
  """
  directory = storage.path(settings.model_dir)
  with storage.reached('MODEL_DIR', directory):
    if runs.steps(directory):
      return runs.read(directory).get('initial_step', 0)
  return places.first_step(settings.initial_checkpoint_path)


class RunFolder:
  """The files of a run beside its checkpoints.

  Attributes:
    path: The folder, of this machine or of a bucket.
    adapter: What checkpoints need beside themselves, once `find_base` knows;
      None where they hold all.
  """

  def __init__(
      self,
      settings: settings_lib.Train,
      text: str,
      data: training_data.TrainingData,
      start: int = 0,
  ):
    """Touches nothing yet.

    Args:
      settings: The run's.
      text: The same, as they are written down.
      data: What it trains on.
      start: The step that it begins at; see `start`.
    """
    self.path = storage.path(settings.model_dir)
    self._settings = settings
    self._text = text
    self._data = data
    self._start = start
    self.adapter: bases.Adapter | None = None

  @property
  def base_path(self) -> str | None:
    """The checkpoint that what is not trained comes from."""
    return None if self.adapter is None else self.adapter.base.path

  @property
  def base(self) -> str | None:
    """The fingerprint of what adapters belong to; None where all is trained."""
    return None if self.adapter is None else self.adapter.base.fingerprint

  def find_base(self, *, begun: bool) -> None:
    """Finds what checkpoints of a part of the model need beside themselves.

    A run that has begun goes on with the checkpoint that it began with, even
    where its path, that of another run, means a later one by now.

    Args:
      begun: Whether there are checkpoints.

    Raises:
      UserError: The checkpoint is not there, or is not what it was.
    """
    settings = self._settings
    if not settings.trains_part:
      return
    given = settings.initial_checkpoint_path
    assert given is not None  # The settings have seen to that.
    before = bases.Adapter.read(self.path) if begun else None
    if before is None:
      base = bases.Base.of(given)
    else:
      base = before.base
      base.check(self.path)
    self.adapter = bases.Adapter(
        lora=settings.lora,
        trained=None if settings.trained is None else tuple(settings.trained),
        base=base,
    )

  def check_same_run(
      self, *, other_settings: bool, other_optimizer: bool
  ) -> None:
    """Refuses to go on with a run of another configuration.

    Args:
      other_settings: Whether it may differ all the same.
      other_optimizer: Whether it may in the optimizer.

    Raises:
      UserError: It differs, and the user has not said to go on all the same.
    """
    run = runs.read(self.path)
    if 'converted_from' in run:  # There is no optimizer's state to go on with.
      raise errors.UserError(
          f'MODEL_DIR: {self.path}: holds a checkpoint that was converted, and'
          ' no run to go on with; name it as INITIAL_CHECKPOINT_PATH, and take'
          ' another MODEL_DIR'
      )
    changes = runs.changes(self.path, self._data.facts())
    before = run.get('train_steps', 0)
    if self._settings.last_step < before:
      changes.append(
          f'TRAIN_STEPS: {before} -> {self._settings.last_step} (may only grow)'
      )
    if other_optimizer:
      changes = [line for line in changes if not line.startswith('OPTIMIZER')]
    if changes and not other_settings:
      raise errors.UserError(
          f'{self.path}: holds a run with another configuration: take'
          ' another MODEL_DIR, undo the change, or go on with'
          ' --resume_with_changes\n  '
          + '\n  '.join(changes)
      )

  def staging(self, session: hosts_lib.Session) -> storage.Staging:
    """Opens the folder that this host adds to files in."""
    from flan_jax.training import metrics

    names = [library_log.file_name(session.index)]
    if session.first:
      names += [metrics.METRICS_FILE, tracking.ID_FILE]
    return storage.Staging(self.path, names)

  def write(self, trainer: 'trainer_lib.Trainer', hosts: int) -> None:
    """Writes all that says what the run is, and the vocabulary.

    Args:
      trainer: What trains it.
      hosts: How many hosts do.
    """
    from flan_jax.models import interface

    settings = self._settings
    storage.make_folder(self.path)
    storage.write(self.path / runs.CONFIG_FILE, self._text)
    runs.write(
        self.path,
        settings.model,
        self._data.vocabulary,
        settings.vocabulary,
        {
            'lengths': dict(settings.task_feature_lengths),
            'few_shot_layout': dataclasses.asdict(settings.few_shot_layout),
            'mixture': settings.mixture_or_task_name,
            'left_out': self._data.left_out,
            'seed': settings.random_seed,
            'train_steps': settings.last_step,
            'initial_step': self._start,
            'initial_checkpoint': settings.initial_checkpoint_path,
            'parameters': interface.count_parameters(trainer.model),
            'flan_jax': flan_jax.__version__,
            'settings': self._data.facts(),
            **({} if self.adapter is None else self.adapter.facts()),
        },
    )
    if settings.initial_checkpoint_path is not None and not runs.steps(
        self.path
    ):
      start = places.locate(settings.initial_checkpoint_path)
      carried.keep(start.files(self._data.vocabulary), self.path)
    storage.write(self.path / _PARAMETERS_FILE, trainer.parameter_table())
    starts.add(
        self.path,
        {
            'checkpoints': runs.steps(self.path),
            'mesh': dict(trainer.mesh.shape),
            'devices': trainer.mesh.devices.flat[0].device_kind,
            'processes': hosts,
        },
    )

  def writer(
      self,
      mesh: 'jax.sharding.Mesh',
      start: int,
      started: float,
      first: bool,
      staging: storage.Staging,
      trained: float = 1.0,
  ) -> 'metrics_lib.Writer':
    """Opens the places that the run's numbers go to.

    Args:
      mesh: Where it runs.
      start: The step that it begins after.
      started: When the program started, by `time.perf_counter`.
      first: Whether this host is the one that writes.
      staging: Where files grow.
      trained: The share of the model's parameters that is trained.
    """
    from flan_jax.data import packing
    from flan_jax.models import flops
    from flan_jax.training import metrics
    from flan_jax.training import periods
    from flan_jax.training import utilization

    settings = self._settings
    lengths = settings.task_feature_lengths
    run = None
    if first and settings.wandb_project is not None:
      run = tracking.WandB(
          settings.wandb_project, staging.folder, self._data.facts()
      )
      print(f'Weights & Biases: {run.place}', file=sys.stderr, flush=True)
    return metrics.Writer(
        staging.folder,
        start=start,
        total=settings.last_step,
        log_period=settings.log_period,
        started=started,
        active=first,
        members=periods.Members.of(self._data.mixture),
        utilization=utilization.Utilization(
            flops=flops.training(settings.model, lengths).less(trained),
            rows=settings.batch_size,
            lengths=packing.FORMS[settings.model.row_format].positions(lengths),
            devices=mesh.local_devices,
            device_count=mesh.size,
        ),
        tracking=run,
        staging=staging,
    )

  def skipped(self) -> str:
    """Says how many updates were skipped, from the run's first step on."""
    from flan_jax.training import metrics

    path = self.path / metrics.METRICS_FILE
    count = metrics.skipped(path) if path.is_file() else 0
    return f'; {count:,} updates that were not finite were skipped' * bool(
        count
    )
