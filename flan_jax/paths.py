"""Finds `gin/` and `mixtures/` in a wheel or a checkout, and the cache.

Paths that start with `gin/` or `mixtures/` mean the same everywhere: in a
checkout they lie beside the package, in a wheel inside it.
"""

import os
import pathlib
import re

from flan_jax import errors
from flan_jax import storage

# Strict editable installs link files one by one; resolve() leads back to the
# real folder, so that files added later are seen.
_PACKAGE = pathlib.Path(__file__).resolve().parent


def root() -> pathlib.Path:
  """Returns the folder that holds `gin/` and `mixtures/`.

  Raises:
    FileNotFoundError: The installation carries neither.
  """
  if (_PACKAGE / 'mixtures').is_dir():
    return _PACKAGE
  # Without the look at setup.py, a broken wheel would take site-packages/gin,
  # which is gin-config itself, for the folder of gin files.
  checkout = _PACKAGE.parent
  if (checkout / 'setup.py').is_file() and (checkout / 'mixtures').is_dir():
    return checkout
  raise FileNotFoundError(
      f'flan_jax is installed in {_PACKAGE} without its gin files and'
      ' mixtures; install it again from a clean checkout.'
  )


def gin_dir() -> pathlib.Path:
  """Returns the folder of the gin files that come with the package."""
  return root() / 'gin'


def mixtures_dir() -> pathlib.Path:
  """Returns the folder of the declarations that come with the package."""
  return root() / 'mixtures'


def find(path: str | os.PathLike[str]) -> pathlib.Path:
  """Returns `path`, looked for from here and then from `root()`.

  The file need not exist; a path found nowhere comes back as it was given, so
  that the caller's error names what the user wrote.
  """
  given = storage.path(path)
  if storage.is_address(given) or given.exists() or given.is_absolute():
    return given
  packaged = root() / given
  return packaged if packaged.exists() else given


def cache_dir(named: str | os.PathLike[str] | None = None) -> pathlib.Path:
  """Returns this machine's cache directory.

  Args:
    named: What --cache_dir says, if anything. Otherwise, and where it is in a
      bucket, `$FLAN_JAX_CACHE` or else the user's cache has it.

  Raises:
    UserError: `$FLAN_JAX_CACHE` is an address.
  """
  if named is None or storage.is_address(named):
    named = os.environ.get('FLAN_JAX_CACHE')
    check_local('FLAN_JAX_CACHE', named)
  if named:
    return pathlib.Path(named).expanduser()
  base = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
  return pathlib.Path(base).expanduser() / 'flan_jax'


def check_local(name: str, path: str | os.PathLike[str] | None) -> None:
  """Refuses addresses such as gs://bucket/run: pathlib makes a folder of them.

  Args:
    name: The flag or macro that is to blame.
    path: What it says; None passes.

  Raises:
    UserError: It is no path of this machine's file systems.
  """
  match = re.match(r'([a-z][a-z0-9+.\-]+)://', str(path or ''))
  if match is not None:
    raise errors.UserError(
        f'{name}: {path}: must be a folder, not {match.group(0)}; a bucket can'
        ' be mounted on one, docs/launching.md says how'
    )
