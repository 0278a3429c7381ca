"""Numbers of a logging period: of its steps, its clusters and its devices."""

from collections.abc import Mapping
import dataclasses
from typing import Any, NamedTuple, TYPE_CHECKING

from flan_jax.data import mixtures
from flan_jax.training import utilization as utilization_lib
import numpy as np

if TYPE_CHECKING:
  from flan_jax.training import step as step_lib

# Digits that are kept: float32 sums have no more.
_DIGITS = 7


class Record(dict[str, Any]):
  """A step's numbers by name, and each member's sums beside them.

  Attributes:
    members: On the host; None where the step gives none.
  """

  members: 'step_lib.MemberSums | None' = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Members:
  """The members of a mixture, in its order.

  Attributes:
    names: Of the tasks.
    clusters: Of their datasets.
    collections: Of their datasets; '' for those in none.
  """

  names: tuple[str, ...]
  clusters: tuple[str, ...]
  collections: tuple[str, ...]

  @classmethod
  def of(cls, mixture: mixtures.Mixture) -> 'Members':
    """Returns those of a mixture."""
    tasks = [task for task, _ in mixture.members]
    return cls(
        names=tuple(task.name for task in tasks),
        clusters=tuple(task.dataset.cluster for task in tasks),
        collections=tuple(task.dataset.collection for task in tasks),
    )

  def in_batch(self, record: Record) -> list[str]:
    """Returns the names of the tasks that a step's batch had examples of."""
    if record.members is None:
      return []
    present = np.asarray(record.members.weight) > 0
    return [n for n, here in zip(self.names, present, strict=True) if here]

  def means(self, loss: np.ndarray, weight: np.ndarray) -> dict[str, float]:
    """Returns mean losses, 'loss/cluster/...' and 'loss/collection/...'.

    Args:
      loss: Each member's summed loss, float [members].
      weight: Each member's summed weights.
    """
    found: dict[str, float] = {}
    for kind, groups in (
        ('cluster', self.clusters),
        ('collection', self.collections),
    ):
      totals: dict[str, Any] = {}
      for group, *sums in zip(groups, loss, weight, strict=True):
        totals[group] = totals.get(group, 0) + np.array(sums)
      for group, (lost, weighed) in sorted(totals.items()):
        if group and weighed > 0:
          found[f'loss/{kind}/{group}'] = lost / weighed
    return found


class _Sums(NamedTuple):
  loss: np.ndarray
  weight: np.ndarray


class Period:
  """Collects steps, and says what they were on the whole."""

  def __init__(
      self,
      members: Members | None = None,
      utilization: utilization_lib.Utilization | None = None,
  ):
    """Starts with no step.

    Args:
      members: Whose sums the records have.
      utilization: For MFU and memory.
    """
    self._members = members
    self._utilization = utilization
    self._records: list[Record] = []
    self._sums: _Sums | None = None

  def add(self, record: Mapping[str, Any]) -> None:
    """Adds a step's record."""
    self._records.append(Record(record))
    sums = getattr(record, 'members', None)
    if self._members is None or sums is None or record.get('skipped'):
      return
    loss, weight = (np.asarray(part, np.float64) for part in sums)
    if self._sums is not None:
      loss, weight = loss + self._sums.loss, weight + self._sums.weight
    self._sums = _Sums(loss, weight)

  def close(self) -> dict[str, float]:
    """Returns the period's numbers, and starts the next one.

    Losses and accuracy are means over its target tokens; rates and shares are
    over its seconds; the learning rate and gradient norm are the last step's.
    Steps without an update count in 'skipped' and in rates and shares alone.
    """
    records, self._records = self._records, []
    sums, self._sums = self._sums, None
    found: dict[str, float] = {'steps': len(records), **_means(records)}
    if self._members is not None and sums is not None:
      found |= self._members.means(*sums)
    if self._utilization is not None:
      densities = [_densities(record) for record in records]
      seconds = sum(r['seconds'] for r in records)
      mfu = self._utilization.mfu(densities, seconds)
      if mfu is not None:
        found['mfu'] = mfu
      found |= self._utilization.memory()
    return {name: _rounded(value) for name, value in found.items()}


def _means(records: list[Record]) -> dict[str, float]:
  seconds = sum(r['seconds'] for r in records)
  good = [r for r in records if not r.get('skipped')]
  weight = max(sum(r['target_tokens'] for r in good), 1)

  def mean(name: str) -> float:
    return sum(r[name] * r['target_tokens'] for r in good) / weight

  found: dict[str, float] = {}
  if len(good) < len(records):
    found['skipped'] = len(records) - len(good)
  if good:
    found |= {
        'loss': mean('loss'),
        'z_loss': mean('z_loss'),
        'accuracy': mean('accuracy'),
        'learning_rate': good[-1]['learning_rate'],
        'gradient_norm': good[-1]['gradient_norm'],
    }
  found |= {
      'steps_per_second': len(records) / seconds,
      'tokens_per_second': sum(r['tokens'] for r in records) / seconds,
      'data_wait': (
          sum(r['data_wait'] * r['seconds'] for r in records) / seconds
      ),
  }
  if 'examples' in records[-1]:
    examples = sum(r['examples'] for r in records)
    found['examples_per_second'] = examples / seconds
  for side in _densities(records[-1]):
    name = f'{side}_density'
    found[name] = sum(r[name] for r in records) / len(records)
  return found


def _densities(record: Record) -> dict[str, float]:
  end = '_density'
  return {
      name.removesuffix(end): value
      for name, value in record.items()
      if name.endswith(end)
  }


def _rounded(value: float) -> float:
  if isinstance(value, int):
    return value
  return float(f'{value:.{_DIGITS}g}')
