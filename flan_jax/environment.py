"""What a program runs on: versions of packages, and of code under git."""

from collections.abc import Mapping
import importlib.metadata
import os
import pathlib
import platform
import subprocess
from typing import Any

import flan_jax

# Those whose version may change what a run does, as far as they are there.
_PACKAGES = (
    'jax',
    'jaxlib',
    'libtpu',
    'flax',
    'optax',
    'orbax-checkpoint',
    'grain',
    'numpy',
    'sentencepiece',
    'pyarrow',
    'gin-config',
    'seqio',
    'tensorflow',
    'tensorflow-datasets',
)
# Seconds; a repository on a slow file system must not keep a run waiting.
_PATIENCE = 5


def describe() -> dict[str, Any]:
  """Returns versions and revisions, fit for JSON.

  'packages' has the versions of those that are installed; 'git' the revisions
  of the working directory and of flan_jax, as far as they are repositories.
  """
  here = pathlib.Path(flan_jax.__file__).resolve().parent
  found = {
      'working_directory': revision(os.getcwd()),
      # An installed package may lie inside somebody's repository.
      'flan_jax': revision(here.parent, needs='flan_jax/__init__.py'),
  }
  return {
      'python': platform.python_version(),
      'platform': platform.platform(),
      'packages': {'flan_jax': flan_jax.__version__, **_versions()},
      'git': {name: value for name, value in found.items() if value},
  }


def _versions() -> dict[str, str]:
  found = {}
  for name in _PACKAGES:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      continue
  return found


def revision(
    folder: str | os.PathLike[str], needs: str | None = None
) -> Mapping[str, Any] | None:
  """Returns the commit of a repository's folder, or None.

  Args:
    folder: Any folder.
    needs: A file that must be under version control, from the folder.

  Returns:
    'commit', and 'changed': whether files under version control differ from it.
    None where this is no repository, or git is not there to ask.
  """
  if needs is not None and _git(folder, 'ls-files', needs) != needs:
    return None
  commit = _git(folder, 'rev-parse', 'HEAD')
  if not commit:
    return None
  status = _git(folder, 'status', '--porcelain', '--untracked-files=no')
  return {'commit': commit, 'changed': None if status is None else bool(status)}


def _git(folder: str | os.PathLike[str], *arguments: str) -> str | None:
  try:
    done = subprocess.run(
        ['git', '-C', os.fspath(folder), *arguments],
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
        # No lock in a repository that somebody works in.
        env={**os.environ, 'GIT_OPTIONAL_LOCKS': '0'},
    )
  except (OSError, subprocess.TimeoutExpired):
    return None
  return done.stdout.strip() if done.returncode == 0 else None
