"""Folders of rows that a killed run left, and two runs that write at once."""

import os
import pathlib
import signal
import subprocess
import sys

from flan_jax.data import manifest as manifest_lib
from flan_jax.data import row_files
from flan_jax.data import row_folders
from flan_jax.data import rows as rows_lib

_KILLED = """
import os, signal, sys
from flan_jax.data import rows, specs

def generate(split, seed):
  for i in range(5000):
    if i == 4000 and 'DIE' in os.environ:
      os.kill(os.getpid(), signal.SIGKILL)
    yield {'text': f'{split} {i}'}

def prepare():
  dataset = specs.Dataset(
      name='toy', cluster='misc', splits={'train': 'train'},
      source=specs.Source(kind='generated', where='killed:generate'),
      fields={'text': 'text'}, metrics=('accuracy',), templates=())
  return rows.RowStore(sys.argv[1]).open(dataset, 'train')

if __name__ == '__main__':
  print(prepare().manifest.sha256)
"""


def _run(folder, cache, **environment):
  root = pathlib.Path(rows_lib.__file__).parents[2]
  return subprocess.Popen(
      [sys.executable, str(folder / 'killed.py'), str(cache)],
      env={**os.environ, 'PYTHONPATH': str(root), **environment},
      stdout=subprocess.PIPE,
      text=True,
  )


def test_a_killed_prepare_leaves_nothing_to_be_taken_for_whole(tmp_path, cache):
  (tmp_path / 'killed.py').write_text(_KILLED)
  killed = _run(tmp_path, cache, DIE='1')
  assert killed.wait() == -signal.SIGKILL
  home = cache / 'rows' / 'toy'
  left = list(home.iterdir())
  assert len(left) == 1 and left[0].name.startswith('.')
  again = _run(tmp_path, cache)
  digest = again.communicate()[0].strip()
  assert again.returncode == 0
  # What the killed one left is gone.
  (whole,) = home.iterdir()
  assert row_files.sha256(whole / 'rows.arrow') == digest
  assert manifest_lib.load(whole).rows == 5000
  assert {path.name for path in whole.iterdir()} == {
      'rows.arrow',
      'manifest.json',
  }


def test_only_what_nobody_writes_is_cleared_away(tmp_path):
  target = tmp_path / 'rows' / 'train-1'
  at_work = row_folders.Folder(target)
  # As on a file system without locks, or after half a start.
  home = target.parent
  for name in ('.young.tmp', '.old.tmp', '.young.new', '.old.new'):
    (home / name).mkdir()
    (home / name / 'part-0.arrow').write_text('x')
    if 'old' in name:
      for path in (home / name / 'part-0.arrow', home / name):
        os.utime(path, (0, 0))
  row_folders.Folder(target).close()
  assert {path.name for path in home.iterdir()} == {
      at_work.path.name,
      '.young.tmp',
      '.young.new',
  }
  at_work.close()
  assert not at_work.path.exists()


def test_two_processes_may_prepare_at_once(tmp_path, cache):
  (tmp_path / 'killed.py').write_text(_KILLED)
  both = [_run(tmp_path, cache), _run(tmp_path, cache)]
  digests = {process.communicate()[0].strip() for process in both}
  assert [process.returncode for process in both] == [0, 0]
  assert len(digests) == 1
  folders = list((cache / 'rows' / 'toy').iterdir())
  assert len(folders) == 1
  assert row_files.sha256(folders[0] / 'rows.arrow') in digests
