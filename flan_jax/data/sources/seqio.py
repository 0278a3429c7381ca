"""The examples of a SeqIO task: `source: {seqio: task_name}`.

They are read through SeqIO once, into the row store. Importing this module
imports SeqIO and TensorFlow, which takes seconds.
"""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import functools
import hashlib
import inspect
import os
import pathlib
import re
from typing import Any

from flan_jax import errors
from flan_jax.data import specs
from flan_jax.data.sources import base
from flan_jax.data.sources import tfds as tfds_source
import numpy as np

tfds_source.import_tfds('SeqIO')  # Without TensorFlow's messages.

try:
  import seqio
  import tensorflow as tf
except ImportError as error:
  raise errors.UserError(
      f"SeqIO is not installed ({error}): pip install 'flan_jax[seqio]'"
  ) from error

# The user's module may have imported TensorFlow first. It would take the memory
# of all GPUs for reading text.
with contextlib.suppress(RuntimeError):
  tf.config.set_visible_devices([], 'GPU')

TEXTS = ('inputs', 'targets')


class SeqioSource:
  """The rows of a SeqIO task: its examples, as text.

  A row has inputs and targets as they are before tokenisation, and whatever
  else the task's preprocessors leave that is text or a number.
  """

  version = ''
  seeded = True

  def __init__(
      self,
      declared: specs.Dataset,
      settings: base.SourceSettings,
      keep: pathlib.Path | None = None,
  ):
    del keep
    self._where = base.declared_in(declared, 'source')
    self._dataset = declared
    self._name = declared.source.where
    self._seed = settings.seed
    if settings.tfds_data_dir:
      seqio.set_tfds_data_dir_override(settings.tfds_data_dir)

  @functools.cached_property
  def _task(self) -> seqio.Task:
    known = list(seqio.TaskRegistry.names())
    if self._name not in known:
      raise errors.UserError(
          f"{self._where}: no SeqIO task '{self._name}' is registered; name the"
          ' module that does with --import=MODULE.'
          f'{errors.nearest(self._name, known)}'
      )
    return seqio.TaskRegistry.get(self._name)

  def is_split(self, name: str) -> bool:
    return name in self._task.splits

  def unknown(self, name: str) -> errors.UserError:
    return base.no_split(
        name, list(self._task.splits), self._name, self._dataset
    )

  def locate(self, split: str) -> str:
    return f'SeqIO task {self._task.name}'

  def fingerprint(self, split: str) -> str:
    """Returns a hash of the task's code, and of its files as they look."""
    task = self._task
    # A class without a text of its own shows where in memory it is.
    source = re.sub(r' at 0x[0-9a-f]+', '', str(task.source))
    digest = hashlib.sha256(f'{task.name} {source} {self._seed}'.encode())
    for path in sorted(_code(task)):
      digest.update(path.read_bytes())
    for shard in _shards(task, split):
      if os.path.exists(shard):
        stat = os.stat(shard)
        digest.update(f'{shard} {stat.st_size} {stat.st_mtime_ns}'.encode())
    return digest.hexdigest()

  def count(self, split: str) -> int | None:
    return None  # Preprocessors may drop and multiply examples.

  def read(
      self, split: str, skipped: base.Skipped
  ) -> Iterator[tuple[base.Number, base.Row]]:
    task = self._task
    texts = readers(task)
    seed = self._seed if _takes_seed(task.source) else None
    if seed is None:
      # What else preprocessors draw from.
      tf.random.set_seed(self._seed)
    found = task.get_dataset(
        sequence_length=None,
        split=split,
        use_cached=task.requires_caching,
        shuffle=False,
        seed=seed,
        trim_output_features=False,
        try_in_mem_cache=False,
    )
    for number, features in enumerate(found.as_numpy_iterator()):
      row = {
          name: value
          for name, value in features.items()
          if name not in task.output_features
          and not name.endswith('_pretokenized')
      }
      try:
        yield number, {
            **_plain(row),
            **{name: read(features) for name, read in texts.items()},
        }
      except UnicodeDecodeError as error:
        skipped.add(errors.UserError(f'{self.place(split, number)}: {error}'))

  def place(self, split: str, number: base.Number) -> str:
    return f"SeqIO task {self._name}: split '{split}', example {number}"


def readers(
    task: seqio.Task,
) -> dict[str, Callable[[Mapping[str, Any]], str]]:
  """Returns how inputs and targets are read from features, as text.

  Raises:
    UserError: The task has no targets, or features that are no text.
  """

  def reader(name: str) -> Callable[[Mapping[str, Any]], str]:
    vocabulary = task.output_features[name].vocabulary

    def read(features: Mapping[str, Any]) -> str:
      copied = features.get(f'{name}_pretokenized')
      if isinstance(copied, bytes):
        return copied.decode()
      return vocabulary.decode(np.asarray(features[name]).tolist())

    return read

  if 'targets' not in task.output_features:
    raise errors.UserError(
        f"SeqIO task '{task.name}': output_features: has"
        f' {", ".join(task.output_features)}, but no targets'
    )
  for name in TEXTS:
    feature = task.output_features.get(name)
    if feature is not None and (
        feature.rank != 1 or isinstance(feature, seqio.ContinuousFeature)
    ):
      raise errors.UserError(
          f"SeqIO task '{task.name}': output_features: '{name}' is no text"
      )
  return {
      name: reader(name) if name in task.output_features else lambda _: ''
      for name in TEXTS
  }


def _takes_seed(source: Any) -> bool:
  """Whether a source may be given a seed; some functions have no such place."""
  if not isinstance(source, seqio.FunctionDataSource):
    return True
  return 'seed' in inspect.signature(source._dataset_fn).parameters


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
  """Keeps what is text, a number, or a list of them."""
  kept = {}
  for name, value in row.items():
    if isinstance(value, tf.RaggedTensor) or isinstance(value, dict):
      continue
    value = np.asarray(value)
    if value.dtype.kind in 'bifuSO' and value.ndim <= 1:
      kept[name] = _decoded(value.tolist())
  return kept


def _decoded(value: Any) -> Any:
  if isinstance(value, list):
    return [_decoded(one) for one in value]
  return value.decode() if isinstance(value, bytes) else value


def _code(task: seqio.Task) -> set[pathlib.Path]:
  """Returns the files of the functions that a task is made of."""
  functions: list[Any] = [*task.preprocessors, type(task.source)]
  if isinstance(task.source, seqio.FunctionDataSource):
    functions.append(task.source._dataset_fn)
  found = set()
  for function in functions:
    while isinstance(function, functools.partial):
      function = function.func
    try:
      path = inspect.getsourcefile(inspect.unwrap(function))
    except TypeError:  # An object with __call__.
      path = inspect.getsourcefile(type(function))
    if path:
      found.add(pathlib.Path(path))
  return {path for path in found if path.is_file()}


def _shards(task: seqio.Task, split: str) -> list[str]:
  if isinstance(task.source, seqio.FileDataSource):
    return sorted(task.source.list_shards(split))
  return []
