"""The row store: each dataset's rows, read from their source once.

`RowStore.open` gives the rows of a split, and reads the source on first use.
A split lies under `<cache>/rows/<dataset>/<split>-<key>/` as an Arrow file
with a manifest. The key holds what was declared and what the source was, so a
changed declaration or source is another folder. A folder is complete once it
has its name: it is written under a temporary one and renamed.

Templates, and fields that are paths, are applied on reading and are no part of
it. Fields that a function makes are stored in place of the rows.
"""

from collections.abc import Iterable, Sequence
import os

from absl import logging
from flan_jax import errors
from flan_jax import paths
from flan_jax import storage
from flan_jax.data import locating
from flan_jax.data import manifest as manifest_lib
from flan_jax.data import preparing
from flan_jax.data import reader
from flan_jax.data import specs
from flan_jax.data.sources import base
from flan_jax.data.sources import tfds_download

Manifest = manifest_lib.Manifest
Rows = reader.Rows
SourceSettings = base.SourceSettings
Status = locating.Status
Progress = preparing.Progress


class RowStore:
  """Rows of datasets, under a cache directory that hosts may share."""

  def __init__(
      self,
      cache_dir: str | os.PathLike[str] | None = None,
      settings: SourceSettings | None = None,
  ):
    """Makes a store; nothing is read or written yet.

    Args:
      cache_dir: Where rows are kept; `paths.cache_dir()` if it is None. Where
        it is in a bucket, they are kept there and in `paths.cache_dir()`.
      settings: What the user says about sources.
    """
    self._cache = paths.cache_dir(cache_dir)
    self._bucket = None
    if cache_dir is not None and storage.is_address(cache_dir):
      self._bucket = storage.path(cache_dir)
    self._settings = settings or SourceSettings()
    self._noted: set[str] = set()

  def open(self, dataset: specs.Dataset, split: str) -> Rows:
    """Returns the rows of a split; reads the source if they are not stored.

    Raises:
      UserError: The dataset has no such split, its rows are in none of its
        sources or cannot be used, the split is empty, or a field is not in
        the rows.
    """
    _check_split(dataset, split)
    view = self._view(dataset)
    found = view.stored(split)
    if found is None:
      manifest = self._prepare(view, [split])[split]
      found = view.folder(split, manifest.fingerprint), manifest
    self._note_version(view, found[1])
    return view.opened(split, *found)

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
    for split in names:
      _check_split(dataset, split)
    view = self._view(dataset)
    found = {}
    for split in names:
      stored = None if force else view.stored(split)
      if stored is not None:
        found[split] = stored[1]
        view.share(stored[0])
    missing = [split for split in names if split not in found]
    if missing:
      found |= self._prepare(view, missing, progress, replace=force)
      for split in missing:
        folder = view.folder(split, found[split].fingerprint)
        view.opened(split, folder, found[split])
    for manifest in found.values():
      self._note_version(view, manifest)
    return Manifest(dataset.name, {split: found[split] for split in names})

  def status(
      self, dataset: specs.Dataset, splits: Sequence[str] | None = None
  ) -> Status:
    """Says whether rows are stored, can be read, or how to get them.

    Args:
      dataset: Whose rows.
      splits: Those that matter; all that are declared if it is None.
    """
    names = list(dataset.splits) if splits is None else list(splits)
    return locating.status(self._views(dataset), names)

  def missing(
      self,
      datasets: Iterable[specs.Dataset],
      splits: Sequence[str] = specs.SPLITS,
  ) -> list[tuple[specs.Dataset, Status]]:
    """Returns the datasets whose rows are not here, and how to get them.

    Args:
      datasets: Each is looked at once.
      splits: Those that matter, of those that a dataset declares.
    """
    found: dict[str, tuple[specs.Dataset, Status]] = {}
    for dataset in {each.name: each for each in datasets}.values():
      names = [split for split in dataset.splits if split in splits]
      if names:
        status = self.status(dataset, names)
        if not status.usable:
          found[dataset.name] = dataset, status
    return list(found.values())

  def download(self, dataset: specs.Dataset) -> None:
    """Lets TFDS fetch a dataset that is not here, with its own progress.

    Raises:
      UserError: TFDS is none of its sources, or cannot fetch it.
    """
    views = self._views(dataset)
    states = [
        (locating.status([view], list(dataset.splits)), view)
        for view in views
        if view.dataset.source.kind == 'tfds'
    ]
    for state in ('downloadable', 'manual'):
      for status, view in states:
        if status.state == state:
          if state == 'manual' and not tfds_download.has_manual(
              view.dataset, self._settings
          ):
            continue  # It would fetch the rest first, and then ask for these.
          tfds_download.fetch(view.dataset, self._settings)
          return
    details = '; or '.join(
        locating.status([view], list(dataset.splits)).detail for view in views
    )
    raise errors.UserError(
        f"TFDS cannot fetch '{dataset.name}' by itself: {details}"
    )

  def _views(self, dataset: specs.Dataset) -> list[locating.View]:
    return [
        locating.View(each, self._settings, self._cache, number, self._bucket)
        for number, each in enumerate(locating.declared(dataset))
    ]

  def _view(self, dataset: specs.Dataset) -> locating.View:
    """Returns the dataset as the source that is used has it.

    Raises:
      UserError: None of several sources is here.
    """
    views = self._views(dataset)
    chosen = locating.choose(views)
    if chosen is None:
      status = locating.status(views, list(dataset.splits))
      ways = '; or '.join([status.detail, *status.alternatives])
      raise errors.UserError(
          f"dataset '{dataset.name}' is in none of its {len(views)} places:"
          f' {ways}'
      )
    return chosen

  def _prepare(
      self,
      view: locating.View,
      splits: Sequence[str],
      progress: Progress | None = None,
      replace: bool = False,
  ) -> dict[str, manifest_lib.SplitManifest]:
    targets = {}
    for split in splits:
      fingerprint = view.fingerprint(split)
      targets[split] = view.folder(split, fingerprint), fingerprint
    try:
      manifests = view.preparer().store(targets, progress, replace)
    except errors.UserError as error:
      remark = view.other_version(view.source.version)
      if not remark:
        raise
      raise errors.UserError(f'{error}{remark}') from error
    for folder, _ in targets.values():
      view.share(folder, replace)
    return manifests

  def _note_version(
      self, view: locating.View, manifest: manifest_lib.SplitManifest
  ) -> None:
    """Says once that the rows are of another version than the declared one."""
    remark = view.other_version(manifest.version)
    note = (
        f'{view.dataset.name}: the rows are those of {manifest.place}{remark}'
    )
    if remark and note not in self._noted:
      self._noted.add(note)
      logging.warning('%s', note)


def _check_split(dataset: specs.Dataset, split: str) -> None:
  if split not in dataset.splits:
    known = ', '.join(dataset.splits)
    raise errors.UserError(
        f"{base.declared_in(dataset, 'splits')}: dataset '{dataset.name}' has"
        f" no split '{split}'; it has {known}"
    )
