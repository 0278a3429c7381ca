"""Keeps what a process and its libraries write to stderr; run as a program.

`library_log.LibraryLog` starts it, and its stdin is the process's stderr. It is
a process of its own so that it outlives a crash: where the other one ends
without having said so, the last lines are shown on the terminal.

A line with a zero byte is an order: `\\0keep PATH` names the file that lines go
to, those before included; `\\0end` says that the process is done.

Nothing of flan_jax is imported: it must start in no time.
"""

import collections
import signal
import sys
from typing import BinaryIO

# Lines that wait for a file, and lines that are shown after a crash.
_WAITING = 10_000
_SHOWN = 20


class _Relay:
  """What has been read, and where it goes.

  Attributes:
    ended: Whether the process has said that it is done.
  """

  def __init__(self) -> None:
    self.ended = False
    self._path = ''
    self._file: BinaryIO | None = None
    self._waiting: collections.deque[bytes] = collections.deque(maxlen=_WAITING)
    self._last: collections.deque[bytes] = collections.deque(maxlen=_SHOWN)

  def read(self, line: bytes) -> None:
    """Keeps a line, or does what it orders."""
    text, zero, order = line.partition(b'\0')
    if text.strip():
      self._keep(text.rstrip(b'\n') + b'\n')
    if zero:
      name, _, value = order.strip().partition(b' ')
      if name == b'keep':
        self._open(value.decode())
      self.ended = name == b'end'

  def crash(self) -> str:
    """Returns what to tell of a process that has ended without a word."""
    last = b''.join(self._last).decode(errors='replace')
    if not last:
      return 'flan-jax: the process was killed, or has crashed\n'
    where = f' of {self._path}' if self._path else ' of its libraries'
    return (
        'flan-jax: the process was killed, or has crashed; the last'
        f' lines{where}:\n{last}'
    )

  def _keep(self, line: bytes) -> None:
    self._last.append(line)
    if self._file is None:
      self._waiting.append(line)
    else:
      self._file.write(line)

  def _open(self, path: str) -> None:
    try:
      # Unbuffered: a line is in the file once it is written.
      self._file = open(path, 'ab', buffering=0)
    except OSError as error:
      print(
          f'flan-jax: {path}: cannot be written ({error.strerror}); messages'
          ' of libraries are lost',
          file=sys.stderr,
      )
      return
    self._path = path
    for line in self._waiting:
      self._file.write(line)
    self._waiting.clear()


def main() -> None:
  """Relays stdin until its end, or until told that this is it."""
  # Signals to the whole group are for the process; this one ends with it.
  for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
  relay = _Relay()
  for line in sys.stdin.buffer:
    relay.read(line)
    if relay.ended:
      return
  print(relay.crash(), end='', file=sys.stderr)


if __name__ == '__main__':
  main()
