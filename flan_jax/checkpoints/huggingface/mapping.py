"""How an architecture of `transformers` and a model of ours correspond: data.

From one table of names follow reading, writing, and the lists of tensors that
are missing or not known.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import Any

from flan_jax import errors
from flan_jax.checkpoints.huggingface import safetensors
from flan_jax.models import config as model_config
import numpy as np

Json = Mapping[str, Any]
Index = tuple[slice, ...]


@dataclasses.dataclass(frozen=True)
class Entry:
  """One parameter of ours, and the tensor that holds it.

  Attributes:
    ours: Our name, such as 'encoder/layers_0/attention/query/kernel'.
    theirs: The tensor's name.
    transpose: Whether the tensor's two axes are the other way round, as those
      of `torch.nn.Linear` are.
    part: Where the tensor holds several parameters of ours side by side: the
      tensor's axis, and where on it this one begins and ends.
    rows: Where ours has rows that the tensor lacks, which are 0: which of ours
      is the tensor's first, how many the tensor has, and how many ours has.
      Rows are along the tensor's first axis.
    other_names: Names that the tensor has in other versions' files; the first
      that is there is read. Those that are there as well hold the same.
  """

  ours: str
  theirs: str
  transpose: bool = False
  part: tuple[int, int, int] | None = None
  rows: tuple[int, int, int] | None = None
  other_names: tuple[str, ...] = ()

  def shape(self, theirs: Sequence[int]) -> tuple[int, ...]:
    """Returns our parameter's shape, from their tensor's."""
    shape = list(theirs)
    if self.part is not None:
      axis, begin, end = self.part
      # No more than there is, so that a tensor too small shows.
      shape[axis] = max(0, min(end, shape[axis]) - begin)
    if self.rows is not None:
      _, there, count = self.rows
      # One too few or too many shows.
      shape[0] += count - there
    return tuple(reversed(shape)) if self.transpose else tuple(shape)

  def taken(self, tensor: np.ndarray, index: Index | None = None) -> np.ndarray:
    """Returns our parameter, or a part of it, as an array of its own.

    Args:
      tensor: Their tensor, which may be memory-mapped.
      index: A slice for each of our axes; None for all of it.
    """
    view = self.of(tensor)
    if self.rows is None:
      return np.array(view if index is None else view[index], order='C')
    axis = view.ndim - 1 if self.transpose else 0
    before, _, count = self.rows
    shape = list(view.shape)
    shape[axis] = count
    bounds = [
        each.indices(size)[:2]
        for each, size in zip(
            index or (slice(None),) * len(shape), shape, strict=True
        )
    ]
    found = np.zeros([end - begin for begin, end in bounds], view.dtype)
    begin, end = bounds[axis]
    first, last = max(begin, before), min(end, before + view.shape[axis])
    if first < last:
      theirs = [slice(*each) for each in bounds]
      theirs[axis] = slice(first - before, last - before)
      ours = [slice(None)] * len(shape)
      ours[axis] = slice(first - begin, last - begin)
      found[tuple(ours)] = view[tuple(theirs)]
    return found

  def of(self, tensor: np.ndarray) -> np.ndarray:
    """Returns our parameter, a view of their tensor, without further rows."""
    if self.part is not None:
      axis, begin, end = self.part
      tensor = tensor[(slice(None),) * axis + (slice(begin, end),)]
    return tensor.T if self.transpose else tensor

  def back(self, parameter: np.ndarray) -> np.ndarray:
    """Returns what the tensor holds of our parameter, a view."""
    tensor = parameter.T if self.transpose else parameter
    if self.rows is None:
      return tensor
    before, count, _ = self.rows
    return tensor[before : before + count]

  def whole(
      self,
      ours: Sequence[int],
      parts: Sequence[tuple[int, int, int] | None] = (None,),
  ) -> tuple[int, ...]:
    """Returns the shape of their tensor, from that of our parameter.

    Args:
      ours: Our parameter's.
      parts: The parts of all entries of this tensor.
    """
    shape = list(reversed(ours)) if self.transpose else list(ours)
    if self.rows is not None:
      shape[0] = self.rows[1]
    for part in parts:
      if part is not None:
        shape[part[0]] = max(part[2], *(p[2] for p in parts if p))
    return tuple(shape)


@dataclasses.dataclass(frozen=True)
class Architecture:
  """An architecture that can be read and written.

  Attributes:
    config: Makes our configuration of config.json and all tensors, by name;
      it raises a UserError (`unsupported`) where the model has what ours have
      not.
    to_json: Makes of our configuration what config.json says of the model.
    fits: Whether a model of ours can be written as this architecture.
    names: The table, for a configuration.
    ignored: Regular expressions for whole names of tensors that say nothing:
      buffers, and copies under other names.
  """

  config: Callable[
      [Json, Mapping[str, safetensors.Tensor]], model_config.ModelConfig
  ]
  to_json: Callable[[Any], dict[str, Any]]
  fits: Callable[[model_config.ModelConfig], bool]
  names: Callable[[Any], list[Entry]]
  ignored: tuple[str, ...] = ()


def unsupported(key: str, value: Any, wanted: str) -> errors.UserError:
  """Returns the error for what config.json says and no model of ours has.

  `reading` puts the path of the file before it.
  """
  return errors.UserError(
      f'{key}: {value!r} is not supported; it must be {wanted}'
  )


def require(facts: Json, key: str, *allowed: Any) -> None:
  """Refuses values of a key that no model of ours has.

  Args:
    facts: What config.json says.
    key: The key; one that is not there passes.
    *allowed: What it may be.

  Raises:
    UserError: It is something else.
  """
  if key in facts and facts[key] not in allowed:
    wanted = ' or '.join(repr(each) for each in allowed)
    raise unsupported(key, facts[key], wanted)


def size(facts: Json, key: str, default: int | None = None) -> int:
  """Returns a size that config.json says.

  Raises:
    UserError: It is not there and has no default, or is no whole number.
  """
  value = facts.get(key)
  if value is None:
    value = default
  if not isinstance(value, int) or isinstance(value, bool) or value < 1:
    raise errors.UserError(f'{key}: must be a positive integer, not {value!r}')
  return value
