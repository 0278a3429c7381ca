"""Each step once in metrics.jsonl, and numbers that are what they say."""

import json
import struct
import time

from flan_jax import errors
from flan_jax.training import metrics
from flan_jax.training import periods
from flan_jax.training import step as step_lib
import numpy as np
import pytest
from tensorboardX.proto import event_pb2


def _record(step: int, **changes) -> dict[str, float]:
  return {
      'loss': 1.0 + step,
      'z_loss': 0.1,
      'accuracy': 0.5,
      'learning_rate': 1e-3 * step,
      'gradient_norm': 2.0,
      'tokens': 100,
      'target_tokens': 10 * step,
      'seconds': 0.5,
      'tokens_per_second': 200.0,
      'data_wait': 0.1,
      **changes,
  }


def _writer(directory, start=0, **changes) -> metrics.Writer:
  settings = dict(
      start=start, total=4, log_period=2, started=time.perf_counter()
  )
  return metrics.Writer(directory, **{**settings, **changes})


def _steps(directory) -> list[int]:
  lines = (directory / 'metrics.jsonl').read_text().splitlines()
  return [json.loads(line)['step'] for line in lines]


def _scalars(directory) -> list[tuple[str, int, float]]:
  """Reads TensorBoard's files, whose records are length, checksums, event."""
  found = []
  for path in sorted((directory / 'tensorboard').iterdir()):
    data = path.read_bytes()
    while data:
      (length,) = struct.unpack('<Q', data[:8])
      event = event_pb2.Event.FromString(data[12 : 12 + length])
      found += [
          (value.tag, event.step, value.simple_value)
          for value in event.summary.value
      ]
      data = data[16 + length :]
  return found


def test_a_step_is_described_a_token():
  sums = step_lib.StepMetrics(
      *map(np.float32, (40, 4, 20, 5, 300, 1e-3, 7)),
      target_tokens=np.float32(20),
      finite=np.float32(1),
      examples=np.float32(30),
      density={'encoder': np.float32(0.75), 'decoder': np.float32(0.25)},
      members=step_lib.MemberSums(np.zeros(2), np.ones(2)),
  )
  before = round(time.time(), 3)
  found = metrics.per_token(sums, seconds=2.0, waited=0.5)
  assert before <= found.pop('time') <= time.time() + 0.001
  assert found == {
      'loss': 2.0,
      'z_loss': pytest.approx(0.2),
      'accuracy': 0.25,
      'learning_rate': pytest.approx(1e-3),
      'gradient_norm': 7.0,
      'tokens': 300,
      'target_tokens': 20,
      'seconds': 2.0,
      'tokens_per_second': 150.0,
      'data_wait': 0.25,
      'examples': 30,
      'encoder_density': 0.75,
      'decoder_density': 0.25,
  }
  assert found.members is sums.members


def test_every_step_is_a_line_at_once(tmp_path):
  writer = _writer(tmp_path)
  for step in (1, 2, 3):
    writer.write(step, _record(step))
    # Nothing waits in a buffer that a kill would take.
    assert _steps(tmp_path) == list(range(1, step + 1))
  writer.close()
  first, second, third = metrics.read(tmp_path / 'metrics.jsonl')
  assert first == {'step': 1, **_record(1)}
  # The end of a period says what it was.
  assert second.pop('period')['loss'] == pytest.approx((2 * 10 + 3 * 20) / 30)
  assert second == {'step': 2, **_record(2)}
  assert 'period' not in third


def test_a_restored_run_drops_what_it_will_do_again(tmp_path):
  writer = _writer(tmp_path)
  for step in (1, 2, 3):
    writer.write(step, _record(step))
  writer.close()
  with open(tmp_path / 'metrics.jsonl', 'a') as file:
    file.write('{"step": 4, "loss"')
  writer = _writer(tmp_path, start=2)
  assert _steps(tmp_path) == [1, 2]
  writer.write(3, _record(3, loss=9.0))
  writer.close()
  assert [r['loss'] for r in metrics.read(tmp_path / 'metrics.jsonl')] == [
      2.0,
      3.0,
      9.0,
  ]


def test_tensorboard_and_terminal_show_means_over_a_period(tmp_path, capsys):
  writer = _writer(tmp_path, log_period=3)
  for step in (1, 2, 3):
    writer.write(step, _record(step))
  writer.write(4, {**_record(4), 'eval/loss': 0.25, 'eval/accuracy': 0.75})
  writer.close()
  scalars = {(tag, step): value for tag, step, value in _scalars(tmp_path)}
  # Losses 2, 3, 4 over 10, 20 and 30 tokens.
  assert scalars['train/loss', 3] == pytest.approx((20 + 60 + 120) / 60)
  assert scalars['train/steps_per_second', 3] == pytest.approx(2.0)
  assert scalars['train/tokens_per_second', 3] == pytest.approx(200.0)
  assert scalars['train/learning_rate', 3] == pytest.approx(3e-3)
  assert scalars['train/data_wait', 3] == pytest.approx(0.1)
  assert scalars['eval/loss', 4] == pytest.approx(0.25)
  assert scalars['train/loss', 4] == pytest.approx(5.0)
  assert {step for _, step in scalars} == {3, 4}
  lines = capsys.readouterr().err.splitlines()
  assert lines[0].startswith('first step done after ')
  assert lines[1:] == [
      (
          'step 3/4  loss 3.3333  accuracy 0.500  2.00 steps/s  200 tokens/s'
          '  00:00 left'
      ),
      'step 4/4  eval/loss 0.2500  eval/accuracy 0.7500',
      (
          'step 4/4  loss 5.0000  accuracy 0.500  2.00 steps/s  200 tokens/s'
          '  00:00 left'
      ),
  ]


