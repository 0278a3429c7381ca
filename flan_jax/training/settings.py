"""The settings of a training run. Importable without JAX, for gin."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

from flan_jax import configuration
from flan_jax import errors
from flan_jax import partitioning
from flan_jax import storage
from flan_jax.checkpoints import retention as retention_lib
from flan_jax.data import few_shot
from flan_jax.models import config as model_config
from flan_jax.training import optimizers
from flan_jax.training import schedules

_NORMALIZERS = (
    'NUM_REAL_TARGET_TOKENS',
    'NUM_TOTAL_TARGET_TOKENS',
    'AVERAGE_PER_SEQUENCE',
)
_GENERATORS = ('rbg', 'unsafe_rbg', 'threefry2x32')
# A run may go on with other values of these: no step depends on them.
_FREE = {
    'MODEL_DIR',
    'EVAL_MIXTURE_OR_TASK_NAME',
    'EVAL_PERIOD',
    'EVAL_STEPS',
    'CHECKPOINT_PERIOD',
    'CHECKPOINTS_TO_KEEP',
    'KEEP_EVERY',
    'KEEP_BEST',
    'BEST_METRIC',
    'BEST_MODE',
    'LOG_PERIOD',
    'ON_NON_FINITE',
    'DATA_WORKERS',
    'MESH',
    'WANDB_PROJECT',
    'VOCABULARY',  # Its contents are compared, wherever the file lies.
    'TRAIN_STEPS',  # May grow.
    'TRAIN_STEPS_RELATIVE',
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train:
  """The settings of `flan-jax train`; gin macros have the same names.

  Attributes:
    model_dir: Where the run lives; one that was stopped goes on.
    mixture_or_task_name: What to train on.
    eval_mixture_or_task_name: What to measure loss and accuracy on while
      training, split 'validation'; None: the training mixture.
    task_feature_lengths: Tokens of 'inputs' and 'targets' in a row; for a
      decoder-only model, a row is as long as both together.
    vocabulary: A SentencePiece model's path, or 'bytes'.
    model: The model.
    optimizer: The optimizer.
    schedule: The learning rate by step.
    mesh: The devices.
    train_steps: The step to stop after; None where the next one says it.
    train_steps_relative: How many steps to make from the first one on; see
      `counted`.
    batch_size: Rows in a batch, over all devices and hosts.
    num_microbatches: Equal parts in which a batch goes through the model.
    pack: Whether a row holds several examples.
    few_shot_layout: How exemplars stand before the query, for tasks with shots.
    data_workers: Processes that prepare batches; 0 is a thread.
    random_seed: Of the parameters, the data's order and dropout.
    dropout_rng: The generator that dropout draws from, by JAX's name: 'rbg',
      'unsafe_rbg' or 'threefry2x32'; see `step.StepConfig`.
    z_loss: The coefficient of the squared log normaliser of the logits.
    label_smoothing: Probability mass taken from the target.
    loss_normalizing_factor: 'NUM_REAL_TARGET_TOKENS', 'NUM_TOTAL_TARGET_TOKENS'
      (padding counted too), 'AVERAGE_PER_SEQUENCE' (each example's mean counts
      once), a number, or None for the plain sum.
    on_non_finite: What becomes of a step whose loss or gradient is not finite:
      'stop' ends the run, 'skip' goes on without its update.
    eval_period: Steps between evaluations; 0 for none.
    eval_steps: At most so many batches of the validation mixture.
    checkpoint_period: Steps between checkpoints; 0 for the last step alone.
    checkpoints_to_keep: The newest ones stay, and the first one with them.
    keep_every: Checkpoints at a multiple of so many steps stay as well; 0 for
      none.
    keep_best: So many of the best checkpoints stay as well.
    best_metric: A number of metrics.jsonl, which says what is best.
    best_mode: Whether the best has the 'min' or the 'max' of it.
    log_period: Steps between lines on the terminal and in TensorBoard.
    initial_checkpoint_path: A run or checkpoint whose parameters to start from.
    lora: Adapters, which are trained in the place of the model's parameters.
      Checkpoints hold them alone, and need the initial checkpoint to be a
      model.
    trained: Regular expressions: the parameters to train, the others staying
      as the initial checkpoint has them. Each matches the whole of T5X's name,
      such as 'decoder/.*'. With `lora`, these are trained beside adapters. None
      is all of them or, with `lora`, none.
    wandb_project: The project of Weights & Biases that gets what TensorBoard
      gets; None for none.
  """

  model_dir: str
  mixture_or_task_name: str
  eval_mixture_or_task_name: str | None = None
  task_feature_lengths: Mapping[str, int]
  vocabulary: str
  model: model_config.ModelConfig
  optimizer: optimizers.Optimizer
  schedule: schedules.Schedule
  mesh: partitioning.MeshConfig = partitioning.MeshConfig()
  train_steps: int | None = None
  train_steps_relative: int | None = None
  batch_size: int
  num_microbatches: int = 1
  pack: bool = True
  few_shot_layout: few_shot.Layout = few_shot.Layout()  # noqa: RUF009
  data_workers: int = 0
  random_seed: int = 0
  dropout_rng: str = 'rbg'
  z_loss: float = 1e-4
  label_smoothing: float = 0.0
  loss_normalizing_factor: float | str | None = 'NUM_REAL_TARGET_TOKENS'
  on_non_finite: str = 'stop'
  eval_period: int = 0
  eval_steps: int = 20
  checkpoint_period: int = 1000
  checkpoints_to_keep: int = 3
  keep_every: int = 0
  keep_best: int = 0
  best_metric: str = 'eval/loss'
  best_mode: str = 'min'
  log_period: int = 100
  initial_checkpoint_path: str | None = None
  lora: model_config.Lora | None = None
  trained: Sequence[str] | None = None
  wandb_project: str | None = None

  def __post_init__(self):
    for name in ('model_dir', 'initial_checkpoint_path'):
      storage.check(name.upper(), getattr(self, name))
    for name in ('model_dir', 'mixture_or_task_name', 'vocabulary'):
      configuration.text(name.upper(), getattr(self, name))
    for name in (
        'eval_mixture_or_task_name',
        'initial_checkpoint_path',
        'wandb_project',
    ):
      if getattr(self, name) is not None:
        configuration.text(name.upper(), getattr(self, name))
    for name, least in (
        ('batch_size', 1),
        ('num_microbatches', 1),
        ('data_workers', 0),
        ('random_seed', 0),
        ('eval_period', 0),
        ('eval_steps', 1),
        ('checkpoint_period', 0),
        ('checkpoints_to_keep', 1),
        ('keep_every', 0),
        ('keep_best', 0),
        ('log_period', 1),
    ):
      configuration.whole_number(name.upper(), getattr(self, name), least)
    if self.dropout_rng not in _GENERATORS:
      raise errors.UserError(
          f'DROPOUT_RNG: {self.dropout_rng!r} is none of'
          f' {", ".join(_GENERATORS)}'
      )
    configuration.number('Z_LOSS', self.z_loss)
    configuration.number('LABEL_SMOOTHING', self.label_smoothing)
    configuration.instance('PACK', self.pack, bool)
    configuration.instance(
        'FEW_SHOT_LAYOUT', self.few_shot_layout, few_shot.Layout
    )
    configuration.instance('MODEL', self.model, model_config.FAMILIES)
    if not self.model.writes:
      raise errors.UserError(
          'MODEL: an encoder-only model cannot be trained; it ranks the options'
          ' that an example has (flan-jax eval, flan-jax infer)'
      )
    configuration.instance('MESH', self.mesh, partitioning.MeshConfig)
    configuration.feature_lengths(self.task_feature_lengths)
    configuration.one_of('ON_NON_FINITE', self.on_non_finite, ('stop', 'skip'))
    self._check_normalizer()
    self._check_optimizer()
    self._check_best()
    self._check_trained()
    self._check_steps()
    if self.batch_size % self.num_microbatches:
      raise errors.UserError(
          f'NUM_MICROBATCHES: {self.num_microbatches} equal parts cannot be'
          f' made of BATCH_SIZE = {self.batch_size} rows'
      )

  def _check_normalizer(self) -> None:
    factor = self.loss_normalizing_factor
    if factor is None or factor in _NORMALIZERS:
      return
    if isinstance(factor, str):
      raise errors.UserError(
          f'LOSS_NORMALIZING_FACTOR: {factor!r} is none of'
          f' {", ".join(_NORMALIZERS)}, a number, or None'
      )
    configuration.number('LOSS_NORMALIZING_FACTOR', factor, 1e-9)

  def _check_optimizer(self) -> None:
    # Protocols, so that a user's own will do.
    for name, value, attribute in (
        ('OPTIMIZER', self.optimizer, 'state_axes'),
        ('SCHEDULE', self.schedule, '__call__'),
    ):
      if isinstance(value, type) or not hasattr(value, attribute):
        raise errors.UserError(
            f'{name}: must be made by a configurable such as'
            f' {"@Adafactor()" if name == "OPTIMIZER" else "@Constant()"}, not'
            f' {value!r}'
        )

  def _check_steps(self) -> None:
    if self.train_steps is None and self.train_steps_relative is None:
      raise errors.UserError(
          'TRAIN_STEPS: is needed: the step to stop after; or'
          ' TRAIN_STEPS_RELATIVE: how many steps to make'
      )
    for name in ('train_steps', 'train_steps_relative'):
      if getattr(self, name) is not None:
        configuration.whole_number(name.upper(), getattr(self, name), 0)

  def _check_best(self) -> None:
    configuration.text('BEST_METRIC', self.best_metric)
    if self.best_mode not in retention_lib.MODES:
      raise errors.UserError(
          f'BEST_MODE: {self.best_mode!r} is none of'
          f' {", ".join(map(repr, retention_lib.MODES))}'
      )
    if self.keep_best and self.best_metric.startswith('eval/'):
      if not (self.eval_period and self.checkpoint_period):
        raise errors.UserError(
            f'KEEP_BEST: {self.best_metric} is known where EVAL_PERIOD and'
            ' CHECKPOINT_PERIOD meet, and one of them is 0'
        )

  def _check_trained(self) -> None:
    if self.model.lora is not None:
      raise errors.UserError(
          f'{type(self.model).__name__}.lora: is not to be set; adapters are'
          ' LORA = @Lora()'
      )
    if self.lora is not None:
      configuration.instance('LORA', self.lora, model_config.Lora)
    if self.trained is not None:
      if isinstance(self.trained, str) or not self.trained:
        raise errors.UserError(
            "TRAINED: must be regular expressions such as ['decoder/.*'], or"
            f' None, not {self.trained!r}'
        )
      for pattern in self.trained:
        optimizers.check_pattern('TRAINED', pattern)
    if self.trains_part and self.initial_checkpoint_path is None:
      raise errors.UserError(
          'INITIAL_CHECKPOINT_PATH: is needed with'
          f' {"TRAINED" if self.lora is None else "LORA"}: what is not trained'
          ' has to come from somewhere'
      )

  @property
  def trains_part(self) -> bool:
    """Whether checkpoints hold less than the model."""
    return self.lora is not None or self.trained is not None

  @property
  def training_model(self) -> model_config.ModelConfig:
    """The model as it is trained: with its adapters."""
    return dataclasses.replace(self.model, lora=self.lora)

  def retention(self, start: int = 0) -> retention_lib.Retention:
    """Returns which checkpoints stay of a run that begins at step `start`."""
    return retention_lib.Retention(
        first=start,
        newest=self.checkpoints_to_keep,
        every=self.keep_every,
        best=self.keep_best,
        metric=self.best_metric,
        mode=self.best_mode,
    )

  @property
  def last_step(self) -> int:
    """The step to stop after, of settings that `counted` has made."""
    assert self.train_steps is not None
    return self.train_steps

  def counted(self, start: int) -> 'Train':
    """Returns the settings of a run whose steps are counted from `start`.

    `train_steps_relative`, as T5X has it, goes before `train_steps`; but a run
    that goes on makes the steps that are left, and not as many again.

    Raises:
      UserError: No step is to be made.
    """
    relative = self.train_steps_relative
    last = self.last_step if relative is None else start + relative
    if start and last <= start:
      raise errors.UserError(
          f'TRAIN_STEPS: {last:,} is not beyond step {start:,}, which'
          ' INITIAL_CHECKPOINT_PATH is at: as in T5X, the steps before count;'
          f' for {last:,} more say TRAIN_STEPS={start + last} or'
          f' TRAIN_STEPS_RELATIVE={last}'
      )
    return dataclasses.replace(
        self, train_steps=last, train_steps_relative=None
    )

  def by_name(self) -> dict[str, Any]:
    """Returns the settings that steps depend on, under their macros' names.

    Parts are named 'MODEL.emb_dim' and so on; values are fit for JSON.
    """
    found = {
        name: value
        for name, value in configuration.by_name(self).items()
        if name.partition('.')[0] not in _FREE and name != 'MODEL.lora'
    }
    # Runs of earlier versions, which had no such settings, go on.
    if self.lora is None:
      del found['LORA']
    del found['TRAINED']
    if self.trained is not None:
      found['TRAINED'] = list(self.trained)
    return found
