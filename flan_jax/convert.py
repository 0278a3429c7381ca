"""Turns a checkpoint of one format into one of another.

    flan-jax convert google/flan-t5-base runs/flan_t5_base
    flan-jax convert runs/mini exported --to=huggingface
    flan-jax convert runs/adapters exported --to=peft

Parameters are read, turned round and written one by one. DST gets its name
when it is complete.
"""

import argparse
from collections.abc import Iterator, Mapping
import contextlib
import math
import os
import pathlib
import shutil
import sys
from typing import Any

import flan_jax
from flan_jax import errors
from flan_jax import storage
from flan_jax import vocabularies
from flan_jax.checkpoints import carried
from flan_jax.checkpoints import failures
from flan_jax.checkpoints import foreign
from flan_jax.checkpoints import formats
from flan_jax.checkpoints import places
import numpy as np


def main(args: argparse.Namespace) -> int:
  """Converts; returns the exit code.

  Raises:
    UserError: SRC cannot be read, is of a model that DST's format does not
      know, or DST is there.
  """
  target = storage.absolute(storage.path(args.target))
  storage.check('DST', args.target)
  with storage.reached('DST', target):
    _check_free(target)
  if args.target_format == formats.PEFT:
    return _write_adapters(target, args)
  source = formats.open_source(args.source, args.source_format, args.step)
  to = args.target_format or _other(source.format)
  with contextlib.closing(_Bar(source)) as bar:
    whole = _whole(source, args.allow_missing)
    vocabulary = args.vocabulary or source.vocabulary
    watched = _Watched(whole, bar, _files(source, vocabulary))
    with _staged(target) as staged:
      _write(to, staged, watched, vocabulary, args)
  print(
      f'{target}: {to}, from {source.format}; {_count(watched):,} parameters',
      file=sys.stderr,
  )
  return 0


def _other(source_format: str) -> str:
  """Returns what to convert to where nothing is said."""
  if source_format == formats.NATIVE:
    return formats.HUGGINGFACE
  return formats.NATIVE


def _check_free(target: pathlib.Path) -> None:
  """Refuses a DST that is there, unless it is an empty folder."""
  if target.is_dir() and not any(target.iterdir()):
    return
  if target.exists():
    raise errors.UserError(
        f'DST: {target}: exists; name a folder that does not, or remove it'
    )


