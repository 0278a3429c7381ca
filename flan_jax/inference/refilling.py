"""Rows that have ended make room for examples that wait.

A step costs the same however many rows of its batch are still at work, and
where answers have unequal lengths, many are not. Here a batch is slots: each
holds an example that is as far as it is, and one that has ended is replaced by
the next that waits, some at a time. One compiled program does both, so there
are no more compilations than for whole batches.

An array of N slots has their axis first, and then the axes of a batch of one
row; so the model's and the method's own functions are mapped over them. That is
for methods of one token a step: with beams, whole batches are faster.
"""

import collections
from collections.abc import Callable, Iterator, Mapping, Sequence
import functools
from typing import Any, NamedTuple

from flan_jax.inference import decoding
from flan_jax.models import interface
import jax
import jax.numpy as jnp

# What a method is made of, inside a compiled function: arrays of a batch.
MethodOf = Callable[[Mapping[str, jax.Array]], decoding.Method]


class Slots(NamedTuple):
  """Examples at work, each leaf [N, ...].

  Attributes:
    reads: What their steps read, `interface.Steps` without parameters.
    asked: What their methods are made of; 'active' is False where a slot is
      empty.
    state: How far they are.
  """

  reads: interface.Steps
  asked: Mapping[str, jax.Array]
  state: decoding.State


class Found(NamedTuple):
  """What slots hold after some steps.

  Attributes:
    ended_N: bool, whether a slot is free: its example has ended, or there is
      none.
    decoded: Their answers so far, each leaf [N, ...] of a batch of one row.
  """

  ended_N: jax.Array
  decoded: decoding.Decoded


def refill(
    model: interface.Model,
    params: Any,
    slots: Slots,
    batch: Mapping[str, jax.Array],
    places_R: jax.Array,
    free: jax.Array,
    method_of: MethodOf,
    begun: Callable[[Any, Mapping[str, jax.Array]], Slots],
) -> tuple[Slots, Found]:
  """Puts R examples into slots, and writes until enough of all have ended.

  Runs under `jax.jit`; `slots` should be donated.

  Args:
    model: The model.
    params: Its parameters.
    slots: What is at work.
    batch: 'tokens' [R, S], 'active' [R], and what else methods are made of;
      nothing is read where no row is active.
    places_R: int32, a free slot for each active row, no two the same.
    free: int32 scalar, how many slots are to be free at the end.
    method_of: Makes the method of a batch.
    begun: `begin` for the model and the method.
  """
  rows = places_R.shape[0]
  new = jax.lax.cond(
      jnp.any(batch['active']),
      begun,
      lambda *_: jax.tree.map(
          lambda x: jnp.zeros((rows, *x.shape[1:]), x.dtype), slots
      ),
      params,
      batch,
  )
  for row in range(rows):
    put = functools.partial(
        _put, row=row, place=places_R[row], active=batch['active'][row]
    )
    slots = jax.tree.map(put, slots, new)
  return _advanced(model, params, slots, free, method_of)


def begin(
    model: interface.Model,
    params: Any,
    batch: Mapping[str, jax.Array],
    method_of: MethodOf,
) -> Slots:
  """Returns slots with the rows of a batch, their first tokens written."""
  context = model.encode(params, batch['tokens'])
  steps = model.steps(params, context)
  reads = _apart(steps._replace(params=None, layers=()))
  asked = _apart({n: x for n, x in batch.items() if n != 'tokens'})

  def start(
      reads: interface.Steps, asked: Mapping[str, jax.Array]
  ) -> decoding.State:
    method = method_of(asked)
    own = reads._replace(params=steps.params, layers=steps.layers)
    return decoding.start(model, own, method, method.target.max_length)

  return Slots(reads, asked, jax.vmap(start)(reads, asked))


