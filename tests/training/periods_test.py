"""A period's numbers are those of its tokens, whosever they are."""

from flan_jax.training import periods
from flan_jax.training import step as step_lib
import numpy as np
import pytest

MEMBERS = periods.Members(
    names=('rte', 'cb:5_shot', 'sst2', 'mine'),
    clusters=('nli', 'nli', 'sentiment', 'own'),
    collections=('flan', 'flan', 'flan', ''),
)


def _record(loss, weight, seconds=0.5, **changes) -> periods.Record:
  loss, weight = np.array(loss, np.float32), np.array(weight, np.float32)
  record = periods.Record({
      'loss': float(loss.sum() / weight.sum()),
      'z_loss': 0.5,
      'accuracy': 0.25,
      'learning_rate': 0.1,
      'gradient_norm': 3.0,
      'tokens': 200,
      'target_tokens': int(weight.sum()),
      'seconds': seconds,
      'data_wait': 0.2,
      'examples': 30,
      'encoder_density': 0.9,
      'decoder_density': 0.5,
      **changes,
  })
  record.members = step_lib.MemberSums(loss, weight)
  return record


def test_losses_by_cluster_and_collection_are_means_over_tokens():
  period = periods.Period(MEMBERS)
  period.add(_record([20, 8, 0, 0], [10, 2, 0, 0]))
  period.add(_record([30, 0, 12, 9], [10, 0, 4, 3]))
  found = period.close()
  assert found['loss/cluster/nli'] == pytest.approx(58 / 22)
  assert found['loss/cluster/sentiment'] == pytest.approx(3.0)
  assert found['loss/cluster/own'] == pytest.approx(3.0)
  assert found['loss/collection/flan'] == pytest.approx(70 / 26)
  # What is in no collection has no line of its own.
  assert 'loss/collection/' not in found
  assert found['loss'] == pytest.approx(79 / 29)
  assert found['steps'] == 2
  # The next period knows nothing of this one.
  period.add(_record([0, 0, 2, 0], [0, 0, 1, 0]))
  again = period.close()
  assert [n for n in again if n.startswith('loss/')] == [
      'loss/cluster/sentiment',
      'loss/collection/flan',
  ]
  assert again['loss/cluster/sentiment'] == 2.0


def test_rates_and_shares_are_over_its_time():
  period = periods.Period(MEMBERS)
  period.add(_record([1, 0, 0, 0], [1, 0, 0, 0], seconds=1.0, data_wait=0.5))
  period.add(
      _record([1, 0, 0, 0], [1, 0, 0, 0], seconds=3.0, encoder_density=0.7)
  )
  found = period.close()
  assert found['tokens_per_second'] == 100
  assert found['examples_per_second'] == 15
  assert found['steps_per_second'] == 0.5
  assert found['data_wait'] == pytest.approx((0.5 + 0.6) / 4)
  assert found['encoder_density'] == pytest.approx(0.8)
  assert found['decoder_density'] == 0.5
  assert 'mfu' not in found


def test_a_batch_names_its_tasks():
  assert MEMBERS.in_batch(_record([1, 0, 9, 0], [1, 0, 2, 0])) == [
      'rte',
      'sst2',
  ]
  # Also where no loss is a number.
  lost = _record([np.nan] * 4, [0, 1, 0, 0])
  assert MEMBERS.in_batch(lost) == ['cb:5_shot']
  assert MEMBERS.in_batch(periods.Record(loss=1.0)) == []
