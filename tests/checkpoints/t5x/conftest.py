"""What tests of T5X's checkpoints share."""

import pathlib
import shutil

import pytest


@pytest.fixture(scope='session')
def golden(shared) -> pathlib.Path:
  """T5X's own checkpoints, with what is in them beside."""
  return shared / 'golden' / 't5x'


@pytest.fixture
def legacy(golden, tmp_path) -> pathlib.Path:
  """A copy of T5X's checkpoint after five steps, in its own form."""
  return shutil.copytree(golden / 'ckpt_t5x', tmp_path / 'run') / 'checkpoint_5'
