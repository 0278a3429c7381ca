"""The first signal asks, the second Ctrl-C ends."""

import os
import signal

from flan_jax.training import preemption
import pytest


def _send(number: int) -> None:
  os.kill(os.getpid(), number)


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_to_stop(number):
  before = signal.getsignal(number)
  with preemption.Watch() as watch:
    assert not watch.asked and not watch.stops(1)
    _send(number)
    assert watch.asked
    assert watch.stops(1)
    assert watch.stops(2)
  assert signal.getsignal(number) is before


def test_a_second_interrupt_ends_at_once(capfd):
  with preemption.Watch() as watch:
    _send(signal.SIGINT)
    assert watch.stops(1)
    assert 'another Ctrl-C ends it at once' in capfd.readouterr().err
    with pytest.raises(KeyboardInterrupt):
      _send(signal.SIGINT)


def test_terminations_repeat_without_harm():
  with preemption.Watch() as watch:
    _send(signal.SIGTERM)
    _send(signal.SIGTERM)
    assert watch.stops(1)
