"""Several hosts that run one command together, through `jax.distributed`.

Each host runs the same command. Which hosts there are, JAX finds out itself on
TPU pods, under Slurm and Open MPI, and in Kubernetes jobs; elsewhere flags or
the environment say it:

    flan-jax train ... --coordinator_address=10.0.0.1:8476 --process_count=4 \\
        --process_index=0    # and 1, 2, 3 on the others

A command is a `Session`. What every host does for itself (reading names, files
and rows) goes through `Session.together`, so that a host that fails takes the
others with it at once and with the reason; before the first step
`Session.agree` compares what the hosts are about to do.
"""

import argparse
from collections.abc import Callable, Mapping
import contextlib
import functools
import hashlib
import itertools
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import traceback
from typing import Any, NoReturn, TYPE_CHECKING, TypeVar

from flan_jax import errors
from flan_jax import host_flags
from flan_jax import library_log

if TYPE_CHECKING:
  import jax

T = TypeVar('T')

# EX_TEMPFAIL of sysexits.h: nothing is wrong with the command; run it again.
LOST = 75
_MISTAKE = 2
# What JAX, gloo, NCCL and the coordination service say of hosts that are gone.
_SIGNS = re.compile(
    'gloo|nccl|connection closed|connection reset|socket closed|broken pipe'
    '|coordination service|heartbeat|barrier|unavailable|deadline.?exceeded',
    re.IGNORECASE,
)


