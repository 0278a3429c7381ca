"""The settings of `flan-jax infer`; gin/runs/infer.gin gives them names."""

import dataclasses
from typing import get_args

from flan_jax import configuration
from flan_jax import errors
from flan_jax import partitioning
from flan_jax import paths
from flan_jax.data import few_shot
from flan_jax.inference import settings as decoding_lib
from flan_jax.models import config as model_config


@dataclasses.dataclass(frozen=True, kw_only=True)
class Infer:
  """The settings of `flan-jax infer`.

  Attributes:
    checkpoint_path: A run, or one of its checkpoints.
    output_dir: Where the predictions go.
    mixture_or_task_name: What to predict; a mixture means each of its tasks.
    input_file: What to predict instead: a file of prompts.
    split: 'train', 'validation' or 'test'.
    batch_size: Examples a batch.
    batch_tokens: Tokens a batch instead, padding and what is written included:
      what there is memory for. Short examples then go together in more rows.
    max_examples: At most this many examples a task, the first ones.
    task_feature_lengths: Tokens of 'inputs' and 'targets'; by default the
      run's.
    few_shot_layout: How exemplars stand before the query; by default the
      run's.
    normalisation: 'sum': options compare by log-likelihood. 'mean': by
      log-likelihood per token. 'pmi': by what the input adds to it.
    pmi_premise: For 'pmi': what an option's log-likelihood is compared with
      that under the input to.
    decoding: How answers are written.
    long_inputs: What becomes of inputs that the model cannot read whole: 'cut'
      takes off their end; 'refuse' predicts nothing.
    block_size: Examples that are predicted and written at once; what shards
      share out.
    use_ema: Whether to take the moving average of the parameters, which a run
      with EMA_DECAY keeps.
    model: The model; by default the checkpoint's own.
    mesh: The devices.
  """

  checkpoint_path: str
  output_dir: str
  mixture_or_task_name: str | None = None
  input_file: str | None = None
  split: str = 'test'
  batch_size: int = 32
  batch_tokens: int | None = None
  max_examples: int | None = None
  task_feature_lengths: dict[str, int] | None = None
  few_shot_layout: few_shot.Layout | None = None
  normalisation: decoding_lib.Normalisation = 'sum'
  pmi_premise: str = 'Answer:'
  decoding: decoding_lib.Decoding = decoding_lib.Decoding()
  long_inputs: decoding_lib.TooLong = 'cut'
  block_size: int = 2048
  use_ema: bool = False
  model: model_config.ModelConfig | None = None
  mesh: partitioning.MeshConfig = partitioning.MeshConfig()

  def __post_init__(self):
    configuration.text('CHECKPOINT_PATH', self.checkpoint_path)
    configuration.text('INFER_OUTPUT_DIR', self.output_dir)
    paths.check_local('INFER_OUTPUT_DIR', self.output_dir)
    if (self.mixture_or_task_name is None) == (self.input_file is None):
      raise errors.UserError(
          'MIXTURE_OR_TASK_NAME: one of it (--mixture) and INPUT_FILE (--input)'
          ' is needed, and not both'
      )
    for name, value in (
        ('MIXTURE_OR_TASK_NAME', self.mixture_or_task_name),
        ('INPUT_FILE', self.input_file),
    ):
      if value is not None:
        configuration.text(name, value)
    configuration.text('SPLIT', self.split)
    configuration.instance('USE_EMA', self.use_ema, bool)
    configuration.whole_number('BATCH_SIZE', self.batch_size, 1)
    if self.batch_tokens is not None:
      configuration.whole_number('BATCH_TOKENS', self.batch_tokens, 1)
    configuration.whole_number('BLOCK_SIZE', self.block_size, 1)
    configuration.instance('DECODING', self.decoding, decoding_lib.Decoding)
    configuration.one_of('LONG_INPUTS', self.long_inputs, ('cut', 'refuse'))
    if self.max_examples is not None:
      configuration.whole_number('MAX_EXAMPLES', self.max_examples, 1)
    if self.task_feature_lengths is not None:
      configuration.feature_lengths(self.task_feature_lengths)
    if self.model is not None:
      configuration.instance('MODEL', self.model, model_config.FAMILIES)
    if self.few_shot_layout is not None:
      configuration.instance(
          'FEW_SHOT_LAYOUT', self.few_shot_layout, few_shot.Layout
      )
    configuration.one_of(
        'Infer.normalisation',
        self.normalisation,
        get_args(decoding_lib.Normalisation),
    )
    configuration.text('Infer.pmi_premise', self.pmi_premise)
