"""Libraries are quiet, we are not, and a crash still says what it was."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

# What libraries do: write from C, through logging, warnings, and print.
NOISE = """
import ctypes, logging, os, sys, warnings
from absl import logging as absl_logging
from flan_jax import library_log
def noise(tag):
  text = f'W0000 xla.cc:1] {tag} from C\\n'.encode()
  ctypes.CDLL(None).write(2, text, len(text))
  os.system(f'echo {tag} from a child >&2')
  logging.getLogger('orbax').warning('%s from logging', tag)
  absl_logging.warning('%s from absl', tag)
  warnings.warn(f'{tag} from warnings')
"""
SOURCES = ('C', 'a child', 'logging', 'absl', 'warnings')


def _run(code: str, tmp_path: pathlib.Path) -> subprocess.CompletedProcess:
  return subprocess.run(
      [sys.executable, '-c', NOISE + code],
      cwd=tmp_path,
      env={
          **os.environ,
          'PYTHONPATH': os.pathsep.join(sys.path),
          'PYTHONWARNINGS': 'always',
      },
      capture_output=True,
      text=True,
      timeout=60,
  )


def test_libraries_go_to_the_file_and_we_to_the_terminal(tmp_path):
  done = _run(
      """
with library_log.LibraryLog() as log:
  noise('before')
  log.keep('run')
  noise('after')
  print('ours', file=sys.stderr)
  os.write(library_log.terminal(), b'from a handler\\n')
noise('outside')
""",
      tmp_path,
  )
  assert done.returncode == 0
  kept = (tmp_path / 'run' / 'libraries.log').read_text()
  for source in SOURCES:
    assert f'before from {source}' in kept
    assert f'after from {source}' in kept
    assert f'outside from {source}' not in kept
    # Everything is as it was.
    assert f'outside from {source}' in done.stderr
  shown = [line for line in done.stderr.splitlines() if 'outside' not in line]
  assert shown[:2] == ['ours', 'from a handler']
  assert 'before' not in done.stderr and 'after' not in done.stderr


def test_our_own_warnings_are_shown(tmp_path):
  # As if a module of the package said it.
  done = _run(
      """
path = os.path.join(os.path.dirname(library_log.__file__), 'data', 'rows.py')
code = "from absl import logging; logging.warning('3 rows are broken')"
with library_log.LibraryLog() as log:
  log.keep('run')
  exec(compile(code, path, 'exec'))
""",
      tmp_path,
  )
  assert done.stderr == 'flan-jax: 3 rows are broken\n'
  assert not (tmp_path / 'run' / 'libraries.log').read_text()


def test_without_a_file_nothing_is_left_or_shown(tmp_path):
  done = _run(
      """
with library_log.LibraryLog() as log:
  noise('before')
  raise ValueError('a mistake')
""",
      tmp_path,
  )
  assert done.stderr.startswith('Traceback')
  assert done.stderr.endswith('ValueError: a mistake\n')
  assert 'before' not in done.stderr
  assert not list(tmp_path.iterdir())


def test_a_crash_shows_the_last_lines(tmp_path):
  done = _run(
      """
log = library_log.LibraryLog().__enter__()
log.keep('run')
noise('long before')
for i in range(30):
  os.write(2, f'line {i}\\n'.encode())
os.write(2, b'F0000 client.h:80] the coordinator is gone\\n')
os.abort()
""",
      tmp_path,
  )
  assert done.returncode == -signal.SIGABRT
  head, *lines = done.stderr.splitlines()
  assert head == (
      'flan-jax: the process was killed, or has crashed; the last lines of'
      ' run/libraries.log:'
  )
  assert lines[-1] == 'F0000 client.h:80] the coordinator is gone'
  assert len(lines) == 20 and 'long before' not in done.stderr
  assert (
      'long before from C' in (tmp_path / 'run' / 'libraries.log').read_text()
  )


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_signals_to_all_of_a_group_do_not_end_the_relay(tmp_path, number):
  code = NOISE + """
import signal, time
signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))
with library_log.LibraryLog() as log:
  log.keep('run')
  print('ready', flush=True)
  try:
    time.sleep(60)
  except KeyboardInterrupt:
    noise('stopping')
"""
  process = subprocess.Popen(
      [sys.executable, '-c', code],
      cwd=tmp_path,
      env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)},
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      start_new_session=True,
      text=True,
  )
  assert process.stdout.readline() == 'ready\n'
  time.sleep(0.3)  # The relay, too, has come as far as to ignore signals.
  os.killpg(process.pid, number)
  _, shown = process.communicate(timeout=30)
  assert process.returncode == 0 and not shown
  assert 'stopping from C' in (tmp_path / 'run' / 'libraries.log').read_text()


def test_a_file_that_cannot_be_written_is_said(tmp_path):
  done = _run(
      """
with library_log.LibraryLog() as log:
  open('file', 'w').close()
  log.keep('file/run', 3)
  noise('lost')
""",
      tmp_path,
  )
  assert done.returncode == 0
  assert done.stderr == (
      'flan-jax: file/run/libraries_3.log: cannot be written (Not a directory);'
      ' messages of libraries are lost\n'
  )
