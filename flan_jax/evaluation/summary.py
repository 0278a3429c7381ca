"""Means over templates, datasets and clusters of what tasks scored."""

from collections.abc import Iterable, Sequence
import dataclasses
import statistics
from typing import Any

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
    scores: Values in percent by name, by system.
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


def summarize(tasks: Sequence[TaskScores]) -> dict[str, Any]:
  """Averages over templates, then datasets, then clusters.

  Every dataset counts the same in its cluster and in the headline, however
  many templates or examples it has.

  Args:
    tasks: At least one task; all hold the same systems.

  Returns:
    JSON values: 'datasets' (a row for each dataset and group: mean and sample
    standard deviation over templates of the main value), 'clusters' (mean over
    datasets, for each cluster and group), and 'headline' (by group: the mean
    over datasets of accuracy and exact match, and of either alone).
  """
  systems = list(tasks[0].scores)
  datasets = []
  for (group, dataset), members in _grouped(
      tasks, lambda task: (task.group, task.dataset)
  ):
    first = members[0]
    datasets.append({
        'dataset': dataset,
        'collection': first.collection,
        'cluster': first.cluster,
        'group': group,
        'how': first.how,
        'metric': first.metric,
        'headline': first.headline,
        'templates': len(members),
        'examples': sum(task.examples for task in members),
        'scores': {
            system: _spread([t.scores[system][t.metric] for t in members])
            for system in systems
        },
        'headline_scores': {
            system: statistics.fmean(
                t.scores[system][t.headline] for t in members
            )
            for system in systems
        },
    })
  clusters = [
      {
          'cluster': cluster,
          'group': group,
          'datasets': len(members),
          'scores': {
              system: statistics.fmean(
                  row['scores'][system]['mean'] for row in members
              )
              for system in systems
          },
      }
      for (group, cluster), members in _grouped(
          datasets, lambda row: (row['group'], row['cluster'])
      )
  ]
  return {
      'datasets': datasets,
      'clusters': clusters,
      'headline': _headline(datasets, systems),
  }


def _headline(
    datasets: Sequence[dict[str, Any]], systems: Sequence[str]
) -> dict[str, Any]:
  """By group: datasets and means, of all and of each way of answering."""
  result = {}
  for group in GROUPS:
    rows = [row for row in datasets if row['group'] == group]
    if not rows:
      continue
    result[group] = {
        part: {
            'datasets': len(members),
            'scores': {
                system: statistics.fmean(
                    row['headline_scores'][system] for row in members
                )
                for system in systems
            },
        }
        for part, members in (
            ('all', rows),
            ('rank', [row for row in rows if row['how'] == 'rank']),
            ('generate', [row for row in rows if row['how'] == 'generate']),
        )
        if members
    }
  return result


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
