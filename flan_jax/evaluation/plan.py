"""What is evaluated: every dataset under every template, and on which rows."""

from collections.abc import Collection, Iterable, Sequence
import dataclasses

from flan_jax import errors
from flan_jax.data import seeding
from flan_jax.data import slots
from flan_jax.data import specs
from flan_jax.data import tasks
from flan_jax.data import templates
from flan_jax.evaluation import metrics
from flan_jax.evaluation import summary
import numpy as np

# What TEMPLATES may say: all of them, those that training saw, or those that
# it did not (held out, or of a dataset that is held out whole).
SELECTIONS = ('all', 'trained', 'held_out')
# What a dataset is compared with: prompts that are no instructions.
BASELINES = ('no_template', 'name_only')


@dataclasses.dataclass(frozen=True)
class Item:
  """A dataset under one template.

  Attributes:
    task: The task, which names the template.
    group: A key of `summary.GROUPS`.
    how: 'rank' or 'generate'.
    setting: What it is beside the main table: one of `BASELINES`, '5_shot' and
      the like; '' for the main table.
  """

  task: tasks.Task
  group: str
  how: str
  setting: str = ''

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


def check_shots(shots: Sequence[object]) -> None:
  """Raises a UserError unless SHOTS are whole numbers and 'fit', each once."""
  for each in shots:
    whole = isinstance(each, int) and not isinstance(each, bool) and each >= 0
    if not whole and each != 'fit':
      raise errors.UserError(
          "SHOTS: must be whole numbers or 'fit', such as (0, 1, 5), not"
          f' {each!r}'
      )
  if len(set(shots)) < len(shots):
    raise errors.UserError(f'SHOTS: {shots} has a number twice')


def check_baselines(baselines: Sequence[object]) -> None:
  """Raises a UserError unless all are of `BASELINES`, each once."""
  for each in baselines:
    if each not in BASELINES:
      raise errors.UserError(
          f'BASELINES: must be of {", ".join(BASELINES)}, not {each!r}.'
          + errors.nearest(str(each), list(BASELINES))
      )
  if len(set(baselines)) < len(baselines):
    raise errors.UserError(f'BASELINES: {baselines} has a name twice')


def settings(
    named: Sequence[tasks.Task],
    shots: Sequence[int | str] = (),
    baselines: Sequence[str] = (),
) -> tuple[dict[str, list[tasks.Task]], list[str]]:
  """Returns the tasks of each setting, and what cannot be had.

  Args:
    named: The tasks that were asked for.
    shots: Numbers of exemplars, or 'fit'; the first one is for the main
      setting. () leaves tasks as they are named.
    baselines: Some of `BASELINES`; each dataset is put once without exemplars.

  Returns:
    By setting, '' being the main one, its tasks; and lines on datasets that
    have no such baseline.
  """
  found: dict[str, list[tasks.Task]] = {'': list(named)}
  for place, number in enumerate(shots):
    found[f'{number}_shot' if place else ''] = _each_once(
        tasks.create(
            each.dataset, dataclasses.replace(each.setting, shots=number)
        )
        for each in named
    )
  notes = []
  for baseline in baselines:
    made = []
    for dataset_tasks in _by_dataset(named):
      setting = dataclasses.replace(
          dataset_tasks[0].setting,
          template='',
          num_templates=None,
          baseline=baseline,
          shots=0,
      )
      try:
        made.append(tasks.create(dataset_tasks[0].dataset, setting))
      except errors.UserError as error:
        notes.append(f'left out of {baseline}: {error}')
    found[baseline] = made
  return found, notes


def _each_once(made: Iterable[tasks.Task]) -> list[tasks.Task]:
  return list({task.name: task for task in made}.values())


def _by_dataset(named: Iterable[tasks.Task]) -> list[list[tasks.Task]]:
  found: dict[str, list[tasks.Task]] = {}
  for task in named:
    found.setdefault(task.dataset.name, []).append(task)
  return list(found.values())


