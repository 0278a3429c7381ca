"""A directory of predictions: a file a task, which grows block by block.

    rte.jsonl.part     whole blocks, and at its end maybe a torn one
    rte.jsonl          the same file, once it is complete
    settings.json      what each file was made with

A program that was killed goes on after the last whole block, so no example is
missing or there twice, and the file is the one of an unbroken run. Nothing is
appended to a file of other settings.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import fcntl
import itertools
import json
import os
import pathlib
from typing import Any, BinaryIO, NoReturn

from flan_jax import errors
from flan_jax import storage

SETTINGS = 'settings.json'
PART = '.part'
# What is recorded with the settings for people to read, and may differ: a run
# may be moved.
NOTES = ('checkpoint', 'input_file')
# They say that something differs, and not what: others are named first.
_DIGESTS = ('examples', 'model')
_AGAIN = 'choose another directory, or pass --overwrite'


@dataclasses.dataclass(frozen=True)
class Shard:
  """One of several equal shares of the work, for programs that share nothing.

  Attributes:
    index: Which one, from 0.
    count: How many there are.
  """

  index: int = 0
  count: int = 1

  @property
  def suffix(self) -> str:
    """What the names of its files have before the ending."""
    if self.count == 1:
      return ''
    return f'-{self.index:05d}-of-{self.count:05d}'

  def share(self, number: int) -> tuple[int, int]:
    """Returns the first of its share of `number` things, and the end of it."""
    return (
        self.index * number // self.count,
        (self.index + 1) * number // self.count,
    )


class Output:
  """A directory of predictions, one file a task, and what they depend on.

  A finished file is not predicted again and an unfinished one goes on, so the
  directory also records what each file was made with (`settings.json`):
  predictions of another checkpoint are never taken for this one's.
  """

  def __init__(
      self,
      directory: str | os.PathLike[str],
      settings: Mapping[str, Any],
      shard: Shard = Shard(),  # noqa: B008
  ):
    """Looks at what is there; writes nothing yet.

    Args:
      directory: Where the files go; made with the first file.
      settings: What predictions depend on (checkpoint, split ...), and `NOTES`;
        JSON values.
      shard: Whose files they are.
    """
    self.directory = pathlib.Path(directory).expanduser()
    self.shard = shard
    # As they come back from the file: tuples are lists there.
    self._settings = json.loads(json.dumps(dict(settings)))

  def path(self, task: str) -> pathlib.Path:
    """Returns the file of a task; ':' is written '.'."""
    name = f'{task.replace(":", ".")}{self.shard.suffix}.jsonl'
    return self.directory / name

  def there(
      self,
      task: str,
      first: int,
      last: int,
      block: int,
      facts: Mapping[str, Any] | None = None,
  ) -> int | None:
    """Returns how many examples are there already; None if it is all of them.

    Args:
      task: The task.
      first: The first example that the file is to have.
      last: The end of them.
      block: Examples that are written at once.
      facts: What else this task's predictions depend on.

    Returns:
      A multiple of `block`, or all where only the file's name is missing; None
      where it has its name.

    Raises:
      UserError: What is there was made with other settings, or not by us, or
        is damaged.
    """
    path = self.path(task)
    part = _part(path)
    if not path.exists() and not part.exists():
      return 0
    self._check(path, self._settings_of(task, facts))
    if path.exists():
      return None
    ends = _ends(part)
    kept = min(len(ends), last - first)
    if kept < last - first:
      kept -= kept % block
    if kept and _index(part, ends, kept - 1) != first + kept - 1:
      raise errors.UserError(
          f'{part}:{kept}: is damaged: not example {first + kept - 1} of'
          f' {task}; --overwrite predicts it again'
      )
    return kept

  def begin(
      self,
      task: str,
      kept: int,
      facts: Mapping[str, Any] | None = None,
      overwrite: bool = False,
  ) -> 'Part':
    """Opens a task's unfinished file, to be added to.

    Args:
      task: The task.
      kept: As `there` returned it: what follows these examples is cut off.
      facts: As for `there`.
      overwrite: Whether to throw away what there is.

    Raises:
      UserError: Another program is writing it, or it cannot be written.
    """
    path = self.path(task)
    try:
      self.directory.mkdir(parents=True, exist_ok=True)
      if overwrite:
        # In this order, a kill never leaves old files under new settings.
        path.unlink(missing_ok=True)
        _part(path).unlink(missing_ok=True)
      if not _part(path).exists():
        self._record(path, self._settings_of(task, facts))
      return Part(path, kept)
    except OSError as error:
      _cannot_be_written(self.directory, error)

  def _settings_of(
      self, task: str, facts: Mapping[str, Any] | None
  ) -> dict[str, Any]:
    # The task too: 'a:b' and 'a.b' would go into one file.
    own = json.loads(json.dumps(dict(facts or {})))
    return {**self._settings, **own, 'task': task}

  def _check(self, path: pathlib.Path, wanted: dict[str, Any]) -> None:
    file = settings_path(self.directory, self.shard)
    there = recorded(file).get(path.name)
    if there is None:
      raise errors.UserError(
          f'{path}: is not in {file.name}, so it may be of another checkpoint;'
          f' {_AGAIN}'
      )
    key = difference(there, wanted)
    if key is not None:
      raise errors.UserError(
          f'{path}: {key}: was predicted with {there.get(key)!r}, not'
          f' {wanted.get(key)!r}; {_AGAIN}'
      )

  def _record(self, path: pathlib.Path, settings: dict[str, Any]) -> None:
    file = settings_path(self.directory, self.shard)
    with _alone(self.directory):
      write_settings(file, {**recorded(file), path.name: settings})


class Part:
  """An unfinished file; whole blocks are added, and it gets its name at last.

  A second program that would write the same file is refused.
  """

  def __init__(self, path: pathlib.Path, kept: int):
    """Opens it, and cuts off what follows the first `kept` lines.

    Raises:
      UserError: Another program is writing it.
    """
    self._path = path
    self._part = _part(path)
    self._file: BinaryIO = open(self._part, 'ab')  # noqa: SIM115
    try:
      fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      self._file.close()
      raise errors.UserError(
          f'{self._part}: another program is writing it; let it end, or choose'
          ' another directory'
      ) from error
    except OSError:
      pass  # A file system without locks.
    ends = _ends(self._part)
    os.truncate(self._part, ends[kept - 1] if kept else 0)

  def add(self, some: Iterable[Mapping[str, Any]]) -> None:
    """Writes a block of lines, which is on the disk when this returns.

    Raises:
      UserError: It cannot be written (a full disk).
    """
    text = ''.join(
        json.dumps(line, ensure_ascii=False, allow_nan=False) + '\n'
        for line in some
    )
    try:
      # Half a surrogate pair is no UTF-8; in JSON it can be written as \ud800.
      self._file.write(text.encode('utf-8', errors='backslashreplace'))
      self._file.flush()
      os.fsync(self._file.fileno())
    except OSError as error:
      _cannot_be_written(self._part, error)

  def finish(self) -> None:
    """Gives the file its name."""
    os.replace(self._part, self._path)

  def close(self) -> None:
    # Closing writes again what a full disk did not take.
    with contextlib.suppress(OSError):
      self._file.close()

  def __enter__(self) -> 'Part':
    return self

  def __exit__(self, *_: Any) -> None:
    self.close()


def settings_path(directory: pathlib.Path, shard: Shard) -> pathlib.Path:
  """Returns the file of settings, of which each shard has its own."""
  stem, ending = SETTINGS.split('.')
  return directory / f'{stem}{shard.suffix}.{ending}'


def difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
  """Returns the first setting that differs, None if none does."""
  return next(
      (
          key
          for key in sorted(
              {*one, *other}.difference(NOTES),
              key=lambda key: (key in _DIGESTS, key),
          )
          if one.get(key) != other.get(key)
      ),
      None,
  )


def recorded(path: pathlib.Path) -> dict[str, dict[str, Any]]:
  """Returns what a file of settings says, by the name of the predictions.

  Raises:
    UserError: It is no such file.
  """
  try:
    found = json.loads(path.read_text(encoding='utf-8'))
  except FileNotFoundError:
    return {}
  except ValueError as error:
    raise errors.UserError(f'{path}: is no JSON: {error}') from error
  return found


def write_settings(
    path: pathlib.Path, entries: Mapping[str, Mapping[str, Any]]
) -> None:
  """Writes a file of settings, whole or not at all."""
  storage.write(path, json.dumps(entries, indent=2, sort_keys=True) + '\n')


@contextlib.contextmanager
def _alone(directory: pathlib.Path) -> Iterator[None]:
  """Waits until no other program records its settings in `directory`."""
  folder = os.open(directory, os.O_RDONLY)
  try:
    with contextlib.suppress(OSError):  # A file system without locks.
      fcntl.flock(folder, fcntl.LOCK_EX)
    yield
  finally:
    os.close(folder)


def _part(path: pathlib.Path) -> pathlib.Path:
  return path.with_name(path.name + PART)


def _ends(path: pathlib.Path) -> list[int]:
  """Returns where each line ends, in bytes; a torn last one is none."""
  with path.open('rb') as file:
    ends = itertools.accumulate(
        len(line) for line in file if line.endswith(b'\n')
    )
    return list(ends)


def _index(path: pathlib.Path, ends: Sequence[int], line: int) -> Any:
  """Returns what a line says of its place; None if it is no line of ours."""
  start = ends[line - 1] if line else 0
  with path.open('rb') as file:
    file.seek(start)
    try:
      return json.loads(file.read(ends[line] - start)).get('index')
    except (ValueError, AttributeError):
      return None


def _cannot_be_written(path: pathlib.Path, error: OSError) -> NoReturn:
  raise errors.UserError(
      f'{path}: cannot be written ({error.strerror}); once it can, the same'
      ' command goes on from what is there'
  ) from error
