"""Where a run's numbers go: metrics.jsonl, TensorBoard, the terminal.

metrics.jsonl has one line a step, in order, each step once, however often the
run was stopped. A line has

    step, loss, z_loss        nats a weighted target token; loss includes z_loss
    accuracy                  share of weighted target tokens
    learning_rate, gradient_norm
    tokens, target_tokens     padding left out; tokens are inputs and targets
    seconds                   since the step before was done
    tokens_per_second
    data_wait                 the share of `seconds` spent waiting for data
    time                      when the step was done, seconds since 1970

and, in the step after a checkpoint, `checkpoint_stall`: the seconds that the
loop stood still to begin it (writing goes on in the background), which are not
part of `seconds`; and, where the model was evaluated after the step,
`eval/loss` and `eval/accuracy` of each validation mixture.
"""

from collections.abc import Mapping
import dataclasses
import json
import math
import os
import pathlib
import sys
import time
from typing import Any, TextIO

from flan_jax import errors
from flan_jax.training import step as step_lib
import tqdm

METRICS_FILE = 'metrics.jsonl'
TENSORBOARD_DIR = 'tensorboard'


def read(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
  """Returns the lines of a metrics.jsonl; a line cut short ends the file."""
  records = []
  with open(path, encoding='utf-8') as file:
    for line in file:
      try:
        records.append(json.loads(line))
      except ValueError:
        break
  return records


def truncate(path: pathlib.Path, last_step: int) -> None:
  """Drops the lines after `last_step`: a restored run does them again."""
  if not path.is_file():
    return
  kept = [record for record in read(path) if record['step'] <= last_step]
  temporary = path.with_name(f'.{path.name}.tmp')
  temporary.write_text(''.join(json.dumps(r) + '\n' for r in kept))
  os.replace(temporary, path)


def per_token(
    metrics: step_lib.StepMetrics, seconds: float, waited: float
) -> dict[str, float]:
  """Returns a step's numbers as metrics.jsonl has them, but for the step.

  Args:
    metrics: The step's sums, on the host.
    seconds: Time since the step before was done.
    waited: How much of it passed without data.
  """
  weight = max(float(metrics.weight), 1.0)
  tokens = int(metrics.tokens)
  seconds = max(seconds, 1e-9)
  return {
      'loss': float(metrics.loss) / weight,
      'z_loss': float(metrics.z_loss) / weight,
      'accuracy': float(metrics.correct) / weight,
      'learning_rate': float(metrics.learning_rate),
      'gradient_norm': float(metrics.gradient_norm),
      'tokens': tokens,
      'target_tokens': int(metrics.weight),
      'seconds': round(seconds, 6),
      'tokens_per_second': round(tokens / seconds, 1),
      'data_wait': round(min(waited / seconds, 1.0), 4),
      'time': round(time.time(), 3),
  }


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
  ):
    """Opens the files, and drops records of steps that will be done again.

    Args:
      directory: The MODEL_DIR.
      start: The step that the run goes on from.
      total: The last step.
      log_period: Steps between lines on the terminal and in TensorBoard.
      started: When the program started, by `time.perf_counter`.
      active: Whether this host writes.
    """
    self._active = active
    self._log_period = log_period
    self._total = total
    self._started: float | None = started
    if not active:
      return
    import tensorboardX  # Half a second, and only the first host needs it.

    path = directory / METRICS_FILE
    truncate(path, start)
    # Line by line: a killed run keeps all steps that it has done.
    self._file: TextIO = open(path, 'a', encoding='utf-8', buffering=1)
    self._board = tensorboardX.SummaryWriter(
        str(directory / TENSORBOARD_DIR), purge_step=start + 1, flush_secs=30
    )
    self._period = _Period(start)
    # On a terminal a bar, in a file plain lines.
    self._bar = (
        tqdm.tqdm(total=total, initial=start, unit='step', desc='train')
        if sys.stderr.isatty()
        else None
    )

  def write(self, step: int, record: Mapping[str, float]) -> None:
    """Writes the record of a step.

    Raises:
      UserError: The loss is not finite.
    """
    if not math.isfinite(record['loss']):
      raise errors.UserError(
          f'step {step}: the loss is {record["loss"]}; lower LEARNING_RATE, or'
          ' go on from an earlier checkpoint'
      )
    if not self._active:
      return
    if self._started is not None:
      passed = time.perf_counter() - self._started
      self._say(f'first step done after {passed:.1f} s')
      self._started = None
    self._append(json.dumps({'step': step, **record}) + '\n')
    self._period.add(step, record)
    if self._bar is not None:
      self._bar.update(step - self._bar.n)
    evaluated = {k: v for k, v in record.items() if k.startswith('eval/')}
    for name, value in evaluated.items():
      self._board.add_scalar(name, value, step)
    if evaluated:
      shown = '  '.join(f'{k} {v:.4f}' for k, v in evaluated.items())
      self._say(f'step {step}/{self._total}  {shown}')
    if step % self._log_period == 0 or step == self._total:
      means = self._period.close()
      for name, value in means.items():
        self._board.add_scalar(f'train/{name}', value, step)
      self._show(step, means)

  def say(self, text: str) -> None:
    """Prints a line on the first host's terminal, above the bar."""
    if self._active:
      self._say(text)

  def close(self) -> None:
    """Flushes and closes everything."""
    if self._active:
      self._file.close()
      self._board.close()
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

  def _show(self, step: int, means: Mapping[str, float]) -> None:
    tokens = f'{means["tokens_per_second"]:,.0f} tokens/s'
    if self._bar is not None:
      self._bar.set_postfix_str(f'loss {means["loss"]:.3f}, {tokens}')
      return
    left = (self._total - step) / max(means['steps_per_second'], 1e-9)
    self._say(
        f'step {step}/{self._total}  loss {means["loss"]:.4f}'
        f'  accuracy {means["accuracy"]:.3f}'
        f'  {means["steps_per_second"]:.2f} steps/s  {tokens}'
        f'  {tqdm.tqdm.format_interval(left)} left'
    )


@dataclasses.dataclass
class _Period:
  """Means over the steps since the last line was shown."""

  start: int
  records: list[Mapping[str, float]] = dataclasses.field(default_factory=list)

  def add(self, step: int, record: Mapping[str, float]) -> None:
    del step
    self.records.append(record)

  def close(self) -> dict[str, float]:
    """Returns the means, and starts again."""
    records, self.records = self.records, []
    seconds = sum(r['seconds'] for r in records)
    weight = max(sum(r['target_tokens'] for r in records), 1)

    def mean(name: str) -> float:
      return sum(r[name] * r['target_tokens'] for r in records) / weight

    return {
        'loss': mean('loss'),
        'z_loss': mean('z_loss'),
        'accuracy': mean('accuracy'),
        'learning_rate': records[-1]['learning_rate'],
        'gradient_norm': records[-1]['gradient_norm'],
        'steps_per_second': len(records) / seconds,
        'tokens_per_second': sum(r['tokens'] for r in records) / seconds,
        'data_wait': (
            sum(r['data_wait'] * r['seconds'] for r in records) / seconds
        ),
    }
