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
    other_names: Names that the tensor has in other versions' files; the first
      that is there is read. Those that are there as well hold the same.
  """

  ours: str
  theirs: str
  transpose: bool = False
  part: tuple[int, int, int] | None = None
  other_names: tuple[str, ...] = ()

  def shape(self, theirs: Sequence[int]) -> tuple[int, ...]:
    """Returns our parameter's shape, from their tensor's."""
    shape = list(theirs)
    if self.part is not None:
      axis, begin, end = self.part
      # No more than there is, so that a tensor too small shows.
      shape[axis] = max(0, min(end, shape[axis]) - begin)
    return tuple(reversed(shape)) if self.transpose else tuple(shape)

  def of(self, tensor: np.ndarray) -> np.ndarray:
    """Returns our parameter, a view of their tensor."""
    if self.part is not None:
      axis, begin, end = self.part
      tensor = tensor[(slice(None),) * axis + (slice(begin, end),)]
    return tensor.T if self.transpose else tensor


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
