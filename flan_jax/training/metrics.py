"""Where a run's numbers go: metrics.jsonl, TensorBoard, W&B, the terminal.

metrics.jsonl has one line a step, in order, each step once, however often the
run was stopped; docs/training.md says what its numbers are. A line at the end
of a logging period has the period's own numbers under `period`, and one after
an evaluation `eval/...`.
"""

from collections.abc import Mapping
import json
import math
import os
import pathlib
import sys
import time
from typing import Any, TextIO, TYPE_CHECKING

from flan_jax import errors
from flan_jax import storage
from flan_jax.training import periods
from flan_jax.training import tracking as tracking_lib
from flan_jax.training import utilization as utilization_lib
import tqdm

if TYPE_CHECKING:
  from flan_jax.training import step as step_lib

METRICS_FILE = 'metrics.jsonl'
TENSORBOARD_DIR = 'tensorboard'
_BLOCK = 1 << 16  # Bytes; some hundred lines.
# A share of a period's time that is worth a word on the terminal.
_MUCH_WAITING = 0.2


def _import_tensorboard() -> Any:
  """Imports it: half a second, and only the first host needs it.

  It imports PyTorch where that is installed, for arrays that we do not have:
  two seconds more, of which it is spared.
  """
  if 'torch' in sys.modules:
    import tensorboardX

    return tensorboardX
  sys.modules['torch'] = None  # type: ignore[assignment]
  try:
    import tensorboardX
  finally:
    del sys.modules['torch']
  return tensorboardX


