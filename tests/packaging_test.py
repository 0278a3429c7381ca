"""gin files and mixtures are found however the project is installed.

Three ways: a checkout that was never installed, `pip install -e .`, and a
built wheel in an environment without it. The environments are new ones that
see this one's dependencies but not its flan_jax, so no network is needed.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import venv

import pytest


def _run(command, cwd, **environment) -> str:
  done = subprocess.run(
      [str(part) for part in command],
      cwd=cwd,
      env={**os.environ, **environment},
      capture_output=True,
      text=True,
  )
  assert done.returncode == 0, f'{command}\n{done.stdout}\n{done.stderr}'
  return done.stdout


@pytest.fixture(scope='module')
def checkout(root, tmp_path_factory) -> pathlib.Path:
  """A clean copy of the tracked files, so that no build/ is left behind."""
  copy = tmp_path_factory.mktemp('checkout') / 'flan_jax_copy'
  tracked = _run(['git', 'ls-files', '-z'], cwd=root).split('\0')
  for name in filter(None, tracked):
    if (root / name).is_file():
      (copy / name).parent.mkdir(parents=True, exist_ok=True)
      shutil.copy2(root / name, copy / name)
  return copy


def _environment(folder: pathlib.Path) -> pathlib.Path:
  """Makes an environment with the dependencies; returns its Python.

  A path in a .pth file is added to sys.path without its own .pth files being
  read: an editable flan_jax of the environment that runs the tests is
  therefore not seen.
  """
  venv.create(folder, with_pip=True)
  python = folder / 'bin' / 'python'
  # The one that Python 3.11 puts there is too old to build the project.
  _run([python, '-m', 'pip', 'uninstall', '-q', '-y', 'setuptools'], folder)
  site = pathlib.Path(
      _run(
          [python, '-c', 'import sysconfig as s; print(s.get_path("purelib"))'],
          cwd=folder,
      ).strip()
  )
  site.joinpath('dependencies.pth').write_text(
      sysconfig.get_path('purelib') + '\n'
  )
  return python


def _install(python: pathlib.Path, *arguments) -> None:
  _run(
      [python, '-m', 'pip', 'install', '--quiet', '--no-deps']
      + ['--no-build-isolation', '--no-index', *arguments],
      cwd=python.parent,
  )


@pytest.fixture(scope='module', params=['checkout', 'editable', 'wheel'])
def installed(request, checkout, tmp_path_factory):
  """(command, folder to run it in, environment variables)."""
  elsewhere = tmp_path_factory.mktemp('elsewhere')
  if request.param == 'checkout':
    # Never installed: from the root, with the dependencies alone.
    python = _environment(tmp_path_factory.mktemp('bare') / 'venv')
    return [python, '-m', 'flan_jax'], checkout, {'PYTHONNOUSERSITE': '1'}
  python = _environment(tmp_path_factory.mktemp(request.param) / 'venv')
  if request.param == 'editable':
    _install(python, '--editable', checkout)
  else:
    wheels = tmp_path_factory.mktemp('wheels')
    _run(
        [sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps']
        + ['--no-build-isolation', '--wheel-dir', wheels, checkout],
        cwd=elsewhere,
    )
    _install(python, *wheels.glob('*.whl'))
  return [python.parent / 'flan-jax'], elsewhere, {'PYTHONNOUSERSITE': '1'}


def test_mixtures_are_found(installed):
  command, cwd, environment = installed
  listed = json.loads(_run([*command, 'tasks', '--json'], cwd, **environment))
  names = {entry['name'] for entry in listed['datasets']}
  assert {'rte', 'mini_capitals'} <= names
  assert {'mini', 'flan2021'} <= {m['name'] for m in listed['mixtures']}


def test_gin_files_are_found(installed, tmp_path):
  command, cwd, environment = installed
  printed = _run(
      [*command, 'train', '--gin_file=gin/examples/mini.gin', '--dry_run']
      + [f'--gin.MODEL_DIR={tmp_path}', f'--cache_dir={tmp_path}/cache'],
      cwd,
      **environment,
  )
  assert 'mini' in printed


def test_the_data_of_the_report_is_found(installed):
  command, cwd, environment = installed
  # What `flan-jax` itself runs with.
  python = command[0] if len(command) > 1 else command[0].parent / 'python'
  code = (
      'from importlib import resources; from flan_jax.evaluation import'
      ' published; print(len(published.load()) > 0, sorted(f.suffix for f in'
      ' resources.files("flan_jax.evaluation.report").iterdir()'
      ' if f.suffix in (".css", ".html", ".js")))'
  )
  printed = _run([python, '-c', code], cwd, **environment)
  assert printed.strip() == "True ['.css', '.html', '.js']"


def test_gin_config_is_not_hidden_by_our_folder(root):
  # From the root, `import gin` must be gin-config and never our gin/ folder.
  _run(
      [sys.executable, '-c', 'import gin; gin.parse_config'],
      cwd=root,
  )


def test_command_and_module_say_the_same_version(root):
  from flan_jax import cli

  with pytest.raises(SystemExit) as stopped:
    cli.main(['--version'])
  assert stopped.value.code == 0
  module = _run([sys.executable, '-m', 'flan_jax', '--version'], cwd=root)
  assert module.startswith('flan-jax ')
