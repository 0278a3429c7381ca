"""Shares of what devices can do, and memory, wherever it can be had."""

from flan_jax.models import flops
from flan_jax.training import utilization
import jax
import pytest


class _Device:

  def __init__(self, kind, stats=None):
    self.device_kind = kind
    self._stats = stats

  def memory_stats(self):
    return self._stats


def _make(*devices, count=None) -> utilization.Utilization:
  return utilization.Utilization(
      flops=flops.TokenFlops(encoder=2e9, decoder=5e9),
      rows=100,
      lengths={'encoder': 1000, 'decoder': 200},
      devices=devices,
      device_count=count or len(devices),
  )


@pytest.mark.parametrize(
    ('kind', 'teraflops'),
    [
        ('TPU v4', 275),
        ('TPU v5 lite', 197),
        ('TPU v5p', 459),
        ('TPU v6 lite', 918),
        ('NVIDIA A100-SXM4-80GB', 312),
        ('NVIDIA H100 80GB HBM3', 989.4),
        ('NVIDIA H100 PCIe', 756),
        ('NVIDIA H200', 989.4),
        ('NVIDIA L4', 121),
        ('NVIDIA L40S', 362),
    ],
)
def test_known_devices_have_a_peak(kind, teraflops):
  assert utilization.peak_flops(kind) == pytest.approx(teraflops * 1e12)


@pytest.mark.parametrize('kind', ['cpu', 'TPU v99', 'NVIDIA L400', ''])
def test_unknown_devices_have_none(kind):
  assert utilization.peak_flops(kind) is None
  assert _make(_Device(kind)).mfu([{'encoder': 1.0}], 1.0) is None


def test_padding_is_no_work():
  use = _make(*[_Device('TPU v4')] * 2, count=4)
  # 100 rows: 100,000 positions of 2 GFLOP, 20,000 of 5, in two steps.
  full = {'encoder': 1.0, 'decoder': 1.0}
  half = {'encoder': 0.5, 'decoder': 0.25}
  assert use.mfu([full, half], 3.0) == pytest.approx(
      (2e14 + 1e14 + 1e14 + 0.25e14) / 3.0 / (4 * 275e12)
  )


def test_memory_is_that_of_the_fullest_device():
  stats = [{'peak_bytes_in_use': n, 'bytes_limit': 50 - n} for n in (7, 9)]
  use = _make(*[_Device('TPU v4', s) for s in stats])
  assert use.memory() == {'device_memory': 9, 'device_limit': 41}
  partly = _make(_Device('x', {'peak_bytes_in_use': 3}), _Device('x'))
  assert partly.memory() == {'device_memory': 3}


def test_without_that_it_is_the_process():
  found = _make(*jax.local_devices()).memory()
  assert list(found) == ['process_memory']
  assert 50e6 < found['process_memory'] < 1e12
