"""The settings that `infer`, `eval` and `ask` share: how a model is asked."""

import dataclasses
from typing import Any, get_args

from flan_jax import configuration
from flan_jax import partitioning
from flan_jax.data import few_shot
from flan_jax.inference import settings as settings_lib


@dataclasses.dataclass(frozen=True, kw_only=True)
class Writing:
  """How a checkpoint is read, and how it writes.

  Attributes:
    decoding: How answers are written; greedily by default.
    task_feature_lengths: Tokens of 'inputs' and 'targets'; by default the
      run's.
    use_ema: Whether to take the moving average of the parameters, which a run
      with EMA_DECAY keeps.
    mesh: The devices.
  """

  decoding: settings_lib.Decoding = settings_lib.Decoding()
  task_feature_lengths: dict[str, int] | None = None
  use_ema: bool = False
  mesh: partitioning.MeshConfig = partitioning.MeshConfig()

  def __post_init__(self):
    configuration.instance('DECODING', self.decoding, settings_lib.Decoding)
    configuration.instance('USE_EMA', self.use_ema, bool)
    if self.task_feature_lengths is not None:
      configuration.feature_lengths(self.task_feature_lengths)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asking(Writing):
  """How examples are put to a model, and how it chooses.

  Attributes:
    batch_size: Examples a batch.
    batch_tokens: Tokens a batch instead, padding and what is written included:
      what there is memory for (a CPU of several cores has two batches at work).
      Short examples then go together in more rows.
    few_shot_layout: How exemplars stand before the query; by default the
      run's, of several runs the first one's.
    normalisation: 'sum': options compare by log-likelihood. 'mean': by
      log-likelihood per token. 'pmi': by what the input adds to it.
    pmi_premise: For 'pmi': what an option's log-likelihood is compared with
      that under the input to.
  """

  batch_size: int = 32
  batch_tokens: int | None = None
  few_shot_layout: few_shot.Layout | None = None
  normalisation: settings_lib.Normalisation = 'sum'
  pmi_premise: str = 'Answer:'

  def __post_init__(self):
    super().__post_init__()
    configuration.whole_number('BATCH_SIZE', self.batch_size, 1)
    if self.batch_tokens is not None:
      configuration.whole_number('BATCH_TOKENS', self.batch_tokens, 1)
    if self.few_shot_layout is not None:
      configuration.instance(
          'FEW_SHOT_LAYOUT', self.few_shot_layout, few_shot.Layout
      )
    name = type(self).__name__
    configuration.one_of(
        f'{name}.normalisation',
        self.normalisation,
        get_args(settings_lib.Normalisation),
    )
    configuration.text(f'{name}.pmi_premise', self.pmi_premise)

  def of_predictor(self) -> dict[str, Any]:
    """Returns the arguments of `Predictor` that settings decide on."""
    return {
        'batch_size': None if self.batch_tokens else self.batch_size,
        'batch_tokens': self.batch_tokens,
        'normalisation': self.normalisation,
        'pmi_premise': self.pmi_premise,
        'decoding': self.decoding,
    }
