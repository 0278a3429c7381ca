"""Prepared TFDS datasets: `source: {tfds: "super_glue/rte:1.0.2"}`.

The folder that TFDS wrote is read as it is: no download, no dataset code, no
checksum. Where it is and how many rows it has is known without TensorFlow,
which is imported when rows are read. Where another version is prepared than the
declared one, the newest that has the splits and fields that are declared is
used; the row store says so.
"""

from collections.abc import Iterator
import contextlib
import functools
import importlib.util
import json
import os
import pathlib
import re
import sys
import tempfile
from typing import Any

from flan_jax import errors
from flan_jax.data import row_paths
from flan_jax.data import row_types
from flan_jax.data import specs
from flan_jax.data import splits
from flan_jax.data.sources import base
from flan_jax.data.sources import tfds_features

_NAME = re.compile(
    r'(?P<name>\w+)(/(?P<config>[\w.\-]+))?(:(?P<version>\d+\.\d+\.\d+))?'
)
_BATCH = 256
_VERSION = re.compile(r'\d+\.\d+\.\d+')


class Tfds:
  """A source that is a folder written by TFDS."""

  seeded = False

  def __init__(
      self,
      dataset: specs.Dataset,
      settings: base.SourceSettings,
      keep: pathlib.Path | None = None,
  ):
    del keep  # The version says what the files hold.
    self._dataset = dataset
    self._where = base.declared_in(dataset, 'source')
    name = dataset.source.where
    match = _NAME.fullmatch(name)
    if match is None:
      raise errors.UserError(
          f"{self._where}: '{name}' is no TFDS name: write name:version or"
          ' name/config:version, such as super_glue/rte:1.0.2'
      )
    self._name = name
    self._parts = match.groupdict()
    self._data_dir = data_dir(settings)
    self._named_dir = bool(settings.tfds_data_dir)
    self._found: tuple[pathlib.Path, dict[str, int]] | None = None

  @property
  def version(self) -> str:
    return self._folder().name

  def is_split(self, name: str) -> bool:
    return name in self._counts()

  def unknown(self, name: str) -> errors.UserError:
    known = list(self._counts())
    return base.no_split(name, known, str(self._folder()), self._dataset)

  def locate(self, split: str) -> str:
    folder = self._folder()
    for module in ('tensorflow', 'tensorflow_datasets'):
      if not _is_installed(module):
        raise _not_installed(self._where, f"there is no '{module}'")
    return str(folder)

  def fingerprint(self, split: str) -> str:
    # The counts tell a whole copy from one that was cut for a test.
    return f'{self._name}:{self.version}:{json.dumps(self._counts())}'

  def count(self, split: str) -> int | None:
    return self._counts()[split]

  def read(
      self, split: str, skipped: base.Skipped
  ) -> Iterator[tuple[base.Number, base.Row]]:
    tfds = import_tfds(self._where)
    builder = tfds.builder_from_directory(str(self._folder()))
    rows = builder.as_dataset(
        split=split,
        shuffle_files=False,
        # One file after the other: the order that slices count in.
        read_config=tfds.ReadConfig(interleave_cycle_length=1),
    )
    # Batches cost a twentieth of what rows taken out one by one do.
    for first, batch in enumerate(rows.ragged_batch(_BATCH)):
      for offset, row in enumerate(_rows(_lists(batch))):
        number = first * _BATCH + offset
        try:
          yield number, row_types.plain(row)
        except errors.UserError as error:
          skipped.add(errors.UserError(f'{self.place(split, number)}: {error}'))

  def place(self, split: str, number: base.Number) -> str:
    return f"{self._folder()}: split '{split}', row {number}"

  def _counts(self) -> dict[str, int]:
    return self._read()[1]

  def _folder(self) -> pathlib.Path:
    return self._read()[0]

  def _read(self) -> tuple[pathlib.Path, dict[str, int]]:
    if self._found is None:
      folder = self._search()
      self._found = folder, _read_counts(folder)
    return self._found

  def _search(self) -> pathlib.Path:
    """Finds the folder of the version, or says what is there instead."""
    folder = self._data_dir / self._parts['name']
    if not folder.is_dir():
      raise self._missing(
          f"holds no '{self._parts['name']}'", _listing(self._data_dir)
      )
    config = self._parts['config'] or _default_config(folder)
    if config:
      if not (folder / config).is_dir():
        raise self._missing(
            f"has no config '{config}' of '{self._parts['name']}'",
            _listing(folder),
        )
      folder = folder / config
    versions = sorted(
        (path.parent.name for path in folder.glob('*/dataset_info.json')),
        key=_version_key,
        reverse=True,
    )
    wanted = self._parts['version'] or (versions[0] if versions else '')
    if wanted in versions:
      return folder / wanted
    misfits = []
    for version in versions:
      misfit = self._misfit(folder / version)
      if not misfit:
        return folder / version
      misfits.append(f'{version} does not fit ({misfit})')
    raise self._missing(
        f"has no version {wanted or ''} of '{folder.name}' prepared, and"
        f' {"; ".join(misfits) or "no other"}'
    )

  def _misfit(self, folder: pathlib.Path) -> str:
    """Returns why another version than the declared one cannot be used.

    What a function of the fields needs is only known when it meets rows.
    """
    try:
      types = tfds_features.row_type(folder)[1]
      counts = _read_counts(folder)
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
      return f'it cannot be read: {error}'
    dataset = self._dataset
    resolver = splits.Resolver(
        own=dataset.splits,
        is_split=counts.__contains__,
        count=counts.__getitem__,
        unknown=lambda name: errors.UserError(f"there is no split '{name}'"),
        where=self._where,
    )
    try:
      for expression in dataset.splits.values():
        resolver.names(expression)
      for name, path in dataset.row_paths.items():
        row_paths.getter(name, path, types, raw=True)
    except (row_paths.NoPath, errors.UserError) as error:
      return str(error)
    return ''

  def _missing(self, what: str, listing: str = '') -> base.Missing:
    """Returns the error that says what is missing, and how to get it."""
    dataset, options = self._dataset, self._dataset.source.options
    command = f'`flan-jax prepare {dataset.name} --download'
    if self._named_dir:
      command += f' --tfds_data_dir={self._data_dir}'
    known = [options.get('download', '')]
    if dataset.licence:
      known.append(f'licence: {dataset.licence}')
    facts = '; '.join(filter(None, known))
    fix = f'{command}` has TFDS fetch it' + (f' ({facts})' if facts else '')
    manual = options.get('manual', '')
    if manual:
      fix = f'{manual.rstrip(".")}; then {command}`'
      fix += f' ({facts})' if facts else ''
    there = f' ({listing})' if listing else ''
    return base.Missing(
        f'{self._where}: {self._data_dir} {what}{there}: {fix}, or name another'
        ' folder with --tfds_data_dir=DIR',
        state='manual' if manual else 'downloadable',
        detail=f'{self._data_dir} {what}: {fix}',
    )