class _Tracking:

  def __init__(self):
    self.calls = []

  def log(self, step, scalars):
    self.calls.append((step, scalars))

  def close(self):
    self.calls.append('closed')


def test_clusters_and_the_devices_go_everywhere(tmp_path, capsys):
  members = periods.Members(
      names=('a', 'b'), clusters=('nli', 'nli'), collections=('', 'mine')
  )
  tracking = _Tracking()
  writer = _writer(
      tmp_path,
      members=members,
      utilization=_Utilization(),
      tracking=tracking,
  )
  for step in (1, 2):
    record = periods.Record(_record(step, data_wait=0.4, encoder_density=0.5))
    record.members = step_lib.MemberSums(np.array([6, 2]), np.array([2, 1]))
    writer.write(step, record)
  writer.write(3, {**_record(3), 'eval/loss': 0.5})
  writer.close()
  period = metrics.read(tmp_path / 'metrics.jsonl')[1]['period']
  wanted = {
      'loss/cluster/nli': pytest.approx(8 / 3, rel=1e-6),
      'loss/collection/mine': 2.0,
      'mfu': 0.4125,
      'device_memory': 5,
      'encoder_density': 0.5,
      'steps': 2,
  }
  assert {name: period[name] for name in wanted} == wanted
  scalars = {(tag, step): value for tag, step, value in _scalars(tmp_path)}
  for name in wanted:
    assert scalars[f'train/{name}', 2] == pytest.approx(period[name])
  assert tracking.calls == [
      (2, {f'train/{name}': value for name, value in period.items()}),
      (3, {'eval/loss': 0.5}),
      'closed',
  ]
  assert '200 tokens/s  MFU 41.2%  waiting for data 40%  00:01 left' in (
      capsys.readouterr().err
  )


class _Utilization:

  def mfu(self, densities, seconds):
    assert densities == [{'encoder': 0.5}] * 2 and seconds == 1.0
    return 0.4125

  def memory(self):
    return {'device_memory': 5}


def test_on_a_terminal_there_is_a_bar(tmp_path, capsys, monkeypatch):
  monkeypatch.setattr('sys.stderr.isatty', lambda: True, raising=False)
  writer = _writer(tmp_path)
  for step in (1, 2):
    writer.write(step, _record(step))
  writer.close()
  shown = capsys.readouterr().err
  assert '2/4' in shown and 'loss 2.667, 200 tokens/s' in shown


def test_steps_without_an_update_are_null_counted_and_in_no_mean(
    tmp_path, capsys
):
  writer = _writer(tmp_path)
  bad = {'loss': float('nan'), 'gradient_norm': float('inf'), 'skipped': 1}
  writer.write(1, _record(1))
  writer.write(2, _record(2, **bad))
  writer.write(3, _record(3, **bad))
  writer.write(4, _record(4, **bad))
  writer.close()
  records = metrics.read(tmp_path / 'metrics.jsonl')
  assert 'NaN' not in (tmp_path / 'metrics.jsonl').read_text()
  assert [r['loss'] for r in records] == [2.0, None, None, None]
  assert records[1]['gradient_norm'] is None
  assert metrics.skipped(tmp_path / 'metrics.jsonl') == 3
  first, second = records[1]['period'], records[3]['period']
  assert (first['loss'], first['skipped'], first['steps']) == (2.0, 1, 2)
  assert second['skipped'] == 2 and 'loss' not in second
  assert second['tokens_per_second'] == 200
  shown = capsys.readouterr().err
  assert 'loss 2.0000' in shown and '1 updates skipped' in shown
  assert 'loss -' in shown


def test_other_hosts_write_nothing(tmp_path):
  writer = _writer(tmp_path, active=False)
  writer.write(1, _record(1))
  writer.close()
  assert not list(tmp_path.iterdir())


def test_a_full_disk_is_one_line(tmp_path):
  writer = _writer(tmp_path)
  writer._file.close()
  try:
    writer._file = open('/dev/full', 'w', buffering=1)
  except OSError:
    pytest.skip('/dev/full is not here')
  with pytest.raises(errors.UserError, match='No space left on device'):
    writer.write(1, _record(1))


@pytest.mark.parametrize('block', [1, 40, 1 << 16])
@pytest.mark.parametrize('last', [0, 1, 17, 39, 40, 99])
def test_lines_are_dropped_from_the_end(tmp_path, monkeypatch, block, last):
  monkeypatch.setattr(metrics, '_BLOCK', block)
  path = tmp_path / 'metrics.jsonl'
  lines = [json.dumps({'step': step}) + '\n' for step in range(1, 41)]
  # What a kill, and what a lost disk block leave at the end.
  path.write_text(''.join(lines) + '\0\0\0\n' + '{"step": 41, "lo')
  metrics.truncate(path, last)
  assert path.read_text() == ''.join(lines[:last])
