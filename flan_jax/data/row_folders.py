"""Folders of stored rows: written under another name, and named when whole.

While a process writes a folder it holds a lock on a file in it. The lock goes
with the process, however that ends, so what a killed one left is known for
what it is and cleared away by the next that stores rows of the dataset.
"""

import contextlib
import errno
import fcntl
import os
import pathlib
import shutil
import time
import uuid

from flan_jax import errors
from flan_jax.data import manifest as manifest_lib

_LOCK = 'lock'
# A folder without a lock (on a file system that has none) that did not change
# for so long belongs to nobody.
_ABANDONED_SECONDS = 24 * 3600
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_NOT_WRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)


class Folder:
  """A folder that is being written.

  Attributes:
    path: Where it is until it is whole.
  """

  def __init__(self, target: pathlib.Path):
    """Makes the folder beside `target`, and clears away what was abandoned.

    Args:
      target: Its name once it is whole.

    Raises:
      UserError: Nothing can be written there.
    """
    self._target = target
    self._lock: int | None = None
    home = target.parent
    try:
      home.mkdir(parents=True, exist_ok=True)
      for path in home.glob('.*.tmp'):
        _remove_abandoned(path)
      for path in home.glob('.*.new'):
        _remove_old(path)
      self.path = home / f'.{target.name}.{uuid.uuid4().hex[:12]}.tmp'
      # Nobody takes it for abandoned before it is locked.
      new = self.path.with_suffix('.new')
      new.mkdir()
      self._lock = os.open(new / _LOCK, os.O_CREAT | os.O_RDWR, 0o666)
      with contextlib.suppress(OSError):  # A file system without locks.
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
      os.rename(new, self.path)
    except OSError as error:
      raise failure(home, error) from error

  def finish(self, replace: bool) -> None:
    """Gives the folder its name, unless another process was quicker.

    Args:
      replace: Put it in the place of rows that are there already.
    """
    target = self._target
    (self.path / _LOCK).unlink(missing_ok=True)
    if target.exists():
      if not replace and manifest_lib.load(target):
        return
      # Whoever has the old files open keeps them.
      old = target.with_name(f'.{target.name}.{uuid.uuid4().hex[:12]}.tmp')
      with contextlib.suppress(FileNotFoundError):
        os.rename(target, old)
      shutil.rmtree(old, ignore_errors=True)
    try:
      os.rename(self.path, target)
    except OSError:
      # Somebody stored the same rows since the look above.
      if manifest_lib.load(target) is None:
        raise

  def close(self) -> None:
    """Removes what has not got its name, and lets go of the lock."""
    shutil.rmtree(self.path, ignore_errors=True)
    if self._lock is not None:
      os.close(self._lock)
      self._lock = None


def failure(home: pathlib.Path, error: OSError) -> errors.UserError:
  """Returns the error for a folder in which rows cannot be stored."""
  if error.errno in _NO_SPACE:
    return errors.UserError(
        f'{home}: the disk is full: make room, or name another folder with'
        ' --cache_dir=DIR'
    )
  return errors.UserError(
      f'{home}: rows cannot be stored there ({error.strerror}): name another'
      ' folder with --cache_dir=DIR'
  )


def is_ours(error: OSError) -> bool:
  """Whether an error is about the place where rows are stored."""
  return error.errno in (*_NO_SPACE, *_NOT_WRITABLE)


def _remove_abandoned(folder: pathlib.Path) -> None:
  """Removes what a killed process left; one at work holds its lock."""
  try:
    lock = os.open(folder / _LOCK, os.O_RDWR)
  except OSError:
    _remove_old(folder)
    return
  try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    shutil.rmtree(folder, ignore_errors=True)
  except BlockingIOError:
    pass  # At work.
  except OSError:
    _remove_old(folder)
  finally:
    os.close(lock)


def _remove_old(folder: pathlib.Path) -> None:
  try:
    times = [path.stat().st_mtime for path in (folder, *folder.glob('*'))]
  except FileNotFoundError:
    return  # Its owner has just finished with it.
  if time.time() - max(times) > _ABANDONED_SECONDS:
    shutil.rmtree(folder, ignore_errors=True)
