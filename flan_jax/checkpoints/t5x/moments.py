"""What a run's Adafactor keeps, for T5X to go on with."""

import functools

from flan_jax.checkpoints import foreign
from flan_jax.checkpoints import formats
from flan_jax.checkpoints import integrity
from flan_jax.checkpoints.t5x import arrays
from flan_jax.checkpoints.t5x import reading
from flan_jax.checkpoints.t5x import slots
from flan_jax.checkpoints.t5x import writing


def of(source: foreign.Source) -> writing.Moments | None:
  """Returns the moments of a checkpoint of ours or of T5X's.

  Args:
    source: The checkpoint.

  Returns:
    What reads each by our names; None where the checkpoint has none of
    Adafactor, or not for every parameter.
  """
  if source.format == reading.Checkpoint.format:
    checkpoint = reading.Checkpoint(source.path)
    found = slots.Slots(checkpoint)
    names = {
        f'{slots.MOMENTS}/{kind}/{name}': functools.partial(
            found.read, f'{slots.MOMENTS}/{kind}/{name}'
        )
        for name in checkpoint.shapes
        for kind in slots.KINDS
    }
    return names if found.whole() else None
  if source.format != formats.NATIVE:
    return None
  folder = source.path / integrity.ARRAYS[1]
  kept = {
      name.replace('.', '/'): array
      for name, array in arrays.find(
          arrays.database(folder), source.path
      ).items()
  }
  moments = {
      name: array.read
      for name, array in kept.items()
      if name.startswith(f'{slots.MOMENTS}/') and array.shape != ()
  }
  whole = all(
      f'{slots.MOMENTS}/{kind}/{name}' in moments
      for name in source.shapes
      for kind in slots.KINDS
  )
  return moments if whole else None
