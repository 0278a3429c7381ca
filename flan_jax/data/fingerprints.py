"""Fingerprints of files, which change when what a file holds does."""

import contextlib
import hashlib
import json
import os
import pathlib
import time
import uuid

# A file changed this lately may change again within the clock's precision.
_SETTLED_SECONDS = 2.0


def of_file(path: pathlib.Path, folder: pathlib.Path | None = None) -> str:
  """Returns the SHA-256 of a file's content.

  Args:
    path: The file.
    folder: Where what was found is kept, so that a file whose size and time
      of change are still the same need not be read again.
  """
  path = path.resolve()
  stat = path.stat()
  state = [str(path), stat.st_size, stat.st_mtime_ns]
  name = hashlib.sha256(os.fsencode(path)).hexdigest()[:32]
  if folder is not None:
    found = _kept(folder / f'{name}.json', state)
    if found is not None:
      return found
  with open(path, 'rb') as file:
    digest = hashlib.file_digest(file, 'sha256').hexdigest()
  if folder is not None and time.time() - stat.st_mtime > _SETTLED_SECONDS:
    # A cache that cannot be written only means reading the file again.
    with contextlib.suppress(OSError):
      folder.mkdir(parents=True, exist_ok=True)
      temporary = folder / f'{name}.{uuid.uuid4().hex}.tmp'
      temporary.write_text(json.dumps([*state, digest]), encoding='utf-8')
      os.replace(temporary, folder / f'{name}.json')
  return digest


def _kept(path: pathlib.Path, state: list) -> str | None:
  try:
    *found, digest = json.loads(path.read_text(encoding='utf-8'))
  except (OSError, ValueError, TypeError):
    return None
  return digest if found == state else None
