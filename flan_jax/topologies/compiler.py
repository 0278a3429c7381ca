"""The TPU compiler without a TPU: the `libtpu` package on any Linux machine."""

import importlib.util
import os
import re
import time
from typing import Any, NamedTuple

from flan_jax import errors
from flan_jax.topologies import chips

# For the library to keep to compiling: it looks for no TPU, asks no metadata
# server, keeps no log, and lets a second process do the same beside it.
_ENVIRONMENT = {
    'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
    'JAX_PLATFORMS': 'cpu',
    'TPU_ACCELERATOR_TYPE': 'v5litepod-4',
    'TPU_LOG_DIR': 'disabled',
    'TPU_SKIP_MDS_QUERY': '1',
    'TPU_WORKER_HOSTNAMES': 'localhost',
    'TPU_WORKER_ID': '0',
}
_UNITS = {'B': 1, 'K': 2**10, 'M': 2**20, 'G': 2**30, 'T': 2**40}


class DoesNotFit(Exception):
  """The program needs more memory than a chip has.

  Attributes:
    needed: Bytes that it needs, as the compiler says.
    available: Bytes that the compiler may use.
  """

  def __init__(self, needed: int, available: int):
    super().__init__(f'{needed} bytes of {available}')
    self.needed = needed
    self.available = available


class Built(NamedTuple):
  """A compiled program, and the seconds that it took."""

  compiled: Any
  seconds: float


def prepare() -> None:
  """Sets the environment; to be called before jax is imported.

  Raises:
    UserError: libtpu is not installed.
  """
  if importlib.util.find_spec('libtpu') is None:
    raise errors.UserError(
        'compile: the TPU compiler is not installed (Linux, 0.2 GB): pip'
        ' install "flan_jax[tpu]", or pip install "jax[tpu]"'
    )
  for name, value in _ENVIRONMENT.items():
    os.environ.setdefault(name, value)


def devices(slice_: chips.Slice) -> list[Any]:
  """Returns a slice's chips as JAX devices that can be compiled for."""
  from jax.experimental import topologies

  options: dict[str, Any] = {}
  if slice_.chip.name == 'v4':
    # Both cores of a chip as one device, as on a Cloud TPU.
    options['chip_config_name'] = 'megacore'
  if slice_.size == 1:
    options['chips_per_host_bounds'] = (1, 1, 1)
  description = topologies.get_topology_desc(
      platform='tpu', topology_name=slice_.name, **options
  )
  return list(description.devices)


def build(lowered: Any, effort: float = 0.0) -> Built:
  """Compiles a traced program.

  Args:
    lowered: What `jax.jit(...).lower(...)` returns.
    effort: From -1 to 1, how hard the compiler tries to make it fast; 0 is what
      it does when training.

  Raises:
    DoesNotFit: It needs more memory than a chip has.
  """
  import jax

  started = time.perf_counter()
  options = {'exec_time_optimization_effort': effort} if effort else None
  try:
    compiled = lowered.compile(compiler_options=options)
  except jax.errors.JaxRuntimeError as error:
    used = too_much(str(error))
    if used is None:
      raise
    raise DoesNotFit(*used) from error
  return Built(compiled, time.perf_counter() - started)


def too_much(message: str) -> tuple[int, int] | None:
  """Reads the compiler's words on memory.

  They are 'Used 23.81G of 15.75G hbm' or, where it gives up earlier, 'memory
  required for HLO temporaries (210.01G) exceeds available HBM (15.75G)'.

  Returns:
    Bytes needed and bytes there are; None if the words are about another thing.
  """
  for words in (
      r'Used {0} of {0} hbm',
      r'memory required for [^(]*\({0}\) exceeds available HBM \({0}\)',
  ):
    match = re.search(words.replace('{0}', r'([\d.]+)([BKMGT])'), message)
    if match is not None:
      needed, unit, available, other = match.groups()
      return (
          int(float(needed) * _UNITS[unit]),
          int(float(available) * _UNITS[other]),
      )
  return None
