"""Weights & Biases: asked for, or not there; stood in for by a module here."""

import importlib
import json
import sys

from flan_jax import errors
from flan_jax.training import tracking
import pytest

# What is used of W&B, noted in a file of calls.
FAKE = """
import json, os, types
def _note(**call):
  with open(os.path.join(os.path.dirname(__file__), 'calls'), 'a') as file:
    file.write(json.dumps(call) + '\\n')
class Settings:
  def __init__(self, **settings):
    self.settings = settings
class Run:
  url, dir = None, '/some/offline-run'
  def log(self, scalars, step):
    _note(log=scalars, step=step)
  def finish(self):
    _note(finish=True)
def init(settings, **arguments):
  if arguments['project'] == 'refused':
    raise RuntimeError('no API key\\nis configured')
  _note(init=arguments, settings=settings.settings)
  return Run()
"""


@pytest.fixture
def wandb(tmp_path, monkeypatch):
  """Puts a module `wandb` where Python finds it; gives its calls."""
  folder = tmp_path / 'site' / 'wandb'
  folder.mkdir(parents=True)
  (folder / '__init__.py').write_text(FAKE)
  monkeypatch.delitem(sys.modules, 'wandb', raising=False)
  monkeypatch.syspath_prepend(str(folder.parent))

  def calls():
    return [json.loads(line) for line in (folder / 'calls').open()]

  yield calls
  sys.modules.pop('wandb', None)


def test_it_is_no_dependency(monkeypatch):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  tracking.check(None)
  with pytest.raises(errors.UserError) as error:
    tracking.check('flan')
  assert str(error.value) == (
      "WANDB_PROJECT: 'flan' is asked for, and wandb is not installed: `pip"
      ' install wandb`, or leave WANDB_PROJECT out'
  )


def test_a_run_that_goes_on_is_the_same_run(wandb, tmp_path):
  tracking.check('flan')
  directory = tmp_path / 'runs' / 'first'
  directory.mkdir(parents=True)
  for _ in range(2):
    run = tracking.WandB('flan', directory, {'BATCH_SIZE': 8})
    assert run.place == '/some/offline-run'
    run.log(5, {'train/loss': 1.5, 'train/loss/cluster/nli': 2.5})
    run.close()
  first, logged, finished, *again = wandb()
  assert again == [first, logged, finished]
  assert first['init']['project'] == 'flan'
  assert first['init']['name'] == 'first'
  assert first['init']['config'] == {'BATCH_SIZE': 8}
  assert first['init']['resume'] == 'allow' and len(first['init']['id']) == 12
  assert first['settings']['silent'] is True
  assert logged == {
      'log': {'train/loss': 1.5, 'train/loss/cluster/nli': 2.5},
      'step': 5,
  }


def test_what_wandb_refuses_is_one_line(wandb, tmp_path):
  with pytest.raises(errors.UserError) as error:
    tracking.WandB('refused', tmp_path, {})
  message = str(error.value)
  assert 'W&B cannot start: no API key is configured;' in message
  assert '\n' not in message
