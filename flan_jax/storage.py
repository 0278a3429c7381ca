"""Folders and files of this machine, and of buckets (gs://BUCKET/FOLDER).

What `path` returns for an address has the methods of a `pathlib.Path`, by
etils and gcsfs (extra `[gcs]`), which are imported only then. It must not be
given to `open` or `pathlib.Path`, which would make a local file of it.

A bucket differs from a disk in two ways. Nothing can be renamed in one go, but
a file is there whole or not at all as it is (`write`). And nothing can be
appended to: files that grow do so in a local folder (`Staging`).
"""

from collections.abc import Collection, Iterator
from concurrent import futures
import contextlib
import importlib.util
import logging
import os
import pathlib
import re
import tempfile
import threading
import time
from typing import Any, cast

from flan_jax import errors

_SCHEME = 'gs://'
_ADDRESS = re.compile(r'[a-z][a-z0-9+.\-]+://')
# Seconds between uploads of files that grow, when nothing else asks for one.
_PERIOD = 30


def is_address(path: str | os.PathLike[str] | None) -> bool:
  """Whether a path is a bucket's, and no path of this machine."""
  return _ADDRESS.match(str(path or '')) is not None


def check(name: str, path: str | os.PathLike[str] | None) -> None:
  """Refuses addresses of buckets that cannot be used; anything else passes.

  Args:
    name: The flag or macro that is to blame.
    path: What it says.

  Raises:
    UserError: It is of another kind than gs://, or gcsfs is not installed.
  """
  if not is_address(path):
    return
  if not re.match(f'{_SCHEME}[^/]', str(path)):
    raise errors.UserError(
        f'{name}: {path}: is no address of a bucket that can be used: Orbax'
        f' writes to folders and {_SCHEME}BUCKET/FOLDER alone;'
        ' docs/launching.md says what else there is'
    )
  if importlib.util.find_spec('gcsfs') is None:
    raise errors.UserError(
        f'{name}: {path}: buckets need gcsfs: `pip install "flan_jax[gcs]"`'
    )


def path(given: str | os.PathLike[str]) -> pathlib.Path:
  """Returns a path, whether it is an address or not.

  Raises:
    UserError: As `check`.
  """
  if not is_address(given):
    return pathlib.Path(given).expanduser()
  check('address', given)
  # TensorFlow reaches buckets too, but takes seconds to import.
  os.environ.setdefault('EPATH_USE_TF', 'false')
  from etils import epath
  import fsspec

  # What tensorstore writes, and what other hosts do, no listing kept here has.
  fsspec.config.conf.setdefault('gcs', {})['use_listings_cache'] = False
  return cast(pathlib.Path, epath.Path(given))


def absolute(path: pathlib.Path) -> pathlib.Path:
  """Returns a path that holds from anywhere, as addresses do."""
  return path if is_address(path) else path.absolute()


def resolved(path: pathlib.Path) -> pathlib.Path:
  """Returns the same without symbolic links."""
  return path if is_address(path) else path.resolve()


def has_parent(path: pathlib.Path) -> bool:
  """Whether there is anything above a path: nothing is above a bucket."""
  if is_address(path):
    return str(path.parent) != _SCHEME
  return path != path.parent


@contextlib.contextmanager
def reached(name: str, given: str | os.PathLike[str]) -> Iterator[None]:
  """Makes one line of what goes wrong on the way to a bucket.

  Args:
    name: The flag or macro that named it.
    given: What it says; nothing is done about paths of this machine.

  Raises:
    UserError: The bucket is not there, is not ours to use, or does not answer.
  """
  try:
    yield
  except errors.UserError:
    raise
  except Exception as error:  # Of any of some ten classes.
    if not is_address(given):
      raise
    raise errors.UserError(
        f'{name}: {given}: cannot be used ({reason(error)})'
    ) from error


def reason(error: BaseException) -> str:
  """Returns in one line what an error of a file system or a bucket says."""
  if isinstance(error, OSError) and error.strerror:
    return error.strerror
  if isinstance(error, FileNotFoundError):
    return 'there is no such bucket or file'
  return ' '.join(str(error).split()) or type(error).__name__


def make_folder(path: pathlib.Path) -> None:
  """Makes a folder and those above it; a bucket has none to make."""
  if not is_address(path):
    path.mkdir(parents=True, exist_ok=True)


def write(path: pathlib.Path, data: str | bytes) -> None:
  """Writes a file whole or not at all."""
  content = data.encode() if isinstance(data, str) else data
  if is_address(path):
    path.write_bytes(content)
    return
  temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
  try:
    temporary.write_bytes(content)
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


class Staging:
  """Where the files of a run grow.

  Attributes:
    folder: The run's own folder, or where that is in a bucket a local one,
      whose files are put into the bucket whole, again and again.
  """

  def __init__(self, target: pathlib.Path, names: Collection[str] = ()):
    """Makes the folder, and gets what is to be gone on with.

    Args:
      target: The run's folder.
      names: Files in it that this host adds to.
    """
    self.folder = target
    self._target = target
    self._put: dict[str, tuple[int, int]] = {}
    self._lock = threading.Lock()
    self._next = time.monotonic() + _PERIOD
    self._stack = contextlib.ExitStack()
    self._pool: futures.ThreadPoolExecutor | None = None
    if not is_address(target):
      return
    scratch = self._stack.enter_context(
        tempfile.TemporaryDirectory(prefix='flan_jax_')
    )
    self.folder = pathlib.Path(scratch) / target.name
    self.folder.mkdir()
    for name in names:
      if (target / name).is_file():
        (self.folder / name).write_bytes((target / name).read_bytes())
        self._put[name] = _state(self.folder / name)
    self._pool = self._stack.enter_context(
        futures.ThreadPoolExecutor(1, 'upload')
    )

  def push(self) -> None:
    """Puts what has grown into the bucket.

    Raises:
      UserError: That fails.
    """
    if self._pool is None:
      return
    with self._lock, reached('MODEL_DIR', self._target):
      for file in sorted(self.folder.rglob('*')):
        if file.is_symlink() or not file.is_file():
          continue
        name = file.relative_to(self.folder).as_posix()
        state = _state(file)
        if state != self._put.get(name):
          write(self._target / name, file.read_bytes())
          self._put[name] = state

  def push_soon(self) -> None:
    """Does the same in the background, unless it was done just now."""
    if self._pool is not None and time.monotonic() >= self._next:
      self._next = time.monotonic() + _PERIOD
      self._pool.submit(self._try)

  def _try(self) -> None:
    """Does the same, and leaves it to the next time where it fails."""
    try:
      self.push()
    except errors.UserError as error:
      logging.getLogger(__name__).warning('%s', error)

  def __enter__(self) -> 'Staging':
    return self

  def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
    """Puts the rest into the bucket, and removes the local folder."""
    with self._stack:
      if kind is None:
        self.push()
      else:  # What ends the run is what the user must hear of.
        self._try()


def _state(file: pathlib.Path) -> tuple[int, int]:
  """Returns what changes when a file does."""
  found = file.stat()
  return found.st_size, found.st_mtime_ns
