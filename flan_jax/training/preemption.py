"""Being told to stop: finish the step, save, and say where it stopped."""

import os
import signal
import threading
from types import FrameType
from typing import Any

from flan_jax import library_log
import jax
from jax.experimental import multihost_utils

_STOPPING = b'\nstops after this step; another Ctrl-C ends it at once\n'


class Watch:
  """Notices SIGTERM and Ctrl-C while it is entered.

  The first of them asks the loop to stop after its step. A second Ctrl-C ends
  the program at once, as ever.

  Attributes:
    asked: Whether this host was asked; on several hosts, `stops` knows.

  On several hosts the runtime's own agreement is asked instead, so that all
  hosts stop after the same step. It hears SIGTERM alone, so a first Ctrl-C is
  passed on to it as one.
  """

  def __init__(self):
    self.asked = False
    self._before: dict[int, Any] = {}

  def __enter__(self) -> 'Watch':
    if threading.current_thread() is threading.main_thread():
      several = jax.process_count() > 1
      numbers = (signal.SIGINT,) if several else (signal.SIGTERM, signal.SIGINT)
      for number in numbers:
        notice = self._pass_on if several else self._notice
        self._before[number] = signal.signal(number, notice)
    return self

  def __exit__(self, *_: Any) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)
    self._before = {}

  def stops(self, step: int) -> bool:
    """Returns whether to stop after `step`; asked once a step, on all hosts."""
    if jax.process_count() > 1:
      return multihost_utils.reached_preemption_sync_point(step)
    return self.asked

  def _notice(self, number: int, frame: FrameType | None) -> None:
    del frame
    self.asked = True
    if number == signal.SIGINT:
      self._interrupt_next_time()

  def _pass_on(self, number: int, frame: FrameType | None) -> None:
    del number, frame
    self._interrupt_next_time()
    os.kill(os.getpid(), signal.SIGTERM)

  def _interrupt_next_time(self) -> None:
    signal.signal(signal.SIGINT, self._before[signal.SIGINT])
    # Not `print`, which a signal may have interrupted.
    os.write(library_log.terminal(), _STOPPING)