@contextlib.contextmanager
def _staged(target: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields a folder that becomes `target` unless something goes wrong.

  In a bucket, where nothing can be renamed in one go, it is `target` itself.
  """
  if storage.is_address(target):
    yield target
    return
  temporary = target.with_name(f'.{target.name}.{os.getpid()}.tmp')
  try:
    temporary.mkdir(parents=True)
    yield temporary
    os.replace(temporary, target)
  except (OSError, ValueError) as error:
    # What tensorstore raises is a ValueError that has the system's number.
    if isinstance(error, ValueError) and 'os_error_code' not in str(error):
      raise
    raise errors.UserError(
        f'DST: {target}: cannot be written ({failures.reason(error)})'
    ) from error
  finally:
    shutil.rmtree(temporary, ignore_errors=True)


def _whole(source: foreign.Source, allow_missing: bool) -> foreign.Source:
  """Returns a source that has all parameters of its model, and no others."""
  from flan_jax.checkpoints import sharded
  from flan_jax.models import interface

  model = interface.create(source.config)
  return sharded.complete(source, model, allow_missing)


def _files(
    source: foreign.Source, vocabulary: str | None
) -> Mapping[str, pathlib.Path]:
  """Returns what is to be carried along: no other vocabulary's tokenizer.

  Raises:
    UserError: The vocabulary has more ids than the model.
  """
  if vocabulary is None:
    return source.files
  found = foreign.vocabulary(source, vocabulary)
  own = source.vocabulary
  if own == vocabulary:
    return source.files
  # One that cannot be read is another.
  with contextlib.suppress(errors.UserError):
    if own and vocabularies.load(own).describe() == found.describe():
      return source.files
  return {
      name: path
      for name, path in source.files.items()
      if name in carried.OF_THE_MODEL
  }


def _write(
    to: str,
    directory: pathlib.Path,
    source: foreign.Source,
    vocabulary: str | None,
    args: argparse.Namespace,
) -> None:
  """Writes a checkpoint in a format."""
  if args.dtype is not None and to != formats.HUGGINGFACE:
    raise errors.UserError(f'--dtype: is for --to={formats.HUGGINGFACE} alone')
  if to == formats.HUGGINGFACE:
    from flan_jax.checkpoints.huggingface import writing

    dtype = None if args.dtype is None else _dtype(args.dtype)
    writing.write(directory, source, vocabulary, dtype)
  elif to == formats.T5X:
    _write_t5x(directory, source, vocabulary)
  else:
    _write_native(directory, source, vocabulary)


def _write_t5x(
    directory: pathlib.Path, source: foreign.Source, vocabulary: str | None
) -> None:
  """Writes a checkpoint of T5X, and the vocabulary beside it."""
  from flan_jax.checkpoints.t5x import moments
  from flan_jax.checkpoints.t5x import writing

  kept = moments.of(source)
  if kept is None:
    print(
        f"{source.path}: has no state of Adafactor's: the parameters alone are"
        ' written; docs/t5x.md says how T5X goes on from them',
        file=sys.stderr,
    )
  extra_ids = None
  if vocabulary not in (None, 'bytes'):
    assert vocabulary is not None
    loaded = vocabularies.load(vocabulary)
    extra_ids = loaded.describe().get('extra_ids')
    vocabularies.keep(loaded, vocabulary, directory)
  writing.write(directory, source, kept, extra_ids)


def _write_native(
    directory: pathlib.Path, source: foreign.Source, vocabulary: str | None
) -> None:
  """Writes a run of ours that has one checkpoint.

  Raises:
    UserError: There is no vocabulary.
  """
  from flan_jax.checkpoints import native_writing

  if vocabulary is None:
    raise errors.UserError(
        f'--vocabulary: is needed: {source.path} comes with none; name a'
        ' SentencePiece model, or bytes'
    )
  facts = {
      'lengths': places.lengths(source.config),
      'mixture': None,
      'parameters': _count(source),
      'flan_jax': flan_jax.__version__,
      'converted_from': {'format': source.format, 'path': str(source.path)},
  }
  native_writing.write(
      directory, source, vocabularies.load(vocabulary), vocabulary, facts
  )


def _write_adapters(target: pathlib.Path, args: argparse.Namespace) -> int:
  """Writes the adapters of a run for PEFT; returns the exit code.

  Raises:
    UserError: SRC has none, or none that PEFT can read.
  """
  from flan_jax.checkpoints.huggingface import peft

  if args.dtype is not None:
    raise errors.UserError(f'--dtype: is for --to={formats.HUGGINGFACE} alone')
  source = storage.path(args.source)
  place = places.locate(formats.at(source, args.step))
  with _staged(target) as staged:
    count = peft.write(place, staged)
  print(f'{target}: {formats.PEFT}; {count:,} parameters', file=sys.stderr)
  return 0


def _dtype(name: str) -> np.dtype:
  import ml_dtypes

  return np.dtype(ml_dtypes.bfloat16 if name == 'bfloat16' else name)


def _count(source: foreign.Source) -> int:
  return sum(math.prod(shape) for shape, _ in source.shapes.values())


class _Bar:
  """A progress bar that counts the bytes that are read."""

  def __init__(self, source: foreign.Source):
    import tqdm

    self._bar = tqdm.tqdm(
        total=sum(
            math.prod(shape) * dtype.itemsize
            for shape, dtype in source.shapes.values()
        ),
        unit='B',
        unit_scale=True,
        disable=None,  # Only on a terminal.
    )

  def add(self, count: int) -> None:
    self._bar.update(count)

  def close(self) -> None:
    self._bar.close()


class _Watched:
  """A source that tells a progress bar what is read; see `foreign.Source`."""

  def __init__(
      self,
      source: foreign.Source,
      bar: _Bar,
      files: Mapping[str, pathlib.Path],
  ):
    self.files = files
    self._source = source
    self._bar = bar

  def __getattr__(self, name: str) -> Any:
    return getattr(self._source, name)

  def read(self, name: str, index: foreign.Index | None = None) -> np.ndarray:
    try:
      found = self._source.read(name, index)
    except OSError as error:
      raise errors.UserError(
          f'{self._source.path}: cannot be read ({storage.reason(error)})'
      ) from error
    self._bar.add(found.nbytes)
    return found
