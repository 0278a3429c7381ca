"""Stored rows in a bucket, for hosts that each have a cache of their own.

They are mapped into memory, which only files of this machine can be: a split is
copied into the local cache once, under the same name, and checked. Who reads a
source puts its rows into the bucket, the manifest last, so that a folder with a
manifest is whole.
"""

import pathlib
import shutil

from flan_jax import errors
from flan_jax import storage
from flan_jax.data import manifest as manifest_lib
from flan_jax.data import row_files
from flan_jax.data import row_folders

_BLOCK = 1 << 24


class SharedRows:
  """The rows of one dataset in a bucket."""

  def __init__(self, home: pathlib.Path):
    """Reads nothing yet.

    Args:
      home: Where the folders of its splits are.
    """
    self._home = home

  def names(self) -> list[str]:
    """Returns the names of the folders.

    Raises:
      UserError: The bucket cannot be read.
    """
    with storage.reached('--cache_dir', self._home):
      try:
        return [path.name for path in self._home.iterdir()]
      except FileNotFoundError:
        return []

  def manifest(self, target: pathlib.Path) -> manifest_lib.SplitManifest | None:
    """Returns a folder's manifest; None if it is not whole or not there.

    Args:
      target: Where the folder is, or would be, in the local cache.
    """
    with storage.reached('--cache_dir', self._home):
      return manifest_lib.read(self._home / target.name)

  def get(
      self, target: pathlib.Path, manifest: manifest_lib.SplitManifest
  ) -> None:
    """Copies a folder into the local cache.

    Args:
      target: Where it goes; it has the same name here and there.
      manifest: Its manifest.

    Raises:
      UserError: The bucket cannot be read, what it has is not what the
        manifest says, or nothing can be written here.
    """
    place = self._home / target.name / row_files.FILE
    folder = row_folders.Folder(target)
    try:
      copy = folder.path / row_files.FILE
      with storage.reached('--cache_dir', place), place.open('rb') as source:
        with copy.open('wb') as sink:
          shutil.copyfileobj(source, sink, _BLOCK)
      if row_files.sha256(copy) != manifest.sha256:
        raise errors.UserError(
            f'{place}: is not what its manifest says; delete the folder, and'
            f' `flan-jax prepare {manifest.dataset} --cache_dir=...` stores it'
            ' again'
        )
      manifest.save(folder.path)
      folder.finish(replace=False)
    finally:
      folder.close()

  def put(self, folder: pathlib.Path) -> None:
    """Copies a folder of the local cache into the bucket.

    Raises:
      UserError: The bucket cannot be written.
    """
    target = self._home / folder.name
    with storage.reached('--cache_dir', target):
      with (
          (folder / row_files.FILE).open('rb') as source,
          (target / row_files.FILE).open('wb') as sink,
      ):
        shutil.copyfileobj(source, sink, _BLOCK)
      text = (folder / manifest_lib.NAME).read_bytes()
      storage.write(target / manifest_lib.NAME, text)
