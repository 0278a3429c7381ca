"""Means over templates, datasets and clusters of what tasks scored."""

from collections.abc import Iterable, Sequence
import dataclasses
import statistics
from typing import Any

from flan_jax.evaluation.metrics import bootstrap
import numpy as np

# Whose answers are scored, as tables name them.
SYSTEMS = {
    'tuned': 'Tuned',
    'untuned': 'Untuned',
    'majority': 'Majority class',
}
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


def summarize(tasks: Sequence[TaskScores]) -> dict[str, Any]:
  """Averages over templates, then datasets, then clusters.

  Every dataset counts the same in its cluster and in the headline, however
  many templates or examples it has. A mean's interval is that of the same mean
  of replicates: the templates of a dataset are resampled together, datasets
  independently of each other.

  Args:
    tasks: At least one task; all hold the same systems.

  Returns:
    JSON values: 'datasets' (a row for each dataset and group: mean, sample
    standard deviation over templates and 95% interval of the main value),
    'clusters' (mean over datasets and interval, for each cluster and group),
    and 'headline' (by group: the mean over datasets of accuracy and exact
    match, and of either alone, each with its interval). 'leads' are intervals
    of the tuned mean less another's: systems answer the same resamples, so
    these are narrower than either mean's own.
  """
  systems = list(tasks[0].scores)
  rows = [
      _dataset(group, members, systems)
      for (group, _), members in _grouped(
          tasks, lambda task: (task.group, task.dataset)
      )
  ]
  clusters = [
      {
          'cluster': cluster,
          'group': group,
          'datasets': len(members),
          **_means(members, 'main', systems),
      }
      for (group, cluster), members in _grouped(
          rows, lambda row: (row.json['group'], row.json['cluster'])
      )
  ]
  return {
      'datasets': [row.json for row in rows],
      'clusters': clusters,
      'headline': _headline(rows, systems),
  }


@dataclasses.dataclass(frozen=True)
class _Row:
  """A dataset's means over templates.

  Attributes:
    json: What is written of it.
    main: Its main value by system, and replicates [R].
    headline: The value that the headline averages, alike.
  """

  json: dict[str, Any]
  main: dict[str, tuple[float, np.ndarray]]
  headline: dict[str, tuple[float, np.ndarray]]


def _dataset(
    group: str, members: Sequence[TaskScores], systems: Sequence[str]
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
      },
      main,
      headline,
  )


def _headline(rows: Sequence[_Row], systems: Sequence[str]) -> dict[str, Any]:
  """By group: datasets and means, of all and of each way of answering."""
  result = {}
  for group in GROUPS:
    mine = [row for row in rows if row.json['group'] == group]
    if not mine:
      continue
    result[group] = {
        part: {
            'datasets': len(members),
            **_means(members, 'headline', systems),
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
    rows: Sequence[_Row], which: str, systems: Sequence[str]
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
          system: _interval(means['tuned'][1] - replicates)
          for system, (_, replicates) in means.items()
          if 'tuned' in means and system != 'tuned'
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
