"""The row store: each dataset's rows, read from their source once.

`RowStore.open` gives the rows of a split, and reads the source on first use.
A split lies under `<cache>/rows/<dataset>/<split>-<key>/` as an Arrow file
with a manifest. The key holds what was declared and what the source was, so a
changed declaration or source is another folder. A folder is complete once it
has its name: it is written under a temporary one and renamed.

Templates and fields are applied on reading and are no part of it.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import hashlib
import json
import os
import pathlib
import re

from flan_jax import errors
from flan_jax import paths
from flan_jax.data import manifest as manifest_lib
from flan_jax.data import preparing
from flan_jax.data import reader
from flan_jax.data import sources
from flan_jax.data import specs
from flan_jax.data.sources import base

Manifest = manifest_lib.Manifest
Rows = reader.Rows
SourceSettings = base.SourceSettings
Progress = preparing.Progress


@dataclasses.dataclass(frozen=True)
class Status:
  """Whether a dataset can be used.

  Attributes:
    state: 'prepared' when its rows are stored, 'here' when its source can be
      read, 'missing' when neither.
    detail: One line: where it is, or what to run.
  """

  state: str
  detail: str


class RowStore:
  """Rows of datasets, under a cache directory that hosts may share."""

  def __init__(
      self,
      cache_dir: str | os.PathLike[str] | None = None,
      settings: SourceSettings | None = None,
  ):
    """Makes a store; nothing is read or written yet.

    Args:
      cache_dir: Where rows are kept; `paths.cache_dir()` if it is None.
      settings: What the user says about sources.
    """
    self._cache = (
        paths.cache_dir()
        if cache_dir is None
        else pathlib.Path(cache_dir).expanduser()
    )
    self._settings = settings or SourceSettings()

  def open(self, dataset: specs.Dataset, split: str) -> Rows:
    """Returns the rows of a split; reads the source if they are not stored.

    Raises:
      UserError: The dataset has no such split, the source cannot be read, or
        the split is empty.
    """
    folder, manifest = self._find(dataset, split)
    if manifest is None:
      manifest = self._prepare(dataset, [split])[split]
    return Rows(dataset, split, folder, manifest)

  def prepare(
      self,
      dataset: specs.Dataset,
      splits: Sequence[str] | None = None,
      force: bool = False,
      progress: Progress | None = None,
  ) -> Manifest:
    """Stores the rows of splits that are not stored yet.

    Args:
      dataset: Whose rows.
      splits: All that are declared if it is None.
      force: Read the source again even if nothing has changed.
      progress: Called every thousand rows and at the end of each split.

    Raises:
      UserError: As `open`.
    """
    names = list(dataset.splits) if splits is None else list(splits)
    found = {}
    for split in names:
      manifest = None if force else self._find(dataset, split)[1]
      if manifest is not None:
        found[split] = manifest
    missing = [split for split in names if split not in found]
    if missing:
      found |= self._prepare(dataset, missing, progress, replace=force)
    return Manifest(dataset.name, {split: found[split] for split in names})

  def status(self, dataset: specs.Dataset) -> Status:
    """Says whether a dataset's rows are stored, or can be read, or neither."""
    try:
      found = {split: self._find(dataset, split) for split in dataset.splits}
      if all(manifest for _, manifest in found.values()):
        counts = ', '.join(
            f'{split} {manifest.rows:,}'
            for split, (_, manifest) in found.items()
            if manifest
        )
        folder = next(iter(found.values()))[0].parent
        return Status('prepared', f'{counts} rows in {folder}')
      source = self._source(dataset)
      preparer = preparing.Preparer(dataset, source, self._settings)
      places = {
          source.locate(name)
          for split in dataset.splits
          for name in preparer.source_splits(split)
      }
    except errors.UserError as error:
      return Status('missing', str(error))
    return Status(
        'here',
        f'{", ".join(sorted(places))}; `flan-jax prepare {dataset.name}` reads'
        ' it now, otherwise its first use does',
    )

  def _source(self, dataset: specs.Dataset) -> base.Source:
    keep = self._cache / 'fingerprints'
    return sources.create(dataset, self._settings, keep)

  def _prepare(
      self,
      dataset: specs.Dataset,
      splits: Sequence[str],
      progress: Progress | None = None,
      replace: bool = False,
  ) -> dict[str, manifest_lib.SplitManifest]:
    targets = {}
    for split in splits:
      fingerprint = self._fingerprint(dataset, split)
      targets[split] = self._folder(dataset, split, fingerprint), fingerprint
    source = self._source(dataset)
    preparer = preparing.Preparer(dataset, source, self._settings)
    return preparer.store(targets, progress, replace)

  def _find(
      self, dataset: specs.Dataset, split: str
  ) -> tuple[pathlib.Path, manifest_lib.SplitManifest | None]:
    """Returns the folder of a split, and its manifest if it is stored."""
    if split not in dataset.splits:
      known = ', '.join(dataset.splits)
      raise errors.UserError(
          f"{base.declared_in(dataset, 'splits')}: dataset '{dataset.name}' has"
          f" no split '{split}'; it has {known}"
      )
    try:
      fingerprint = self._fingerprint(dataset, split)
    except errors.UserError:
      # The source is elsewhere; its rows may have been stored from there.
      pattern = self._folder(dataset, split, '')
      stored = [
          (path.stat().st_mtime_ns, path)
          for path in pattern.parent.glob(f'{pattern.name}*')
      ]
      for _, path in sorted(stored, reverse=True):
        manifest = self._load(path)
        if manifest:
          return path, manifest
      raise
    folder = self._folder(dataset, split, fingerprint)
    return folder, self._load(folder)

  def _load(self, folder: pathlib.Path) -> manifest_lib.SplitManifest | None:
    manifest = manifest_lib.load(folder)
    if manifest and manifest.skipped and self._settings.on_error == 'raise':
      return None  # Stored by somebody who wanted to skip broken rows.
    return manifest

  def _folder(
      self, dataset: specs.Dataset, split: str, fingerprint: str
  ) -> pathlib.Path:
    """Returns where a split belongs; with '' the beginning of its name."""
    source = dataset.source
    limit = dataset.limits.get(split)
    seeded = self._source(dataset).seeded or limit is not None
    # All in the declaration that decides which rows there are.
    declared = {
        'format': manifest_lib.FORMAT,
        'source': [source.kind, source.where, sorted(source.options.items())],
        'slices': _named(dataset, split),
        'limit': limit,
        'seed': self._settings.seed if seeded else None,
    }
    name = f'{split}-{_digest(json.dumps(declared, sort_keys=True))}-'
    name += _digest(fingerprint) if fingerprint else ''
    home = self._cache / 'rows' / re.sub(r'[^\w.-]', '_', dataset.name)
    return home / name

  def _fingerprint(self, dataset: specs.Dataset, split: str) -> str:
    source = self._source(dataset)
    preparer = preparing.Preparer(dataset, source, self._settings)
    names = preparer.source_splits(split)
    return json.dumps([[name, source.fingerprint(name)] for name in names])


def _digest(text: str) -> str:
  return hashlib.sha256(text.encode()).hexdigest()[:16]


def _named(dataset: specs.Dataset, split: str) -> Mapping[str, str]:
  """A split's expression, and those of the splits that it may refer to."""
  found: dict[str, str] = {}
  waiting = [split]
  while waiting:
    name = waiting.pop().strip()
    if name not in found and name in dataset.splits:
      found[name] = dataset.splits[name]
      waiting += re.split(r'[+\[]', found[name])
  return found
