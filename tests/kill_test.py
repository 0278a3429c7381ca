"""Killed twenty times, a run ends with the parameters of the unbroken one.

Real processes, real signals, at moments that a seed draws: while the program
starts, between steps, and while a checkpoint is being written. Each time the
same command goes on.
"""

from collections.abc import Callable, Iterator
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

from flan_jax.checkpoints import runs
from flan_jax.training import metrics
import numpy as np
import pytest
import tensorstore

STEPS = 300
# Signal, moment, how many such moments to let pass; and in how many lives.
LIVES = {
    (signal.SIGKILL, 'start'): 3,
    (signal.SIGKILL, 'step'): 5,
    (signal.SIGKILL, 'save'): 8,
    (signal.SIGTERM, 'step'): 2,
    (signal.SIGTERM, 'save'): 1,
    (signal.SIGINT, 'step'): 1,
}
LINES = f"""\
BATCH_SIZE = 2
TRAIN_STEPS = {STEPS}
CHECKPOINT_PERIOD = 4
CHECKPOINTS_TO_KEEP = 2
DROPOUT_RATE = 0.1
"""


@pytest.fixture(scope='module')
def project(make_project):
  return make_project(LINES)


@pytest.fixture(scope='module')
def start(project) -> Callable[[str], subprocess.Popen]:
  """Starts the command that trains the run of a name."""

  def begin(name: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, '-m', 'flan_jax', *project.arguments(name)],
        env=os.environ | {'XLA_FLAGS': ''},  # One device is quicker.
        stderr=subprocess.PIPE,
        text=True,
    )

  return begin


def _writing(run: pathlib.Path) -> set[str]:
  """Returns the checkpoints that are being written, or were left so."""
  try:
    return {name for name in os.listdir(run) if 'tmp' in name}
  except FileNotFoundError:
    return set()


def _saves(run: pathlib.Path) -> Iterator[None]:
  """Gives None for as long as it takes until another save begins."""
  before = _writing(run)
  while True:
    now = _writing(run)
    if now - before:
      return
    before &= now  # What a killed run left is cleared away.
    yield


def _steps(run: pathlib.Path) -> Iterator[None]:
  """Gives None until another step's record is there."""
  path = run / metrics.METRICS_FILE
  before = path.stat().st_mtime_ns if path.is_file() else 0
  while not path.is_file() or path.stat().st_mtime_ns == before:
    yield


def _kill(
    process: subprocess.Popen,
    run: pathlib.Path,
    number: int,
    moment: str,
    rng: random.Random,
) -> bool:
  """Sends the signal at the moment; returns whether a save was under way."""
  if moment == 'start':
    time.sleep(rng.uniform(0.0, 3.0))
  else:
    waits = {'step': _steps, 'save': _saves}[moment]
    for _ in range(rng.randint(1, 6 if moment == 'step' else 3)):
      for _ in waits(run):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.001)
    time.sleep(rng.uniform(0.0, 0.02))
  process.send_signal(number)
  error = process.communicate(timeout=300)[1]
  if number == signal.SIGKILL:
    assert process.returncode == -signal.SIGKILL
    return bool(_writing(run))
  assert process.returncode == 0, error
  last = runs.steps(run)[-1]
  assert f'told to stop: saved step {last} of {STEPS}' in error
  return False


def _arrays(checkpoint: pathlib.Path) -> dict[str, np.ndarray]:
  """Reads all arrays of a checkpoint, by way of tensorstore alone."""
  found = {}
  for item in ('params', 'optimizer'):
    base = {'driver': 'ocdbt', 'base': f'file://{checkpoint / item}/'}
    for key in tensorstore.KvStore.open(base).result().list().result():
      if key.endswith(b'.zarray'):
        name = key.decode().removesuffix('.zarray')
        spec = {'driver': 'zarr', 'kvstore': {**base, 'path': name}}
        found[f'{item}/{name}'] = (
            tensorstore.open(spec).result().read().result()
        )
  return found


def test_twenty_kills_change_nothing(project, start):
  straight = start('straight')
  error = straight.communicate(timeout=600)[1]
  assert straight.returncode == 0, error
  run = project / 'killed'
  rng = random.Random(4)
  lives = [life for life, count in LIVES.items() for _ in range(count)]
  rng.shuffle(lives)
  assert len(lives) == 20
  in_saves = sum(_kill(start('killed'), run, *life, rng) for life in lives)
  # Some of the kills hit a checkpoint that was half written.
  assert in_saves >= 4
  last = start('killed')
  error = last.communicate(timeout=600)[1]
  assert last.returncode == 0, error
  assert f'done: {run}/checkpoint_{STEPS}' in error
  _compare(run, project / 'straight')


def _compare(found: pathlib.Path, wanted: pathlib.Path) -> None:
  """Asserts that two runs are the same, but for the time that they took."""
  assert sorted(os.listdir(found)) == sorted(os.listdir(wanted))
  assert runs.steps(found) == [0, STEPS - 4, STEPS]
  for step in runs.steps(found):
    arrays, others = (
        _arrays(runs.step_path(folder, step)) for folder in (found, wanted)
    )
    assert arrays.keys() == others.keys() and len(arrays) > 20
    for name, array in arrays.items():
      assert array.tobytes() == others[name].tobytes(), name
  records, others = (
      metrics.read(folder / metrics.METRICS_FILE) for folder in (found, wanted)
  )
  # Every step once, and each with the same numbers to the last bit.
  assert [record['step'] for record in records] == list(range(1, STEPS + 1))
  for record, other in zip(records, others, strict=True):
    for name in ('loss', 'accuracy', 'gradient_norm', 'tokens'):
      assert record[name] == other[name]
