"""Finds declarations by name, and reads each when it is first asked for."""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import dataclasses
import functools
import os
import pathlib
import re

from flan_jax import errors
from flan_jax import paths
from flan_jax.data import leave_outs
from flan_jax.data import mixture_files
from flan_jax.data import sni_declarations
from flan_jax.data import spec_files
from flan_jax.data import spec_problems
from flan_jax.data import specs

# A mixture is told by its `members`, without parsing the whole file.
_MEMBERS = re.compile(r'^["\']?members["\']?\s*:', re.MULTILINE)
_SERIES = re.compile(r'^["\']?series["\']?\s*:', re.MULTILINE)

_BLANKS = (spec_files.BLANK, mixture_files.BLANK)

# What `flan_jax.datasets.register` was given: declarations in Python, which
# every catalogue has beside those in files.
_REGISTERED: dict[str, specs.Dataset] = {}


@dataclasses.dataclass
class _Entry:
  """A name's declaration: where it is, and itself once it has been read."""

  where: pathlib.Path | None
  is_mixture: bool
  read: Callable[[], specs.Dataset | specs.MixtureSpec]
  collection: str = ''
  value: specs.Dataset | specs.MixtureSpec | None = None

  def get(self) -> specs.Dataset | specs.MixtureSpec:
    if self.value is None:
      self.value = self.read()
    return self.value


