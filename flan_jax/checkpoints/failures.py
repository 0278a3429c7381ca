"""One line for a checkpoint that could not be written.

Where a write fails, Orbax raises the error to its caller, as it should. But its
threads log the same error with their tracebacks too, and tensorstore reports
each of the writes that were under way: some hundred screens for a full disk.
"""

import logging
import os
import re
import sys
from typing import Any
import warnings

_OS_ERROR = re.compile(r"os_error_code='(\d+)'")


class Quiet:
  """From `begin` to `end`, failed writes are heard of from exceptions alone."""

  def __init__(self):
    self._hook: Any = None
    self._for_good = False

  def begin(self) -> None:
    """Drops what is a repetition."""
    logging.getLogger('absl').addFilter(_is_news)
    self._hook, sys.unraisablehook = sys.unraisablehook, self._unraisable

  def end(self) -> None:
    """Undoes `begin`; the second time, or once a write failed, nothing."""
    if self._hook is not None and not self._for_good:
      logging.getLogger('absl').removeFilter(_is_news)
      sys.unraisablehook, self._hook = self._hook, None

  def stay(self) -> None:
    """Stays quiet for good: a write failed.

    Python and asyncio report the writes that were under way with it when they
    throw them away, as late as at the program's end.
    """
    self._for_good = True
    warnings.filterwarnings(
        'ignore', 'coroutine .* was never awaited', RuntimeWarning
    )
    logging.getLogger('asyncio').addFilter(_is_retrieved)

  def _unraisable(self, unraisable: Any) -> None:
    # What a write that was under way finds when the first one failed. Some of
    # them find it when all is over.
    if str(unraisable.exc_value) != 'Event loop is closed':
      (self._hook or sys.__unraisablehook__)(unraisable)


def reason(error: BaseException) -> str:
  """Returns why a write failed, in the operating system's words if it can."""
  if isinstance(error, OSError) and error.strerror:
    return error.strerror
  if found := _OS_ERROR.search(str(error)):
    return os.strerror(int(found.group(1)))
  return str(error).strip().split('\n')[0] or type(error).__name__


def _is_news(record: logging.LogRecord) -> bool:
  return record.levelno < logging.ERROR or 'orbax' not in record.pathname


def _is_retrieved(record: logging.LogRecord) -> bool:
  return 'exception was never retrieved' not in record.getMessage()
