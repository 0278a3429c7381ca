"""From token ids to written token ids, in batches of few shapes."""

import collections
from collections.abc import Callable, Iterator, Sequence
import dataclasses
import functools
import itertools
from typing import Any

from flan_jax import errors
from flan_jax import partitioning
from flan_jax import vocabularies
from flan_jax.inference import batching
from flan_jax.inference import decoding as decoding_lib
from flan_jax.inference import programs
from flan_jax.inference import refilling
from flan_jax.inference import running
from flan_jax.inference import settings
from flan_jax.models import interface
import jax
import jax.numpy as jnp
import numpy as np

Progress = Callable[[int], Any]
# Which example, and its K answers: int32 [K, T] and float32 [K].
_Answer = tuple[int, Any, Any]
# Puts examples on the mesh, padded to a length and a number of rows.
_Put = Callable[[Sequence[int], int, int], dict[str, jax.Array]]


@dataclasses.dataclass(frozen=True, slots=True)
class Generated:
  """An answer.

  Attributes:
    tokens: Its ids, up to and with its end if it has one.
    score: The sum of their log-probabilities; for beams divided by the length's
      penalty.
    others: Further answers of beam search, the best first.
  """

  tokens: list[int]
  score: float
  others: tuple['Generated', ...] = ()


def _shape(batch: batching.Batch) -> tuple[int, int]:
  """Returns the rows of a batch, and the length of its inputs."""
  return batch.rows, batch.shape[0]


