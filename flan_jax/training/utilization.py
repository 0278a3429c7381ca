"""How well a step uses its devices: the share of their peak, and the memory."""

from collections.abc import Mapping, Sequence
import dataclasses
import re
import resource
import sys
from typing import Any, Protocol

from flan_jax.models import flops as flops_lib
from flan_jax.topologies import chips

# Peak bfloat16 TFLOP/s of one JAX device, dense, by what its `device_kind`
# begins with; makers' data sheets. A TPU v2 or v3 device is one of two cores of
# a chip. H100's and H200's 1,979 are with sparsity. `topologies.chips` has the
# other TPUs, under JAX's name and Google's.
_PEAKS = {
    **{
        kind: chip.flops / 1e12
        for chip in chips.CHIPS
        for kind in (chip.kind, f'TPU {chip.name}')
    },
    'TPU v2': 22.5,
    'TPU v3': 61.5,
    'TPU v4 lite': 138.0,
    'NVIDIA A100': 312.0,
    'NVIDIA L4': 121.0,
    'NVIDIA L40S': 362.0,
    'NVIDIA H100 PCIe': 756.0,
    'NVIDIA H100 NVL': 835.0,
    'NVIDIA H100': 989.4,
    'NVIDIA H200 NVL': 835.0,
    'NVIDIA H200': 989.4,
    'NVIDIA GH200': 989.4,
    'NVIDIA B200': 2250.0,
}


class _Device(Protocol):
  """What is asked of a `jax.Device`."""

  device_kind: str

  def memory_stats(self) -> Mapping[str, int] | None:
    ...


def peak_flops(device_kind: str) -> float | None:
  """Returns a device's peak bfloat16 FLOP/s; None of one that is not known."""
  known = [
      kind
      for kind in _PEAKS
      # Whole words: 'NVIDIA L4' is not 'NVIDIA L40S'.
      if re.match(rf'{re.escape(kind)}(?![0-9A-Za-z])', device_kind)
  ]
  return _PEAKS[max(known, key=len)] * 1e12 if known else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Utilization:
  """What a run's model costs, and what its devices could do.

  Attributes:
    flops: Of a token.
    rows: Rows of a global batch.
    lengths: Positions in a row, of 'encoder' and 'decoder'.
    devices: This host's, for their memory.
    device_count: The number of all hosts' devices.
  """

  flops: flops_lib.TokenFlops
  rows: int
  lengths: Mapping[str, int]
  devices: Sequence[_Device]
  device_count: int

  def mfu(
      self, densities: Sequence[Mapping[str, float]], seconds: float
  ) -> float | None:
    """Returns the share of the peak that the model itself makes use of.

    Padding counts as no work: it is the FLOPs of real tokens, over what all
    devices could do in bfloat16 (whatever the model computes in).

    Args:
      densities: Of each step, the share of positions that carry tokens.
      seconds: What the steps took.

    Returns:
      0 to 1, or None where the devices' peak is not known (a CPU's, say).
    """
    peak = peak_flops(self.devices[0].device_kind)
    if peak is None:
      return None
    work = sum(
        self.flops.total({
            side: share * self.rows * self.lengths[side]
            for side, share in density.items()
        })
        for density in densities
    )
    return work / seconds / (peak * self.device_count)

  def memory(self) -> dict[str, int]:
    """Returns the most bytes that were in use at once, so far.

    Either 'device_memory', of this host's fullest device, and 'device_limit',
    what it has; or, where the backend does not tell, 'process_memory', which is
    resident.
    """
    stats = [device.memory_stats() or {} for device in self.devices]
    used = [s['peak_bytes_in_use'] for s in stats if 'peak_bytes_in_use' in s]
    if not used:
      return {'process_memory': _resident()}
    limits = [s['bytes_limit'] for s in stats if 'bytes_limit' in s]
    return {
        'device_memory': max(used),
        **({'device_limit': min(limits)} if limits else {}),
    }


def _resident() -> int:
  most: Any = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return int(most) * (1 if sys.platform == 'darwin' else 1024)
