"""What there is: datasets and mixtures, as plain values for lists and JSON."""

from collections.abc import Iterable
import contextlib
import dataclasses
import fnmatch
from typing import Any, TYPE_CHECKING

from flan_jax import errors
from flan_jax.data import catalogue as catalogue_lib
from flan_jax.data import mixtures
from flan_jax.data import specs
from flan_jax.data import tasks

if TYPE_CHECKING:
  from flan_jax.data import rows


def datasets(
    catalogue: catalogue_lib.Catalogue,
    store: 'rows.RowStore',
    pattern: str | None = None,
) -> list[dict[str, Any]]:
  """Returns what is known of each dataset, by collection, cluster and name.

  Args:
    catalogue: The declarations.
    store: Knows whether the data is here.
    pattern: Part of a name, cluster or collection, or a pattern with '*'.

  Returns:
    JSON values. A declaration that cannot be read has 'name' and 'error'.
  """
  found = []
  for name in catalogue.dataset_names():
    try:
      dataset = catalogue.dataset(name)
    except errors.UserError as error:
      if _fits(pattern, [name]):
        found.append({'name': name, 'error': str(error)})
      continue
    if _fits(pattern, [name, dataset.cluster, dataset.collection]):
      found.append(_dataset(dataset, store))
  return sorted(
      found,
      key=lambda row: (
          row.get('collection', ''),
          row.get('cluster', ''),
          row['name'],
      ),
  )


def mixture_specs(
    catalogue: catalogue_lib.Catalogue, pattern: str | None = None
) -> list[dict[str, Any]]:
  """Returns what is known of each mixture, by name; JSON values.

  A leave-out is there only if the pattern is its name.
  """
  found: list[dict[str, Any]] = []
  names = catalogue.mixture_names()
  if pattern and pattern not in names and catalogue.has(pattern):
    names += [pattern] if catalogue.is_mixture(pattern) else []
  for name in names:
    if not _fits(pattern, [name]):
      continue
    try:
      spec = catalogue.mixture(name)
      members = _member_names(catalogue, name)
      leave_outs = catalogue.leave_out_names(name)
      held_out = _member_names(catalogue, held_out_name(catalogue, name))
    except errors.UserError as error:
      found.append({'name': name, 'error': str(error)})
      continue
    found.append({
        'name': name,
        'description': spec.description,
        'version': spec.version,
        'members': members,
        'held_out': held_out,
        'leave_outs': leave_outs,
        'series': spec.series,
        'rates': spec.rates.kind,
        'cap': spec.cap,
        'max_rate': spec.max_rate,
        'path': str(spec.path),
    })
  return found


def count_tasks(catalogue: catalogue_lib.Catalogue) -> dict[str, int]:
  """Returns how many names there are to ask for, counted one by one.

  Returns:
    'tasks': datasets under every setting but shots; 'mixtures', with leave-outs
    but without settings. What cannot be read is not counted.
  """
  tasks_found = 0
  for name in catalogue.dataset_names():
    with contextlib.suppress(errors.UserError):
      tasks_found += _count_settings(catalogue.dataset(name))
  mixtures_found = 0
  for name in catalogue.mixture_names():
    mixtures_found += 1
    with contextlib.suppress(errors.UserError):
      mixtures_found += len(catalogue.leave_out_names(name))
  return {'tasks': tasks_found, 'mixtures': mixtures_found}


def _count_settings(dataset: specs.Dataset) -> int:
  """Returns the tasks of a dataset without exemplars, template by number."""
  used = sum(not template.held_out for template in dataset.templates)
  ways: list[dict[str, Any]] = [{}, {'baseline': 'no_template'}]
  ways.append({'baseline': 'name_only'})
  ways += [{'template': str(n)} for n in range(len(dataset.templates))]
  ways += [{'num_templates': n} for n in range(1, used + 1)]
  found = 0
  for way in ways:
    for evaluation in ('', 'rank', 'generate'):
      with contextlib.suppress(errors.UserError):
        tasks.create(dataset, tasks.Setting(evaluation=evaluation, **way))
        found += 1
  # Options are shown, hidden, or in random order.
  return found * 3 if dataset.choices else found


def held_out_name(catalogue: catalogue_lib.Catalogue, name: str) -> str:
  """Returns the name of what a mixture holds out; '' if it does not."""
  base, setting = mixtures.parse_name(catalogue, name)
  if setting.held_out or not catalogue.is_mixture(base):
    return ''
  if not catalogue.mixture(base).held_out:
    return ''
  setting = dataclasses.replace(setting, held_out=True)
  return tasks.format_name(base, setting)


def members(
    catalogue: catalogue_lib.Catalogue,
    names: Iterable[str],
    with_held_out: bool = False,
) -> list[tasks.Task]:
  """Returns the tasks that names mean, each once.

  Args:
    catalogue: The declarations.
    names: Tasks and mixtures.
    with_held_out: Whether a mixture also means what it holds out, and one
      called as a collection what of that is for evaluation only.

  Raises:
    UserError: A name is unknown, or a declaration has a mistake.
  """
  found: dict[str, tasks.Task] = {}
  for name in names:
    asked = [name]
    if with_held_out:
      asked += filter(None, [held_out_name(catalogue, name)])
    for each in asked:
      resolved = mixtures.as_mixture(mixtures.resolve(catalogue, each))
      for task, _ in resolved.members:
        found.setdefault(task.name, task)
    if with_held_out:
      for task in _evaluation_only(catalogue, name):
        found.setdefault(task.name, task)
  return list(found.values())


def _evaluation_only(
    catalogue: catalogue_lib.Catalogue, collection: str
) -> Iterable[tasks.Task]:
  for name in catalogue.select(collection=collection):
    dataset = catalogue.dataset(name)
    if 'train' not in dataset.splits:
      yield tasks.create(dataset)


def _member_names(catalogue: catalogue_lib.Catalogue, name: str) -> list[str]:
  return [task.name for task in members(catalogue, [name] if name else [])]


def _fits(pattern: str | None, texts: list[str]) -> bool:
  if not pattern:
    return True
  if '*' in pattern:
    return any(fnmatch.fnmatchcase(text, pattern) for text in texts)
  return any(pattern.lower() in text for text in texts)


def _dataset(dataset: specs.Dataset, store: 'rows.RowStore') -> dict[str, Any]:
  status = store.status(dataset)
  return {
      'name': dataset.name,
      'collection': dataset.collection,
      'cluster': dataset.cluster,
      'description': dataset.description,
      'version': dataset.version,
      'licence': dataset.licence,
      'source': {'kind': dataset.source.kind, 'where': dataset.source.where},
      'splits': dict(dataset.splits),
      'metrics': list(dataset.metrics),
      'choices': dataset.choices is not None,
      'templates': [
          {
              'name': template.name,
              'inverted': template.inverted,
              'held_out': template.held_out,
          }
          for template in dataset.templates
      ],
      'path': str(dataset.path) if dataset.path.name else None,
      'state': status.state,
      'detail': status.detail,
  }


def counted(count: int, noun: str) -> str:
  """Returns a count with its noun: '1 task', '1,200 tasks'."""
  return f'{count:,} {noun}{"" if count == 1 else "s"}'
