"""How far predicting has come, how fast it goes, and when it will be done.

On a terminal that is a bar; in the log of a cluster's job, a line a minute.
"""

from collections.abc import Callable
import sys
import time
from typing import TYPE_CHECKING

import tqdm

if TYPE_CHECKING:
  from flan_jax.inference import running

_SECONDS_BETWEEN_LINES = 60.0


def speed(count: int, seconds: float, what: str) -> str:
  """Returns a rate such as '12.3 examples/s'."""
  rate = count / max(seconds, 1e-9)
  return f'{rate:,.1f} {what}/s' if rate < 100 else f'{rate:,.0f} {what}/s'


class Progress:
  """Shows how far a command has come.

  Attributes:
    examples: Finished ones.
    seconds: Since it began.
  """

  def __init__(
      self,
      total: int,
      tokens: Callable[[], 'running.Tokens'],
      active: bool = True,
      clock: Callable[[], float] = time.monotonic,
  ):
    """Begins to count time.

    Args:
      total: Examples to predict.
      tokens: Gives those read and written so far.
      active: Whether to show anything: one of several hosts does.
      clock: Seconds since some moment.
    """
    self.examples = 0
    self._name = ''
    self._total = total
    self._tokens = tokens
    self._clock = clock
    self._start = self._said = clock()
    self._active = active
    self._bar = tqdm.tqdm(
        total=total,
        unit='ex',
        leave=False,
        # None: off where the output is not a terminal.
        disable=None if active else True,
    )

  @property
  def seconds(self) -> float:
    return self._clock() - self._start

  def begin(self, name: str) -> None:
    """Says what comes now."""
    self._name = name
    self._bar.set_description(name)

  def add(self, count: int) -> None:
    """Counts finished examples; `Predictor.predict` calls this."""
    self.examples += count
    self._bar.set_postfix_str(self._token_speed(), refresh=False)
    self._bar.update(count)
    now = self._clock()
    if (
        self._active
        and self._bar.disable
        and now - self._said >= _SECONDS_BETWEEN_LINES
    ):
      self._said = now
      print(self.line(), file=sys.stderr, flush=True)

  def line(self) -> str:
    """Returns how far it has come, in words."""
    left = self._total - self.examples
    wait = left * self.seconds / max(self.examples, 1)
    return (
        f'{self._name}: {self.examples:,} of {self._total:,} examples,'
        f' {speed(self.examples, self.seconds, "examples")},'
        f' {self._token_speed()}, {tqdm.tqdm.format_interval(wait)} left'
    )

  def summary(self) -> str:
    """Returns what was done, and how fast."""
    tokens = self._tokens()
    return (
        f'{self.examples:,} examples in {self.seconds:,.1f} s:'
        f' {speed(self.examples, self.seconds, "examples")},'
        f' {self._token_speed()} ({tokens.read:,} read,'
        f' {tokens.written:,} written)'
    )

  def close(self) -> None:
    self._bar.close()

  def _token_speed(self) -> str:
    tokens = self._tokens()
    return speed(tokens.read + tokens.written, self.seconds, 'tokens')
