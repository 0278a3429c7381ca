"""Two hosts stop after the same step, and pass over the same checkpoint."""

import os
import pathlib
import re
import signal
import socket
import subprocess
import sys

from flan_jax.checkpoints import runs
from flan_jax.training import metrics
import pytest

_SCRIPT = """
import os, sys, time
import jax
address, index, *arguments = sys.argv[1:]
jax.config.update('jax_cpu_collectives_implementation', 'gloo')
jax.distributed.initialize(address, 2, int(index))
from flan_jax import cli
from flan_jax.training import metrics
write = metrics.Writer.write
def slowly(self, step, record):
  write(self, step, record)
  print('step', step, file=sys.stderr, flush=True)
  time.sleep(float(os.environ['PAUSE']))
metrics.Writer.write = slowly
sys.exit(cli.main(['train', *arguments]))
"""
_LINES = """\
BATCH_SIZE = 4
CHECKPOINT_PERIOD = 3
TRAIN_STEPS = 40
"""


@pytest.fixture
def project(make_project):
  return make_project(_LINES, mesh='fsdp')


@pytest.fixture
def start(project):
  """Starts two hosts with two devices each."""
  started = []

  def begin(pause: float) -> list[subprocess.Popen]:
    with socket.socket() as free:
      free.bind(('localhost', 0))
      address = f'localhost:{free.getsockname()[1]}'
    _, *arguments = project.arguments('run')
    hosts = [
        subprocess.Popen(
            [sys.executable, '-c', _SCRIPT, address, str(index), *arguments],
            stderr=subprocess.PIPE,
            env=os.environ
            | {
                'XLA_FLAGS': '--xla_force_host_platform_device_count=2',
                'PAUSE': str(pause),
            },
            text=True,
        )
        for index in range(2)
    ]
    started.extend(hosts)
    return hosts

  yield begin
  for process in started:
    process.kill()  # Nothing, where it has ended.


def _stopped(
    hosts: list[subprocess.Popen], asked: int, number: int, run: pathlib.Path
) -> int:
  """Sends a signal to one host; returns the step that both saved."""
  stream = hosts[asked].stderr
  assert stream is not None
  for line in stream:
    if line == 'step 4\n':
      break
  hosts[asked].send_signal(number)
  errors = [host.communicate(timeout=500)[1] for host in hosts]
  assert [host.returncode for host in hosts] == [0, 0], '\n'.join(errors)
  stops = [re.findall(r'saved step (\d+) of 40', error) for error in errors]
  last = runs.steps(run)[-1]
  assert 4 < last < 40
  assert stops == [[str(last)], []]  # The first host alone says it.
  return last


def test_ctrl_c_on_one_host_stops_both(project, start):
  _stopped(start(0.2), 0, signal.SIGINT, project / 'run')


def test_both_pass_over_a_broken_checkpoint(project, start):
  run = project / 'run'
  last = _stopped(start(0.2), 1, signal.SIGTERM, run)
  for path in (run / f'checkpoint_{last}').glob('params/d/*'):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  before = runs.steps(run)[-2]
  hosts = start(0)
  errors = [host.communicate(timeout=500)[1] for host in hosts]
  assert [host.returncode for host in hosts] == [0, 0], '\n'.join(errors)
  assert f'going on from {run}/checkpoint_{before}\n' in errors[0]
  assert errors[0].count('warning: ') == 1 and 'warning: ' not in errors[1]
  assert (run / f'broken_checkpoint_{last}').is_dir()
  records = metrics.read(run / 'metrics.jsonl')
  assert [r['step'] for r in records] == list(range(1, 41))
