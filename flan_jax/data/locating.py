"""Where a dataset's rows are: stored, in one of its sources, or not here.

A dataset may name several places for its rows. A `View` is the dataset as one
of them has it; the first whose data is here is the one that is used, for all
splits, so that training and test rows never come from different places.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import re

from flan_jax import errors
from flan_jax.data import functions
from flan_jax.data import manifest as manifest_lib
from flan_jax.data import preparing
from flan_jax.data import reader
from flan_jax.data import shared_rows
from flan_jax.data import sources
from flan_jax.data import specs
from flan_jax.data import wanted_rows
from flan_jax.data.sources import base
from flan_jax.data.sources import tfds

# Options that tell people where to get data; they change no rows.
_NOTES = ('download', 'manual', 'obtain')


@dataclasses.dataclass(frozen=True)
class Status:
  """Whether a dataset can be used.

  Attributes:
    state: 'prepared' when its rows are stored; 'here' when its source can be
      read; 'downloadable' when TFDS fetches it by itself; 'manual' when a
      person has to get files; 'missing' when the declaration does not say how.
    detail: One line: where it is, or what to run.
    alternatives: Other ways to get the rows, a line each.
  """

  state: str
  detail: str
  alternatives: tuple[str, ...] = ()

  @property
  def usable(self) -> bool:
    """Whether rows can be read now."""
    return self.state in ('prepared', 'here')


def declared(dataset: specs.Dataset) -> list[specs.Dataset]:
  """Returns the dataset as each of its sources has it, in order."""
  return [dataset] + [
      dataclasses.replace(
          dataset,
          source=other.source,
          splits={**dataset.splits, **other.splits},
          fields=other.fields or dataset.fields,
          keep=other.keep or dataset.keep,
          alternatives=(),
      )
      for other in dataset.alternatives
  ]


class View:
  """A dataset as one of its sources has it.

  What is found out is remembered, so a view is for one look at the disk.
  """

  def __init__(
      self,
      dataset: specs.Dataset,
      settings: base.SourceSettings,
      cache: pathlib.Path,
      number: int = 0,
      bucket: pathlib.Path | None = None,
  ):
    """Makes a view; nothing is read yet.

    Args:
      dataset: As the source has it.
      settings: What the user says about sources.
      cache: Where rows are kept.
      number: 0 for the first source declared, n for the n-th alternative.
      bucket: Where hosts share the rows that they keep in `cache`, if they do.
    """
    self.dataset = dataset
    self.number = number
    self._settings = settings
    self._cache = cache
    self.shared: shared_rows.SharedRows | None = None
    if bucket is not None:
      self.shared = shared_rows.SharedRows(bucket / 'rows' / self._folder_name)

  @functools.cached_property
  def source(self) -> base.Source:
    keep = self._cache / 'fingerprints'
    return sources.create(self.dataset, self._settings, keep)

  def preparer(self) -> preparing.Preparer:
    """Returns what stores the rows."""
    return preparing.Preparer(
        self.dataset, self.source, self._settings, self.number
    )

  def locate(self, split: str) -> list[str]:
    """Returns the files or folders that a split is read from.

    Raises:
      UserError: They are not here.
    """
    return [self.source.locate(name) for name in self._names(split)]

  def fingerprint(self, split: str) -> str:
    """Returns a text that changes when the source of a split may have.

    Raises:
      UserError: The source is not here.
    """
    return json.dumps(
        [[name, self.source.fingerprint(name)] for name in self._names(split)]
    )

  def folder(self, split: str, fingerprint: str) -> pathlib.Path:
    """Returns where the rows of a split belong."""
    return self._home / f'{self._prefix(split)}{_digest(fingerprint)}'

  def stored(
      self, split: str
  ) -> tuple[pathlib.Path, manifest_lib.SplitManifest] | None:
    """Returns where a split is stored, with its manifest; None if nowhere.

    Rows of a source that is not here any more are found too; and those in the
    bucket, which `opened` brings here.

    Raises:
      UserError: The declaration has a mistake that only now shows.
    """
    found = self._found(split, self._stored_names, manifest_lib.load)
    if found is None and self.shared is not None:
      found = self._found(split, self._shared_names, self.shared.manifest)
    return found

  def _found(
      self,
      split: str,
      known: Sequence[str],
      load: Callable[[pathlib.Path], manifest_lib.SplitManifest | None],
  ) -> tuple[pathlib.Path, manifest_lib.SplitManifest] | None:
    """Looks for a split among the folders that are `known`."""
    prefix = self._prefix(split)
    names = [name for name in known if name.startswith(prefix)]
    if not names:  # Without reading the source for its fingerprint.
      return None
    try:
      name = self.folder(split, self.fingerprint(split)).name
      names = [name] if name in names else []
    except errors.UserError:
      # The source is elsewhere; its rows may have been stored from there.
      names.sort(key=lambda name: (-self._changed(name), name))
    for name in names:
      manifest = load(self._home / name)
      # Others may have skipped broken rows to get these.
      if manifest and not (
          manifest.skipped and self._settings.on_error == 'raise'
      ):
        return self._home / name, manifest
    return None

  def _changed(self, name: str) -> int:
    try:
      return (self._home / name).stat().st_mtime_ns
    except OSError:
      return 0  # In the bucket alone, or gone since the folder was listed.

  def opened(
      self,
      split: str,
      folder: pathlib.Path,
      manifest: manifest_lib.SplitManifest,
  ) -> reader.Rows:
    """Opens a split that is stored, and checks it.

    Raises:
      UserError: It is in the bucket alone and cannot be copied from there, it
        is empty, or a field is not in the rows.
    """
    if self.shared is not None and manifest_lib.load(folder) is None:
      self.shared.get(folder, manifest)
    rows = reader.Rows(self.dataset, split, folder, manifest)
    rows.check()
    return rows

  def share(self, folder: pathlib.Path, replace: bool = False) -> None:
    """Puts a split that is stored here into the bucket, if there is one.

    Args:
      folder: Where it is stored, as `stored` says.
      replace: Put it in the place of rows that are there already.

    Raises:
      UserError: The bucket cannot be written.
    """
    if self.shared is not None and manifest_lib.load(folder) is not None:
      if replace or self.shared.manifest(folder) is None:
        self.shared.put(folder)

  def is_here(self, split: str) -> bool:
    """Whether a split is stored, or can be read from its source."""
    try:
      return bool(self.stored(split) or self.locate(split))
    except errors.UserError:
      return False

  def other_version(self, version: str) -> str:
    """Returns a remark on rows of another version than the declared one.

    Args:
      version: Of the rows; '' where sources have none.

    Returns:
      '' if it is the declared one, or none is.
    """
    wanted = tfds.declared_version(self.dataset.source)
    if not wanted or version == wanted:
      return ''
    return f' (version {version}, where {wanted} is declared)'

  @property
  def _folder_name(self) -> str:
    return re.sub(r'[^\w.-]', '_', self.dataset.name)

  @property
  def _home(self) -> pathlib.Path:
    return self._cache / 'rows' / self._folder_name

  @functools.cached_property
  def _stored_names(self) -> list[str]:
    try:
      return os.listdir(self._home)
    except OSError:
      return []

  @functools.cached_property
  def _shared_names(self) -> list[str]:
    return self.shared.names() if self.shared is not None else []

  def _names(self, split: str) -> list[str]:
    """Returns the splits of the source that a split of ours takes rows of."""
    resolver = wanted_rows.resolver(self.dataset, self.source, split)
    return resolver.names(self.dataset.splits[split])

  def _prefix(self, split: str) -> str:
    """Returns how the names of a split's folders begin.

    It holds all in the declaration that decides which rows there are.
    """
    dataset, settings = self.dataset, self._settings
    source = dataset.source
    options = {k: v for k, v in source.options.items() if k not in _NOTES}
    limit = dataset.limits.get(split)
    sampled = limit is not None and not settings.first_rows
    deciding = {
        'format': manifest_lib.FORMAT,
        'source': [source.kind, source.where, sorted(options.items())],
        'slices': _named(dataset, split),
        'limit': limit,
        'first_rows': limit is not None and settings.first_rows,
        'seed': settings.seed if self.source.seeded or sampled else None,
        'code': self._code,
        'choices': self._choices,
    }
    text = json.dumps(deciding, sort_keys=True)
    return f'{split}-{_digest(text)}-'

  @functools.cached_property
  def _code(self) -> list[list[str]]:
    """The functions that decide about rows, and what they are like."""
    dataset = self.dataset
    specs_by_key = {'keep': dataset.keep}
    if isinstance(dataset.fields, str):
      specs_by_key['fields'] = dataset.fields
    found = []
    for key, spec in specs_by_key.items():
      if spec:
        where = base.declared_in(dataset, key)
        found.append([key, spec, functions.digest(spec, where)])
    if isinstance(dataset.fields, str):
      found.append(['field_names', *dataset.field_names])
    return found

  @functools.cached_property
  def _choices(self) -> list | None:
    """What decides whether a label is hidden, or none of the options."""
    choices = self.dataset.choices
    if not choices:
      return None
    paths = self.dataset.row_paths
    names = [choices.label, *choices.fields, *filter(None, [choices.list])]
    return [list(choices.names), [[name, paths.get(name)] for name in names]]


def choose(views: Sequence[View]) -> View | None:
  """Returns the first view with all splits, else the one with the most.

  None if none has any.
  """
  if len(views) == 1:
    return views[0]
  best, most = None, 0
  for view in views:
    count = sum(map(view.is_here, view.dataset.splits))
    if count == len(view.dataset.splits):
      return view
    if count > most:
      best, most = view, count
  return best


def status(views: Sequence[View], splits: Sequence[str]) -> Status:
  """Says whether splits are stored, can be read, or how to get them.

  Args:
    views: All of a dataset.
    splits: Those that matter.
  """
  chosen = choose(views)
  if chosen is not None:
    try:
      return _status_here(chosen, splits)
    except errors.UserError as error:
      if len(views) == 1:
        return _status_elsewhere(chosen, error)
  found = []
  for view in views:
    try:
      found.append(_status_here(view, splits))
    except errors.UserError as error:
      found.append(_status_elsewhere(view, error))
  order = ('downloadable', 'manual', 'missing')
  best = min(
      (each for each in found if not each.usable),
      key=lambda each: order.index(each.state),
  )
  others = tuple(each.detail for each in found if each is not best)
  return dataclasses.replace(best, alternatives=others)


def _status_here(view: View, splits: Sequence[str]) -> Status:
  """Raises the error of the first split that is not here."""
  stored = {split: view.stored(split) for split in splits}
  counts = [
      f'{split} {found[1].rows:,}' for split, found in stored.items() if found
  ]
  if len(counts) == len(splits):
    folder = next(found[0] for found in stored.values() if found).parent
    version = next(found[1].version for found in stored.values() if found)
    return Status(
        'prepared',
        f'{", ".join(counts)} rows in {folder}{view.other_version(version)}',
    )
  places = {
      place
      for split in splits
      if not stored[split]
      for place in view.locate(split)
  }
  return Status(
      'here',
      f'{", ".join(sorted(places))}{view.other_version(view.source.version)};'
      f' `flan-jax prepare {view.dataset.name}` reads it now, otherwise its'
      ' first use does',
  )


def _status_elsewhere(view: View, error: errors.UserError) -> Status:
  text = str(error)
  if view.number:
    key = f': alternatives[{view.number - 1}].source: '
    text = text.replace(': source: ', key, 1)
  if isinstance(error, base.Missing):
    return Status(error.state, error.detail)
  return Status('missing', text)


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
