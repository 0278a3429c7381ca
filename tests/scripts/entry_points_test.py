"""scripts/{train,infer,eval}.py are the commands of the same names."""

import os
import subprocess
import sys

import pytest

_SCRIPTS = ('train', 'infer', 'eval')
_CLI = """\
import sys

def main(argv):
  print('beside', argv, 'jax' in sys.modules)
  return 7
"""


def _run(script, *arguments, cwd):
  return subprocess.run(
      [sys.executable, script, *arguments],
      cwd=cwd,
      env={k: v for k, v in os.environ.items() if k != 'PYTHONPATH'},
      capture_output=True,
      text=True,
  )


@pytest.mark.parametrize('name', _SCRIPTS)
def test_help_and_mistakes_are_the_commands(root, tmp_path, name):
  script = root / 'scripts' / f'{name}.py'
  shown = _run(script, '--help', cwd=tmp_path)
  assert shown.returncode == 0, shown.stderr
  assert shown.stdout.startswith(f'usage: flan-jax {name} ')
  wrong = _run(script, '--gin_fiel=x', cwd=tmp_path)
  assert wrong.returncode == 2
  assert wrong.stderr.count('\n') == 1
  assert 'unknown argument --gin_fiel. Did you mean --gin_file' in wrong.stderr


@pytest.mark.parametrize('name', _SCRIPTS)
def test_the_package_beside_the_scripts_is_taken(root, tmp_path, name):
  folder = tmp_path / 'checkout'
  (folder / 'scripts').mkdir(parents=True)
  (folder / 'flan_jax').mkdir()
  (folder / 'flan_jax' / '__init__.py').touch()
  (folder / 'flan_jax' / 'cli.py').write_text(_CLI)
  script = folder / 'scripts' / f'{name}.py'
  script.write_text((root / 'scripts' / f'{name}.py').read_text())
  done = _run(script, '--split=test', cwd=tmp_path)
  assert done.returncode == 7, done.stderr
  assert done.stdout == f"beside ['{name}', '--split=test'] False\n"
