"""Datasets whose rows are not here: named all at once, or done without."""

from collections.abc import Iterable, Mapping, Sequence
import textwrap
from typing import TYPE_CHECKING

from flan_jax import errors
from flan_jax.data import specs
from flan_jax.data import tasks

if TYPE_CHECKING:
  from flan_jax.data import access as access_lib
  from flan_jax.data import locating

Need = tuple[specs.Dataset, Sequence[str]]


def splits(task: tasks.Task, split: str) -> tuple[str, ...]:
  """Returns the splits that a task's examples are made of.

  Exemplars are training examples.
  """
  return (
      (split, 'train') if task.setting.shots and split != 'train' else (split,)
  )


def with_split(
    found: Sequence[tasks.Task], split: str
) -> tuple[list[tasks.Task], str]:
  """Returns the tasks that can be evaluated on a split, and a line on others.

  Raises:
    UserError: There are none.
  """
  kept: list[tasks.Task] = []
  lines: dict[str, list[str]] = {}
  for task in found:
    lacking = [s for s in splits(task, split) if s not in task.dataset.splits]
    if lacking:
      lines.setdefault(lacking[0], []).append(task.name)
    else:
      kept.append(task)
  if not kept:
    known = sorted({s for task in found for s in task.dataset.splits})
    first = next(iter(lines))
    raise errors.UserError(
        f'SPLIT: {lines[first][0]} has no split {first!r}.'
        + (errors.nearest(first, known) or f' It has {", ".join(known)}.')
    )
  said = [
      f'left out, for want of a split {name!r}: {", ".join(names)}'
      for name, names in lines.items()
  ]
  return kept, '\n'.join(said)


def needs(found: Iterable[tasks.Task], split: str) -> list[Need]:
  """Returns what tasks need of their datasets."""
  return [(task.dataset, splits(task, split)) for task in found]


def require(
    access: 'access_lib.Access',
    wanted: Sequence[Need],
    what: str,
    skip: bool = False,
) -> frozenset[str]:
  """Looks at once for everything that is needed.

  Args:
    access: Where rows are.
    wanted: Datasets and splits of them.
    what: What needs them, for the error.
    skip: Whether to do without what is missing.

  Returns:
    The names of the datasets that are missing: none, unless `skip`.

  Raises:
    UserError: Something is missing; all of it is named, with what to run. Or
      `skip` leaves nothing.
  """
  states: dict[str, locating.Status] = {}
  for group in dict.fromkeys(tuple(names) for _, names in wanted):
    datasets = [each for each, names in wanted if tuple(names) == group]
    for dataset, status in access.store.missing(datasets, group):
      states[dataset.name] = status
  if not states:
    return frozenset()
  everything = {dataset.name for dataset, _ in wanted}
  if skip and states.keys() < everything:
    return frozenset(states)
  if len(everything) == 1:
    first = f"the rows of '{next(iter(everything))}' are not here."
  else:
    first = (
        f'the rows of {len(states)} of {len(everything)} datasets are not here'
    )
    if states.keys() < everything:
      first += '; get them, or go on without them with --skip_missing.'
    else:
      first += ', and there are no others.'
  raise errors.UserError(f'{what}: {first}\n{_advice(states, access.flags)}')


def left_out(names: Iterable[str]) -> str:
  """Returns a line that says which datasets are done without."""
  listed = sorted(names)
  return (
      f'left out, since their rows are not here ({len(listed)} of the'
      f' datasets): {", ".join(listed)}'
  )


def _advice(states: Mapping[str, 'locating.Status'], flags: str) -> str:
  """Returns the commands and steps that get rows, by how they are got."""
  fetched = [
      n for n, status in states.items() if status.state == 'downloadable'
  ]
  lines = []
  if fetched:
    lines.append('TFDS fetches, all at once or some:')
    command = f'flan-jax prepare {" ".join(fetched)} --download{flags}'
    lines.append(
        ' \\\n'.join(
            textwrap.wrap(
                command,
                76,
                initial_indent='  ',
                subsequent_indent='    ',
                break_long_words=False,
                break_on_hyphens=False,
            )
        )
    )
  by_hand = {n: status for n, status in states.items() if n not in fetched}
  if by_hand:
    lines.append('By hand, one way or another:')
  for name, status in by_hand.items():
    lines += [f'  {name}: {status.detail}']
    lines += [f'    or: {other}' for other in status.alternatives]
  return '\n'.join(lines)
