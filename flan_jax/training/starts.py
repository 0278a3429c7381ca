"""A run that starts from a checkpoint of T5X goes on as it would there.

T5X restores the parameters, what its Adafactor keeps, and the step; steps are
counted on from that one. From any other checkpoint a run takes the parameters
alone, and counts its own steps.
"""

from collections.abc import Callable
import os

from flan_jax import storage
from flan_jax.checkpoints import formats
from flan_jax.checkpoints import layout
from flan_jax.checkpoints import places
from flan_jax.checkpoints import sharded
from flan_jax.checkpoints.t5x import reading
from flan_jax.checkpoints.t5x import slots
from flan_jax.training import state as state_lib
import jax
import numpy as np


def continued(
    path: str | os.PathLike[str],
    state: state_lib.TrainState,
    like: state_lib.TrainState,
    say: Callable[[str], None],
) -> state_lib.TrainState:
  """Returns a new run's state with what else its checkpoint knows.

  Args:
    path: The checkpoint that its parameters are from.
    state: The state, with an optimizer that starts afresh.
    like: Its shapes, dtypes and shardings.
    say: Takes a line on what of the optimizer is not gone on with.

  Raises:
    UserError: The checkpoint cannot be read.
  """
  place = places.locate(path)
  if place.format != formats.T5X:
    return state
  source = place.source
  assert isinstance(source, reading.Checkpoint)

  def count(leaf: jax.Array) -> jax.Array:
    return jax.device_put(np.int32(source.step), leaf.sharding)

  optimizer = state.optimizer
  found = slots.Slots(source)
  prefix = f'{slots.MOMENTS}/'
  wanted = {
      name: leaf
      for name, leaf in layout.flatten(like.optimizer).items()
      if name.startswith(prefix)
  }
  why = found.unfit(wanted)
  if why is None:
    moments = {
        name: sharded.array(found, name, leaf, storage.is_address(source.path))
        for name, leaf in layout.by_name(like.optimizer).items()
        if name.startswith(prefix)
    }
    optimizer = layout.replaced(optimizer, moments)
  else:
    say(f'{source.path}: OPTIMIZER starts afresh: {why}')
  if hasattr(optimizer, 'count'):
    optimizer = optimizer._replace(count=count(optimizer.count))
  return state._replace(step=count(state.step), optimizer=optimizer)
