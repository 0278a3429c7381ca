"""The benchmarks of decoding run, with models too small to say anything."""

import subprocess
import sys


def _lines(root, script, *flags):
  done = subprocess.run(
      [sys.executable, str(root / 'benchmarks' / script), *flags],
      capture_output=True,
      text=True,
      timeout=300,
  )
  assert done.returncode == 0, done.stderr
  return done.stdout.splitlines()


def test_decoding(root):
  lines = _lines(root, 'decoding.py', '--tiny', '--repeats=1')
  names = [line.split('|')[1].strip() for line in lines if '| flan' in line]
  assert names == [
      'flan_jax, greedy',
      'flan_jax, greedy, a batch alone',
      'flan_jax, drawn, top-k 40, top-p 0.9',
      'flan_jax, 4 beams',
      'flan_jax, greedy, uneven, whole batches',
      'flan_jax, greedy, uneven, rows replaced',
  ]


def test_gpu_decoding(root):
  flags = ('--sizes=tiny', '--rows', '1', '2', '--inputs=16', '--written=4')
  lines = _lines(root, 'gpu_decoding.py', '--bandwidth=10', *flags)
  assert [line.split('|')[1].strip() for line in lines[2:]] == [
      'tiny, 1',
      'tiny, 2',
  ]