def read(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
  """Returns the lines of a metrics.jsonl; a line cut short ends the file."""
  records = []
  with storage.path(path).open(encoding='utf-8') as file:
    for line in file:
      try:
        records.append(json.loads(line))
      except ValueError:
        break
  return records


def truncate(path: pathlib.Path, last_step: int) -> None:
  """Drops the lines after `last_step`: a restored run does them again.

  The file is read from its end, so that a long run goes on as fast as a short
  one. A line that was cut short is dropped, too.
  """
  if not path.is_file():
    return
  with open(path, 'r+b') as file:
    size = file.seek(0, os.SEEK_END)
    block = _BLOCK
    while True:
      begin = max(size - block, 0)
      file.seek(begin)
      lines = file.read().splitlines(keepends=True)
      end = size
      for line in reversed(lines[1:] if begin else lines):
        if _is_kept(line, last_step):
          file.truncate(end)
          return
        end -= len(line)
      if not begin:
        file.truncate(0)
        return
      block *= 8


def _is_kept(line: bytes, last_step: int) -> bool:
  """Whether a line is whole, and of `last_step` or before."""
  try:
    return line.endswith(b'\n') and json.loads(line)['step'] <= last_step
  except (ValueError, TypeError, KeyError):
    return False


def per_token(
    metrics: 'step_lib.StepMetrics', seconds: float, waited: float
) -> periods.Record:
  """Returns a step's numbers as metrics.jsonl has them, but for the step.

  Args:
    metrics: The step's sums, on the host.
    seconds: Time since the step before was done.
    waited: How much of it passed without data.
  """
  weight = max(float(metrics.weight), 1.0)
  tokens = int(metrics.tokens)
  seconds = max(seconds, 1e-9)
  record = periods.Record({
      'loss': float(metrics.loss) / weight,
      'z_loss': float(metrics.z_loss) / weight,
      'accuracy': float(metrics.correct) / weight,
      'learning_rate': float(metrics.learning_rate),
      'gradient_norm': float(metrics.gradient_norm),
      'tokens': tokens,
      'target_tokens': int(metrics.target_tokens),
      'seconds': round(seconds, 6),
      'tokens_per_second': round(tokens / seconds, 1),
      'data_wait': round(min(waited / seconds, 1.0), 4),
      'time': round(time.time(), 3),
  })
  if metrics.examples is not None:
    record['examples'] = int(metrics.examples)
  for side, share in sorted((metrics.density or {}).items()):
    record[f'{side}_density'] = round(float(share), 6)
  if not metrics.finite:
    record['skipped'] = 1
  record.members = metrics.members
  return record


def skipped(path: str | os.PathLike[str]) -> int:
  """Returns how many steps of a metrics.jsonl made no update."""
  return sum(record.get('skipped', 0) for record in read(path))


def _or_null(value: Any) -> Any:
  # JSON has no word for what is not finite.
  return value if math.isfinite(value) else None


class Writer:
  """Writes each step's record; on all hosts but the first it does nothing."""

  def __init__(
      self,
      directory: pathlib.Path,
      start: int,
      total: int,
      log_period: int,
      started: float,
      active: bool = True,
      members: periods.Members | None = None,
      utilization: utilization_lib.Utilization | None = None,
      tracking: tracking_lib.Tracking | None = None,
      staging: storage.Staging | None = None,
  ):
    """Opens the files, and drops records of steps that will be done again.

    Args:
      directory: The MODEL_DIR, or the folder in which its files grow.
      start: The step that the run goes on from.
      total: The last step.
      log_period: Steps between lines on the terminal and in TensorBoard.
      started: When the program started, by `time.perf_counter`.
      active: Whether this host writes.
      members: Those of the mixture, for losses by cluster and collection.
      utilization: What model and devices allow, for MFU and memory.
      tracking: Another place for what TensorBoard gets; closed with this.
      staging: Puts the files into a bucket, where the MODEL_DIR is in one.
    """
    self._active = active
    self._log_period = log_period
    self._total = total
    self._started: float | None = started
    if not active:
      return
    tensorboardX = _import_tensorboard()
    path = directory / METRICS_FILE
    truncate(path, start)
    # Line by line: a killed run keeps all steps that it has done.
    self._file: TextIO = open(path, 'a', encoding='utf-8', buffering=1)
    self._board = tensorboardX.SummaryWriter(
        str(directory / TENSORBOARD_DIR), purge_step=start + 1, flush_secs=30
    )
    self._period = periods.Period(members, utilization)
    self._tracking = tracking
    self._staging = staging
    # On a terminal a bar, in a file plain lines.
    self._bar = (
        tqdm.tqdm(total=total, initial=start, unit='step', desc='train')
        if sys.stderr.isatty()
        else None
    )

  def write(self, step: int, record: Mapping[str, float]) -> None:
    """Writes the record of a step."""
    if not self._active:
      return
    if self._started is not None:
      passed = time.perf_counter() - self._started
      self._say(f'first step done after {passed:.1f} s')
      self._started = None
    self._period.add(record)
    due = step % self._log_period == 0 or step == self._total
    means = self._period.close() if due else {}
    numbers = {name: _or_null(value) for name, value in record.items()}
    line = {'step': step, **numbers, **({'period': means} if due else {})}
    self._append(json.dumps(line) + '\n')
    if self._bar is not None:
      self._bar.update(step - self._bar.n)
    evaluated = {k: v for k, v in record.items() if k.startswith('eval/')}
    if evaluated:
      shown = '  '.join(f'{k} {v:.4f}' for k, v in evaluated.items())
      self._say(f'step {step}/{self._total}  {shown}')
    scalars = {f'train/{name}': value for name, value in means.items()}
    self._plot(step, scalars | evaluated)
    if due:
      self._show(step, means)
      if self._staging is not None:
        self._staging.push_soon()

  def flush(self) -> None:
    """Sees to it that what was written is in the MODEL_DIR.

    Raises:
      UserError: That is in a bucket, which cannot be written.
    """
    if self._active and self._staging is not None:
      self._board.flush()
      self._staging.push()

  def say(self, text: str) -> None:
    """Prints a line on the first host's terminal, above the bar."""
    if self._active:
      self._say(text)

  def close(self) -> None:
    """Flushes and closes everything."""
    if self._active:
      self._file.close()
      self._board.close()
      if self._tracking is not None:
        self._tracking.close()
      if self._bar is not None:
        self._bar.close()

  def _append(self, line: str) -> None:
    try:
      self._file.write(line)
    except OSError as error:
      raise errors.UserError(
          f'{self._file.name}: cannot be written ({error.strerror}); the same'
          ' command goes on from the newest checkpoint'
      ) from error

  def _say(self, text: str) -> None:
    # tqdm.write keeps the bar in one piece.
    tqdm.tqdm.write(text, file=sys.stderr)

  def _plot(self, step: int, scalars: Mapping[str, float]) -> None:
    for name, value in scalars.items():
      self._board.add_scalar(name, value, step)
    if scalars and self._tracking is not None:
      self._tracking.log(step, scalars)

  def _show(self, step: int, means: Mapping[str, float]) -> None:
    speed = f'{means["tokens_per_second"]:,.0f} tokens/s'
    if 'mfu' in means:
      speed += f'  MFU {means["mfu"]:.1%}'
    if means['data_wait'] >= _MUCH_WAITING:
      speed += f'  waiting for data {means["data_wait"]:.0%}'
    if 'skipped' in means:
      speed += f'  {means["skipped"]} updates skipped'
    if self._bar is not None:
      shown = ', '.join(speed.split('  '))
      self._bar.set_postfix_str(f'loss {_number(means, "loss", 3)}, {shown}')
      return
    left = (self._total - step) / max(means['steps_per_second'], 1e-9)
    self._say(
        f'step {step}/{self._total}  loss {_number(means, "loss", 4)}'
        f'  accuracy {_number(means, "accuracy", 3)}'
        f'  {means["steps_per_second"]:.2f} steps/s  {speed}'
        f'  {tqdm.tqdm.format_interval(left)} left'
    )


def _number(means: Mapping[str, float], name: str, digits: int) -> str:
  # Steps that were all skipped have none.
  return f'{means[name]:.{digits}f}' if name in means else '-'
