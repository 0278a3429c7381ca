"""Which hosts run a command together: what flags and the environment say.

It is read without JAX, so that mistakes are found before it is imported.
"""

import argparse
import dataclasses
import glob
import os
import re
from typing import Any

from flan_jax import errors

_ENVIRONMENT = {
    'coordinator_address': 'JAX_COORDINATOR_ADDRESS',
    'process_count': 'JAX_NUM_PROCESSES',
    'process_index': 'JAX_PROCESS_ID',
}
# Where one of these is set, a launcher has started this process, maybe beside
# others.
_LAUNCHERS = ('SLURM_PROCID', 'OMPI_COMM_WORLD_RANK', 'JOB_COMPLETION_INDEX')
# And here it says how many it has started.
_COUNTS = ('SLURM_NTASKS', 'OMPI_COMM_WORLD_SIZE')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
  """Which hosts there are; None is for JAX to find out.

  Attributes:
    coordinator_address: HOST:PORT, where host 0 is reached by the others.
    process_count: How many hosts there are.
    process_index: Which one this is, from 0.
    initialization_timeout: Seconds to wait until all hosts are there.
    heartbeat_timeout: Seconds after which a silent host is given up.
  """

  coordinator_address: str | None = None
  process_count: int | None = None
  process_index: int | None = None
  initialization_timeout: int = 300
  heartbeat_timeout: int = 100

  @classmethod
  def from_args(cls, args: argparse.Namespace) -> 'Flags':
    """Takes flags, or else the environment.

    Raises:
      UserError: A value makes no sense.
    """
    found: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
      name, value = field.name, getattr(args, field.name, None)
      where = f'--{name}'
      if value is None and os.environ.get(_ENVIRONMENT.get(name, '')):
        where = _ENVIRONMENT[name]
        value = os.environ[where]
      if value is None:
        continue
      if name != 'coordinator_address':
        value = _whole_number(where, value, 0 if name == 'process_index' else 1)
      elif not re.search(r':\d+$', value):
        raise errors.UserError(f'{where}: must be HOST:PORT, not {value!r}')
      found[name] = value
    flags = cls(**found)
    count, index = flags.process_count, flags.process_index
    if count is not None and index is not None and index >= count:
      raise errors.UserError(
          f'--process_index: must be less than --process_count={count}, not'
          f' {index}; hosts are counted from 0'
      )
    return flags

  @property
  def given(self) -> bool:
    """Whether anything is said of the hosts."""
    return any(getattr(self, name) is not None for name in _ENVIRONMENT)

  def alone(self) -> bool:
    """Whether there surely is no other host."""
    if self.process_count is not None or self.given:
      return self.process_count == 1
    if any(os.environ.get(name) == '1' for name in _COUNTS):
      return True
    # A pod that is not one of an indexed job: JAX would ask the cluster which
    # job it belongs to, and fail.
    return (
        'KUBERNETES_SERVICE_HOST' in os.environ
        and 'JOB_COMPLETION_INDEX' not in os.environ
        and not _has_tpu()
    )

  def may_be_several(self) -> bool:
    """Whether there may be other hosts; a guess that needs no JAX."""
    if self.alone():
      return False
    return (
        self.given
        or any(name in os.environ for name in _LAUNCHERS)
        or _has_tpu()
    )


def _whole_number(where: str, value: Any, least: int) -> int:
  try:
    number = int(value)
  except ValueError:
    number = least - 1
  if number < least:
    raise errors.UserError(
        f'{where}: must be a whole number of at least {least}, not {value!r}'
    )
  return number


def _has_tpu() -> bool:
  return bool(glob.glob('/dev/accel*') or glob.glob('/dev/vfio/[0-9]*'))
