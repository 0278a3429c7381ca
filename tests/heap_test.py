"""Blocks that are freed and asked for again cost no page faults."""

import platform
import subprocess
import sys

import pytest

# Threads of XLA allocate too, hence the thread. 64 MB have 16,384 pages.
_PROGRAM = """
import ctypes, resource, sys, threading
from flan_jax import heap
if sys.argv[1] == 'keep':
  assert heap.keep()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
size = 64 << 20
def use():
  block = libc.malloc(size)
  ctypes.memset(block, 1, size)
  libc.free(block)
def faults():
  return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def measure():
  use()
  before = faults()
  for _ in range(3):
    use()
  print(faults() - before)
thread = threading.Thread(target=measure)
thread.start()
thread.join()
"""


def _faults(mode: str) -> int:
  done = subprocess.run(
      [sys.executable, '-c', _PROGRAM, mode],
      capture_output=True,
      text=True,
      check=True,
  )
  return int(done.stdout)


@pytest.mark.skipif(
    platform.libc_ver()[0] != 'glibc', reason='Only glibc is told.'
)
def test_blocks_are_kept():
  # Huge pages, where the kernel gives them, are some hundred faults.
  assert _faults('keep') < 30 < _faults('leave')
