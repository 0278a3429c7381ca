"""The loop: a batch, a step, and now and then numbers, scores, a checkpoint."""

from collections.abc import Callable, Iterable, Iterator, Mapping
import dataclasses
import time
from typing import Any, NamedTuple

from flan_jax import partitioning
from flan_jax.checkpoints import native
from flan_jax.training import feed
from flan_jax.training import guard as guard_lib
from flan_jax.training import metrics as metrics_lib
from flan_jax.training import optimizers
from flan_jax.training import preemption
from flan_jax.training import state as state_lib
from flan_jax.training import step as step_lib
import jax

TrainStep = Callable[
    [state_lib.TrainState, Mapping[str, jax.Array]],
    tuple[state_lib.TrainState, step_lib.StepMetrics],
]
Evaluate = Callable[[Any], dict[str, float]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoopConfig:
  """How long, and how often what; a period of 0 is never.

  Attributes:
    train_steps: The step to stop after.
    eval_period: Steps between evaluations; the last step has one too.
    checkpoint_period: Steps between checkpoints; the last step has one too.
  """

  train_steps: int
  eval_period: int
  checkpoint_period: int

  def evaluates(self, step: int) -> bool:
    """Whether the model is evaluated after `step`."""
    return _is_due(step, self.eval_period, self.train_steps)

  def saves(self, step: int) -> bool:
    """Whether `step` is saved."""
    return step == self.train_steps or _is_due(
        step, self.checkpoint_period, self.train_steps
    )


def _is_due(step: int, period: int, last: int) -> bool:
  return period > 0 and (step % period == 0 or step == last)


def train(
    config: LoopConfig,
    state: state_lib.TrainState,
    train_step: TrainStep,
    batches: Iterable[feed.Fed],
    evaluate: Evaluate | None,
    checkpointer: native.Checkpointer,
    writer: metrics_lib.Writer,
    watch: preemption.Watch,
    guard: guard_lib.Guard,
) -> int:
  """Trains from `state` to the last step, or until told to stop.

  A step's numbers are fetched while the next step runs, so that the devices
  never wait for the host.

  Args:
    config: See there.
    state: Where to go on from; it is donated to the first step.
    train_step: The compiled step.
    batches: From the position that belongs to `state`.
    evaluate: Parameters to numbers named 'eval/...'.
    checkpointer: Where checkpoints go.
    writer: Where numbers go.
    watch: Says when to stop; it is entered.
    guard: Ends the run where numbers are not finite.

  Returns:
    The step that the run is at, and that is saved: the last one, unless a
    signal stopped it before.

  Raises:
    UserError: Numbers are not finite, the data is broken, or a checkpoint
      could not be written.
  """
  step = int(jax.device_get(state.step))
  feed_of_batches = iter(batches)
  pending: _Pending | None = None
  stops, stall = watch.asked, None
  with jax.transfer_guard('disallow'):
    clock = _Clock()
    while step < config.train_steps and not stops:
      batch, position = clock.wait_for(feed_of_batches)
      state, metrics = train_step(state, batch)
      step += 1
      if pending is not None:
        writer.write(pending.step, pending.record(clock, guard))
      pending, stall = _Pending(step, metrics, clock.waited, stall), None
      stops = watch.stops(step)
      evaluates = evaluate is not None and config.evaluates(step)
      if not (stops or evaluates or config.saves(step)):
        continue
      record = pending.record(clock, guard)
      pending = None
      with jax.transfer_guard('allow'):
        if evaluate is not None and evaluates:
          record |= _evaluated(evaluate, state)
        # Before a checkpoint is there, its steps' records are.
        writer.write(step, record)
        if stops or config.saves(step):
          guard.check_state(step, (state.params, state.optimizer))
          writer.flush()
          stall = _seconds(
              checkpointer.save,
              step,
              state.params,
              state.optimizer,
              position,
              record,
          )
      clock.restart()
  checkpointer.wait()
  return step


def _evaluated(
    evaluate: Evaluate, state: state_lib.TrainState
) -> dict[str, float]:
  """Returns the numbers of the parameters, and of their average if any."""
  numbers = evaluate(state.params)
  average = optimizers.averaged(state.optimizer, state.params)
  if average is None:
    return numbers
  return numbers | {
      name.replace('eval/', 'eval/ema_'): value
      for name, value in evaluate(average).items()
  }


def _seconds(call: Callable[..., None], *args: Any) -> float:
  """Returns how long a call takes."""
  begin = time.perf_counter()
  call(*args)
  return time.perf_counter() - begin


class _Clock:
  """How long steps take, and how much of it the loop waits for data."""

  def __init__(self):
    self.waited = 0.0
    self._before = time.perf_counter()

  def restart(self) -> None:
    """Leaves the time since the last step out."""
    self._before = time.perf_counter()

  def wait_for(self, batches: Iterator[feed.Fed]) -> feed.Fed:
    """Returns the next batch, and notes how long that took in `waited`."""
    asked = time.perf_counter()
    fed = next(batches)
    self.waited = time.perf_counter() - asked
    return fed

  def lap(self) -> float:
    """Returns the seconds since the last lap."""
    before, self._before = self._before, time.perf_counter()
    return self._before - before


class _Pending(NamedTuple):
  """A step that was started, and whose numbers may still be on their way."""

  step: int
  metrics: step_lib.StepMetrics
  waited: float
  stall: float | None

  def record(
      self, clock: _Clock, guard: guard_lib.Guard
  ) -> metrics_lib.periods.Record:
    """Waits for the step's numbers, checks them, and returns its record."""
    metrics = jax.device_get(self.metrics)
    record = metrics_lib.per_token(metrics, clock.lap(), self.waited)
    if self.stall is not None:
      record['checkpoint_stall'] = round(self.stall, 6)
    guard.check(self.step, record)
    return record


class Evaluator:
  """Loss and accuracy of a token over whole validation mixtures."""

  def __init__(
      self,
      eval_step: Callable[[Any, Mapping[str, jax.Array]], Any],
      batches: Callable[[], Iterable[Mapping[str, Any]]],
      mesh: jax.sharding.Mesh,
  ):
    """Reads nothing yet.

    Args:
      eval_step: The compiled step: parameters and a batch to `LossSums`.
      batches: Gives this host's rows of each batch; asked once.
      mesh: Where they go.
    """
    self._eval_step = eval_step
    self._batches = batches
    self._mesh = mesh
    self._read: list[Mapping[str, Any]] | None = None

  def __call__(self, params: Any) -> dict[str, float]:
    """Returns 'eval/loss' (nats, with z-loss) and 'eval/accuracy' a token."""
    if self._read is None:
      self._read = list(self._batches())
    sums = [
        self._eval_step(params, partitioning.put_batch(rows, self._mesh))
        for rows in self._read
    ]
    sums = jax.device_get(sums)
    weight = max(sum(float(s.weight) for s in sums), 1.0)
    return {
        'eval/loss': sum(float(s.loss) for s in sums) / weight,
        'eval/accuracy': sum(float(s.correct) for s in sums) / weight,
    }
