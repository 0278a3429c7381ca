"""The compiled functions that write answers, and the arrays they are given."""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
from typing import Any

from flan_jax import vocabularies
from flan_jax.inference import batching
from flan_jax.inference import beam
from flan_jax.inference import decoding as decoding_lib
from flan_jax.inference import refilling
from flan_jax.inference import sampling
from flan_jax.inference import settings
from flan_jax.models import interface
import jax
import numpy as np


@dataclasses.dataclass(frozen=True)
class Program:
  """What a compiled function is made for; other settings are arguments.

  Attributes:
    method: How tokens are chosen.
    beams: How many beginnings are kept; 1 but for beam search.
    max_length: The most tokens of an answer, its end included.
  """

  method: settings.Method
  beams: int
  max_length: int

  @property
  def name(self) -> str:
    """What it is called where compilations are counted."""
    what = {'greedy': 'generate', 'beam': f'beam-{self.beams}'}
    return what.get(self.method, self.method)


def program_of(decoding: settings.Decoding, max_length: int) -> Program:
  """Returns the program that answers are written by.

  Args:
    decoding: How to write.
    max_length: The most tokens, if `decoding` does not say.
  """
  return Program(
      decoding.method,
      decoding.num_beams if decoding.method == 'beam' else 1,
      decoding.max_length or max_length,
  )


class Programs:
  """What is compiled for a model, once for each program and shape.

  Attributes:
    whole: (params, arrays, program) -> `decoding.Decoded` of a batch.
    refill: (params, arrays, program, places_R, free, slots=...) -> see
      `refilling.refill`; the slots are donated.
    begin: (params, arrays, program) -> what steps read, and the state with the
      first token of a batch.
    advance: (steps, arrays, program, state=...) -> the state with one more; it
      is donated.
  """

  def __init__(
      self, model: interface.Model, vocabulary: vocabularies.Vocabulary
  ):
    """Compiles nothing yet."""
    self._model = model
    self._vocabulary = vocabulary
    self.whole = jax.jit(self._whole, static_argnums=2)
    self.refill = jax.jit(
        self._refill, static_argnums=2, donate_argnames='slots'
    )
    self.begin = jax.jit(self._begin, static_argnums=2)
    self.advance = jax.jit(
        self._advance, static_argnums=2, donate_argnames='state'
    )
    # Compiled as a part of `refill` alone.
    self._begin_slots = jax.jit(self._slots, static_argnums=2)

  def arrays(
      self,
      inputs: Sequence[Sequence[int]],
      decodings: Sequence[settings.Decoding],
      keys: Sequence[str],
      program: Program,
      length: int,
      rows: int,
  ) -> dict[str, np.ndarray]:
    """Returns what programs are given, filled up to `rows`.

    Args:
      inputs: Ids of at most `rows` inputs, that end in EOS.
      decodings: How each is answered.
      keys: What the random numbers of each depend on, besides the seed.
      program: The program.
      length: What inputs are padded to.
      rows: The rows of the batch.
    """
    more = rows - len(inputs)
    batch = {
        'tokens': batching.pad(inputs, rows, length, self._vocabulary.pad_id),
        'active': np.arange(rows) < len(inputs),
    }
    decodings = [*decodings, *[settings.Decoding()] * more]
    if program.method == 'sample':
      draws = sampling.draws_of(decodings, [*keys, *[''] * more])
      batch |= draws._asdict()
    if program.method == 'beam':
      batch['alpha'] = np.asarray([d.alpha for d in decodings], np.float32)
    return batch

  def slot_shapes(
      self, params: Any, few: Mapping[str, jax.Array], program: Program
  ) -> refilling.Slots:
    """Returns the shapes and dtypes of as many slots as `few` has rows."""
    return self._begin_slots.eval_shape(params, few, program)

  def _method(
      self, device: Mapping[str, jax.Array], program: Program
  ) -> decoding_lib.Method:
    """Returns how to choose tokens, inside a compiled function."""
    target = decoding_lib.Target(
        max_length=program.max_length,
        choices=self._vocabulary.size,
        eos_id=self._vocabulary.eos_id,
        pad_id=self._vocabulary.pad_id,
    )
    active_B = device['active']
    if program.method == 'beam':
      return beam.BeamSearch(target, active_B, program.beams, device['alpha'])
    if program.method == 'greedy':
      return decoding_lib.Single(target, active_B)
    draws = sampling.Draws(*(device[name] for name in sampling.Draws._fields))
    return decoding_lib.Single(target, active_B, draws)

  def _whole(self, params, device, program) -> decoding_lib.Decoded:
    context = self._model.encode(params, device['tokens'])
    method = self._method(device, program)
    return decoding_lib.decode(self._model, params, context, method)

  def _refill(
      self, params, device, program, places_R, free, *, slots
  ) -> tuple[refilling.Slots, refilling.Found]:
    return refilling.refill(
        self._model,
        params,
        slots,
        device,
        places_R,
        free,
        functools.partial(self._method, program=program),
        # The same function that gave the shapes, so that it is traced once.
        lambda params, few: self._begin_slots(params, few, program),
    )

  def _slots(self, params, device, program) -> refilling.Slots:
    method_of = functools.partial(self._method, program=program)
    return refilling.begin(self._model, params, device, method_of)

  def _begin(
      self, params, device, program
  ) -> tuple[interface.Steps, decoding_lib.State]:
    context = self._model.encode(params, device['tokens'])
    steps = self._model.steps(params, context)
    length = decoding_lib.cache_lengths(program.max_length)[0]
    method = self._method(device, program)
    return steps, decoding_lib.start(self._model, steps, method, length)

  def _advance(self, steps, device, program, *, state) -> decoding_lib.State:
    method = self._method(device, program)
    return decoding_lib.advance(
        self._model, steps, method, state, state.step + 1
    )
