"""The first signal asks, the second Ctrl-C ends."""

import os
import signal

from flan_jax.training import preemption
import pytest


def _send(number: int) -> None:
  os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ('number', 'code'), [(signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_a_signal_asks_to_stop(number, code):
  before = signal.getsignal(number)
  with preemption.Watch() as watch:
    assert watch.exit_code(1) == 0
    _send(number)
    assert watch.exit_code(1) == code
    assert watch.exit_code(2) == code
  assert signal.getsignal(number) is before


def test_a_second_interrupt_ends_at_once():
  with preemption.Watch() as watch:
    _send(signal.SIGINT)
    assert watch.exit_code(1) == 130
    with pytest.raises(KeyboardInterrupt):
      _send(signal.SIGINT)


def test_terminations_repeat_without_harm():
  with preemption.Watch() as watch:
    _send(signal.SIGTERM)
    _send(signal.SIGTERM)
    assert watch.exit_code(1) == 143