class Catalogue:
  """All datasets and mixtures by name.

  These are the files under `mixtures/`, what is registered in Python, and what
  the user adds. Building a catalogue looks at names of files only.
  """

  def __init__(self, extra: Sequence[str | os.PathLike[str]] = ()):
    """Lists the declarations.

    Args:
      extra: YAML files, folders of them (at any depth), Super-Natural-
        Instructions task files, or folders of those.

    Raises:
      UserError: A path is none of these, or two declarations have one name.
    """
    self._entries: dict[str, _Entry] = {}
    # Names that follow from a declaration, as they are asked for.
    self._derived: dict[str, _Entry | None] = {}
    self._sni_folders: list[pathlib.Path] = []
    self._sni_datasets: dict[str, pathlib.Path] = {}
    packaged = paths.mixtures_dir()
    for path in _yaml_files(packaged):
      inner = path.relative_to(packaged).parts[:-1]
      self._add_yaml(path, inner[0] if inner else packaged.name)
    for each in extra:
      self._add_path(paths.find(each))
    if self._sni_folders:
      self._add(sni_declarations.MIXTURE, self._sni_entry())
    for name, dataset in _REGISTERED.items():
      entry = _Entry(
          None, False, functools.partial(_same, dataset), dataset.collection
      )
      self._add(name, entry)

  def _add(self, name: str, entry: _Entry) -> None:
    other = self._entries.get(name)
    if other is None:
      self._entries[name] = entry
    elif other.where is None or entry.where is None:
      raise errors.UserError(
          f"'{name}' is declared in Python and in {other.where or entry.where};"
          ' rename one'
      )
    elif other.where.resolve() != entry.where.resolve():
      raise errors.UserError(
          f"'{name}' is declared twice: in {other.where} and in {entry.where};"
          ' rename one'
      )

  def _add_path(self, path: pathlib.Path) -> None:
    if path.is_dir():
      # A declaration among thousands of task files would be found all the
      # same, so both kinds may lie in one folder.
      yaml_files = list(_yaml_files(path))
      task_files = sorted(filter(sni_declarations.is_task_file, path.iterdir()))
      if not yaml_files and not task_files:
        raise errors.UserError(
            f'{path}: this folder holds no YAML declarations and no'
            ' Super-NaturalInstructions task*.json files'
        )
      collection = path.resolve().name
      for file in yaml_files:
        self._add_yaml(file, collection)
      for file in task_files:
        self._add_sni(file)
      if task_files:
        self._sni_folders.append(path)
    elif not path.exists():
      raise errors.UserError(f'{path}: there is no such file or folder')
    elif path.suffix in ('.yaml', '.yml'):
      self._add_yaml(path, path.resolve().parent.name)
    elif sni_declarations.is_task_file(path):
      self._add_sni(path)
    else:
      raise errors.UserError(
          f'{path}: must be a YAML declaration, a Super-NaturalInstructions'
          ' task*.json, or a folder of them'
      )

  def _add_yaml(self, path: pathlib.Path, collection: str) -> None:
    try:
      text = path.read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError):
      text = ''  # Reading it says what is wrong, when it is wanted.
    is_mixture = bool(_MEMBERS.search(text))
    names = [path.stem]
    if is_mixture and _SERIES.search(text):
      # One that is wrong is there under the file's name, to say so.
      with contextlib.suppress(errors.UserError):
        names = mixture_files.names(path)
    for name in names:
      read = functools.partial(
          spec_files.load, path, collection=collection, name=name
      )
      self._add(name, _Entry(path, is_mixture, read, collection))

  def _add_sni(self, path: pathlib.Path) -> None:
    name = sni_declarations.dataset_name(path.stem)
    self._sni_datasets[name] = path
    read = functools.partial(sni_declarations.load, path)
    self._add(name, _Entry(path, False, read, sni_declarations.MIXTURE))

  def _sni_entry(self) -> _Entry:
    folders = self._sni_folders
    held_out = frozenset[str]().union(
        *map(sni_declarations.held_out_names, folders)
    )
    names = [
        name
        for name, path in self._sni_datasets.items()
        if any(path.parent == folder for folder in folders)
    ]
    mixture = specs.MixtureSpec(
        name=sni_declarations.MIXTURE,
        path=folders[0],
        description='Super-NaturalInstructions, as far as the files are here.',
        members=tuple(specs.Member(name=name) for name in names),
        held_out=tuple(
            specs.Member(name=name) for name in names if name in held_out
        ),
        max_rate=sni_declarations.MAX_RATE,
    )
    return _Entry(folders[0], True, functools.partial(_same, mixture))

  def add(
      self,
      name: str,
      is_mixture: bool,
      read: Callable[[], specs.Dataset | specs.MixtureSpec],
      collection: str,
  ) -> bool:
    """Adds a declaration from elsewhere, unless its name is taken.

    Args:
      name: Its name, which may hold what names of files may not.
      is_mixture: Whether `read` returns a mixture.
      read: Returns the declaration; called when it is first asked for.
      collection: The collection that a dataset belongs to.

    Returns:
      Whether it was added.
    """
    if name in self._entries:
      return False
    self._entries[name] = _Entry(None, is_mixture, read, collection)
    return True

  def has(self, name: str) -> bool:
    """Whether there is a dataset or mixture of that name."""
    return self._find(name) is not None

  def dataset_names(self) -> list[str]:
    """Returns all datasets' names in alphabetical order."""
    return sorted(n for n, e in self._entries.items() if not e.is_mixture)

  def mixture_names(self) -> list[str]:
    """Returns all mixtures' names in alphabetical order, without leave-outs."""
    return sorted(n for n, e in self._entries.items() if e.is_mixture)

  def leave_out_names(self, mixture: str) -> list[str]:
    """Returns the names of a mixture's leave-outs, in alphabetical order.

    Raises:
      UserError: A declaration has a mistake.
    """
    return sorted(leave_outs.names(self, self.mixture(mixture)))

  def is_mixture(self, name: str) -> bool:
    """Whether a name is a mixture's.

    Raises:
      UserError: It is neither a dataset's nor a mixture's.
    """
    return self._entry(name).is_mixture

  def _find(self, name: str) -> _Entry | None:
    """Returns what is declared or follows from a declaration; None if none."""
    if name in self._entries:
      return self._entries[name]
    if name not in self._derived:
      self._derived[name] = None  # While it is being looked for.
      spec = leave_outs.find(self, name)
      if spec:
        read = functools.partial(_same, spec)
        self._derived[name] = _Entry(spec.path, True, read)
    return self._derived[name]

  def _entry(self, name: str) -> _Entry:
    entry = self._find(name)
    if entry is not None:
      return entry
    near = errors.nearest(name, sorted([*self._entries, *self._near(name)]))
    raise errors.UserError(
        f"unknown task or mixture '{name}'.{near} `flan-jax tasks` lists all;"
        ' --mixtures=PATH adds files of your own'
    )

  def _near(self, name: str) -> list[str]:
    """Returns the leave-outs that may have been meant."""
    for mixture in leave_outs.bases(name):
      entry = self._entries.get(mixture)
      if entry and entry.is_mixture:
        with contextlib.suppress(errors.UserError):
          return self.leave_out_names(mixture)
    return []

  def dataset(self, name: str) -> specs.Dataset:
    """Returns the dataset of that name.

    Raises:
      UserError: There is none, or its file has a mistake.
    """
    value = self._entry(name).get()
    if not isinstance(value, specs.Dataset):
      raise errors.UserError(f"'{name}' is a mixture, not a dataset")
    return value

  def mixture(self, name: str) -> specs.MixtureSpec:
    """Returns the mixture of that name.

    Raises:
      UserError: There is none, or its file has a mistake.
    """
    value = self._entry(name).get()
    if not isinstance(value, specs.MixtureSpec):
      raise errors.UserError(f"'{name}' is a dataset, not a mixture")
    return value

  def select(
      self, *, cluster: str = '', subcluster: str = '', collection: str = ''
  ) -> list[str]:
    """Returns the names of the datasets that all of these fit, sorted."""
    return [
        name
        for name in self.dataset_names()
        if collection in ('', self._entries[name].collection)
        and (not cluster or self.dataset(name).cluster == cluster)
        and (not subcluster or self.dataset(name).subcluster == subcluster)
    ]


def _same(
    declaration: specs.Dataset | specs.MixtureSpec,
) -> specs.Dataset | specs.MixtureSpec:
  return declaration


def register(dataset: specs.Dataset) -> None:
  """Adds a dataset that is declared in Python to all catalogues made later.

  Registering a name again replaces its declaration, as notebooks need.

  Raises:
    UserError: Something in the declaration is wrong.
  """
  for problem in spec_problems.problems(dataset):
    key = f'{problem.key}: ' if problem.key else ''
    raise errors.UserError(f"dataset '{dataset.name}': {key}{problem.message}")
  _REGISTERED[dataset.name] = dataset


def _yaml_files(folder: pathlib.Path) -> Iterator[pathlib.Path]:
  found = [*folder.rglob('*.yaml'), *folder.rglob('*.yml')]
  return (path for path in sorted(found) if path.name not in _BLANKS)
