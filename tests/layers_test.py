"""Imports point one way only (the design's table of layers)."""

import ast
import pathlib
import subprocess
import sys

import pytest

# From the top down; a module imports from its own layer's package or below.
LAYERS = (
    ('cli', '__main__'),
    ('commands',),
    (
        'train',
        'run_folder',
        'training_data',
        'compile',
        'predict',
        'prediction_jobs',
        'prediction_run',
        'ask',
        'evaluate',
        'browse',
        'checking',
        'compare',
        'composition',
        'convert',
        'documenting',
        'preparation',
        'seqio_tasks',
        't5x_tasks',
        'datasets',
    ),
    ('training', 'inference', 'evaluation', 'topologies'),
    ('checkpoints', 'models'),
    ('data',),
    (
        'compilation',
        'environment',
        'heap',
        'host_flags',
        'hosts',
        'library_log',
        'partitioning',
        'relay',
        'vocabularies',
        'joining',
        'sentencepiece_models',
        'configuration',
        'gin_files',
        'errors',
        'paths',
        'storage',
    ),
)
# Peers in one layer that may see each other, from -> to.
PEERS = {
    ('compile', 'train'),
    ('train', 'training_data'),
    ('train', 'run_folder'),
    ('run_folder', 'training_data'),
    ('ask', 'prediction_run'),
    ('predict', 'prediction_jobs'),
    ('predict', 'prediction_run'),
    ('prediction_run', 'prediction_jobs'),
    ('t5x_tasks', 'seqio_tasks'),
    ('paths', 'errors'),
    ('paths', 'storage'),
    ('storage', 'errors'),
    ('vocabularies', 'storage'),
    ('__main__', 'cli'),
    ('evaluation', 'inference'),
    ('training', 'topologies'),
    ('checkpoints', 'models'),
    ('vocabularies', 'errors'),
    ('vocabularies', 'joining'),
    ('vocabularies', 'sentencepiece_models'),
    ('vocabularies', 'paths'),
    ('configuration', 'errors'),
    ('configuration', 'gin_files'),
    ('gin_files', 'errors'),
    ('gin_files', 'paths'),
    ('partitioning', 'errors'),
    ('host_flags', 'errors'),
    ('hosts', 'errors'),
    ('hosts', 'host_flags'),
    ('hosts', 'library_log'),
}
TENSORFLOW = {'tensorflow', 'tensorflow_datasets', 'tensorflow_text', 'seqio'}
TENSORFLOW_PLACES = {
    'data/seqio_bridge.py',
    'data/sources/seqio.py',
    'data/sources/tfds.py',
    'seqio_tasks.py',
}


def _level(part: str) -> int:
  for level, parts in enumerate(LAYERS):
    if part in parts:
      return level
  raise AssertionError(f'flan_jax/{part} is in no layer: add it to LAYERS')


def _imports(tree: ast.AST) -> list[str]:
  names = []
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      names += [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, 'relative import'
      names += [f'{node.module}.{alias.name}' for alias in node.names]
  return names


def _sources(root: pathlib.Path) -> list[tuple[str, ast.Module]]:
  package = root / 'flan_jax'
  return [
      (path.relative_to(package).as_posix(), ast.parse(path.read_text()))
      for path in sorted(package.rglob('*.py'))
  ]


def test_imports_go_down_only(root):
  wrong = []
  for name, tree in _sources(root):
    here = name.removesuffix('.py').split('/')[0]
    if here == '__init__':
      continue
    for imported in _imports(tree):
      parts = imported.split('.')
      if parts[0] != 'flan_jax' or len(parts) == 1:
        continue
      there = parts[1]
      if there in (here, '__version__'):
        continue
      if _level(there) <= _level(here) and (here, there) not in PEERS:
        wrong.append(f'{name} imports flan_jax.{there}')
  assert not wrong


def test_only_the_entry_points_know_gin(root):
  allowed = {'configuration.py', 'gin_files.py'}
  users = {
      name
      for name, tree in _sources(root)
      if any(i.split('.')[0] == 'gin' for i in _imports(tree))
  }
  assert users <= allowed


def test_tensorflow_stays_in_its_places(root):
  users = {
      name
      for name, tree in _sources(root)
      if any(i.split('.')[0] in TENSORFLOW for i in _imports(tree))
  }
  assert users <= TENSORFLOW_PLACES


def test_models_alone_import_flax(root):
  users = {
      name
      for name, tree in _sources(root)
      if any(i.split('.')[0] == 'flax' for i in _imports(tree))
  }
  assert all(name.startswith('models/') for name in users), users


def test_data_folders_hold_no_python(root):
  for folder in ('gin', 'mixtures'):
    assert not list((root / folder).rglob('*.py'))


@pytest.mark.parametrize(
    'module',
    [
        'cli',
        'browse',
        'compare',
        'train',
        'predict',
        'ask',
        'evaluate',
        'convert',
        'configuration',
    ],
)
def test_nothing_slow_is_imported_at_the_top(module):
  code = (
      f'import flan_jax.{module}, sys; '
      'print([m for m in ("jax", "tensorflow", "flax", "orbax", "grain")'
      ' if m in sys.modules])'
  )
  done = subprocess.run(
      [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert done.stdout.strip() == '[]'
