"""The settings of `flan-jax infer`; gin/runs/infer.gin gives them names."""

import dataclasses

from flan_jax import configuration
from flan_jax import errors
from flan_jax import paths
from flan_jax.inference import asking
from flan_jax.inference import settings as decoding_lib
from flan_jax.models import config as model_config


@dataclasses.dataclass(frozen=True, kw_only=True)
class Infer(asking.Asking):
  """The settings of `flan-jax infer`, beside those of `Asking`.

  Attributes:
    checkpoint_path: A run, one of its checkpoints, or a checkpoint in
      another format.
    output_dir: Where the predictions go.
    mixture_or_task_name: What to predict; a mixture means each of its tasks.
    input_file: What to predict instead: a file of prompts.
    split: 'train', 'validation' or 'test'.
    max_examples: At most this many examples a task, the first ones.
    long_inputs: What becomes of inputs that the model cannot read whole: 'cut'
      takes off their end; 'refuse' predicts nothing.
    block_size: Examples that are predicted and written at once; what shards
      share out.
    model: The model; by default the checkpoint's own.
  """

  checkpoint_path: str
  output_dir: str
  mixture_or_task_name: str | None = None
  input_file: str | None = None
  split: str = 'test'
  max_examples: int | None = None
  long_inputs: decoding_lib.TooLong = 'cut'
  block_size: int = 2048
  model: model_config.ModelConfig | None = None

  def __post_init__(self):
    super().__post_init__()
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
    configuration.whole_number('BLOCK_SIZE', self.block_size, 1)
    configuration.one_of('LONG_INPUTS', self.long_inputs, ('cut', 'refuse'))
    if self.max_examples is not None:
      configuration.whole_number('MAX_EXAMPLES', self.max_examples, 1)
    if self.model is not None:
      configuration.instance('MODEL', self.model, model_config.FAMILIES)
