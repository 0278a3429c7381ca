"""The row store: each dataset's rows, read from their source once.

`RowStore.open` gives the rows of a split, and reads the source on first use.
A split lies under `<cache>/rows/<dataset>/<split>-<key>/` as an Arrow file
with a manifest. The key holds what was declared and what the source was, so a
changed declaration or source is another folder. A folder is complete once it
has its name: it is written under a temporary one and renamed.

Templates and fields are applied on reading and are no part of it.
"""

from collections.abc import Callable, Mapping, Sequence
import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import pathlib
import re
import shutil
import time
import uuid

from absl import logging
from flan_jax import errors
from flan_jax import paths
from flan_jax.data import manifest as manifest_lib
from flan_jax.data import reader
from flan_jax.data import row_files
from flan_jax.data import row_types
from flan_jax.data import sources
from flan_jax.data import specs
from flan_jax.data import splits as splits_lib
from flan_jax.data.sources import base

Manifest = manifest_lib.Manifest
Rows = reader.Rows
SourceSettings = base.SourceSettings

# Called with the dataset's name, the split and the rows stored so far.
Progress = Callable[[str, str, int], None]
_PROGRESS_ROWS = 1000
# A folder that was not finished after so long belongs to nobody.
_ABANDONED_SECONDS = 24 * 3600


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
      places = {
          source.locate(name)
          for split in dataset.splits
          for name in _source_splits(dataset, split, source)
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
    home = self._cache / 'rows' / re.sub(r'[^\w.-]', '_', dataset.name)
    stem = f'{split}-{self._declared_key(dataset, split)}'
    try:
      folder = home / f'{stem}-{self._source_key(dataset, split)}'
    except errors.UserError:
      # The source is elsewhere; its rows may have been stored from there.
      stored = [
          (path.stat().st_mtime_ns, path) for path in home.glob(f'{stem}-*')
      ]
      for _, path in sorted(stored, reverse=True):
        manifest = self._load(path)
        if manifest:
          return path, manifest
      raise
    return folder, self._load(folder)

  def _load(self, folder: pathlib.Path) -> manifest_lib.SplitManifest | None:
    manifest = manifest_lib.load(folder)
    if manifest and manifest.skipped and self._settings.on_error == 'raise':
      return None  # Stored by somebody who wanted to skip broken rows.
    return manifest

  def _declared_key(self, dataset: specs.Dataset, split: str) -> str:
    """A hash of all in the declaration that decides which rows there are."""
    source = dataset.source
    limit = dataset.limits.get(split)
    seeded = source.kind == 'generated' or limit is not None
    declared = {
        'format': manifest_lib.FORMAT,
        'source': [source.kind, source.where, sorted(source.options.items())],
        'slices': _named(dataset, split),
        'limit': limit,
        'seed': self._settings.seed if seeded else None,
    }
    text = json.dumps(declared, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]

  def _source_key(self, dataset: specs.Dataset, split: str) -> str:
    return hashlib.sha256(
        self._fingerprint(dataset, split, self._source(dataset)).encode()
    ).hexdigest()[:16]

  def _fingerprint(
      self, dataset: specs.Dataset, split: str, source: base.Source
  ) -> str:
    names = _source_splits(dataset, split, source)
    return json.dumps([[name, source.fingerprint(name)] for name in names])

  def _prepare(
      self,
      dataset: specs.Dataset,
      splits: Sequence[str],
      progress: Progress | None = None,
      replace: bool = False,
  ) -> dict[str, manifest_lib.SplitManifest]:
    source = self._source(dataset)
    counts: dict[str, int] = {}

    def count(name: str) -> int:
      if name not in counts:
        known = source.count(name)
        if known is None:
          skipped = base.Skipped(self._settings.on_error)
          known = sum(1 for _ in source.read(name, skipped))
        counts[name] = known
      return counts[name]

    jobs = []
    for split in splits:
      folder, _ = self._find(dataset, split)
      parts = _resolver(dataset, split, source, count).parts(
          dataset.splits[split]
      )
      parts, available = self._sample(dataset, split, parts, count)
      jobs.append(
          _Job(
              split=split,
              target=folder,
              folder=_temporary(folder),
              parts=parts,
              available=available,
              fingerprint=self._fingerprint(dataset, split, source),
          )
      )
    try:
      skipped = self._copy(dataset, source, jobs, progress)
      manifests = {}
      for job in jobs:
        manifests[job.split] = self._finish(dataset, source, job, skipped)
        _rename(job.folder, job.target, replace)
      return manifests
    except OSError as error:
      if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        raise
      raise errors.UserError(
          f'{self._cache}: the disk is full: make room, or name another folder'
          ' with --cache_dir=DIR'
      ) from error
    finally:
      for job in jobs:
        shutil.rmtree(job.folder, ignore_errors=True)

  def _sample(
      self,
      dataset: specs.Dataset,
      split: str,
      parts: list[splits_lib.Part],
      count: Callable[[str], int],
  ) -> tuple[list[splits_lib.Part], int | None]:
    """Keeps `limits` rows, if that is fewer; returns how many there were."""
    limit = dataset.limits.get(split)
    if limit is None:
      return parts, None
    available = sum(splits_lib.size(part, count) for part in parts)
    if available > limit:
      name = f'{dataset.name}/{split}'
      chosen = splits_lib.sample(available, limit, self._settings.seed, name)
      parts = splits_lib.take(parts, chosen, count)
    return parts, available

  def _copy(
      self,
      dataset: specs.Dataset,
      source: base.Source,
      jobs: list['_Job'],
      progress: Progress | None,
  ) -> base.Skipped:
    """Reads each split of the source once, for all jobs that want rows."""
    skipped = base.Skipped(self._settings.on_error)
    names = dict.fromkeys(part.split for job in jobs for part in job.parts)
    for name in names:
      wanted = [
          _Wanted(job, number, part)
          for job in jobs
          for number, part in enumerate(job.parts)
          if part.split == name
      ]
      for place, (number, row) in enumerate(source.read(name, skipped)):
        for each in wanted:
          if not each.takes(place):
            continue
          try:
            each.job.writer.append(each.number, place, row)
          except row_types.Mismatch as error:
            where = source.place(name, number)
            skipped.add(errors.UserError(f'{where}: {error}'))
            continue
          rows = each.job.writer.rows
          if progress and rows % _PROGRESS_ROWS == 0:
            progress(dataset.name, each.job.split, rows)
        if all(each.done for each in wanted):
          break
    for job in jobs:
      if progress:
        progress(dataset.name, job.split, job.writer.rows)
    if skipped.count:
      logging.warning(
          '%s: skipped %d broken rows; the first: %s',
          dataset.name,
          skipped.count,
          skipped.first[0],
      )
    return skipped

  def _finish(
      self,
      dataset: specs.Dataset,
      source: base.Source,
      job: '_Job',
      skipped: base.Skipped,
  ) -> manifest_lib.SplitManifest:
    """Completes the files of a split; its folder still has no name."""
    rows = job.writer.rows
    place = ', '.join(
        dict.fromkeys(source.locate(part.split) for part in job.parts)
    )
    if not rows:
      raise errors.UserError(
          f"{base.declared_in(dataset, f'splits.{job.split}')}: the split is"
          f" empty: '{dataset.splits[job.split]}' takes no rows"
          f' of {place or dataset.source.where}'
      )
    types = job.writer.finish()
    file = job.folder / row_files.FILE
    manifest = manifest_lib.SplitManifest(
        dataset=dataset.name,
        split=job.split,
        slice=dataset.splits[job.split],
        source=dataclasses.asdict(dataset.source),
        place=place,
        version=source.version,
        fingerprint=job.fingerprint,
        seed=self._settings.seed,
        limit=dataset.limits.get(job.split),
        available=job.available or rows,
        rows=rows,
        parts=[
            (part.split, job.writer.counts.get(number, 0))
            for number, part in enumerate(job.parts)
        ],
        types=types,
        skipped=skipped.count,
        skipped_places=skipped.first,
        bytes=file.stat().st_size,
        sha256=row_files.sha256(file),
    )
    manifest.save(job.folder)
    return manifest


@dataclasses.dataclass
class _Job:
  """A split that is being stored."""

  split: str
  target: pathlib.Path
  folder: pathlib.Path
  parts: list[splits_lib.Part]
  available: int | None
  fingerprint: str

  def __post_init__(self):
    self.writer = row_files.Writer(self.folder)


class _Wanted:
  """The rows that one part of a split still waits for."""

  def __init__(self, job: _Job, number: int, part: splits_lib.Part):
    self.job = job
    self.number = number
    self.done = False
    self._places = None if part.places is None else iter(part.places.tolist())
    self._next = -1
    self._advance()

  def takes(self, place: int) -> bool:
    """Whether the row at a place is wanted; places come in order."""
    if self._places is None:
      return True
    if place != self._next:
      return False
    self._advance()
    return True

  def _advance(self) -> None:
    if self._places is not None:
      self._next = next(self._places, -1)
      self.done = self._next < 0


def _resolver(
    dataset: specs.Dataset,
    split: str,
    source: base.Source,
    count: Callable[[str], int],
) -> splits_lib.Resolver:
  return splits_lib.Resolver(
      own=dataset.splits,
      is_split=source.is_split,
      count=count,
      unknown=source.unknown,
      where=base.declared_in(dataset, f'splits.{split}'),
  )


def _source_splits(
    dataset: specs.Dataset, split: str, source: base.Source
) -> list[str]:
  resolver = _resolver(dataset, split, source, lambda _: 0)
  return resolver.names(dataset.splits[split])


def _named(dataset: specs.Dataset, split: str) -> Mapping[str, str]:
  """A split's expression, and those of the splits that it may refer to."""
  found: dict[str, str] = {}
  waiting = [split]
  while waiting:
    name = waiting.pop()
    if name not in found and name in dataset.splits:
      found[name] = dataset.splits[name]
      waiting += re.split(r'[+\[]', found[name])
  return found


def _temporary(target: pathlib.Path) -> pathlib.Path:
  """Makes a folder beside `target` for what is not whole yet."""
  home = target.parent
  try:
    home.mkdir(parents=True, exist_ok=True)
    for path in home.glob('.*.tmp'):
      _remove_abandoned(path)
    folder = home / f'.{target.name}.{uuid.uuid4().hex[:12]}.tmp'
    folder.mkdir()
  except OSError as error:
    raise errors.UserError(
        f'{home}: rows cannot be stored there ({error.strerror}): name another'
        ' folder with --cache_dir=DIR'
    ) from error
  return folder


def _remove_abandoned(folder: pathlib.Path) -> None:
  """Removes what a killed process left; one at work changes its files."""
  times = [path.stat().st_mtime for path in (folder, *folder.glob('*'))]
  if time.time() - max(times, default=0.0) > _ABANDONED_SECONDS:
    shutil.rmtree(folder, ignore_errors=True)


def _rename(folder: pathlib.Path, target: pathlib.Path, replace: bool) -> None:
  """Gives a folder its name, unless another process was quicker.

  Args:
    folder: What was written; it stays where it is if it is not needed.
    target: Its name.
    replace: Put it in the place of rows that are there already.
  """
  if target.exists():
    if not replace and manifest_lib.load(target):
      return
    # Whoever has the old files open keeps them.
    old = target.with_name(f'.{target.name}.{uuid.uuid4().hex[:12]}.tmp')
    with contextlib.suppress(FileNotFoundError):
      os.rename(target, old)
    shutil.rmtree(old, ignore_errors=True)
  try:
    os.rename(folder, target)
  except OSError:
    # Somebody stored the same rows since the look above.
    if manifest_lib.load(target) is None:
      raise
