"""What is said of numbers that are not finite."""

from flan_jax import errors
from flan_jax.training import guard
from flan_jax.training import periods
from flan_jax.training import step as step_lib
import jax.numpy as jnp
import numpy as np
import pytest

MEMBERS = periods.Members(
    names=('rte', 'cb', 'wsc'), clusters=('a', 'a', 'b'), collections=('',) * 3
)


def _record(loss, norm=1.0, members=None):
  record = periods.Record({'loss': loss, 'gradient_norm': norm})
  if not np.isfinite([loss, norm]).all():
    record['skipped'] = 1
  if members is not None:
    record.members = step_lib.MemberSums(*map(np.array, members))
  return record


@pytest.mark.parametrize(
    ('record', 'wanted'),
    [
        (
            _record(np.nan, members=([1, np.nan, 0], [2, 3, 0])),
            (
                'step 7: the loss is nan on examples of cb (the batch also has'
                ' rte)'
            ),
        ),
        (
            _record(np.inf, members=([np.inf, np.nan, 0], [2, 3, 0])),
            'step 7: the loss is inf on a batch of rte, cb',
        ),
        (
            _record(2.5, np.inf, members=([1, 1, 1], [2, 3, 4])),
            (
                'step 7: the norm of the gradient is inf (the loss is 2.5) on a'
                ' batch of rte, cb, wsc'
            ),
        ),
        (_record(np.nan), 'step 7: the loss is nan'),
    ],
)
def test_step_tasks_and_checkpoint_are_named(record, wanted):
  watching = guard.Guard(lambda: 'runs/x/checkpoint_4', MEMBERS)
  watching.check(6, _record(1.0))
  with pytest.raises(errors.UserError) as error:
    watching.check(7, record)
  assert str(error.value) == (
      f'{wanted}; the last good checkpoint is runs/x/checkpoint_4; lower'
      " LEARNING_RATE, set CLIP_NORM, or set ON_NON_FINITE to 'skip' to pass"
      ' such batches over'
  )


def test_many_tasks_are_not_all_named():
  names = tuple(f't{i}' for i in range(40))
  members = periods.Members(names=names, clusters=names, collections=names)
  sums = ([1] * 40, [1] * 40)
  with pytest.raises(errors.UserError, match='t0, .*, t11 and 28 more; no'):
    guard.Guard(lambda: None, members).check(
        1, _record(1.0, np.nan, members=sums)
    )


def test_skipping_ends_where_every_batch_is_broken():
  watching = guard.Guard(lambda: 'checkpoint_0', skips=True)
  for step in range(250):
    watching.check(step, _record(np.nan if step % 100 else 1.0))
  for step in range(guard.MOST_SKIPPED_IN_A_ROW - 49):
    watching.check(step, _record(np.nan))
  with pytest.raises(
      errors.UserError, match='101 steps were skipped one after'
  ):
    for step in range(2):
      watching.check(step, _record(np.nan))


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_a_state_with_one_bad_number_is_refused(value):
  watching = guard.Guard(lambda: 'checkpoint_4')
  good = {'a': jnp.ones((3, 2)), 'count': jnp.zeros((), jnp.int32), 'b': None}
  watching.check_state(8, good)
  bad = {**good, 'a': good['a'].at[1, 1].set(value)}
  with pytest.raises(
      errors.UserError, match='step 9: parameters .* is checkpoint_4;'
  ):
    watching.check_state(9, bad)
