"""Batches ahead of time, each with the position that follows it."""

import threading

from flan_jax import errors
from flan_jax.training import feed
import jax
import numpy as np
import pytest


class Counting:
  """A pipeline that yields its own position."""

  def __init__(self, end=None):
    self._position = 0
    self._end = end

  def __iter__(self):
    while self._position != self._end:
      self._position += 1
      yield {'ids': np.full((8, 2), self._position, np.int32)}
    raise errors.UserError('rows.jsonl:7: is broken')

  def get_state(self):
    return {'next': self._position}


def _threads():
  return [t for t in threading.enumerate() if t.name == 'feed' and t.is_alive()]


def test_the_position_belongs_to_the_batch_not_to_the_reader(mesh_of):
  batches = feed.Feed(Counting(), mesh_of(data=8), depth=3)
  for count in range(1, 6):
    fed = next(batches)
    assert fed.position == {'next': count}
    assert int(fed.batch['ids'][0, 0]) == count
    assert len(fed.batch['ids'].sharding.device_set) == 8
  batches.close()
  assert not _threads()


def test_it_reads_ahead_and_no_further(mesh_of):
  pipeline = Counting()
  batches = feed.Feed(pipeline, mesh_of(), depth=2)
  assert next(batches).position == {'next': 1}
  while batches._queue.qsize() < 2:
    pass
  # Two wait in the queue, and one waits for room.
  assert pipeline.get_state()['next'] <= 4
  batches.close()


def test_what_the_pipeline_raises_comes_when_its_turn_comes(mesh_of):
  batches = feed.Feed(Counting(end=2), mesh_of())
  assert [next(batches).position['next'] for _ in range(2)] == [1, 2]
  with pytest.raises(errors.UserError, match='rows.jsonl:7'):
    next(batches)
  batches.close()
  assert not _threads()


def test_rows_that_do_not_divide_are_the_users_error(mesh_of):
  class Odd(Counting):

    def __iter__(self):
      yield {'ids': np.zeros((6, 2), np.int32)}

  batches = feed.Feed(Odd(), mesh_of(data=4))
  with pytest.raises(errors.UserError, match='BATCH_SIZE'):
    next(batches)
  batches.close()


def test_values_arrive_on_the_devices(mesh_of):
  batches = feed.Feed(Counting(), mesh_of(data=2))
  with jax.transfer_guard('disallow'):
    fed = next(batches)
    doubled = jax.jit(lambda ids: ids + ids)(fed.batch['ids'])
  assert int(doubled[0, 0]) == 2
  batches.close()
