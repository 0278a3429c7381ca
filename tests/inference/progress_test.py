"""How fast, and how long still: with a clock that the test turns."""

import types

from flan_jax.inference import progress as progress_lib
import pytest


class Clock:
  """Seconds, and the tokens of a model that reads and writes steadily."""

  def __init__(self):
    self.now = 1000.0

  def __call__(self) -> float:
    return self.now

  def tokens(self):
    passed = int(self.now - 1000)
    return types.SimpleNamespace(read=200 * passed, written=8 * passed)


def test_lines_of_a_log_come_once_a_minute(capsys):
  clock = Clock()
  progress = progress_lib.Progress(4000, clock.tokens, clock=clock)
  progress.begin('rte')
  for _ in range(13):  # 50 examples in 10 s.
    clock.now += 10
    progress.add(50)
  lines = capsys.readouterr().err.splitlines()
  assert lines == [
      'rte: 300 of 4,000 examples, 5.0 examples/s, 208 tokens/s, 12:20 left',
      'rte: 600 of 4,000 examples, 5.0 examples/s, 208 tokens/s, 11:20 left',
  ]
  assert progress.summary() == (
      '650 examples in 130.0 s: 5.0 examples/s, 208 tokens/s (26,000 read,'
      ' 1,040 written)'
  )
  progress.close()


def test_other_hosts_are_silent(capsys):
  clock = Clock()
  progress = progress_lib.Progress(10, clock.tokens, False, clock)
  clock.now += 100
  progress.add(5)
  assert capsys.readouterr().err == ''


@pytest.mark.parametrize(
    ('count', 'seconds', 'text'),
    [(5, 2, '2.5 x/s'), (1234567, 10, '123,457 x/s'), (0, 0, '0.0 x/s')],
)
def test_speeds(count, seconds, text):
  assert progress_lib.speed(count, seconds, 'x') == text
