"""Folders of rows: killed runs, two runs at once, caches not to be written."""

import errno
import os
import pathlib
import signal
import subprocess
import sys

from flan_jax import errors
from flan_jax.data import manifest as manifest_lib
from flan_jax.data import row_files
from flan_jax.data import row_folders
from flan_jax.data import rows as rows_lib
from flan_jax.data import specs
import pytest

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


def _generated():
  return specs.Dataset(
      name='toy',
      cluster='misc',
      splits={'train': 'train', 'test': 'test[:5]'},
      source=specs.Source(
          kind='generated', where='flan_jax.data.generators.facts:capitals'
      ),
      fields={'country': 'country'},
      metrics=('accuracy',),
      templates=(),
  )


@pytest.fixture
def read_only(cache, monkeypatch):
  """Makes the cache read-only; for root, who may write anywhere, by decree."""
  made = pathlib.Path.mkdir
  opened, written = os.open, pathlib.Path.write_text

  def refuse(path):
    if pathlib.Path(path).is_relative_to(cache):
      raise OSError(errno.EROFS, 'Read-only file system', str(path))

  def mkdir(self, *args, exist_ok=False, **kwargs):
    if not (exist_ok and self.is_dir()):
      refuse(self)
    return made(self, *args, exist_ok=exist_ok, **kwargs)

  def write_text(self, *args, **kwargs):
    refuse(self)
    return written(self, *args, **kwargs)

  def open_file(path, flags, *args, **kwargs):
    if flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR):
      refuse(path)
    return opened(path, flags, *args, **kwargs)

  def apply():
    monkeypatch.setattr(pathlib.Path, 'mkdir', mkdir)
    monkeypatch.setattr(pathlib.Path, 'write_text', write_text)
    monkeypatch.setattr(os, 'open', open_file)
    for path in [cache, *cache.rglob('*')]:
      if path.exists():
        path.chmod(path.stat().st_mode & ~0o222)

  yield apply
  for path in [cache, *cache.rglob('*')]:
    if path.exists():
      path.chmod(path.stat().st_mode | 0o200)


def test_a_read_only_cache_serves_what_it_has(cache, read_only):
  store = rows_lib.RowStore(cache)
  store.prepare(_generated())
  read_only()
  assert store.status(_generated()).state == 'prepared'
  rows = store.open(_generated(), 'test')
  assert len(rows.fields(range(5))) == 5
  assert store.prepare(_generated()).splits['train'].rows > 5


def test_a_read_only_cache_that_lacks_rows_is_one_line(cache, read_only):
  store = rows_lib.RowStore(cache)
  store.prepare(_generated(), ['test'])
  read_only()
  assert store.status(_generated()).state == 'here'
  assert store.open(_generated(), 'test').take([0])
  for split in ('train', 'test'):
    with pytest.raises(errors.UserError) as caught:
      store.prepare(_generated(), [split], force=True)
    assert str(caught.value) == (
        f'{cache}/rows/toy: rows cannot be stored there (Read-only file'
        ' system): name another folder with --cache_dir=DIR'
    )


def test_a_read_only_cache_that_was_never_used(cache, read_only):
  cache.mkdir()
  read_only()
  with pytest.raises(errors.UserError, match='rows cannot be stored there'):
    rows_lib.RowStore(cache).open(_generated(), 'train')


def test_a_cache_that_becomes_read_only_while_rows_are_written(
    cache, monkeypatch
):
  def refuse(*_):
    raise OSError(errno.EROFS, 'Read-only file system')

  monkeypatch.setattr(row_files.Writer, 'finish', refuse)
  with pytest.raises(errors.UserError, match='Read-only file system.*cache_di'):
    rows_lib.RowStore(cache).open(_generated(), 'train')
