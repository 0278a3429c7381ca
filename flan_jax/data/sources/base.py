"""What every source of rows is, and how its files are found."""

from collections.abc import Callable, Iterator
import dataclasses
import functools
import pathlib
from typing import Any, Protocol

from flan_jax import errors
from flan_jax.data import specs

Row = dict[str, Any]
Number = int | str  # What a source calls a row: a line, or a place in words.


@dataclasses.dataclass(frozen=True)
class SourceSettings:
  """What the user says about sources on the command line.

  Attributes:
    tfds_data_dir: Where prepared TFDS datasets lie; $TFDS_DATA_DIR or TFDS's
      own default if it is None.
    data_dir: Where files that declarations name are looked for last.
    on_error: 'raise' to stop at a broken row, 'skip' to leave it out and count
      it.
    seed: Of samples (`limits`) and generated rows.
    first_rows: `limits` keep the first rows instead of a sample, as the
      released FLAN code does.
  """

  tfds_data_dir: str | None = None
  data_dir: str | None = None
  on_error: str = 'raise'
  seed: int = 0
  first_rows: bool = False

  def __post_init__(self):
    if self.on_error not in ('raise', 'skip'):
      raise errors.UserError(
          f"on_error: '{self.on_error}' is neither 'raise' nor 'skip'"
      )


class Missing(errors.UserError):
  """Data that is not here.

  Attributes:
    state: How it can be got: 'downloadable', 'manual', or 'missing' if nobody
      says how; see `rows.Status`.
    detail: The message, but for where it was declared.
  """

  def __init__(self, message: str, *, state: str, detail: str):
    super().__init__(message)
    self.state = state
    self.detail = detail

  def __reduce__(self):
    make = functools.partial(Missing, state=self.state, detail=self.detail)
    return make, self.args


class Skipped:
  """Broken rows: raised at once, or counted."""

  _KEPT = 20  # Of a file that is broken throughout, a manifest needs a few.

  def __init__(self, on_error: str):
    self._raise = on_error == 'raise'
    self.count = 0
    self.first: list[str] = []

  def add(self, error: errors.UserError) -> None:
    """Counts a broken row, or raises its error."""
    if self._raise:
      raise error
    self.count += 1
    if self.count <= self._KEPT:
      self.first.append(str(error))


class Source(Protocol):
  """Reads rows from somewhere.

  A source has splits of its own, which a dataset's `splits` slice and rename.
  Every method may raise a `UserError` that says what is missing and the fix.

  Attributes:
    version: The version of the data; '' where there is no such thing.
    seeded: Whether the rows depend on the seed.
  """

  version: str
  seeded: bool

  def is_split(self, name: str) -> bool:
    """Whether there is a split of this name."""

  def unknown(self, name: str) -> errors.UserError:
    """Returns the error for a name that is no split, saying which there are."""

  def locate(self, split: str) -> str:
    """Returns what is read for a split: a file, a folder or a function."""

  def fingerprint(self, split: str) -> str:
    """Returns a text that changes when the rows of a split may have."""

  def count(self, split: str) -> int | None:
    """Returns the number of rows, or None if they must be read to know."""

  def read(self, split: str, skipped: Skipped) -> Iterator[tuple[Number, Row]]:
    """Yields rows, each with a number that `place` understands.

    Rows are in the same order every time. What cannot be read goes to
    `skipped`, which may raise.
    """

  def place(self, split: str, number: Number) -> str:
    """Returns where a row stands, such as 'rows.jsonl:12'."""


def declared_in(dataset: specs.Dataset, key: str) -> str:
  """Returns the file and key of a declaration, for the start of an error."""
  place = str(dataset.path) if dataset.path.name else f'dataset {dataset.name}'
  return f'{place}: {key}'


def find(
    where: str, dataset: specs.Dataset, settings: SourceSettings
) -> pathlib.Path | None:
  """Returns the file or folder that a declaration names, if there is one.

  It is looked for from the declaration's folder, the working directory and
  `data_dir`, in that order.
  """
  for folder in _folders(dataset, settings):
    path = folder / pathlib.Path(where).expanduser()
    if path.exists():
      return path
  return None


def no_split(
    name: str, known: list[str], place: str, dataset: specs.Dataset
) -> errors.UserError:
  """Returns the error for a split that a source does not have."""
  names = ', '.join(known) if known else 'none'
  return errors.UserError(
      f"{declared_in(dataset, 'splits')}: there is no split '{name}' in"
      f' {place}.{errors.nearest(name, known)} Splits there: {names}'
  )


def missing(
    where: str, dataset: specs.Dataset, settings: SourceSettings, key: str
) -> Missing:
  """Returns the error for a file that `find` does not find."""
  if pathlib.Path(where).expanduser().is_absolute():
    looked = 'nothing there'
  else:
    folders = [str(f.resolve()) for f in _folders(dataset, settings)]
    looked = f'looked in {", ".join(dict.fromkeys(folders))}'
  obtain = dataset.source.options.get('obtain', '')
  hint = ', or name its folder with --data_dir=DIR'
  if settings.data_dir or '--data_dir' in obtain:
    hint = ''
  detail = (
      f"'{where}' is not there ({looked}): {obtain or 'put it there'}{hint}"
  )
  return Missing(
      f'{declared_in(dataset, key)}: {detail}',
      state='manual' if obtain else 'missing',
      detail=detail,
  )


def _folders(
    dataset: specs.Dataset, settings: SourceSettings
) -> Iterator[pathlib.Path]:
  if dataset.path.name:
    yield dataset.path.parent
  yield pathlib.Path('.')
  if settings.data_dir:
    yield pathlib.Path(settings.data_dir).expanduser()


def option(
    dataset: specs.Dataset,
    name: str,
    known: tuple[str, ...],
    default: str,
) -> str:
  """Returns an option of the source that has a few possible values."""
  value = dataset.source.options.get(name, default)
  if value not in known:
    raise errors.UserError(
        f"{declared_in(dataset, f'source.{name}')}: '{value}' is none of"
        f' {", ".join(known)}'
    )
  return value


# Reads rows from one kind of file.
FileReader = Callable[
    [pathlib.Path, specs.Dataset, Skipped], Iterator[tuple[Number, Row]]
]
