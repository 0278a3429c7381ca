"""Joins the files of shards to those that one program would have written."""

from collections.abc import Mapping
import os
import pathlib
import re
import shutil
from typing import Any

from flan_jax import errors
from flan_jax.inference import output
from flan_jax.inference import writer

_SHARD = re.compile(r'(.+)-(\d{5})-of-(\d{5})\.jsonl(\.part)?')


def join(directory: str | os.PathLike[str], overwrite: bool = False) -> int:
  """Joins all shards in a directory; their own files stay.

  Args:
    directory: Where all shards' files lie.
    overwrite: Whether joined files of other settings may be replaced.

  Returns:
    The number of files that were made.

  Raises:
    UserError: Shards are missing or unfinished, or are not of the same
      settings; nothing is written then.
  """
  folder = pathlib.Path(directory).expanduser()
  if not folder.is_dir():
    raise errors.UserError(f'--join: {folder}: there is no such directory')
  found = _find(folder)
  if not found:
    raise errors.UserError(
        f'--join: {folder}: holds no shards, which are called such as'
        ' rte-00000-of-00008.jsonl'
    )
  settings = {name: _settings(folder, name, n) for name, n in found.items()}
  entries = output.recorded(folder / output.SETTINGS)
  for name in found:
    path = folder / f'{name}.jsonl'
    if path.exists() and not overwrite:
      _check(path, entries.get(path.name), settings[name])
  for name, count in found.items():
    path = folder / f'{name}.jsonl'
    path.unlink(missing_ok=True)
    entries[path.name] = settings[name]
    output.write_settings(folder / output.SETTINGS, entries)
    with writer.replacing(path) as joined:
      for index in range(count):
        with _shard_path(folder, name, index, count).open('rb') as shard:
          shutil.copyfileobj(shard, joined.buffer)
    print(path)
  return len(found)


def _find(folder: pathlib.Path) -> dict[str, int]:
  """Returns how many shards each name has.

  Raises:
    UserError: They are not all there.
  """
  counts: dict[str, set[int]] = {}
  for path in sorted(folder.iterdir()):
    match = _SHARD.fullmatch(path.name)
    if match:
      counts.setdefault(match[1], set()).add(int(match[3]))
  for name, several in counts.items():
    if len(several) > 1:
      numbers = ' and '.join(map(str, sorted(several)))
      raise errors.UserError(
          f'--join: {folder}: {name} is there in {numbers} shards; keep the'
          ' files of one number'
      )
  found = {name: several.pop() for name, several in counts.items()}
  whole = max(found.values(), default=0)
  for name, count in found.items():
    lacking = [
        index
        for index in range(count)
        if not _shard_path(folder, name, index, count).exists()
    ]
    if lacking:
      first = _shard_path(folder, name, lacking[0], count).name
      raise errors.UserError(
          f'--join: {folder}: {len(lacking)} of {count} shards of {name} are'
          f' not finished, {first} first; run them with --num_shards={count}'
          f' --shard={lacking[0]}'
      )
    if count != whole:
      raise errors.UserError(
          f'--join: {folder}: {name} is in {count} shards, others in {whole};'
          ' keep the files of one number'
      )
  return found


def _shard_path(
    folder: pathlib.Path, name: str, index: int, count: int
) -> pathlib.Path:
  return folder / f'{name}{output.Shard(index, count).suffix}.jsonl'


def _settings(folder: pathlib.Path, name: str, count: int) -> dict[str, Any]:
  """Returns what all shards of a name were made with.

  Raises:
    UserError: They differ.
  """
  found = []
  for index in range(count):
    path = _shard_path(folder, name, index, count)
    file = output.settings_path(folder, output.Shard(index, count))
    entry = output.recorded(file).get(path.name)
    if entry is None:
      raise errors.UserError(
          f'--join: {path}: is in no file of settings, so it may be of another'
          ' checkpoint; predict it again'
      )
    found.append(entry)
    _check(path, found[0], entry, 'shard 0')
  return found[0]


def _check(
    path: pathlib.Path,
    there: Mapping[str, Any] | None,
    wanted: Mapping[str, Any],
    whose: str = 'the joined file',
) -> None:
  if there is None:
    raise errors.UserError(
        f'--join: {path}: is there already and not in {output.SETTINGS}; take'
        ' it away, or pass --overwrite'
    )
  key = output.difference(there, wanted)
  if key is not None:
    raise errors.UserError(
        f'--join: {path}: {key}: is {wanted.get(key)!r}, and'
        f' {there.get(key)!r} in {whose}; predict all shards alike'
    )
