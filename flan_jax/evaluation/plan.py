"""What is evaluated: every dataset under every template, and on which rows."""

from collections.abc import Collection, Iterable, Sequence
import dataclasses

from flan_jax import errors
from flan_jax.data import seeding
from flan_jax.data import slots
from flan_jax.data import specs
from flan_jax.data import tasks
from flan_jax.data import templates
import numpy as np

# What TEMPLATES may say: all of them, those that training saw, or those that
# it did not (held out, or of a dataset that is held out whole).
SELECTIONS = ('all', 'trained', 'held_out')


@dataclasses.dataclass(frozen=True)
class Item:
  """A dataset under one template.

  Attributes:
    task: The task, which names the template.
    group: A key of `summary.GROUPS`.
    how: 'rank' or 'generate'.
  """

  task: tasks.Task
  group: str
  how: str

  @property
  def dataset(self) -> specs.Dataset:
    return self.task.dataset

  @property
  def template(self) -> str:
    return self.task.templates[0].name

  @property
  def classes(self) -> tuple[str, ...]:
    """The options in class order, as this template's targets write them.

    () if there are none, or if the targets differ by row.
    """
    choices = self.dataset.choices
    template = self.task.templates[0]
    targets = templates.Text(slots.split(template.targets))
    if (
        not choices
        or not tasks.ranks(self.dataset, template)
        or set(targets.names) != {'answer'}
    ):
      return ()
    return tuple(targets.fill({'answer': name}) for name in choices.names)


def check_selection(selection: str) -> None:
  """Raises a UserError unless `selection` is one of `SELECTIONS`."""
  if selection not in SELECTIONS:
    raise errors.UserError(
        f"TEMPLATES: must be one of {', '.join(SELECTIONS)}, not '{selection}'."
        + errors.nearest(selection, list(SELECTIONS))
    )


def items(
    evaluated: Iterable[tasks.Task],
    trained: Collection[str],
    selection: str = 'all',
) -> list[Item]:
  """Returns a dataset-and-template pair for all there is to evaluate.

  Templates that ask for something else than the answer have no score, and are
  left out. A task that names one template, or none, is taken as it is.

  Args:
    evaluated: Tasks; the setting of each (shots, options, evaluation) holds
      for each of its templates.
    trained: Names of the datasets that training saw.
    selection: One of `SELECTIONS`.

  Raises:
    UserError: `selection` is unknown, or leaves nothing to evaluate.
  """
  check_selection(selection)
  evaluated = list(evaluated)
  found: dict[str, Item] = {}
  for task in evaluated:
    # A template held out of training is in play only when it is asked for.
    seen = {template.name for template in task.templates}
    for template in _templates(task):
      single = _under(task, template)
      if task.dataset.name not in trained:
        group = 'held_out_dataset'
      elif template.held_out or template.name not in seen:
        group = 'held_out_template'
      else:
        group = 'seen'
      if selection != 'all' and (group == 'seen') != (selection == 'trained'):
        continue
      found.setdefault(single.name, Item(single, group, _how(single, template)))
  if not found:
    names = ', '.join(task.name for task in evaluated[:3])
    raise errors.UserError(
        f"TEMPLATES: no template is '{selection}' in"
        f' {names or "an empty mixture"}; say all'
    )
  return list(found.values())


def _templates(task: tasks.Task) -> tuple[specs.Template, ...]:
  if task.setting.template or task.setting.baseline:
    return task.templates
  asking = tuple(t for t in task.dataset.templates if not t.inverted)
  if task.setting.evaluation == 'rank':
    asking = tuple(t for t in asking if tasks.ranks(task.dataset, t))
  return asking


def _under(task: tasks.Task, template: specs.Template) -> tasks.Task:
  """Returns the task under one of its templates."""
  if task.setting.template or task.setting.baseline:
    return task
  setting = dataclasses.replace(
      task.setting, template=template.name, num_templates=None
  )
  return tasks.create(task.dataset, setting)


def _how(task: tasks.Task, template: specs.Template) -> str:
  if task.setting.evaluation:
    return task.setting.evaluation
  return 'rank' if tasks.ranks(task.dataset, template) else 'generate'


def subset(name: str, count: int, limit: int | None, seed: int) -> np.ndarray:
  """Returns which rows of a split are evaluated.

  Args:
    name: The dataset's name, so that datasets of equal size do not share
      their choice; templates do, so that they are compared on the same rows.
    count: Rows in the split.
    limit: The most to take; None for all.
    seed: Chooses them.

  Returns:
    Row numbers in rising order, int64. A smaller limit gives a part of what
    a larger one gives.
  """
  if limit is None or limit >= count:
    return np.arange(count)
  keys = seeding.hash_ints(seed, seeding.name_seed(name), np.arange(count))
  return np.sort(np.argsort(keys, kind='stable')[:limit])


def by_dataset(planned: Sequence[Item]) -> dict[str, list[Item]]:
  """Returns the items of each dataset, in order."""
  found: dict[str, list[Item]] = {}
  for item in planned:
    found.setdefault(item.dataset.name, []).append(item)
  return found
