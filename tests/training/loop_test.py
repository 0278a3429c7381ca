"""What the loop does when: steps, numbers, scores, checkpoints, stops."""

import os
import signal
import time

from flan_jax import errors
from flan_jax.training import feed
from flan_jax.training import guard
from flan_jax.training import loop
from flan_jax.training import preemption
from flan_jax.training import state as state_lib
from flan_jax.training import step as step_lib
import jax
import jax.numpy as jnp
import numpy as np
import pytest


class Diary:
  """A writer and a checkpointer that note what is asked of them."""

  def __init__(self, stop_after=None, number=signal.SIGTERM):
    self.entries = []
    self.records = []
    self._flushed = 0
    self._stop_after = stop_after
    self._number = number

  def write(self, step, record):
    self.entries.append(('write', step, record.get('eval/loss')))
    self.records.append(record)
    if step == self._stop_after:
      os.kill(os.getpid(), self._number)

  def flush(self):
    self._flushed = len(self.records)

  def save(self, step, params, optimizer, position, numbers):
    # Where files grow is not where checkpoints lie, if that is a bucket.
    assert self._flushed == len(self.records)
    assert numbers['loss'] == 1 or 'skipped' in numbers
    self.entries.append(('save', step, int(params), position['next']))

  def wait(self):
    self.entries.append(('wait',))


@jax.jit
def _step(state, batch):
  step = state.step + 1
  value = batch['x'].sum() * jnp.ones((), jnp.float32)
  metrics = step_lib.StepMetrics(
      loss=value,
      z_loss=value,
      weight=value,
      target_tokens=jnp.ones(()),
      correct=value,
      tokens=jnp.ones(()),
      learning_rate=value,
      gradient_norm=value,
      finite=jnp.isfinite(value).astype(jnp.float32),
  )
  return state_lib.TrainState(step, state.params + 1, ()), metrics


def _batches(start=0, end=100, broken=()):
  for index in range(start, end):
    value = np.nan if index + 1 in broken else index + 1.0
    yield feed.Fed(
        {'x': jax.device_put(np.full(1, value, np.float32))},
        {'next': index + 1},
    )
  raise errors.UserError('rows.jsonl:3: is broken')


def _train(
    diary,
    start=0,
    evaluate=None,
    batches=None,
    skips=False,
    params=None,
    **config,
):
  periods = dict(train_steps=5, eval_period=0, checkpoint_period=0)
  params = np.int32(start) if params is None else params
  state = jax.device_put(state_lib.TrainState(np.int32(start), params, ()))
  with preemption.Watch() as watch:
    return loop.train(
        loop.LoopConfig(**{**periods, **config}),
        state,
        _step,
        batches or _batches(start),
        evaluate,
        diary,
        diary,
        watch,
        guard.Guard(lambda: 'checkpoint_2', skips=skips),
    )


def _kinds(diary):
  return [entry[:2] for entry in diary.entries if entry[0] != 'wait']


def test_the_last_step_is_saved_after_all_records():
  diary = Diary()
  assert _train(diary) == 5
  assert _kinds(diary) == [
      *(('write', step) for step in range(1, 6)),
      ('save', 5),
  ]
  # The position is the one after the step's own batch.
  assert diary.entries[-2] == ('save', 5, 5, 5)
  assert diary.entries[-1] == ('wait',)


def test_periods_count_steps_of_the_whole_run():
  diary = Diary()
  _train(diary, start=3, train_steps=9, checkpoint_period=4)
  assert _kinds(diary) == [
      ('write', 4),
      ('save', 4),
      *(('write', step) for step in range(5, 9)),
      ('save', 8),
      ('write', 9),
      ('save', 9),
  ]


def test_scores_are_part_of_their_steps_record():
  diary = Diary()

  def evaluate(params):
    return {'eval/loss': float(jax.device_get(params))}

  _train(diary, evaluate=evaluate, eval_period=2)
  assert [entry for entry in diary.entries if entry[0] == 'write'] == [
      ('write', 1, None),
      ('write', 2, 2.0),
      ('write', 3, None),
      ('write', 4, 4.0),
      ('write', 5, 5.0),
  ]


