"""Numbers that are not finite end a run, or are skipped; they are never saved.

An update that was made from a loss or gradient that is not finite ruins every
parameter. Such a step is found from its own numbers, which the host has one
step later, and always before a checkpoint is written.
"""

from collections.abc import Callable
import math
from typing import Any

from flan_jax import errors
from flan_jax.training import periods
import jax
import jax.numpy as jnp
import numpy as np

# Data go by while steps are skipped: one bad batch is passed over, but where
# the parameters are at fault, no batch will do.
MOST_SKIPPED_IN_A_ROW = 100
_MOST_NAMES = 12


class Guard:
  """Watches the steps of one run."""

  def __init__(
      self,
      last_good: Callable[[], str | None],
      members: periods.Members | None = None,
      skips: bool = False,
  ):
    """Watches nothing yet.

    Args:
      last_good: Waits for the checkpoint that is being written, and names the
        newest one.
      members: Those of the mixture, to name the tasks of a batch.
      skips: Whether the steps themselves skip such updates, so that the run
        may go on.
    """
    self._last_good = last_good
    self._members = members
    self._skips = skips
    self._in_a_row = 0

  def check(self, step: int, record: periods.Record) -> None:
    """Checks a step's record (`metrics.per_token`).

    Raises:
      UserError: Its loss or gradient is not finite, and such steps are not
        skipped, or too many were.
    """
    if not record.get('skipped'):
      self._in_a_row = 0
      return
    self._in_a_row += 1
    if self._skips and self._in_a_row <= MOST_SKIPPED_IN_A_ROW:
      return
    loss, norm = record['loss'], record['gradient_norm']
    what = (
        f'the norm of the gradient is {norm} (the loss is {loss:.6g})'
        if math.isfinite(loss)
        else f'the loss is {loss}'
    )
    advice = (
        f'{self._in_a_row} steps were skipped one after the other, so it is not'
        ' the data: lower LEARNING_RATE'
        if self._skips
        else (
            "lower LEARNING_RATE, set CLIP_NORM, or set ON_NON_FINITE to 'skip'"
            ' to pass such batches over'
        )
    )
    raise errors.UserError(
        f'step {step}: {what}{self._tasks(record)}; {self._from()}; {advice}'
    )

  def check_state(self, step: int, state: Any) -> None:
    """Checks what is about to be saved.

    Args:
      step: The step that it belongs to.
      state: A tree of arrays.

    Raises:
      UserError: A number of it is not finite.
    """
    if not _all_finite(state):
      raise errors.UserError(
          f'step {step}: parameters or optimizer state are not finite, though'
          f' loss and gradient are; {self._from()}; lower LEARNING_RATE'
      )

  def _tasks(self, record: periods.Record) -> str:
    """Says whose examples the batch has, those with broken losses first."""
    if self._members is None or record.members is None:
      return ''
    names = self._members.in_batch(record)
    broken = [
        name
        for name, loss in zip(
            self._members.names, record.members.loss, strict=True
        )
        if not np.isfinite(loss)
    ]
    if broken and len(broken) < len(names):
      others = _list([name for name in names if name not in broken])
      return f' on examples of {_list(broken)} (the batch also has {others})'
    return f' on a batch of {_list(names)}' if names else ''

  def _from(self) -> str:
    last = self._last_good()
    if last is None:
      return 'no checkpoint was written yet'
    return f'the last good checkpoint is {last}'


def _list(names: list[str]) -> str:
  shown = ', '.join(names[:_MOST_NAMES])
  more = len(names) - _MOST_NAMES
  return f'{shown} and {more} more' if more > 0 else shown


@jax.jit
def _all_finite(tree: Any) -> jax.Array:
  parts = [
      jnp.all(jnp.isfinite(leaf))
      for leaf in jax.tree.leaves(tree)
      if jnp.issubdtype(leaf.dtype, jnp.inexact)
  ]
  return jnp.all(jnp.array(parts)) if parts else jnp.array(True)
