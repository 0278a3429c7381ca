"""Means over templates, datasets and clusters of what tasks scored."""

from collections.abc import Iterable, Sequence
import dataclasses
import math
import statistics
from typing import Any

from flan_jax.evaluation import metrics
from flan_jax.evaluation.metrics import bootstrap
import numpy as np

# A task is a dataset under one template; what training saw of it.
GROUPS = {
    'held_out_template': 'Held-out templates of trained datasets',
    'held_out_dataset': 'Held-out datasets',
    'seen': 'Trained templates of trained datasets',
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskScores:
  """The scores of every system on one dataset under one template.

  Attributes:
    task: The task's full name.
    dataset: The dataset's name.
    cluster: Its cluster.
    collection: Its collection.
    template: The template's name.
    group: A key of `GROUPS`.
    how: 'rank' or 'generate'.
    metric: The name of the dataset's main value.
    headline: The name of the value that the headline averages.
    examples: How many examples were scored.
    classes: The fixed options in class order, if there are any.
    metrics: The dataset's metrics, the main one first.
    scores: Values by name, by system.
    replicates: The same on resampled rows, float64 [R] each.
    setting: As `plan.Item.setting`.
    validation: The main value on validation rows, by system; None if there is
      none.
    validation_examples: How many rows that is of.
    no_number: How often a system's score is not a number, by system; only
      those for which it is.
  """

  task: str
  dataset: str
  cluster: str
  collection: str
  template: str
  group: str
  how: str
  metric: str
  headline: str
  examples: int
  classes: tuple[str, ...]
  metrics: tuple[str, ...]
  scores: dict[str, dict[str, float]]
  replicates: dict[str, dict[str, np.ndarray]]
  setting: str = ''
  validation: dict[str, float] | None = None
  validation_examples: int = 0
  no_number: dict[str, int] = dataclasses.field(default_factory=dict)

  def as_json(self) -> dict[str, Any]:
    """Returns the attributes as JSON values, intervals for replicates."""
    values = {
        field.name: getattr(self, field.name)
        for field in dataclasses.fields(self)
        if field.name != 'replicates'
    }
    values['classes'] = list(self.classes)
    values['metrics'] = list(self.metrics)
    values['intervals'] = {
        system: {name: _interval(each) for name, each in found.items()}
        for system, found in self.replicates.items()
    }
    return values


@dataclasses.dataclass(frozen=True, kw_only=True)
class Roles:
  """What systems are to each other.

  Attributes:
    models: Those whose leads over all others are wanted.
    judged: Those for which the best template is wanted.
  """

  models: Sequence[str] = ('tuned',)
  judged: Sequence[str] = ()


def summarize(
    tasks: Sequence[TaskScores],
    roles: Roles = Roles(),  # noqa: B008
) -> dict[str, Any]:
  """Averages over templates, then datasets, then clusters.

  Every dataset counts the same in its cluster and in the headline, however
  many templates or examples it has. A mean's interval is that of the same mean
  of replicates: the templates of a dataset are resampled together, datasets
  independently of each other.

  Args:
    tasks: At least one task; all hold the same systems.
    roles: What these are to each other.

  Returns:
    JSON values: 'datasets' (a row for each dataset and group: mean, sample
    standard deviation over templates and 95% interval of the main value, and
    the template that is best on validation, with its score), 'clusters' (mean
    over datasets and interval, for each cluster and group), and 'headline' (by
    group: the mean over datasets of accuracy and exact match, and of either
    alone, each with its interval). 'leads' are, for each model, intervals of
    its mean less another's: systems answer the same resamples, so these are
    narrower than either mean's own. 'best' are means over the best templates,
    of systems that have one in every dataset.
  """
  systems = list(tasks[0].scores)
  rows = [
      _dataset(group, members, systems, roles)
      for (group, _), members in _grouped(
          tasks, lambda task: (task.group, task.dataset)
      )
  ]
  clusters = [
      {
          'cluster': cluster,
          'group': group,
          'datasets': len(members),
          **_means(members, 'main', systems, roles),
      }
      for (group, cluster), members in _grouped(
          rows, lambda row: (row.json['group'], row.json['cluster'])
      )
  ]
  return {
      'datasets': [row.json for row in rows],
      'clusters': clusters,
      'headline': _headline(rows, systems, roles),
  }


@dataclasses.dataclass(frozen=True)
class _Row:
  """A dataset's means over templates.

  Attributes:
    json: What is written of it.
    main: Its main value by system, and replicates [R].
    headline: The value that the headline averages, alike.
    best: By 'main' and 'headline', the value under the best template of each
      system that has one.
  """

  json: dict[str, Any]
  main: dict[str, tuple[float, np.ndarray]]
  headline: dict[str, tuple[float, np.ndarray]]
  best: dict[str, dict[str, float]]


def _dataset(
    group: str,
    members: Sequence[TaskScores],
    systems: Sequence[str],
    roles: Roles,
) -> _Row:
  """The row of a dataset, from its tasks of a group."""
  first = members[0]

  def mean(system: str, value: str) -> tuple[float, np.ndarray]:
    return _mean(
        (task.scores[system][value], task.replicates[system][value])
        for task in members
    )

  main = {system: mean(system, first.metric) for system in systems}
  headline = {system: mean(system, first.headline) for system in systems}
  best = {
      system: task
      for system in roles.judged
      if (task := _best(members, system)) is not None
  }
  return _Row(
      {
          'dataset': first.dataset,
          'collection': first.collection,
          'cluster': first.cluster,
          'group': group,
          'how': first.how,
          'metric': first.metric,
          'headline': first.headline,
          'templates': len(members),
          'examples': sum(task.examples for task in members),
          'scores': {
              system: {
                  **_spread([t.scores[system][t.metric] for t in members]),
                  'interval': _interval(main[system][1]),
              }
              for system in systems
          },
          'headline_scores': {
              system: headline[system][0] for system in systems
          },
          'best': {
              system: {
                  'template': task.template,
                  'validation': (task.validation or {}).get(system),
                  'score': task.scores[system][task.metric],
                  'interval': _interval(task.replicates[system][task.metric]),
              }
              for system, task in best.items()
          },
      },
      main,
      headline,
      {
          'main': {s: t.scores[s][t.metric] for s, t in best.items()},
          'headline': {s: t.scores[s][t.headline] for s, t in best.items()},
      },
  )


def _best(members: Sequence[TaskScores], system: str) -> TaskScores | None:
  """Returns the task that is best on validation; the first one of equals.

  A template without others is the best one. None if it cannot be told.
  """
  if len(members) == 1:
    return members[0]
  sign = 1 if metrics.value(members[0].metric).higher_is_better else -1
  found: TaskScores | None = None
  most = -math.inf
  for task in members:
    if task.validation is None or system not in task.validation:
      return None
    if sign * task.validation[system] > most:
      found, most = task, sign * task.validation[system]
  return found


def _headline(
    rows: Sequence[_Row], systems: Sequence[str], roles: Roles
) -> dict[str, Any]:
  """By group: datasets and means, of all and of each way of answering."""
  result = {}
  for group in GROUPS:
    mine = [row for row in rows if row.json['group'] == group]
    if not mine:
      continue
    result[group] = {
        part: {
            'datasets': len(members),
            **_means(members, 'headline', systems, roles),
        }
        for part, members in (
            ('all', mine),
            ('rank', [row for row in mine if row.json['how'] == 'rank']),
            (
                'generate',
                [row for row in mine if row.json['how'] == 'generate'],
            ),
        )
        if members
    }
  return result


def _means(
    rows: Sequence[_Row], which: str, systems: Sequence[str], roles: Roles
) -> dict[str, Any]:
  """Means over datasets of 'main' or 'headline', and their intervals."""
  means = {
      system: _mean(getattr(row, which)[system] for row in rows)
      for system in systems
  }
  return {
      'scores': {system: mean for system, (mean, _) in means.items()},
      'intervals': {
          system: _interval(replicates)
          for system, (_, replicates) in means.items()
      },
      'leads': {
          model: {
              system: _interval(means[model][1] - replicates)
              for system, (_, replicates) in means.items()
              if system != model
          }
          for model in roles.models
      },
      'best': {
          system: statistics.fmean(row.best[which][system] for row in rows)
          for system in roles.judged
          if all(system in row.best[which] for row in rows)
      },
  }


def _mean(
    found: Iterable[tuple[float, np.ndarray]],
) -> tuple[float, np.ndarray]:
  """The mean of values, and of their replicates."""
  values, replicates = zip(*found, strict=True)
  return statistics.fmean(values), np.mean(replicates, axis=0)


def _interval(replicates: np.ndarray) -> list[float]:
  return list(bootstrap.interval(replicates))


def _spread(values: Sequence[float]) -> dict[str, float | None]:
  """Mean, and sample standard deviation where there are two values or more."""
  return {
      'mean': statistics.fmean(values),
      'std': statistics.stdev(values) if len(values) > 1 else None,
  }


def _grouped(items: Iterable[Any], key: Any) -> list[tuple[Any, list[Any]]]:
  """Items by key; groups in the order of `GROUPS`, then of appearance."""
  found: dict[Any, list[Any]] = {}
  for item in items:
    found.setdefault(key(item), []).append(item)
  order = list(GROUPS)
  return sorted(found.items(), key=lambda pair: order.index(pair[0][0]))
