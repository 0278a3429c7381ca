"""What is known of stored rows: where they came from, and how many."""

from collections.abc import Mapping, Sequence
import dataclasses
import json
import os
import pathlib
from typing import Any

FORMAT = 1  # Raised when the files of the row store change in kind.
NAME = 'manifest.json'


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitManifest:
  """One split of one dataset, as it lies in the row store.

  Attributes:
    dataset: The dataset's name.
    split: train, validation or test.
    slice: The rows of the source that were asked for, such as 'train[:-200]'.
    source: Kind, where and options, as declared.
    place: The file or folder that was read.
    version: The source's version; '' where sources have none.
    fingerprint: What the source was when it was read; see `sources`.
    seed: Of the sample and of generated rows.
    limit: The most rows to keep; None for all.
    available: The rows there were to choose from.
    rows: The rows stored.
    parts: Split of the source and number of rows, in the order stored.
    types: Column -> type; see `row_types`.
    skipped: Broken rows that were left out.
    skipped_places: What was wrong with the first of them, and where.
    bytes: Size of the Arrow file.
    sha256: Of the Arrow file.
    format: Version of this format.
  """

  dataset: str
  split: str
  slice: str
  source: Mapping[str, Any]
  place: str
  version: str
  fingerprint: str
  seed: int
  limit: int | None
  available: int
  rows: int
  parts: Sequence[tuple[str, int]]
  types: Mapping[str, Any]
  skipped: int
  skipped_places: Sequence[str]
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


def load(folder: str | os.PathLike[str]) -> SplitManifest | None:
  """Reads a folder's manifest; None unless folder and manifest are whole."""
  folder = pathlib.Path(folder)
  try:
    fields = json.loads((folder / NAME).read_text(encoding='utf-8'))
    if fields.get('format') != FORMAT:
      return None
    manifest = SplitManifest(**fields)
    # A disk that filled up or lost power leaves a file too short.
    if (folder / 'rows.arrow').stat().st_size != manifest.bytes:
      return None
    return manifest
  except (OSError, ValueError, TypeError, AttributeError):
    return None