class Session:
  """One command, on this host and on those that run it too.

  Attributes:
    index: This host's number.
    count: How many hosts there are; known after the first `together`.
  """

  def __init__(self, flags: host_flags.Flags):
    self.index = 0
    self.count = 1
    self._flags = flags
    self._joined = False
    self._agreed = False
    self._last_words: subprocess.Popen[bytes] | None = None

  @classmethod
  def from_args(cls, args: argparse.Namespace) -> 'Session':
    """Returns the session that flags or the environment describe.

    Raises:
      UserError: They make no sense.
    """
    return cls(host_flags.Flags.from_args(args))

  @property
  def first(self) -> bool:
    """Whether this host is the one that writes and prints."""
    return self.index == 0

  def __enter__(self) -> 'Session':
    return self

  def __exit__(
      self, kind: Any, error: BaseException | None, trace: Any
  ) -> None:
    if error is not None:
      self._leave(error)
    elif self.count > 1:
      # The first host may have more to write than the others care to wait for
      # when JAX shuts down.
      with self.guard():
        gather('done')
    self._be_silent()

  @contextlib.contextmanager
  def guard(self):
    """A context that ends this host at once when an error comes out of it.

    For where things are open that would wait for the other hosts when they are
    closed: a checkpoint that is being written, for one.
    """
    try:
      yield
    except BaseException as error:
      self._leave(error)
      raise

  def together(self, work: Callable[[], T]) -> T:
    """Does `work` here; returns its result once all hosts have done theirs.

    The first call joins the other hosts, after `work`. So it must not use JAX,
    and a mistake is found before anything slow is imported.

    Raises:
      UserError: `work` raised it here, or on another host, which is named; or
        the hosts did not come together.
    """
    mistake: errors.UserError | None = None
    try:
      done = work()
    except errors.UserError as error:
      if not self._joined and not self._flags.may_be_several():
        raise
      mistake = error
    if not self._joined:
      self._join()
    if self.count > 1:
      said = gather(None if mistake is None else str(mistake))
      self._agreed = True  # All hosts go on, or all raise.
      for host, message in enumerate(said):
        if message is not None and mistake is None:
          mistake = errors.UserError(f'host {host} of {self.count}: {message}')
    if mistake is not None:
      raise mistake
    self._agreed = False
    return done

  def agree(self, facts: Callable[[], Mapping[str, Any]]) -> None:
    """Refuses hosts that are about to do different things.

    Args:
      facts: Gives what must be the same on all hosts, fit for JSON; not called
        where there is one host.

    Raises:
      UserError: They are not; the first difference is named.
    """
    if self.count == 1:
      return
    text = json.dumps(facts(), default=str)
    digest = hashlib.sha256(text.encode()).hexdigest()
    if len(set(gather(digest))) == 1:
      return
    self._agreed = True
    raise errors.UserError(_differences(gather(json.loads(text))))

  def _join(self) -> None:
    """Starts `jax.distributed`, if there are other hosts.

    Raises:
      UserError: There are, and they did not come together.
    """
    self._joined = True
    if self._flags.alone():
      return
    import jax

    if not jax.distributed.is_initialized() and not self._initialize():
      return
    self.index, self.count = jax.process_index(), jax.process_count()
    if self.count > 1:
      self._last_words = _speak_if_killed(
          f'{self._name}: ended without finishing: it was killed, or JAX ended'
          ' it because another host stopped or could not be reached; the same'
          ' command on all hosts goes on from the newest checkpoint'
      )

  def _initialize(self) -> bool:
    """Calls `jax.distributed.initialize`; False if JAX knows no other hosts."""
    import jax

    flags = self._flags
    if flags.process_index == 0 and flags.coordinator_address:
      _check_port(flags.coordinator_address)
    # JAX aborts the process, with a stack trace, somewhat later than told.
    timer = threading.Timer(flags.initialization_timeout, self._give_up)
    timer.daemon = True
    timer.start()
    try:
      jax.distributed.initialize(
          flags.coordinator_address,
          flags.process_count,
          flags.process_index,
          initialization_timeout=flags.initialization_timeout,
          heartbeat_timeout_seconds=flags.heartbeat_timeout,
      )
    except (ValueError, RuntimeError) as error:
      if flags.given:
        raise errors.UserError(
            '--coordinator_address, --process_count, --process_index: all three'
            f' are needed where JAX does not know the cluster ({error})'
        ) from error
      if isinstance(error, ValueError) or 'must be called before' in str(error):
        # No cluster; or a notebook or test that uses JAX already.
        return False
      raise errors.UserError(
          f'the hosts of this cluster could not be found out ({error}); name'
          ' them with --coordinator_address, --process_count and'
          ' --process_index, or run here alone with --process_count=1'
      ) from error
    finally:
      timer.cancel()
    return True

  def _give_up(self) -> NoReturn:
    """Ends a host that has waited for the others in vain."""
    # There is no public name for what JAX found out of a cluster.
    from jax._src import distributed

    known = distributed.global_state
    address = self._flags.coordinator_address or known.coordinator_address
    self.index = self._flags.process_index or known.process_id
    self.count = self._flags.process_count or known.num_processes
    waited = f'waited {self._flags.initialization_timeout} s'
    reason = _unreachable(address) if address else None
    if reason:
      text = (
          f'could not reach the coordinator at {address} ({waited}: {reason});'
          ' is host 0 running there, and the port open?'
      )
    else:
      text = (
          f'not all {self.count} hosts came to the coordinator at {address}'
          f' ({waited}); start the same command on each of them, or run here'
          ' alone with --process_count=1'
      )
    print(f'{self._name}: {text}', file=sys.stderr, flush=True)
    library_log.end()
    os._exit(_MISTAKE)

  @property
  def _name(self) -> str:
    return f'flan-jax: error: host {self.index} of {self.count}'

  def _leave(self, error: BaseException) -> None:
    """Ends this host, one of several, without waiting for the others.

    Where all hosts have the same error, nothing is done: they leave in order.
    """
    if self.count == 1 or self._agreed or isinstance(error, SystemExit):
      return
    reason = _lost(error)
    if reason is not None:
      code = LOST
      text = (
          f'lost another host ({reason}); the same command on all hosts goes on'
          ' from the newest checkpoint'
      )
    elif isinstance(error, errors.UserError):
      code, text = _MISTAKE, str(error)
    elif isinstance(error, KeyboardInterrupt):
      code, text = 130, 'interrupted'
    else:
      traceback.print_exception(error)
      code, text = 1, 'stopped by the error above'
    print(f'{self._name}: {text}', file=sys.stderr, flush=True)
    self._be_silent()
    library_log.end()
    if self.first:
      # With host 0 goes the coordinator; the others may have to say something.
      time.sleep(3)
    # An orderly end would wait for hosts that may be gone, for minutes.
    os._exit(code)

  def _be_silent(self) -> None:
    if self._last_words is not None:
      self._last_words.communicate(b'bye\n')
      self._last_words = None