def all_items(
    evaluated: dict[str, list[tasks.Task]],
    trained: Collection[str],
    selection: str = 'all',
) -> list[Item]:
  """Returns the items of all settings, the main one first.

  A baseline belongs to the group of its dataset's main items of which training
  saw least: to the held-out templates, if the dataset has any.

  Args:
    evaluated: What `settings` returned.
    trained: Names of the datasets that training saw.
    selection: One of `SELECTIONS`.

  Raises:
    UserError: As `items`.
  """
  main = items(evaluated[''], trained, selection)
  groups: dict[str, set[str]] = {}
  for item in main:
    groups.setdefault(item.dataset.name, set()).add(item.group)
  found = list(main)
  for setting, members in evaluated.items():
    if setting in BASELINES:
      found += [
          Item(
              task,
              min(groups[task.dataset.name], key=list(summary.GROUPS).index),
              _how(task, task.templates[0]),
              setting,
          )
          for task in members
          if task.dataset.name in groups
      ]
    elif setting and members:
      found += [
          dataclasses.replace(item, setting=setting)
          for item in items(members, trained, selection)
      ]
  return found


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


def subset(
    name: str,
    count: int,
    limit: int | None,
    seed: int,
    groups: Sequence[object] | None = None,
) -> np.ndarray:
  """Returns which rows of a split are evaluated.

  Args:
    name: The dataset's name, so that datasets of equal size do not share
      their choice; templates do, so that they are compared on the same rows.
    count: Rows in the split.
    limit: The most to take; None for all.
    seed: Chooses them.
    groups: The group of each row, if rows are scored in groups: these stay
      whole, and one is taken even if it alone is above the limit.

  Returns:
    Row numbers in rising order, int64. A smaller limit gives a part of what
    a larger one gives.
  """
  if limit is None or limit >= count:
    return np.arange(count)
  if groups is None:
    return np.sort(_shuffled(name, count, seed)[:limit])
  rows: dict[object, list[int]] = {}
  for row, group in enumerate(groups):
    # A row without a group is one of its own.
    rows.setdefault(('', row) if group == '' else group, []).append(row)
  members = list(rows.values())
  order = _shuffled(name, len(members), seed)
  ends = np.cumsum([len(members[place]) for place in order])
  taken = order[: max(1, np.searchsorted(ends, limit, side='right'))]
  return np.sort(np.concatenate([members[place] for place in taken]))


def _shuffled(name: str, count: int, seed: int) -> np.ndarray:
  keys = seeding.hash_ints(seed, seeding.name_seed(name), np.arange(count))
  return np.argsort(keys, kind='stable')


def check_metrics(planned: Iterable[Item]) -> None:
  """Checks that all metrics can be computed, before anything slow is done.

  Raises:
    UserError: A package is missing, or a metric needs groups and its dataset
      does not say which.
  """
  for items_of_one in by_dataset(list(planned)).values():
    dataset = items_of_one[0].dataset
    metrics.check_packages(dataset.metrics)
    for name in dataset.metrics:
      if metrics.METRICS[name].groups == 'must' and not dataset.group_by:
        raise errors.UserError(
            f"'{dataset.name}': group_by: metric {name} scores examples"
            ' together; name the field that tells which'
        )


def of_several_templates(planned: Iterable[Item]) -> list[Item]:
  """Returns the main items that share dataset and group with another one."""
  found: dict[tuple[str, str], list[Item]] = {}
  for item in planned:
    if not item.setting:
      found.setdefault((item.dataset.name, item.group), []).append(item)
  return [item for group in found.values() if len(group) > 1 for item in group]


def by_dataset(planned: Sequence[Item]) -> dict[str, list[Item]]:
  """Returns the items of each dataset, in order."""
  found: dict[str, list[Item]] = {}
  for item in planned:
    found.setdefault(item.dataset.name, []).append(item)
  return found
