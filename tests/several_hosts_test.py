"""Several real processes through the real commands, killed and gone on with.

The hosts share this machine and four virtual devices, and speak to each other
as hosts of a cluster do: `jax.distributed` and gloo.
"""

from collections.abc import Sequence
import json
import os
import signal
import socket
import subprocess
import sys
import time
from typing import Any

from flan_jax import hosts
from flan_jax.checkpoints import runs
from flan_jax.training import metrics
import numpy as np
import pytest

_LINES = """\
BATCH_SIZE = 4
TRAIN_STEPS = 20
EVAL_PERIOD = 10
EVAL_STEPS = 2
CHECKPOINT_PERIOD = 5
DROPOUT_RATE = 0.1
EncoderDecoderConfig.num_heads = 4
"""
_DEVICES = 4
# Seconds until hosts have ended once another one is gone.
_BOUND = 90
# Seconds of silence until a host is given up: more than a busy machine needs.
_HEARTBEAT = 20


class _Hosts:
  """Commands on a project, each on several hosts of this machine."""

  def __init__(self, project: Any):
    self.folder = project.folder

  def start(
      self,
      count: int,
      *command: str,
      each: Sequence[Sequence[str]] | None = None,
      only: int | None = None,
  ) -> list[subprocess.Popen]:
    """Starts a command on so many hosts, which share four devices.

    Args:
      count: How many.
      *command: The command with its flags.
      each: More flags, by host.
      only: The one host to start, if not all are.
    """
    with socket.socket() as free:
      free.bind(('localhost', 0))
      address = f'localhost:{free.getsockname()[1]}'
    devices = f'--xla_force_host_platform_device_count={_DEVICES // count}'
    return [
        subprocess.Popen(
            [sys.executable, '-m', 'flan_jax', *command]
            + list(each[index] if each else [])
            + [
                f'--mixtures={self.folder / "sums.yaml"}',
                f'--cache_dir={self.folder / "cache"}',
                f'--coordinator_address={address}',
                f'--process_count={count}',
                f'--process_index={index}',
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {'XLA_FLAGS': devices},
            text=True,
        )
        for index in (range(count) if only is None else [only])
    ]

  def train(self, name: str, count: int, *flags: str, **hosts_: Any):
    """Starts to train on so many hosts."""
    return self.start(
        count,
        'train',
        f'--gin_file={self.folder / "run.gin"}',
        f'--gin.MODEL_DIR={self.folder / name}',
        *flags,
        **hosts_,
    )

  def records(self, name: str) -> list[dict]:
    """Returns what a run has written down so far."""
    path = self.folder / name / metrics.METRICS_FILE
    return metrics.read(path) if path.exists() else []


def _finish(processes, timeout: float = 300) -> list[tuple[str, str]]:
  """Waits for all hosts to end well; returns what each printed."""
  printed = [process.communicate(timeout=timeout) for process in processes]
  for process, (_, error) in zip(processes, printed, strict=True):
    assert process.returncode == 0, error
  return printed


@pytest.fixture(scope='module')
def project(make_project) -> _Hosts:
  """A project with a run `alone` of one host, from beginning to end."""
  made = _Hosts(make_project(_LINES, mesh='fsdp'))
  _finish(made.train('alone', 1))
  return made


def _assert_same_run(found: list[dict], wanted: list[dict]):
  assert [r['step'] for r in found] == list(range(1, 21))
  for own, other in zip(found, wanted, strict=True):
    assert own['step'] == other['step']
    assert own['tokens'] == other['tokens']
    np.testing.assert_allclose(own['loss'], other['loss'], rtol=1e-5)
    assert ('eval/loss' in own) == (own['step'] % 10 == 0)
    if 'eval/loss' in own:
      np.testing.assert_allclose(
          own['eval/loss'], other['eval/loss'], rtol=1e-5
      )


def _wait_for_steps(project: _Hosts, name: str, processes, steps: int):
  while len(project.records(name)) < steps:
    for process in processes:
      assert process.poll() is None, process.communicate()
    time.sleep(0.02)


def _kill(processes, victim: int, number: int) -> list[tuple[int, str]]:
  """Kills one host; returns the exit code and last words of the others."""
  processes[victim].send_signal(number)
  ended = []
  deadline = time.monotonic() + _BOUND
  for index, process in enumerate(processes):
    if index != victim:
      left = max(deadline - time.monotonic(), 0.1)
      _, error = process.communicate(timeout=left)
      ended.append((process.returncode, error))
  processes[victim].kill()
  processes[victim].communicate()
  return ended


def _assert_clear_end(ended):
  for code, error in ended:
    # Our own code, or that of a process that JAX's runtime aborts.
    assert code in (hosts.LOST, -signal.SIGABRT), error
    said = [x for x in error.splitlines() if x.startswith('flan-jax: error')]
    assert said, error
    assert 'lost another host' in said[0] or 'another host stopped' in said[0]
    assert 'the same command on all hosts goes on' in said[0]


def test_a_run_goes_on_over_other_hosts_after_one_was_killed(project):
  four = project.train('several', 4)
  _wait_for_steps(project, 'several', four, 7)
  _assert_clear_end(_kill(four, 2, signal.SIGKILL))
  reached = runs.steps(project.folder / 'several')[-1]
  assert 0 <= reached < 20

  first, second = _finish(project.train('several', 2))

  assert f'going on from {project.folder / "several"}/checkpoint_' in first[1]
  assert 'flan-jax' not in second[1] and 'step' not in second[1]
  _assert_same_run(project.records('several'), project.records('alone'))


def test_hosts_that_share_rows_train_as_one(project):
  """With tensor=4 over two hosts, both hold all rows of a batch."""
  _finish(
      project.train(
          'tensor',
          2,
          '--gin.MeshConfig.fsdp=1',
          '--gin.MeshConfig.tensor=4',
      )
  )
  _assert_same_run(project.records('tensor'), project.records('alone'))


@pytest.mark.parametrize(
    ('victim', 'number', 'flags'),
    [
        # Host 0, through which all speak.
        (0, signal.SIGKILL, []),
        # A host that is there, and says nothing.
        (1, signal.SIGSTOP, [f'--heartbeat_timeout={_HEARTBEAT}']),
    ],
)
def test_hosts_end_clearly_when_one_is_gone(project, victim, number, flags):
  name = f'victim{victim}'
  both = project.train(name, 2, '--gin.TRAIN_STEPS=100000', *flags)
  _wait_for_steps(project, name, both, 2)
  _assert_clear_end(_kill(both, victim, number))


def _errors(processes, timeout: float = 120) -> list[str]:
  """Waits for hosts that a mistake ends; returns the one line of each."""
  lines = []
  for process in processes:
    _, error = process.communicate(timeout=timeout)
    assert process.returncode == 2, error
    (line,) = (x for x in error.splitlines() if x.startswith('flan-jax: error'))
    assert 'Traceback' not in error
    lines.append(line)
  return lines


def test_hosts_that_differ_are_refused_before_the_first_step(project):
  lines = _errors(
      project.train(
          'differ',
          2,
          each=[
              ['--gin.LEARNING_RATE=0.001', '--gin.LOG_PERIOD=10'],
              ['--gin.LEARNING_RATE=0.002', '--gin.LOG_PERIOD=20'],
          ],
      )
  )
  for line in lines:
    assert (
        'SCHEDULE.value is 0.001 on host 0 and 0.002 on host 1 (and LOG_PERIOD)'
        in line
    )
  assert not (project.folder / 'differ').exists()


def test_a_mistake_on_one_host_is_told_to_all(project):
  first, second = _errors(
      project.train(
          'mistaken', 2, each=[[], ['--gin.MIXTURE_OR_TASK_NAME=sumz']]
      )
  )
  assert first.startswith('flan-jax: error: host 1 of 2: ')
  assert 'sumz' in first and 'sumz' in second


@pytest.mark.parametrize(
    ('index', 'words'),
    [
        (0, 'not all 2 hosts came to the coordinator at {} (waited 3 s)'),
        (1, 'could not reach the coordinator at {} (waited 3 s: '),
    ],
)
def test_a_host_that_waits_in_vain_says_where_and_how_long(
    project, index, words
):
  started = time.monotonic()
  both = project.train('vain', 2, '--initialization_timeout=3', only=index)
  (line,) = _errors(both)
  assert time.monotonic() - started < _BOUND
  assert line.startswith(f'flan-jax: error: host {index} of 2: ')
  (address,) = [
      argument.partition('=')[2]
      for argument in both[0].args
      if argument.startswith('--coordinator_address=')
  ]
  assert words.format(address) in line


def test_two_hosts_predict_and_evaluate_as_one(project):
  run = project.folder / 'alone'
  found = {}
  for count in (1, 2):
    for command, flags in (
        ('infer', ['--mixture=sums', '--max_examples=7']),
        ('eval', ['--gin.UNTUNED_CHECKPOINT_PATH=none']),
    ):
      output = project.folder / f'{command}{count}'
      printed = _finish(
          project.start(
              count,
              command,
              f'--checkpoint={run}',
              f'--output={output}',
              '--batch_size=4',
              *flags,
          )
      )
      for out, _ in printed[1:]:
        # The first host alone speaks and writes; gloo greets on stdout.
        assert all(line.startswith('[Gloo]') for line in out.splitlines())
      name = 'sums.jsonl' if command == 'infer' else 'predictions.jsonl'
      lines = (output / name).read_text().splitlines()
      found[command, count] = [json.loads(line) for line in lines]
  for command in ('infer', 'eval'):
    one, two = found[command, 1], found[command, 2]
    assert len(one) == len(two) > 0
    for own, other in zip(one, two, strict=True):
      assert own.keys() == other.keys()
      for key in own.keys() - {'score'}:
        assert own[key] == other[key], key