def test_an_average_is_evaluated_beside_the_parameters(monkeypatch):
  diary = Diary()
  monkeypatch.setattr(
      loop.optimizers, 'averaged', lambda state, params: params + 100
  )

  def evaluate(params):
    return {'eval/loss': float(jax.device_get(params))}

  _train(diary, evaluate=evaluate, eval_period=5)
  assert diary.records[-1]['eval/loss'] == 5
  assert diary.records[-1]['eval/ema_loss'] == 105


def test_nothing_is_left_to_do_at_the_end():
  diary = Diary()
  assert _train(diary, start=5) == 5
  assert diary.entries == [('wait',)]


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_saves_the_step_it_is_at(number):
  diary = Diary(stop_after=2, number=number)
  assert _train(diary) == 3
  # Step 3 was under way when step 2 was written.
  assert _kinds(diary) == [
      ('write', 1),
      ('write', 2),
      ('write', 3),
      ('save', 3),
  ]
  assert diary.entries[-2] == ('save', 3, 3, 3)


def test_how_long_a_checkpoint_held_the_loop_up_is_in_the_next_record():
  class Slow(Diary):

    def save(self, *args):
      super().save(*args)
      time.sleep(0.05)

  diary = Slow()
  _train(diary, train_steps=6, checkpoint_period=2)
  stalls = [record.get('checkpoint_stall') for record in diary.records]
  assert [stall is None for stall in stalls] == [
      True,
      True,
      False,
      True,
      False,
      True,
  ]
  assert 0.05 <= stalls[2] < 1
  # Such time is not the step's.
  assert diary.records[2]['seconds'] < 0.05


def test_a_broken_loss_is_never_saved():
  diary = Diary()
  with pytest.raises(
      errors.UserError,
      match='step 4: the loss is nan; the last good checkpoint is checkpoint_2',
  ):
    _train(diary, batches=_batches(broken=[4]), checkpoint_period=2)
  assert _kinds(diary)[-1] == ('write', 3)
  assert ('save', 2) in _kinds(diary) and ('save', 4) not in _kinds(diary)


def test_a_broken_loss_between_checkpoints_is_found_a_step_later():
  diary = Diary()
  with pytest.raises(errors.UserError, match='step 3: the loss is nan'):
    _train(diary, batches=_batches(broken=[3]))
  assert _kinds(diary) == [('write', 1), ('write', 2)]


def test_skipped_steps_are_counted_and_the_run_goes_on():
  diary = Diary()
  broken = _batches(broken=[2, 5])
  assert _train(diary, batches=broken, skips=True, checkpoint_period=2) == 5
  skipped = [record.get('skipped') for record in diary.records]
  assert skipped == [None, 1, None, None, 1]
  assert [e[1] for e in diary.entries if e[0] == 'save'] == [2, 4, 5]


def test_parameters_that_are_not_finite_are_never_saved():
  diary = Diary()
  with pytest.raises(
      errors.UserError, match='step 2: parameters or optimizer state are not'
  ):
    _train(diary, params=np.float32(np.inf), checkpoint_period=2, skips=True)
  assert _kinds(diary) == [('write', 1), ('write', 2)]


def test_broken_data_end_the_run():
  diary = Diary()
  with pytest.raises(errors.UserError, match='rows.jsonl:3'):
    _train(diary, batches=_batches(end=3))


def test_nothing_moves_to_the_devices_unnoticed():
  batches = iter([feed.Fed({'x': np.ones(1, np.float32)}, {'next': 1})])
  with pytest.raises(Exception, match='[Dd]isallowed host-to-device'):
    _train(Diary(), batches=batches)


def test_an_evaluator_reads_once_and_counts_tokens(mesh_of):
  asked = []

  def batches():
    asked.append(1)
    for weight in (1.0, 3.0):
      yield {'x': np.full((8, 1), weight / 8, np.float32)}

  def eval_step(params, batch):
    weight = batch['x'].sum()
    return step_lib.losses.LossSums(
        loss=params * weight, z_loss=weight, weight=weight, correct=weight / 2
    )

  evaluator = loop.Evaluator(jax.jit(eval_step), batches, mesh_of(data=8))
  for params in (2.0, 3.0):
    scores = evaluator(jnp.asarray(params))
    assert scores == {
        'eval/loss': pytest.approx(params),
        'eval/accuracy': pytest.approx(0.5),
    }
  assert asked == [1]