def _advanced(
    model: interface.Model,
    params: Any,
    slots: Slots,
    free: jax.Array,
    method_of: MethodOf,
) -> tuple[Slots, Found]:
  """Writes until so many slots are free."""
  own_params, layers = model.step_params(params)
  some = method_of(jax.tree.map(lambda x: x[0], slots.asked))
  most = some.target.max_length

  def ended(asked: Mapping[str, jax.Array], state: decoding.State) -> jax.Array:
    over = method_of(asked).over(state.own)
    return over | (state.step >= most) | ~asked['active'][0]

  def step(
      reads: interface.Steps,
      asked: Mapping[str, jax.Array],
      state: decoding.State,
  ) -> decoding.State:
    own = reads._replace(params=own_params, layers=layers)
    new = decoding.one_more(model, own, method_of(asked), state)
    # What has ended stays as it is; its cache will not be read again.
    stays = ended(asked, state)

    def still(old: jax.Array, changed: jax.Array) -> jax.Array:
      return jnp.where(stays, old, changed)

    return decoding.State(
        step=still(state.step, new.step),
        own=jax.tree.map(still, state.own, new.own),
        cache=new.cache._replace(
            position=still(state.cache.position, new.cache.position)
        ),
    )

  state = slots.state
  all_ended = functools.partial(jax.vmap(ended), slots.asked)
  for length in decoding.cache_lengths(most):

    def unfinished(state: decoding.State, length: int = length) -> jax.Array:
      ended_N = all_ended(state)
      longest = jnp.max(jnp.where(ended_N, 0, state.step))
      return (jnp.sum(ended_N) < free) & (longest < length)

    short = state._replace(cache=_cut(state.cache, length))
    short = jax.lax.while_loop(
        unfinished,
        lambda state: jax.vmap(step)(slots.reads, slots.asked, state),
        short,
    )
    state = short._replace(cache=_put_back(state.cache, short.cache))

  decoded = jax.vmap(lambda asked, own: method_of(asked).result(own))(
      slots.asked, state.own
  )
  return slots._replace(state=state), Found(all_ended(state), decoded)


def answers(
    waiting: collections.deque[int],
    slots: Any,
    count: int,
    refilled: Callable[[Any, Sequence[int], Sequence[int], int], Any],
) -> Iterator[tuple[int, decoding.Decoded]]:
  """Yields examples that wait, with their answers, in the order they end.

  Args:
    waiting: Which examples wait. Others may take some at the same time.
    slots: Slots, all empty.
    count: N, how many there are.
    refilled: Given slots, examples, free slots for them, and how many are to be
      free afterwards, returns the slots and what `Found` says, in numpy.
  """
  busy: dict[int, int] = {}
  together = refills(count)
  while True:
    empty = [slot for slot in range(count) if slot not in busy]
    new = _taken(waiting, min(together, len(empty)))
    if not new and not busy:
      return
    busy |= zip(empty, new, strict=False)
    # With more to come, whoever waits does so for few; at the end, for all.
    free = together if waiting else count
    slots, found = refilled(slots, new, empty[: len(new)], free)
    for slot in [slot for slot in busy if found.ended_N[slot]]:
      yield busy.pop(slot), decoding.Decoded(*(x[slot] for x in found.decoded))


def refills(count: int) -> int:
  """Returns R, how many examples come into so many slots at once.

  Few, and slots are seldom empty; many, and the model reads more at once.
  """
  return max(count // 4, 1)


def _taken(waiting: collections.deque[int], most: int) -> list[int]:
  """Returns the first that wait, as many as there are."""
  taken: list[int] = []
  while len(taken) < most:
    try:
      taken.append(waiting.popleft())
    except IndexError:  # Another took the last one.
      break
  return taken


def _put(
    slots: jax.Array,
    rows: jax.Array,
    *,
    row: int,
    place: jax.Array,
    active: jax.Array,
) -> jax.Array:
  """Returns slots with a row in its place, if it is active."""
  there = jax.lax.dynamic_index_in_dim(slots, place, keepdims=False)
  return jax.lax.dynamic_update_index_in_dim(
      slots, jnp.where(active, rows[row], there), place, 0
  )


def _apart(rows: Any) -> Any:
  """Returns arrays of R rows as R batches of one row."""
  return jax.tree.map(lambda x: x[:, None], rows)


def _cut(cache: interface.Cache, places: int) -> interface.Cache:
  """Returns the first places of slots' caches."""
  key, value = jax.tree.map(lambda x: x[..., :places], (cache.key, cache.value))
  return cache._replace(key=key, value=value)


def _put_back(whole: interface.Cache, cut: interface.Cache) -> interface.Cache:
  """Returns the caches of which `cut` was cut, with what it holds now."""
  key, value = jax.tree.map(
      lambda old, own: jax.lax.dynamic_update_slice(old, own, (0,) * own.ndim),
      (whole.key, whole.value),
      (cut.key, cut.value),
  )
  return cut._replace(key=key, value=value)
