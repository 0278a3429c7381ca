"""Being told to stop: finish the step, save, and say so in the exit code."""

import signal
import threading
from types import FrameType
from typing import Any

import jax
from jax.experimental import multihost_utils

# What a shell reports of a program that a signal ended: a scheduler sees that
# the work is not done, and starts it again.
_EXIT_CODE_BASE = 128


class Watch:
  """Notices SIGTERM and Ctrl-C while it is entered.

  The first of them asks the loop to stop after its step. A second Ctrl-C ends
  the program at once, as ever.

  On several hosts the runtime's own agreement is asked instead, so that all
  hosts stop after the same step.
  """

  def __init__(self):
    self._signal = 0
    self._before: dict[int, Any] = {}

  def __enter__(self) -> 'Watch':
    if (
        jax.process_count() == 1
        and threading.current_thread() is threading.main_thread()
    ):
      for number in (signal.SIGTERM, signal.SIGINT):
        self._before[number] = signal.signal(number, self._notice)
    return self

  def __exit__(self, *_: Any) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)
    self._before = {}

  def exit_code(self, step: int) -> int:
    """Returns 0 to go on, else the code to exit with after saving `step`."""
    if jax.process_count() > 1:
      stop = multihost_utils.reached_preemption_sync_point(step)
      return _EXIT_CODE_BASE + signal.SIGTERM if stop else 0
    return _EXIT_CODE_BASE + self._signal if self._signal else 0

  def _notice(self, number: int, frame: FrameType | None) -> None:
    del frame
    self._signal = number
    if number == signal.SIGINT:
      signal.signal(signal.SIGINT, self._before[signal.SIGINT])
