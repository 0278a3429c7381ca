"""The model of a checkpoint, for runs that start from it. Needs no jax."""

import dataclasses
from typing import Any

from flan_jax import errors
from flan_jax.checkpoints import places
from flan_jax.models import config as model_config


def checkpoint_model(
    path: str | None = None,
    dtype: str | None = None,
    remat: str | None = None,
    dropout_rate: float | None = None,
    unroll_layers: int | None = None,
    loss_chunks: int | None = None,
    prefill_chunk: int | None = None,
) -> model_config.ModelConfig:
  """Returns the model that a checkpoint is of, in whatever format.

  Args:
    path: The checkpoint.
    dtype: As in `ModelConfig`, as all that follow; what is None is as the
      checkpoint has it.
    remat: What layers keep for the backward pass.
    dropout_rate: In all places of dropout.
    unroll_layers: How many layers each turn of a loop holds.
    loss_chunks: In how many parts losses are computed.
    prefill_chunk: How many tokens decoder-only models read at a time.

  Raises:
    UserError: There is no such checkpoint, or its model is not supported.
  """
  if not path:
    raise errors.UserError(
        'CheckpointModel.path: is needed: set INITIAL_CHECKPOINT_PATH to what'
        ' the run starts from'
    )
  config = places.locate(path).config()
  changes: dict[str, Any] = {
      'dtype': dtype,
      'remat': remat,
      'dropout_rate': dropout_rate,
      'unroll_layers': unroll_layers,
      'loss_chunks': loss_chunks,
      'prefill_chunk': prefill_chunk,
  }
  given = {name: value for name, value in changes.items() if value is not None}
  known = {field.name for field in dataclasses.fields(config)}
  for name in given:
    if name not in known:
      raise errors.UserError(
          f'CheckpointModel.{name}: a {config.family} model has no {name}'
      )
  return dataclasses.replace(config, **given)
