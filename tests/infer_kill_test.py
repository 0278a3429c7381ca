"""Killed again and again, `infer` writes what an unbroken run writes.

Real processes and SIGKILL, at moments that a seed draws: while the program
starts, between blocks and in the middle of one, in one task and in the next.
"""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

KILLS = 5
# The run's bytes are no words; a seed must give the same ones all the same.
FLAGS = ['--block_size=4', '--batch_size=4', '--temperature=1.5', '--seed=3']


@pytest.fixture(scope='module')
def project(make_project):
  """A run of one step, and a mixture of two tasks."""
  project = make_project('TRAIN_STEPS = 1\n')
  assert project.train('run') == 0
  (project / 'both.yaml').write_text(
      'version: 1\nmembers: [sums:template_plain, sums:template_words]\n'
  )
  return project


def _start(project, output: str, *flags: str) -> subprocess.Popen:
  command = [sys.executable, '-m', 'flan_jax', 'infer']
  command += [f'--checkpoint={project / "run"}', '--mixture=both']
  command += ['--split=train', f'--output={project / output}', *FLAGS]
  command += [f'--mixtures={project / "sums.yaml"}']
  command += [f'--mixtures={project / "both.yaml"}']
  command += [f'--cache_dir={project / "cache"}', *flags]
  return subprocess.Popen(
      command,
      env=os.environ | {'XLA_FLAGS': ''},  # One device is quicker.
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
  )


def _finish(process: subprocess.Popen) -> str:
  out, error = process.communicate(timeout=300)
  assert process.returncode == 0, error
  return out + error


def _size(folder: pathlib.Path) -> int:
  """Returns the bytes of predictions, in finished files and others."""
  if not folder.is_dir():
    return 0
  return sum(
      path.stat().st_size
      for path in folder.iterdir()
      if path.name.endswith(('.jsonl', '.part'))
  )


def _predictions(folder: pathlib.Path) -> dict[str, bytes]:
  return {path.name: path.read_bytes() for path in folder.glob('*.jsonl*')}


def test_kills_neither_repeat_nor_lose_a_line(project):
  _finish(_start(project, 'straight'))
  whole = _predictions(project / 'straight')
  total = sum(map(len, whole.values()))
  assert sorted(whole) == [
      'sums.template_plain.jsonl',
      'sums.template_words.jsonl',
  ]
  assert sum(text.count(b'\n') for text in whole.values()) == 2 * 136
  rng = random.Random(5)
  folder = project / 'killed'
  sizes = []
  for kill in range(KILLS):
    process = _start(project, 'killed')
    if not kill:
      time.sleep(rng.uniform(0.0, 2.0))
    # Each kill comes after some more bytes, so that all of the way is seen.
    wanted = total * (kill + rng.uniform(0.0, 0.8)) / KILLS if kill else 0
    while _size(folder) < wanted:
      assert process.poll() is None, process.communicate()[1]
      time.sleep(0.0005)
    time.sleep(rng.uniform(0.0, 0.01))
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    sizes.append(_size(folder))
    # A torn line, as a machine that loses power leaves it.
    for part in folder.glob('*.part'):
      if rng.random() < 0.5:
        part.write_bytes(part.read_bytes() + b'{"task": "sums:te')
  assert len(set(sizes)) >= KILLS - 2 and max(sizes) < total
  said = _finish(_start(project, 'killed'))
  assert 'going on after' in said
  assert _predictions(folder) == whole


def test_shards_are_the_whole(project):
  count = 2
  for index in (1, 0):
    flags = (f'--num_shards={count}', f'--shard={index}')
    _finish(_start(project, 'shards', *flags))
  folder = project / 'shards'
  joined = subprocess.run(
      [sys.executable, '-m', 'flan_jax', 'infer', f'--join={folder}'],
      capture_output=True,
      text=True,
  )
  assert joined.returncode == 0, joined.stderr
  whole = _predictions(project / 'straight')
  for name, text in whole.items():
    assert (folder / name).read_bytes() == text
  # Shards share out the blocks of all tasks together.
  assert not (folder / 'sums.template_plain-00001-of-00002.jsonl').read_bytes()
