"""Addresses of buckets are refused where pathlib would make folders of them."""

import pathlib

from flan_jax import cli
from flan_jax import errors
from flan_jax import paths
from flan_jax.checkpoints import runs
import pytest


@pytest.mark.parametrize(
    'path', [None, 'runs/mine', '/gcs/runs', '~/x', 'a:b', pathlib.Path('/x')]
)
def test_folders_pass(path):
  paths.check_local('MODEL_DIR', path)


@pytest.mark.parametrize('path', ['gs://b/run', 's3://b', 'hdfs://x/y'])
def test_addresses_do_not(path):
  with pytest.raises(errors.UserError, match='^MODEL_DIR: .*launching.md'):
    paths.check_local('MODEL_DIR', path)


@pytest.mark.parametrize(
    'arguments, name',
    [
        (['--gin.MODEL_DIR=gs://bucket/run'], 'MODEL_DIR'),
        (
            ['--gin.MODEL_DIR=run', '--gin.INITIAL_CHECKPOINT_PATH=s3://b/r'],
            'INITIAL_CHECKPOINT_PATH',
        ),
        (['--gin.MODEL_DIR=run', '--cache_dir=gs://b/c'], '--cache_dir'),
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


def test_a_checkpoint_has_no_address():
  with pytest.raises(errors.UserError, match='checkpoint: gs://b/run: '):
    runs.locate('gs://b/run')