class Generator:
  """Writes answers to inputs that are token ids."""

  def __init__(
      self,
      model: interface.Model,
      vocabulary: vocabularies.Vocabulary,
      *,
      runner: running.Runner,
      lengths: dict[str, int],
  ):
    """Compiles nothing yet.

    Args:
      model: The model.
      vocabulary: What it was trained with.
      runner: The devices.
      lengths: The most tokens of 'inputs' and of 'targets'.
    """
    self._vocabulary = vocabulary
    self._runner = runner
    self._lengths = dict(lengths)
    self._programs = programs.Programs(model, vocabulary)
    # By program and shape, whether an example that has ended makes room for the
    # next: once decided it stays so, as either is a compilation.
    self._refills: dict[tuple[str, tuple[int, int]], bool] = {}
    self._empty: dict[tuple[programs.Program, int, int], refilling.Slots] = {}

  def plan(
      self, inputs: Sequence[Sequence[int]], decoding: settings.Decoding
  ) -> list[batching.Batch]:
    """Returns the batches in which inputs are answered."""
    return self._plan(inputs, self._program(decoding))

  def settle(
      self, inputs: Sequence[Sequence[int]], decoding: settings.Decoding
  ) -> None:
    """Decides how batches run, by what is to come.

    Args:
      inputs: Ids of as many inputs as are to come.
      decoding: How they will be answered.
    """
    self._decide(self.plan(inputs, decoding), self._program(decoding))

  def generate(
      self,
      params: Any,
      inputs: Sequence[Sequence[int]],
      decoding: settings.Decoding | Sequence[settings.Decoding],
      keys: Sequence[str],
      progress: Progress | None = None,
  ) -> list[Generated]:
    """Returns an answer to each of `inputs`, in their order.

    Args:
      params: The model's parameters.
      inputs: Ids that end in EOS, no more than lengths['inputs'].
      decoding: How to write: for all, or for each. Only another method, number
        of beams or length is another compilation.
      keys: For each input what its random numbers depend on, besides the seed.
      progress: Called with the number of inputs of each finished batch.
    """
    decodings = (
        [decoding] * len(inputs)
        if isinstance(decoding, settings.Decoding)
        else list(decoding)
    )
    members: dict[programs.Program, list[int]] = {}
    for i, own in enumerate(decodings):
      members.setdefault(self._program(own), []).append(i)
    found: dict[int, Generated] = {}
    for program, places in members.items():
      generated = self._run(
          params,
          [inputs[i] for i in places],
          [decodings[i] for i in places],
          [keys[i] for i in places],
          program,
          progress,
      )
      found.update(zip(places, generated, strict=True))
    return [found[i] for i in range(len(inputs))]

  def stream(
      self,
      params: Any,
      ids: Sequence[int],
      decoding: settings.Decoding,
      key: str = '',
  ) -> Iterator[int]:
    """Yields the tokens of one answer as they come, its end included.

    They are those that `generate` gives, for the same key.

    Args:
      params: The model's parameters.
      ids: The input, ending in EOS, no longer than lengths['inputs'].
      decoding: How to write.
      key: What random numbers depend on, besides the seed.

    Raises:
      UserError: There are beams: what they write may still change.
    """
    if decoding.method == 'beam':
      raise errors.UserError(
          'Decoding.method: "beam" cannot be streamed, as its first token is'
          ' sure only with its last; take "greedy" or "sample"'
      )
    program = self._program(decoding)
    rows = partitioning.batch_divisor(self._runner.mesh)
    # Each prompt comes alone, and its length is a shape: few are to be met.
    rungs = batching.ladder(self._lengths['inputs'], steps=4)
    length = next(rung for rung in rungs if rung >= len(ids))
    with partitioning.use(self._runner.mesh):
      device = self._put([ids], [decoding], [key], program, length, rows)
      steps, state = self._programs.begin(params, device, program)
    for length in decoding_lib.cache_lengths(program.max_length):
      state = state._replace(cache=state.cache.grown(length))
      while True:
        step = int(state.step)
        token = int(self._first_row(state.own.last_B))
        if step == length or token == self._vocabulary.eos_id:
          break
        yield token
        with partitioning.use(self._runner.mesh):
          state = self._programs.advance(steps, device, program, state=state)
      if token == self._vocabulary.eos_id:
        break
    yield token

  def _run(
      self,
      params: Any,
      inputs: Sequence[Sequence[int]],
      decodings: Sequence[settings.Decoding],
      keys: Sequence[str],
      program: programs.Program,
      progress: Progress | None,
  ) -> list[Generated]:
    """Returns answers by one program."""
    batches = self._plan(inputs, program)

    def put(
        some: Sequence[int], length: int, rows: int
    ) -> dict[str, jax.Array]:
      return self._put(
          [inputs[i] for i in some],
          [decodings[i] for i in some],
          [keys[i] for i in some],
          program,
          length,
          rows,
      )

    self._decide(batches, program)
    key = program.name
    whole = [b for b in batches if not self._refills[key, _shape(b)]]
    refilled = [b for b in batches if self._refills[key, _shape(b)]]
    found: dict[int, Generated] = {}
    for i, ids_KxT, scores_K in itertools.chain(
        self._in_batches(params, whole, program, put),
        self._in_slots(params, refilled, program, put),
    ):
      found[i] = self._generated(ids_KxT, scores_K)
      self._runner.tokens.read += len(inputs[i])
      self._runner.tokens.written += len(found[i].tokens)
      if progress:
        progress(1)
    return [found[i] for i in range(len(inputs))]

  def _decide(
      self, batches: Sequence[batching.Batch], program: programs.Program
  ) -> None:
    """Decides for shapes that are met first how their batches run."""
    counts = collections.Counter(map(_shape, batches))
    for shape, count in counts.items():
      # With one batch a lane, nothing waits.
      refills = (
          program.beams == 1
          and self._runner.lanes > 1
          and count > self._runner.lanes
      )
      self._refills.setdefault((program.name, shape), refills)

  def _in_batches(
      self,
      params: Any,
      batches: Sequence[batching.Batch],
      program: programs.Program,
      put: _Put,
  ) -> Iterator[_Answer]:
    """Yields answers batch by batch: each ends with its longest."""

    def launch(batch: batching.Batch) -> decoding_lib.Decoded:
      self._runner.note(program.name, batch.rows, batch.shape)
      device = put(batch.indices, batch.shape[0], batch.rows)
      return self._programs.whole(params, device, program)

    for batch, out in self._runner.run(batches, launch):
      yield from zip(batch.indices, out.tokens, out.scores, strict=False)

  def _in_slots(
      self,
      params: Any,
      batches: Sequence[batching.Batch],
      program: programs.Program,
      put: _Put,
  ) -> Iterator[_Answer]:
    """Yields answers as they end, each making room for an example that waits.

    Batches say only which shape an example has.
    """
    waiting: dict[tuple[int, int], collections.deque[int]] = {}
    for batch in batches:
      own = waiting.setdefault(_shape(batch), collections.deque())
      own.extend(batch.indices)
    if not waiting:
      return

    def lane() -> Iterator[_Answer]:
      for (rows, length), own in waiting.items():
        refilled = functools.partial(
            self._launch_refill, params, program, put, length
        )
        if own:
          slots = self._empty_slots(params, program, put, rows, length)
          for i, out in refilling.answers(own, slots, rows, refilled):
            yield i, out.tokens[0], out.scores[0]

    yield from self._runner.in_lanes(lane)

  def _launch_refill(
      self,
      params: Any,
      program: programs.Program,
      put: _Put,
      length: int,
      slots: refilling.Slots,
      some: Sequence[int],
      places: Sequence[int],
      free: int,
  ) -> tuple[refilling.Slots, refilling.Found]:
    """Runs `refilling.refill`; waits until it has ended."""
    count = len(slots.state.step)
    rows = refilling.refills(count)

    def launch() -> tuple[refilling.Slots, refilling.Found]:
      self._runner.note(program.name, count, (length,))
      places_R = np.zeros(rows, np.int32)
      places_R[: len(places)] = places
      return self._programs.refill(
          params,
          put(some, length, rows),
          program,
          places_R,
          np.int32(free),
          slots=slots,
      )

    slots, found = self._runner.launched(launch)
    return slots, running.fetch(found)

  def _empty_slots(
      self,
      params: Any,
      program: programs.Program,
      put: _Put,
      rows: int,
      length: int,
  ) -> refilling.Slots:
    """Returns slots without examples."""

    def shapes() -> refilling.Slots:
      few = put((), length, refilling.refills(rows))
      return self._programs.slot_shapes(params, few, program)

    key = program, rows, length
    if key not in self._empty:
      self._empty[key] = self._runner.launched(shapes)
    return jax.tree.map(
        lambda x: jnp.zeros((rows, *x.shape[1:]), x.dtype), self._empty[key]
    )

  def _plan(
      self, inputs: Sequence[Sequence[int]], program: programs.Program
  ) -> list[batching.Batch]:
    return self._runner.planner.plan(
        'generate',
        [(len(ids),) for ids in inputs],
        [batching.ladder(self._lengths['inputs'])],
        program.max_length,
    )

  def _program(self, decoding: settings.Decoding) -> programs.Program:
    return programs.program_of(decoding, self._lengths['targets'])

  def _put(
      self,
      inputs: Sequence[Sequence[int]],
      decodings: Sequence[settings.Decoding],
      keys: Sequence[str],
      program: programs.Program,
      length: int,
      rows: int,
  ) -> dict[str, jax.Array]:
    """Puts a batch on the mesh, filled up to `rows`."""
    return self._runner.put(
        self._programs.arrays(inputs, decodings, keys, program, length, rows)
    )

  def _first_row(self, x_B: jax.Array) -> np.ndarray:
    return np.asarray(jnp.asarray(x_B)[0])

  def _generated(self, ids_KxT: np.ndarray, scores_K: np.ndarray) -> Generated:
    """Returns the best of K answers, with those of the others that exist."""
    best, *others = (
        Generated(self._written(ids_T), float(score))
        for ids_T, score in zip(ids_KxT, scores_K, strict=True)
        if score > -np.inf or np.isnan(score)
    )
    return dataclasses.replace(best, others=tuple(others))

  def _written(self, ids_T: np.ndarray) -> list[int]:
    """Returns the ids up to and with EOS, or all."""
    ids = ids_T.tolist()
    eos_id = self._vocabulary.eos_id
    return ids[: ids.index(eos_id) + 1] if eos_id in ids else ids
