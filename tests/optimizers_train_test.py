"""Whole runs with other optimizers, averages, frozen parts, broken steps."""

import json
import pathlib

from flan_jax import cli
from flan_jax import errors
from flan_jax.checkpoints import native
from flan_jax.checkpoints import runs
from flan_jax.training import metrics
from flan_jax.training import trainer as trainer_lib
import jax
import numpy as np
import pytest
import scipy.special

LINES = """\
TRAIN_STEPS = 4
EVAL_STEPS = 1
CHECKPOINT_PERIOD = 2
EncoderDecoderConfig.num_encoder_layers = 2
LEARNING_RATE = 0.01
WARMUP_STEPS = 0
EMA_DECAY = 0.5
PARAMETER_GROUPS = (@frozen/ParameterGroup(), @slow/ParameterGroup())
frozen/ParameterGroup.pattern = 'token_embedder/.*|encoder/layers_0/.*'
frozen/ParameterGroup.frozen = True
slow/ParameterGroup.pattern = 'decoder/.*'
slow/ParameterGroup.rate_factor = 0.5
"""


@pytest.fixture(scope='module')
def project(make_project):
  return make_project(LINES, optimizer='muon')


def _flat(path: pathlib.Path, **settings) -> dict[str, np.ndarray]:
  loaded = native.load_model(path, **settings)
  return jax.device_get(loaded.model.unstack(loaded.params))


@pytest.fixture(scope='module')
def whole(project):
  """Four steps without a stop, the last two evaluated."""
  assert project.train('whole', '--gin.EVAL_PERIOD=4') == 0
  return project / 'whole'


def test_state_and_average_go_on_bit_by_bit(project, whole):
  assert project.train('parts', '--gin.TRAIN_STEPS=2') == 0
  assert project.train('parts') == 0
  for use_ema in (False, True):
    one = _flat(whole, use_ema=use_ema)
    other = _flat(project / 'parts', use_ema=use_ema)
    for name, array in one.items():
      np.testing.assert_array_equal(other[name], array, err_msg=name)


def test_what_is_frozen_stays_and_is_in_the_average_too(whole):
  before, after = _flat(whole / 'checkpoint_0'), _flat(whole)
  average = _flat(whole, use_ema=True)
  for name, array in before.items():
    frozen = name.startswith(('token_embedder/', 'encoder/layers_0/'))
    assert np.array_equal(after[name], array) == frozen, name
    assert np.allclose(average[name], after[name], atol=1e-7) == frozen, name
  assert runs.read(whole)['settings']['OPTIMIZER.groups'][0]['frozen'] is True


def test_the_average_is_evaluated_too(whole):
  record = metrics.read(whole / 'metrics.jsonl')[-1]
  assert record['eval/loss'] > 0 and record['eval/ema_loss'] > 0
  assert record['eval/loss'] != record['eval/ema_loss']


def test_predictions_are_of_the_average_where_that_is_asked_for(project, whole):
  """USE_EMA, against log-likelihoods by the unpacked forward pass."""
  prompt = {'inputs': '1 + 1 =', 'options': ['2', '30']}
  (project / 'prompts.jsonl').write_text(json.dumps(prompt) + '\n')
  found = {}
  for use_ema in (False, True):
    output = project / f'predictions_{use_ema}'
    flags = [f'--gin.USE_EMA={use_ema}', f'--checkpoint={whole}']
    flags += [f'--input={project / "prompts.jsonl"}', f'--output={output}']
    flags += [f'--cache_dir={project / "cache"}']
    assert cli.main(['infer', *flags]) == 0
    line = json.loads((output / 'prompts.jsonl').read_text())
    found[use_ema] = line['option_scores']
    loaded = native.load_model(whole, use_ema=use_ema)
    encode = loaded.vocabulary.encode
    for option, score in zip(prompt['options'], found[use_ema], strict=True):
      ids = [*encode(option), 1]
      batch = {
          'encoder_input_tokens': np.array([[*encode(prompt['inputs']), 1]]),
          'decoder_input_tokens': np.array([[0, *ids[:-1]]]),
          'decoder_target_tokens': np.array([ids]),
      }
      logits_TxV = np.asarray(loaded.model.logits(loaded.params, batch))[0]
      log_p_TxV = scipy.special.log_softmax(logits_TxV, axis=-1)
      wanted = sum(log_p_TxV[place, token] for place, token in enumerate(ids))
      np.testing.assert_allclose(score, wanted, rtol=1e-5)
  assert not np.allclose(found[False], found[True], rtol=1e-5)


def test_a_group_that_matches_nothing_is_refused(project):
  with pytest.raises(errors.UserError, match="'decodr/.*' matches none"):
    project.train('wrong', '--gin.slow/ParameterGroup.pattern=decodr/.*')


def _break(monkeypatch, steps) -> None:
  """Makes some steps see infinite parameters; they leave the state as it is.

  What a step does with such a gradient is step_test.py's.
  """
  compiled = trainer_lib.Trainer.compiled_step

  def compiled_step(self):
    step = compiled(self)

    def stepping(state, batch):
      at = int(jax.device_get(state.step)) + 1
      if at in steps:
        with jax.transfer_guard('allow'):
          saved = jax.tree.map(lambda leaf: leaf + 0, state)
          state = state._replace(
              params=jax.tree.map(lambda p: p * np.inf, state.params)
          )
          new, metrics = step(state, batch)
          kept = jax.tree.map(lambda leaf: leaf + 0, saved)
          return kept._replace(step=new.step), metrics
      return step(state, batch)

    return stepping

  monkeypatch.setattr(trainer_lib.Trainer, 'compiled_step', compiled_step)


def test_a_broken_step_ends_the_run_with_its_tasks(project, whole, monkeypatch):
  with monkeypatch.context() as patch:
    _break(patch, {3})
    with pytest.raises(errors.UserError) as error:
      project.train('broken')
  folder = project / 'broken'
  assert str(error.value) == (
      'step 3: the loss is nan on a batch of sums; the last good checkpoint is'
      f' {folder / "checkpoint_2"}; lower LEARNING_RATE, set CLIP_NORM, or set'
      " ON_NON_FINITE to 'skip' to pass such batches over"
  )
  assert runs.steps(folder) == [0, 2]
  # It goes on from there, as if nothing had been.
  assert project.train('broken') == 0
  one, other = _flat(whole), _flat(folder)
  for name, array in one.items():
    np.testing.assert_array_equal(other[name], array, err_msg=name)


def test_broken_steps_are_skipped_and_counted(project, monkeypatch, capsys):
  _break(monkeypatch, {2, 3})
  assert project.train('skipping', '--gin.ON_NON_FINITE=skip') == 0
  folder = project / 'skipping'
  records = metrics.read(folder / 'metrics.jsonl')
  assert [r.get('skipped', 0) for r in records] == [0, 1, 1, 0]
  assert [r['loss'] is None for r in records] == [False, True, True, False]
  last = capsys.readouterr().err.strip().splitlines()[-1]
  assert last == (
      f'done: {folder / "checkpoint_4"}; 2 updates that were not finite were'
      ' skipped'
  )
  assert all(np.isfinite(array).all() for array in _flat(folder).values())