def gather(value: Any) -> list[Any]:
  """Returns the values of all hosts, in their order.

  Args:
    value: This host's, fit for JSON.
  """
  import jax
  from jax.experimental import multihost_utils
  import numpy as np

  if jax.process_count() == 1:
    return [value]
  text = np.frombuffer(json.dumps(value).encode(), np.uint8)
  lengths = multihost_utils.process_allgather(np.array(len(text))).ravel()
  padded = np.zeros(lengths.max(), np.uint8)
  padded[: len(text)] = text
  rows = multihost_utils.process_allgather(padded)
  return [
      json.loads(row[:length].tobytes())
      for row, length in zip(rows, lengths, strict=True)
  ]


def meet(mesh: 'jax.sharding.Mesh') -> None:
  """Connects the CPU devices of all hosts; elsewhere it does nothing.

  gloo gives hosts 30 seconds from the first to the last that comes to a
  program, if they have not met before; the time it takes to compile a step may
  differ by more. So they meet where all come at the same time.
  """
  import jax
  import numpy as np

  if jax.process_count() == 1 or jax.default_backend() != 'cpu':
    return
  axes = [name for name, size in mesh.shape.items() if size > 1]
  sharding = jax.sharding.NamedSharding(mesh, jax.P(tuple(mesh.shape)))
  ones = np.ones(mesh.size, np.float32)
  each = jax.make_array_from_callback(ones.shape, sharding, ones.__getitem__)
  gather('here')
  # Any axes together may be what a program shares something along.
  for count in range(1, len(axes) + 1):
    for some in itertools.combinations(axes, count):
      rest = tuple(name for name in mesh.shape if name not in some)
      total = jax.jit(
          jax.shard_map(
              functools.partial(jax.lax.psum, axis_name=some),
              mesh=mesh,
              in_specs=sharding.spec,
              out_specs=jax.P(rest),
          )
      )
      jax.block_until_ready(total(each))


def _differences(facts: list[dict[str, Any]]) -> str:
  """Says in what hosts differ, and which of them."""
  names = list(dict.fromkeys(name for own in facts for name in own))
  differing = [
      (name, host)
      for name in names
      for host in range(1, len(facts))
      if facts[host].get(name) != facts[0].get(name)
  ]
  name, host = differing[0]
  others = dict.fromkeys(n for n, _ in differing if n != name)
  also = f' (and {", ".join(others)})' if others else ''
  return (
      f'the hosts have different configurations: {name} is'
      f' {facts[0].get(name)!r} on host 0 and {facts[host].get(name)!r} on host'
      f' {host}{also}; start the same command on all hosts'
  )


def _lost(error: BaseException) -> str | None:
  """Returns the line in which an error says that a host is gone, or None."""
  seen: BaseException | None = error
  while seen is not None:
    if not isinstance(seen, (errors.UserError, KeyboardInterrupt)):
      for line in str(seen).splitlines():
        if _SIGNS.search(line):
          return re.sub(r'\[external/\S+\] ', '', line.strip())
    seen = seen.__cause__ or seen.__context__
  return None


def _check_port(address: str) -> None:
  """Raises a UserError where host 0 cannot listen; JAX would crash."""
  port = int(address.rpartition(':')[2])
  with socket.socket() as tried:
    tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
      tried.bind(('', port))
    except OSError as error:
      raise errors.UserError(
          f'--coordinator_address: host 0 cannot listen on port {port}'
          f' ({error.strerror}); name another one, to all hosts'
      ) from error


def _unreachable(address: str) -> str | None:
  """Returns why an address cannot be reached, None if it can."""
  name, _, port = address.rpartition(':')
  try:
    with socket.create_connection((name.strip('[]'), int(port)), timeout=5):
      return None
  except OSError as error:
    return error.strerror or str(error)


def _speak_if_killed(text: str) -> 'subprocess.Popen[bytes]':
  """Starts a shell that prints `text` if this process ends without a word.

  JAX's runtime aborts a process whose peers are gone, from a thread of its own
  and with a stack trace; nothing in this process can speak then.
  """
  return subprocess.Popen(
      ['/bin/sh', '-c', 'read -r bye || printf "%s\\n" "$0" >&2', text],
      stdin=subprocess.PIPE,
      stderr=library_log.terminal(),
      start_new_session=True,  # Ctrl-C is not for it.
  )
