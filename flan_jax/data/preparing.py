"""Storing rows: a dataset's splits, from its source into Arrow files.

Each split of the source is read once for all the splits that want rows of it.
It is read once before, to count its rows, where a slice or a sample depends on
that and the source does not know; and once more for a sample when rows were
turned down, since only then is it known what there is to draw from.
"""

import array
from collections.abc import Callable, Mapping
import dataclasses
import pathlib

from absl import logging
from flan_jax import errors
from flan_jax.data import filtering
from flan_jax.data import manifest as manifest_lib
from flan_jax.data import row_files
from flan_jax.data import row_folders
from flan_jax.data import row_report
from flan_jax.data import row_types
from flan_jax.data import specs
from flan_jax.data import splits as splits_lib
from flan_jax.data import wanted_rows
from flan_jax.data.sources import base
import numpy as np

# Called with the dataset's name, the split and the rows stored so far.
Progress = Callable[[str, str, int], None]
_PROGRESS_ROWS = 1000


class Preparer:
  """Stores splits of one dataset."""

  def __init__(
      self,
      dataset: specs.Dataset,
      source: base.Source,
      settings: base.SourceSettings,
      alternative: int = 0,
  ):
    """Makes ready to read; nothing is read yet.

    Args:
      dataset: Whose rows, as the place where they are found has them.
      source: That place.
      settings: What the user says about sources.
      alternative: 0 for the first source that is declared, n for the n-th of
        its alternatives; the manifest says so.
    """
    self._dataset = dataset
    self._source = source
    self._settings = settings
    self._alternative = alternative
    self._counts: dict[str, int] = {}

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
      UserError: The source cannot be read, a row cannot be used, a split is
        empty, or the rows cannot be written.
    """
    jobs: list[wanted_rows.Job] = []
    judge = filtering.Filter(self._dataset)
    try:
      for split, (target, fingerprint) in targets.items():
        jobs.append(self._job(split, target, fingerprint))
      broken = self._copy(jobs, judge, judge.judges, progress)
      again = [job for job in jobs if job.limited and any(job.turned_down)]
      for job in again:
        self._sample_again(job)
      if again:
        self._copy(again, judge, False, progress)
      manifests = {}
      for job in jobs:
        if progress:
          progress(self._dataset.name, job.split, job.writer.rows)
        manifests[job.split] = self._finish(job, broken)
        job.folder.finish(replace)
      self._warn(jobs, broken)
      return manifests
    except OSError as error:
      if not row_folders.is_ours(error):
        raise
      home = next(iter(targets.values()))[0].parent
      raise row_folders.failure(home, error) from error
    finally:
      for job in jobs:
        job.folder.close()

  def _job(
      self, split: str, target: pathlib.Path, fingerprint: str
  ) -> wanted_rows.Job:
    expression = self._dataset.splits[split]
    parts = wanted_rows.resolver(
        self._dataset, self._source, split, self._count
    ).parts(expression)
    available, chosen = 0, None
    limit = self._dataset.limits.get(split)
    if limit is not None:
      available = sum(splits_lib.size(part, self._count) for part in parts)
      if available > limit:
        chosen = self._sample(split, parts, available)
    return wanted_rows.Job(
        split=split,
        parts=parts,
        fingerprint=fingerprint,
        skipped=base.Skipped(self._settings.on_error),
        unjudged=base.Skipped(self._settings.on_error),
        folder=row_folders.Folder(target),
        turned_down=[array.array('q') for _ in parts],
        available=available,
        chosen=chosen,
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
      self, split: str, parts: list[splits_lib.Part], available: int
  ) -> list[np.ndarray]:
    """Draws the rows to keep; returns their places in each part."""
    limit = min(self._dataset.limits[split], available)
    if self._settings.first_rows:
      chosen = np.arange(limit, dtype=np.int64)
    else:
      name = f'{self._dataset.name}/{split}'
      chosen = splits_lib.sample(available, limit, self._settings.seed, name)
    return splits_lib.choose(parts, chosen, self._count)

  def _sample_again(self, job: wanted_rows.Job) -> None:
    """Draws among the rows that were not turned down."""
    kept = []
    for part, down in zip(job.parts, job.turned_down, strict=True):
      places = part.places
      if places is None:
        places = np.arange(self._count(part.split), dtype=np.int64)
      places = places[np.isin(places, np.array(down), invert=True)]
      kept.append(splits_lib.Part(part.split, places))
    rest = sum(len(part.places) for part in kept if part.places is not None)
    job.chosen = self._sample(job.split, kept, rest)
    job.start_again(base.Skipped(self._settings.on_error))

  def _copy(
      self,
      jobs: list[wanted_rows.Job],
      judge: filtering.Filter,
      judging: bool,
      progress: Progress | None,
  ) -> dict[str, base.Skipped]:
    """Reads each split of the source once, for all jobs that want rows.

    Returns:
      Split of the source -> what could not be read of it.
    """
    broken = {}
    names = dict.fromkeys(part.split for job in jobs for part in job.parts)
    for name in names:
      wanted = [
          wanted_rows.Wanted(job, number, judging)
          for job in jobs
          for number, part in enumerate(job.parts)
          if part.split == name
      ]
      skipped = broken[name] = base.Skipped(self._settings.on_error)
      for place, (number, row) in enumerate(self._source.read(name, skipped)):
        for each in wanted:
          if each.takes(place):
            self._take(each, place, number, row, judge, judging, progress)
        if all(each.done for each in wanted):
          break
    return broken

  def _take(
      self,
      wanted: wanted_rows.Wanted,
      place: int,
      number: base.Number,
      row: base.Row,
      judge: filtering.Filter,
      judging: bool,
      progress: Progress | None,
  ) -> None:
    """Judges a row and stores it, if the split wants it."""
    job = wanted.job
    job.read += 1
    name = job.parts[wanted.number].split

    def where() -> str:
      return f'{name}:{place} ({self._source.place(name, number)})'

    if judging:
      try:
        reason = judge.judge(row, where)
      except errors.UserError as error:
        job.unjudged.add(error)
        reason = filtering.BROKEN
      if reason:
        job.turn_down(wanted.number, place, reason)
        return
      if not wanted.chosen(place):
        return
    try:
      job.writer.append(wanted.number, place, judge.stored(row, where))
    except row_types.Mismatch as error:
      at = self._source.place(name, number)
      job.skipped.add(errors.UserError(f'{at}: {error}'))
    except errors.UserError as error:
      job.skipped.add(error)
    else:
      rows = job.writer.rows
      if progress and rows % _PROGRESS_ROWS == 0:
        progress(self._dataset.name, job.split, rows)

  def _warn(
      self, jobs: list[wanted_rows.Job], broken: Mapping[str, base.Skipped]
  ) -> None:
    skipped = [*broken.values()]
    for job in jobs:
      skipped += [job.skipped, job.unjudged]
    count = sum(each.count for each in skipped)
    if count:
      logging.warning(
          '%s: skipped %d broken rows; the first: %s',
          self._dataset.name,
          count,
          next(text for each in skipped for text in each.first),
      )

  def _finish(
      self, job: wanted_rows.Job, broken: Mapping[str, base.Skipped]
  ) -> manifest_lib.SplitManifest:
    """Completes the files of a split; its folder still has no name."""
    dataset, source = self._dataset, self._source
    rows = job.writer.rows
    names = list(dict.fromkeys(part.split for part in job.parts))
    place = ', '.join(dict.fromkeys(source.locate(name) for name in names))
    skipped = [*(broken[name] for name in names), job.skipped, job.unjudged]
    filtered = job.counts[filtering.FILTERED]
    hidden = job.counts[filtering.HIDDEN]
    limit = dataset.limits.get(job.split)
    if not rows:
      raise self._empty(job, place, filtered, hidden)
    types = job.writer.finish()
    file = job.folder.path / row_files.FILE
    report = row_report.look(dataset, row_files.read(file), types)
    manifest = manifest_lib.SplitManifest(
        dataset=dataset.name,
        split=job.split,
        slice=dataset.splits[job.split],
        source=dataclasses.asdict(dataset.source),
        alternative=self._alternative,
        place=place,
        version=source.version,
        fingerprint=job.fingerprint,
        seed=self._settings.seed,
        limit=limit,
        first_rows=limit is not None and self._settings.first_rows,
        read=job.available if job.limited else job.read,
        available=(
            job.available - sum(job.counts.values()) if job.limited else rows
        ),
        rows=rows,
        parts=[
            (part.split, job.writer.counts.get(number, 0))
            for number, part in enumerate(job.parts)
        ],
        types=types,
        filtered=filtered,
        filtered_places=job.first[filtering.FILTERED],
        hidden_labels=hidden,
        hidden_places=job.first[filtering.HIDDEN],
        skipped=sum(each.count for each in skipped),
        skipped_places=[text for each in skipped for text in each.first][:20],
        empty=report.empty,
        control=report.control,
        bytes=file.stat().st_size,
        sha256=row_files.sha256(file),
    )
    manifest.save(job.folder.path)
    return manifest

  def _empty(
      self, job: wanted_rows.Job, place: str, filtered: int, hidden: int
  ) -> errors.UserError:
    dataset = self._dataset
    taken = 'takes no rows'
    if filtered or hidden:
      taken = f'takes {job.read:,} rows, but none that can be used,'
    text = (
        f"{base.declared_in(dataset, f'splits.{job.split}')}: the split is"
        f" empty: '{dataset.splits[job.split]}' {taken}"
        f' of {place or dataset.source.where}'
    )
    if filtered:
      text += f'; {dataset.keep} turns down {filtered:,}'
    if hidden:
      text += f'; {hidden:,} have a hidden label, a negative number'
    return errors.UserError(text)
