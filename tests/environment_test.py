"""Versions and revisions, where there are any."""

import importlib.metadata
import subprocess

import flan_jax
from flan_jax import environment


def _git(folder, *arguments):
  subprocess.run(
      ['git', '-C', str(folder), '-c', 'user.name=A', '-c', 'user.email=a@b']
      + list(arguments),
      check=True,
      capture_output=True,
  )


def test_a_repository_says_its_commit_and_whether_it_is_clean(tmp_path):
  _git(tmp_path, 'init', '-q')
  (tmp_path / 'inside').mkdir()
  file = tmp_path / 'inside' / 'file'
  file.write_text('one')
  _git(tmp_path, 'add', '.')
  _git(tmp_path, 'commit', '-q', '-m', 'first')
  head = (tmp_path / '.git' / 'HEAD').read_text().split()[1]
  commit = (tmp_path / '.git' / head).read_text().strip()
  clean = {'commit': commit, 'changed': False}
  assert environment.revision(tmp_path / 'inside') == clean
  # A new file changes nothing that is under version control.
  (tmp_path / 'new').touch()
  assert environment.revision(tmp_path, needs='inside/file') == clean
  assert environment.revision(tmp_path, needs='new') is None
  file.write_text('two')
  assert environment.revision(tmp_path) == {'commit': commit, 'changed': True}


def test_no_repository_no_git_no_commit(tmp_path, monkeypatch):
  assert environment.revision(tmp_path) is None
  _git(tmp_path, 'init', '-q')
  assert environment.revision(tmp_path) is None
  monkeypatch.setenv('PATH', '')
  assert environment.revision('.') is None


def test_packages_are_those_installed(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  found = environment.describe()
  assert found['packages']['flan_jax'] == flan_jax.__version__
  assert found['packages']['jax'] == importlib.metadata.version('jax')
  assert 'working_directory' not in found['git']
