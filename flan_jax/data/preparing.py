"""Storing rows: a dataset's splits, from its source into Arrow files.

Each split of the source is read once for all the splits that want rows of it
(and once before, to count them, where a slice or a sample depends on that). A
split is written into a folder with a temporary name, which gets its name when
it is whole.
"""

from collections.abc import Callable, Mapping
import contextlib
import dataclasses
import errno
import os
import pathlib
import shutil
import time
import uuid

from absl import logging
from flan_jax import errors
from flan_jax.data import manifest as manifest_lib
from flan_jax.data import row_files
from flan_jax.data import row_types
from flan_jax.data import specs
from flan_jax.data import splits as splits_lib
from flan_jax.data.sources import base

# Called with the dataset's name, the split and the rows stored so far.
Progress = Callable[[str, str, int], None]
_PROGRESS_ROWS = 1000
# A folder that was not finished after so long belongs to nobody.
_ABANDONED_SECONDS = 24 * 3600


class Preparer:
  """Stores splits of one dataset."""

  def __init__(
      self,
      dataset: specs.Dataset,
      source: base.Source,
      settings: base.SourceSettings,
  ):
    self._dataset = dataset
    self._source = source
    self._settings = settings
    self._counts: dict[str, int] = {}

  def source_splits(self, split: str) -> list[str]:
    """Returns the source's splits that a split of the dataset takes rows of.

    Raises:
      UserError: There is no such split in the source, or no source.
    """
    return self._resolver(split).names(self._dataset.splits[split])

  def store(
      self,
      targets: Mapping[str, tuple[pathlib.Path, str]],
      progress: Progress | None = None,
      replace: bool = False,
  ) -> dict[str, manifest_lib.SplitManifest]:
    """Stores splits.

    Args:
      targets: Split -> the folder that its files go to, and the source's
        fingerprint.
      progress: Called every thousand rows and at the end of each split.
      replace: Put them in the place of rows that are there already.

    Returns:
      Split -> manifest.

    Raises:
      UserError: The source cannot be read, a split is empty, or the rows
        cannot be written.
    """
    jobs: list[_Job] = []
    try:
      for split, (target, fingerprint) in targets.items():
        parts = self._resolver(split).parts(self._dataset.splits[split])
        parts, available = self._sample(split, parts)
        folder = _temporary(target)
        jobs.append(_Job(split, target, folder, parts, available, fingerprint))
      skipped = self._copy(jobs, progress)
      manifests = {}
      for job in jobs:
        manifests[job.split] = self._finish(job, skipped)
        _rename(job.folder, job.target, replace)
      return manifests
    except OSError as error:
      if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        raise
      home = next(iter(targets.values()))[0].parent
      raise errors.UserError(
          f'{home}: the disk is full: make room, or name another folder with'
          ' --cache_dir=DIR'
      ) from error
    finally:
      for job in jobs:
        shutil.rmtree(job.folder, ignore_errors=True)

  def _resolver(self, split: str) -> splits_lib.Resolver:
    return splits_lib.Resolver(
        own=self._dataset.splits,
        is_split=self._source.is_split,
        count=self._count,
        unknown=self._source.unknown,
        where=base.declared_in(self._dataset, f'splits.{split}'),
    )

  def _count(self, name: str) -> int:
    if name not in self._counts:
      known = self._source.count(name)
      if known is None:
        skipped = base.Skipped(self._settings.on_error)
        known = sum(1 for _ in self._source.read(name, skipped))
      self._counts[name] = known
    return self._counts[name]

  def _sample(
      self, split: str, parts: list[splits_lib.Part]
  ) -> tuple[list[splits_lib.Part], int | None]:
    """Keeps `limits` rows, if that is fewer; returns how many there were."""
    limit = self._dataset.limits.get(split)
    if limit is None:
      return parts, None
    available = sum(splits_lib.size(part, self._count) for part in parts)
    if available > limit:
      name = f'{self._dataset.name}/{split}'
      chosen = splits_lib.sample(available, limit, self._settings.seed, name)
      parts = splits_lib.take(parts, chosen, self._count)
    return parts, available

  def _copy(
      self, jobs: list['_Job'], progress: Progress | None
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
      for place, (number, row) in enumerate(self._source.read(name, skipped)):
        for each in wanted:
          if not each.takes(place):
            continue
          try:
            each.job.writer.append(each.number, place, row)
          except row_types.Mismatch as error:
            where = self._source.place(name, number)
            skipped.add(errors.UserError(f'{where}: {error}'))
            continue
          rows = each.job.writer.rows
          if progress and rows % _PROGRESS_ROWS == 0:
            progress(self._dataset.name, each.job.split, rows)
        if all(each.done for each in wanted):
          break
    for job in jobs:
      if progress:
        progress(self._dataset.name, job.split, job.writer.rows)
    if skipped.count:
      logging.warning(
          '%s: skipped %d broken rows; the first: %s',
          self._dataset.name,
          skipped.count,
          skipped.first[0],
      )
    return skipped

  def _finish(
      self, job: '_Job', skipped: base.Skipped
  ) -> manifest_lib.SplitManifest:
    """Completes the files of a split; its folder still has no name."""
    dataset, source = self._dataset, self._source
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
  try:
    times = [path.stat().st_mtime for path in (folder, *folder.glob('*'))]
  except FileNotFoundError:
    return  # Its owner has just finished with it.
  if time.time() - max(times) > _ABANDONED_SECONDS:
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
