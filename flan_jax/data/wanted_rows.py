"""Which rows of a source a split wants, and which it has got so far."""

import array
import collections
from collections.abc import Callable
import dataclasses

from flan_jax.data import row_files
from flan_jax.data import row_folders
from flan_jax.data import specs
from flan_jax.data import splits as splits_lib
from flan_jax.data.sources import base
import numpy as np

_FIRST = 5  # Of the rows that are not wanted, a few are named.


def resolver(
    dataset: specs.Dataset,
    source: base.Source,
    split: str,
    count: Callable[[str], int] | None = None,
) -> splits_lib.Resolver:
  """Returns what says which rows of a source a split of a dataset takes.

  Args:
    dataset: The declaration.
    source: Its source.
    split: Named in errors.
    count: The number of rows of a split of the source; may be left out where
      only names are asked for.
  """
  return splits_lib.Resolver(
      own=dataset.splits,
      is_split=source.is_split,
      count=count or _uncounted,
      unknown=source.unknown,
      where=base.declared_in(dataset, f'splits.{split}'),
  )


def _uncounted(name: str) -> int:
  raise ValueError(f"the rows of '{name}' are not counted here")


@dataclasses.dataclass
class Job:
  """A split that is being stored.

  Attributes:
    split: train, validation or test.
    parts: The rows of its slice.
    fingerprint: Of the source.
    skipped: Rows that could not be stored.
    unjudged: Rows on which `keep` failed.
    folder: What is written.
    turned_down: For each part, the places of rows that are not wanted.
    available: The rows of the slice; only known where there is a limit.
    chosen: For each part, the places of the sample; None for all.
    read: The rows seen so far.
    counts: Reason -> the number of rows that are not wanted.
    first: Reason -> the first of them, such as 'train:17'.
  """

  split: str
  parts: list[splits_lib.Part]
  fingerprint: str
  skipped: base.Skipped
  unjudged: base.Skipped
  folder: row_folders.Folder
  turned_down: list['array.array[int]']
  available: int = 0
  chosen: list[np.ndarray] | None = None
  read: int = 0
  counts: collections.Counter[str] = dataclasses.field(
      default_factory=collections.Counter
  )
  first: dict[str, list[str]] = dataclasses.field(
      default_factory=lambda: collections.defaultdict(list)
  )

  def __post_init__(self):
    self.writer = row_files.Writer(self.folder.path)

  def turn_down(self, number: int, place: int, reason: str) -> None:
    """Notes a row of a part that is not wanted."""
    self.turned_down[number].append(place)
    self.counts[reason] += 1
    if self.counts[reason] <= _FIRST:
      self.first[reason].append(f'{self.parts[number].split}:{place}')

  @property
  def limited(self) -> bool:
    return self.chosen is not None

  def start_again(self, skipped: base.Skipped) -> None:
    """Forgets the rows written so far."""
    self.writer.discard()
    self.writer = row_files.Writer(self.folder.path)
    self.skipped = skipped


class Wanted:
  """The rows that one part of a split still waits for."""

  def __init__(self, job: Job, number: int, whole: bool):
    """Starts at the beginning.

    Args:
      job: The split.
      number: The part.
      whole: All rows of the slice are to be seen, whether chosen or not.
    """
    self.job = job
    self.number = number
    chosen = job.chosen[number] if job.chosen is not None else None
    self._chosen = _Places(chosen)
    places = job.parts[number].places
    self._places = _Places(places) if whole or chosen is None else self._chosen

  @property
  def done(self) -> bool:
    return self._places.done

  def takes(self, place: int) -> bool:
    """Whether the row at a place is to be seen; places come in order."""
    return self._places.has(place)

  def chosen(self, place: int) -> bool:
    """Whether a row that is seen is among the sample."""
    return self._chosen.has(place)


class _Places:
  """Places, ascending, that are asked for in order."""

  def __init__(self, places: np.ndarray | None):
    self.done = False
    self._places = None if places is None else iter(places.tolist())
    self._next = -1
    self._advance()

  def has(self, place: int) -> bool:
    """Whether a place is among them."""
    if self._places is None:
      return True
    while not self.done and self._next < place:
      self._advance()
    if place != self._next:
      return False
    self._advance()
    return True

  def _advance(self) -> None:
    if self._places is not None:
      self._next = next(self._places, -1)
      self.done = self._next < 0
