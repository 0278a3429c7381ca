"""What libraries say goes to a file; what we say stays on the terminal.

TensorFlow, XLA, Orbax and the like write to stderr from C++ and from Python,
hundreds of lines where nothing is wrong. While a `LibraryLog` is entered, file
descriptor 2 leads to a file, and so do `logging` and `warnings`; `sys.stderr`,
and so what flan_jax prints, errors and tracebacks, lead to the terminal.
"""

import io
import logging
import os
import pathlib
import subprocess
import sys
from typing import Any, TextIO

_STDERR = 2
_PACKAGE = str(pathlib.Path(__file__).resolve().parent)
_RELAY = pathlib.Path(__file__).with_name('relay.py')

_terminals: list[int] = []
_entered: list['LibraryLog'] = []


def terminal() -> int:
  """Returns the file descriptor that leads to the user, for signal handlers."""
  return _terminals[-1] if _terminals else _STDERR


def end() -> None:
  """Says that this process ends on purpose, before `os._exit`."""
  for log in _entered:
    log._order('end')


def file_name(host: int = 0) -> str:
  """Returns the name of a host's file."""
  return f'libraries_{host}.log' if host else 'libraries.log'


class LibraryLog:
  """Keeps the messages of libraries while it is entered.

  They are held back until `keep` names a file, and forgotten if none is named.
  Should the process crash, the last ones are shown.
  """

  def __enter__(self) -> 'LibraryLog':
    sys.stderr.flush()
    self._terminal = os.dup(_STDERR)
    read, self._pipe = os.pipe()
    self._relay = subprocess.Popen(
        [sys.executable, '-I', '-S', str(_RELAY)],
        stdin=read,
        stdout=subprocess.DEVNULL,
        stderr=self._terminal,
    )
    os.close(read)
    os.dup2(self._pipe, _STDERR)
    _terminals.append(self._terminal)
    _entered.append(self)
    self._stderr = sys.stderr
    if _leads_to_stderr(sys.stderr):
      sys.stderr = open(
          self._terminal,
          'w',
          buffering=1,
          encoding=sys.stderr.encoding,
          errors='backslashreplace',
          closefd=False,
      )
    self._route_logging()
    return self

  def __exit__(self, *_: Any) -> None:
    logging.captureWarnings(False)
    logging.root.handlers[:] = self._handlers
    sys.stderr.flush()
    sys.stderr = self._stderr
    self._messages.flush()
    os.dup2(self._terminal, _STDERR)
    _terminals.remove(self._terminal)
    _entered.remove(self)
    self._order('end')
    self._relay.wait()
    os.close(self._pipe)
    os.close(self._terminal)

  def keep(self, folder: str | os.PathLike[str], host: int = 0) -> None:
    """Names where messages are added to, also those there were.

    Args:
      folder: It is made if need be. The file in it is libraries.log, or
        libraries_<host>.log for other hosts than the first one.
      host: The number of this host.
    """
    path = pathlib.Path(folder) / file_name(host)
    try:
      path.parent.mkdir(parents=True, exist_ok=True)
    except OSError:
      pass  # The relay says so: it cannot write the file either.
    self._order(f'keep {path}')

  def _order(self, order: str) -> None:
    try:
      os.write(self._pipe, b'\n\0' + order.encode() + b'\n')
    except BrokenPipeError:
      pass  # Somebody has ended the relay; there is nobody left to tell.

  def _route_logging(self) -> None:
    self._handlers = list(logging.root.handlers)
    self._messages: TextIO = io.TextIOWrapper(
        open(_STDERR, 'wb', buffering=0, closefd=False), write_through=True
    )
    libraries = logging.StreamHandler(self._messages)
    libraries.addFilter(lambda record: not _is_ours(record))
    libraries.setFormatter(
        logging.Formatter('%(asctime)s %(levelname)s %(name)s: %(message)s')
    )
    ours = logging.StreamHandler(sys.stderr)
    ours.addFilter(_is_ours)
    ours.setFormatter(logging.Formatter('flan-jax: %(message)s'))
    logging.root.handlers[:] = [libraries, ours]
    logging.captureWarnings(True)


def _is_ours(record: logging.LogRecord) -> bool:
  return record.pathname.startswith(_PACKAGE)


def _leads_to_stderr(stream: TextIO) -> bool:
  try:
    return stream.fileno() == _STDERR
  except (AttributeError, OSError):
    return False  # A stand-in, as tests and notebooks have it.