def declared_version(source: specs.Source) -> str:
  """Returns the version that a declaration asks for; '' if it asks for none."""
  return source.where.partition(':')[2] if source.kind == 'tfds' else ''


def _read_counts(folder: pathlib.Path) -> dict[str, int]:
  """Returns the rows of each split."""
  info = json.loads((folder / 'dataset_info.json').read_text())
  return {
      split['name']: sum(int(n) for n in split.get('shardLengths', []))
      for split in info.get('splits', [])
  }


@functools.cache
def _is_installed(module: str) -> bool:
  return importlib.util.find_spec(module) is not None


def data_dir(settings: base.SourceSettings) -> pathlib.Path:
  """Returns the folder of TFDS datasets: the flag's, else TFDS's own."""
  folder = settings.tfds_data_dir or os.environ.get('TFDS_DATA_DIR')
  return pathlib.Path(folder or '~/tensorflow_datasets').expanduser()


def import_tfds(where: str):
  """Imports TFDS without TensorFlow's messages, and keeps it off the GPUs.

  Args:
    where: Who needs it, for the error.

  Raises:
    UserError: It is not installed.
  """
  if 'tensorflow_datasets' in sys.modules:
    return sys.modules['tensorflow_datasets']
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  try:
    with _quiet():
      import tensorflow as tf
      import tensorflow_datasets as tfds
  except ImportError as error:
    raise _not_installed(where, str(error)) from error
  try:
    tf.config.set_visible_devices([], 'GPU')
  except RuntimeError:
    # Somebody ran TensorFlow in this process already and decided otherwise.
    pass
  return tfds


def _not_installed(where: str, reason: str) -> errors.UserError:
  return errors.UserError(
      f'{where}: reading TFDS needs TensorFlow ({reason}): pip install'
      " 'flan_jax[seqio]'"
  )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Holds back what C++ writes to stderr; shows it if the block fails.

  TensorFlow's libraries write lines about GPUs and oneDNN while they load,
  before they know of any log level.
  """
  sys.stderr.flush()
  with tempfile.TemporaryFile() as held:
    kept = os.dup(2)
    os.dup2(held.fileno(), 2)
    try:
      yield
    except BaseException:
      held.seek(0)
      os.write(kept, held.read())
      raise
    finally:
      sys.stderr.flush()
      os.dup2(kept, 2)
      os.close(kept)


def _lists(batch: Any) -> Any:
  """A batch of tensors as lists, in the same nest of dicts."""
  if isinstance(batch, dict):
    return {key: _lists(value) for key, value in batch.items()}
  if not hasattr(batch, 'flat_values'):
    return batch.numpy().tolist()
  # RaggedTensor.to_list does the same, slowly where lists are in lists.
  values = batch.flat_values.numpy().tolist()
  for tensor in reversed(batch.nested_row_splits):
    ends = tensor.numpy().tolist()
    values = [values[a:b] for a, b in zip(ends, ends[1:], strict=False)]
  return values


def _rows(lists: Any) -> list[Any]:
  """Rows of a nest of dicts of lists."""
  if not isinstance(lists, dict):
    return lists
  columns = [_rows(value) for value in lists.values()]
  return [
      dict(zip(lists, values, strict=True))
      for values in zip(*columns, strict=True)
  ]


def _default_config(folder: pathlib.Path) -> str:
  """The config that the name alone means; '' where there are none."""
  if any(_VERSION.fullmatch(path.name) for path in folder.iterdir()):
    return ''
  try:
    metadata = json.loads((folder / '.config' / 'metadata.json').read_text())
    return metadata['default_config_name']
  except (OSError, ValueError, KeyError):
    configs = [path.name for path in folder.iterdir() if path.name[0] != '.']
    return configs[0] if len(configs) == 1 else ''


def _version_key(version: str) -> list[tuple[int, str]]:
  return [
      (int(part), '') if part.isdigit() else (-1, part)
      for part in version.split('.')
  ]


def _listing(folder: pathlib.Path) -> str:
  if not folder.is_dir():
    return 'no such folder'
  names = sorted(path.name for path in folder.iterdir() if path.is_dir())
  names = [name for name in names if not name.startswith('.')]
  if not names:
    return 'it is empty'
  more = f' and {len(names) - 12} more' if len(names) > 12 else ''
  return f'there is {", ".join(names[:12])}{more}'
