"""Checkpoints of all formats: what they have in common.

A source gives a model's parameters one by one, under our names and in our
layout, without keeping any of them. Nothing here needs jax.
"""

from collections.abc import Iterable, Mapping
import dataclasses
import pathlib
from typing import Any, Protocol

from flan_jax import errors
from flan_jax import vocabularies
from flan_jax.models import config as model_config
import numpy as np

Shape = tuple[int, ...]
Index = tuple[slice, ...]

# Fields of a model's configuration that no checkpoint knows: they change how
# the model is computed or trained, and not what it computes. Sizes are among
# the shapes.
_FREE = {
    'vocab_size',
    'dropout_rate',
    'dtype',
    'remat',
    'unroll_layers',
    'loss_chunks',
    'prefill_chunk',
}


class Source(Protocol):
  """An opened checkpoint, in any format.

  Attributes:
    format: 'huggingface', 't5x' or 'native'.
    path: Its folder.
    config: The model that it is of.
    shapes: Shape and dtype of each parameter that it has, under T5X's names,
      one entry a layer, as `naming.unstack` gives them.
    vocabulary: What `vocabularies.load` takes, or None where the checkpoint has
      no vocabulary.
    step: The step that it was saved at, where the format knows one; else 0.
    files: What else is to be carried along, by name: a tokenizer's files.
    assumed: Fields of the configuration that the checkpoint does not say.
  """

  @property
  def format(self) -> str:
    ...

  @property
  def path(self) -> pathlib.Path:
    ...

  @property
  def config(self) -> model_config.ModelConfig:
    ...

  @property
  def shapes(self) -> Mapping[str, tuple[Shape, np.dtype]]:
    ...

  @property
  def vocabulary(self) -> str | None:
    ...

  @property
  def step(self) -> int:
    ...

  @property
  def files(self) -> Mapping[str, pathlib.Path]:
    ...

  @property
  def assumed(self) -> tuple[str, ...]:
    ...

  def read(self, name: str, index: Index | None = None) -> np.ndarray:
    """Reads a parameter, or a part of it, and nothing else.

    Args:
      name: One of `shapes`.
      index: A slice for each axis of our layout; None for all of it.
    """

  def identity(self) -> str:
    """Returns what tells this checkpoint from others, wherever it lies."""

  def origin(self, name: str) -> str:
    """Returns what the checkpoint itself calls a parameter of ours."""


@dataclasses.dataclass(frozen=True)
class Differences:
  """How a source's parameters differ from a model's.

  Attributes:
    missing: Parameters that the source lacks.
    unexpected: What it has beyond the model, under its own names.
    shapes: A line for each parameter of another shape.
  """

  missing: tuple[str, ...] = ()
  unexpected: tuple[str, ...] = ()
  shapes: tuple[str, ...] = ()


def differences(source: Source, wanted: Mapping[str, Any]) -> Differences:
  """Compares a source with a model.

  Args:
    source: The checkpoint.
    wanted: The model's parameters, one entry a layer; anything with a shape.
  """
  shapes = []
  for name, leaf in wanted.items():
    if name in source.shapes:
      found = source.shapes[name][0]
      if tuple(found) != tuple(leaf.shape):
        shapes.append(
            f'{_both(source.origin(name), name)} is {_written(found)} there and'
            f' {_written(leaf.shape)} in the model'
        )
  return Differences(
      missing=tuple(name for name in wanted if name not in source.shapes),
      unexpected=tuple(
          source.origin(name) for name in source.shapes if name not in wanted
      ),
      shapes=tuple(shapes),
  )


def check(
    source: Source, wanted: Mapping[str, Any], allow_missing: bool = False
) -> Differences:
  """Refuses a source whose parameters are not a model's; see `differences`.

  Args:
    source: The checkpoint.
    wanted: The model's parameters, one entry a layer.
    allow_missing: Whether parameters may be missing or unexpected.

  Raises:
    UserError: They differ; all of the names are in it.
  """
  found = differences(source, wanted)
  problems = list(found.shapes)
  if not allow_missing:
    problems += [
        f'{_both(source.origin(name), name)} is missing'
        for name in found.missing
    ]
    problems += [f'{name} is not known' for name in found.unexpected]
  if problems:
    mend = ''
    if len(problems) > len(found.shapes):
      mend = (
          '; `flan-jax convert --allow-missing` draws what is missing at'
          ' random, and leaves out what is not known'
      )
    raise errors.UserError(
        f'{source.path}: does not have the parameters of the model{mend}:'
        f' {_listed(problems)}'
    )
  return found


def check_config(source: Source, config: model_config.ModelConfig) -> None:
  """Refuses to read a source as another model than it is of.

  Shapes do not tell: activations or scales may differ where they agree.

  Raises:
    UserError: A field of the configuration differs that matters.
  """
  there = source.config
  if type(there) is not type(config):
    raise errors.UserError(
        f'{source.path}: is of a {there.family} model, and MODEL is'
        f' {config.family}'
    )
  differing = [
      f'{field.name} is {getattr(there, field.name)!r} there and'
      f' {getattr(config, field.name)!r} in MODEL'
      for field in dataclasses.fields(config)
      if field.name not in _FREE
      and field.name not in source.assumed
      and getattr(there, field.name) != getattr(config, field.name)
  ]
  if differing:
    raise errors.UserError(
        f'{source.path}: is of another model: {_listed(differing)}'
    )


def vocabulary(source: Source, spec: str) -> vocabularies.Vocabulary:
  """Returns a source's vocabulary, or one that is to go with it.

  Args:
    source: The checkpoint.
    spec: What `vocabularies.load` takes.

  Raises:
    UserError: It is not there, or has more ids than the model.
  """
  found = vocabularies.load(spec)
  plus_one = not isinstance(source.config, model_config.EncoderDecoderConfig)
  # A run of ours may be of any vocabulary, and has its own.
  if source.format == 'huggingface' and getattr(found, 'shift', 0) != plus_one:
    raise errors.UserError(
        f"{spec}: {'has' if plus_one else 'has not'} T5's ids (padding 0, end"
        f' 1), and {source.path} {"has not" if plus_one else "has"}: it is of'
        ' another model'
    )
  if found.size > source.config.most_ids:
    raise errors.UserError(
        f'{spec}: the vocabulary has {found.size:,} ids, and the embedding of'
        f' {source.path} has {source.config.most_ids:,} rows: it is of another'
        ' model'
    )
  return found


def _listed(problems: Iterable[str]) -> str:
  found = list(problems)
  return found[0] if len(found) == 1 else '\n  ' + '\n  '.join(found)


def _both(theirs: str, ours: str) -> str:
  """Returns both names of a parameter."""
  return theirs if theirs == ours else f'{theirs} ({ours})'


def _written(shape: Iterable[int]) -> str:
  return '[' + ', '.join(map(str, shape)) + ']'
