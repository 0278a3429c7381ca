"""What became of examples: how many were drawn, and which did not fit.

A tally has a row of six numbers for each task, of what happened in one block:
the member's number, examples, inputs cut, targets cut, and tokens of inputs and
of targets that are left (ends included). It costs next to nothing, so the
pipeline keeps one for every block; `Report` adds them up.
"""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses

from flan_jax.data import packing
import numpy as np

_COLUMNS = 6


@dataclasses.dataclass(frozen=True)
class TaskReport:
  """What became of one task's examples.

  Attributes:
    task: The task's name.
    examples: How many were drawn.
    inputs_cut: How many of them had inputs too long, which lost their end.
    targets_cut: The same of targets.
    input_tokens: Tokens of inputs that are left, ends included.
    target_tokens: Tokens of targets that are left, ends included.
  """

  task: str
  examples: int = 0
  inputs_cut: int = 0
  targets_cut: int = 0
  input_tokens: int = 0
  target_tokens: int = 0


class Report:
  """Adds tallies up."""

  def __init__(self, names: Sequence[str]):
    """Starts from nothing.

    Args:
      names: The members' names, in the order of their numbers.
    """
    self._names = list(names)
    self._counts = np.zeros((len(names), _COLUMNS - 1), np.int64)

  def add(self, tally: Sequence[Sequence[int]]) -> None:
    """Adds a block's tally."""
    rows = np.asarray(tally, np.int64).reshape(-1, _COLUMNS)
    self._counts[rows[:, 0]] += rows[:, 1:]

  def merge(self, others: Iterable['Report']) -> None:
    """Adds what other hosts report of the same mixture."""
    for other in others:
      self._counts += other._counts

  @property
  def counts(self) -> np.ndarray:
    """All numbers, int64 [members, 5], in the order of `TaskReport`."""
    return self._counts.copy()

  def tasks(self) -> list[TaskReport]:
    """Returns each member's numbers, in the order of the mixture."""
    return [
        TaskReport(name, *row)
        for name, row in zip(self._names, self._counts.tolist(), strict=True)
    ]

  def cut(self) -> list[TaskReport]:
    """Returns the tasks that lost some of their text."""
    return [
        each for each in self.tasks() if each.inputs_cut or each.targets_cut
    ]


def tally(
    members: np.ndarray,
    inputs: packing.Ragged,
    targets: packing.Ragged,
    limits: Mapping[str, int],
) -> list[list[int]]:
  """Counts a block's examples by member.

  Args:
    members: Each example's member, int64 [examples].
    inputs: Ids of inputs, without ends, not cut yet.
    targets: Ids of targets, without ends, not cut yet.
    limits: Tokens in a row: 'inputs' and 'targets'.

  Returns:
    A row for each member present, as the module describes it.
  """
  present, place = np.unique(members, return_inverse=True)
  result = np.zeros((len(present), _COLUMNS), np.int64)
  result[:, 0] = present
  result[:, 1] = np.bincount(place, minlength=len(present))
  for side, (ragged, limit) in enumerate(
      ((inputs, limits['inputs']), (targets, limits['targets']))
  ):
    with_end = ragged.lengths + 1
    for column, values in (
        (2 + side, with_end > limit),
        (4 + side, np.minimum(with_end, limit)),
    ):
      # Sums of whole numbers far below 2**53.
      result[:, column] = np.bincount(place, values, len(present))
  return result.tolist()
