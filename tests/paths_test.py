"""Addresses are used, or refused where pathlib would make folders of them."""

import importlib.util
import pathlib

from flan_jax import cli
from flan_jax import errors
from flan_jax import paths
from flan_jax import storage
from flan_jax.checkpoints import runs
import pytest


@pytest.mark.parametrize(
    'path', [None, 'runs/mine', '/gcs/runs', '~/x', 'a:b', pathlib.Path('/x')]
)
def test_folders_pass(path):
  paths.check_local('MODEL_DIR', path)
  storage.check('MODEL_DIR', path)
  assert not storage.is_address(path)


@pytest.mark.parametrize('path', ['gs://b/run', 's3://b', 'hdfs://x/y'])
def test_addresses_do_not(path):
  with pytest.raises(errors.UserError, match='^MODEL_DIR: .*launching.md'):
    paths.check_local('MODEL_DIR', path)


@pytest.mark.parametrize(
    'arguments, name',
    [
        (['--gin.MODEL_DIR=s3://bucket/run'], 'MODEL_DIR'),
        (
            ['--gin.MODEL_DIR=run', '--gin.INITIAL_CHECKPOINT_PATH=s3://b/r'],
            'INITIAL_CHECKPOINT_PATH',
        ),
        (['--gin.MODEL_DIR=run', '--cache_dir=s3://b/c'], '--cache_dir'),
        (
            ['--gin.MODEL_DIR=run', '--tfds_data_dir=gs://b/t'],
            '--tfds_data_dir',
        ),
    ],
)
def test_training_makes_no_folder_of_an_address(
    arguments, name, tmp_path, monkeypatch, capsys
):
  monkeypatch.chdir(tmp_path)
  code = cli.main(['train', '--gin_file=gin/examples/mini.gin', *arguments])
  assert code == 2
  assert f'{name}: ' in capsys.readouterr().err
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('path', ['s3://b/run', 'gs://', 'gs:///run', 'az://b'])
def test_addresses_that_orbax_does_not_know(path):
  with pytest.raises(errors.UserError, match=f'checkpoint: {path}: .*gs://B'):
    runs.locate(path)


def test_what_to_install_for_a_bucket(monkeypatch):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda _: None)
  with pytest.raises(
      errors.UserError, match=r'checkpoint: gs://b/run: .*pip install .*\[gcs\]'
  ):
    runs.locate('gs://b/run')


@pytest.mark.parametrize('command', ['infer', 'eval'])
def test_results_go_to_a_folder(command, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  arguments = ['--checkpoint=run', '--mixture=mini', '--output=gs://b/out']
  assert cli.main([command, *arguments]) == 2
  assert '_OUTPUT_DIR: gs://b/out: must be a fol' in capsys.readouterr().err
  assert not list(tmp_path.iterdir())


def test_the_cache_of_this_machine(monkeypatch, tmp_path):
  monkeypatch.setenv('FLAN_JAX_CACHE', str(tmp_path))
  assert paths.cache_dir('gs://bucket/cache') == paths.cache_dir() == tmp_path
  assert paths.cache_dir('here') == pathlib.Path('here')
  monkeypatch.setenv('FLAN_JAX_CACHE', 'gs://bucket/cache')
  with pytest.raises(errors.UserError, match='^FLAN_JAX_CACHE: '):
    paths.cache_dir()
