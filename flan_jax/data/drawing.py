"""The first examples of a mixture, in the order that training goes through."""

from collections.abc import Iterator, Mapping

from flan_jax import errors
from flan_jax import vocabularies
from flan_jax.data import blocks
from flan_jax.data import examples as examples_lib
from flan_jax.data import few_shot
from flan_jax.data import mixing
from flan_jax.data import mixtures
from flan_jax.data import tasks
from flan_jax.data import templates
import numpy as np

_AT_ONCE = 4096


def examples(
    task_or_mixture: tasks.Task | mixtures.Mixture,
    split: str,
    store: blocks.Store,
    count: int,
    *,
    seed: int = 0,
    vocabulary: vocabularies.Vocabulary | None = None,
    lengths: Mapping[str, int] | None = None,
    layout: few_shot.Layout = few_shot.Layout(),  # noqa: B008
) -> Iterator[examples_lib.Example]:
  """Yields the first examples of the shuffled, mixed order of a split.

  With split 'train' and a run's seed, training begins with these (packing
  moves them about within its blocks).

  Args:
    task_or_mixture: What to draw from; members without such a split are left
      out.
    split: 'train', 'validation' or 'test'.
    store: Where rows are.
    count: How many.
    seed: Of the order and of all choices.
    vocabulary: Counts tokens, for exemplars to fit.
    lengths: 'inputs' is what they have to fit.
    layout: How exemplars stand before the query.

  Raises:
    UserError: No member has the split, or rows cannot be had.
  """
  mixture, readers = _open(task_or_mixture, split, store)
  sizes = np.array([len(reader) for reader in readers])
  order = mixing.IndexMap(
      [task.name for task, _ in mixture.members],
      sizes,
      mixtures.rates(mixture, sizes),
      seed=seed,
      cap=mixture.caps,
  )
  renderers = [
      blocks.renderer(
          task,
          reader,
          store,
          seed=seed,
          vocabulary=vocabulary,
          lengths=lengths,
          layout=layout,
      )
      for (task, _), reader in zip(mixture.members, readers, strict=True)
  ]
  for start in range(0, count, _AT_ONCE):
    draws = order.lookup(np.arange(start, min(start + _AT_ONCE, count)))
    rendered: dict[int, examples_lib.Example] = {}
    for member in np.unique(draws.member).tolist():
      places = np.flatnonzero(draws.member == member)
      found = renderers[member].render(draws.row[places], draws.epoch[places])
      rendered |= dict(zip(places.tolist(), found, strict=True))
    yield from (rendered[place] for place in range(len(rendered)))


def variety(
    task_or_mixture: tasks.Task | mixtures.Mixture,
    split: str,
    store: blocks.Store,
) -> int:
  """Returns how many different examples there are: rows times templates.

  Raises:
    UserError: As `examples`.
  """
  mixture, readers = _open(task_or_mixture, split, store)
  return sum(
      len(reader) * len(task.templates)
      for (task, _), reader in zip(mixture.members, readers, strict=True)
  )


def _open(
    task_or_mixture: tasks.Task | mixtures.Mixture,
    split: str,
    store: blocks.Store,
) -> tuple[mixtures.Mixture, list[templates.Rows]]:
  """Returns the members that have the split, and their rows."""
  mixture = mixtures.as_mixture(task_or_mixture)
  kept = mixture.only(lambda task: split in task.dataset.splits)
  if not kept.parts:
    known = sorted({s for t, _ in mixture.members for s in t.dataset.splits})
    raise errors.UserError(
        f"{mixture.name}: has no split '{split}'.{errors.nearest(split, known)}"
        f' It has {", ".join(known)}'
    )
  readers = [store.open(task.dataset, split) for task, _ in kept.members]
  return kept, readers
