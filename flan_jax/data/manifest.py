"""What is known of stored rows: where they came from, and how many."""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import json
import os
import pathlib
from typing import Any

FORMAT = 2  # Raised when the files of the row store change in kind.
NAME = 'manifest.json'


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitManifest:
  """One split of one dataset, as it lies in the row store.

  Attributes:
    dataset: The dataset's name.
    split: train, validation or test.
    slice: The rows of the source that were asked for, such as 'train[:-200]'.
    source: Kind, where and options, as declared.
    alternative: Which of the declared sources: 0 is the first, n the n-th of
      `alternatives`.
    place: The file or folder that was read.
    version: The source's version; '' where sources have none.
    fingerprint: What the source was when it was read; see `sources`.
    seed: Of the sample and of generated rows.
    limit: The most rows to keep; None for all.
    first_rows: Whether a limit kept the first rows, and not a sample.
    read: The rows of the slice.
    available: Those that were not turned down, to choose from.
    rows: The rows stored.
    parts: Split of the source and number of rows, in the order stored.
    types: Column -> type; see `row_types`. Columns are the row's keys, or the
      fields where a function makes them.
    filtered: Rows that the declaration's `keep` turned down.
    filtered_places: The first of them, such as 'train:17'.
    hidden_labels: Rows left out since their label is a negative number.
    hidden_places: The first of them.
    skipped: Broken rows that were left out.
    skipped_places: What was wrong with the first of them, and where.
    empty: Field -> stored rows in which it holds no text.
    control: Field -> stored rows in which it holds control characters (other
      than line feed and tab) or U+FFFD, which stands for lost text.
    bytes: Size of the Arrow file.
    sha256: Of the Arrow file.
    format: Version of this format.
  """

  dataset: str
  split: str
  slice: str
  source: Mapping[str, Any]
  alternative: int
  place: str
  version: str
  fingerprint: str
  seed: int
  limit: int | None
  first_rows: bool
  read: int
  available: int
  rows: int
  parts: Sequence[tuple[str, int]]
  types: Mapping[str, Any]
  filtered: int
  filtered_places: Sequence[str]
  hidden_labels: int
  hidden_places: Sequence[str]
  skipped: int
  skipped_places: Sequence[str]
  empty: Mapping[str, int]
  control: Mapping[str, int]
  bytes: int
  sha256: str
  format: int = FORMAT

  def save(self, folder: pathlib.Path) -> None:
    """Writes `manifest.json` into a folder that nobody reads yet."""
    text = json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False)
    (folder / NAME).write_text(text + '\n', encoding='utf-8')


@dataclasses.dataclass(frozen=True)
class Manifest:
  """What preparing a dataset gave, by split."""

  dataset: str
  splits: Mapping[str, SplitManifest]

  def to_json(self) -> dict[str, Any]:
    """Returns the manifests as plain dicts, by split."""
    return {
        name: dataclasses.asdict(split) for name, split in self.splits.items()
    }


def findings(splits: Iterable[SplitManifest]) -> list[str]:
  """Returns what there is to know of rows, as 'n rows filtered'; [] if nothing.

  Args:
    splits: Of one dataset.
  """
  counts: dict[str, int] = {}
  for split in splits:
    for what, count in (
        ('filtered', split.filtered),
        ('with a hidden label', split.hidden_labels),
        ('broken and skipped', split.skipped),
        *((f'with no {name}', n) for name, n in split.empty.items()),
        *(
            (f'with control characters in {name}', n)
            for name, n in split.control.items()
        ),
    ):
      counts[what] = counts.get(what, 0) + count
  return [f'{count:,} {what}' for what, count in counts.items() if count]


def load(folder: str | os.PathLike[str]) -> SplitManifest | None:
  """Reads a folder's manifest; None unless folder and manifest are whole."""
  folder = pathlib.Path(folder)
  manifest = read(folder)
  try:
    # A disk that filled up or lost power leaves a file too short.
    size = (folder / 'rows.arrow').stat().st_size
  except OSError:
    return None
  return manifest if manifest and manifest.bytes == size else None


def read(folder: pathlib.Path) -> SplitManifest | None:
  """Reads a folder's manifest alone; None unless it is whole."""
  try:
    fields = json.loads((folder / NAME).read_text(encoding='utf-8'))
    return SplitManifest(**fields) if fields.get('format') == FORMAT else None
  except (OSError, ValueError, TypeError, AttributeError):
    return None
