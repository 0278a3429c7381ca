"""The files of an evaluation: results, predictions, report."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import dataclasses
import itertools
import json
import os
import pathlib
import statistics
from typing import Any

import flan_jax
from flan_jax import storage
from flan_jax.evaluation import metrics
from flan_jax.evaluation import protocol
from flan_jax.evaluation import summary
from flan_jax.evaluation import systems as systems_lib
from flan_jax.evaluation.metrics import bootstrap
from flan_jax.evaluation.report import page
from flan_jax.evaluation.report import samples as samples_lib

# Raised when a key of results.json changes its meaning.
FORMAT = 2
RESULTS, PREDICTIONS, VALIDATION, REPORT = (
    'results.json',
    'predictions.jsonl',
    'validation.jsonl',
    'report.html',
)


def assemble(
    tasks: Sequence[summary.TaskScores],
    *,
    systems: Mapping[str, Mapping[str, Any]],
    mixtures: Sequence[str],
    left_out: Sequence[str] = (),
    templates: str,
    shots: Sequence[int | str] = (),
    best_template: bool = False,
    best_template_examples: int | None = None,
    without_validation: Sequence[str] = (),
    rendering: protocol.Rendering,
    normalisation: str,
    decoding: Mapping[str, Any] | None = None,
    use_ema: bool = False,
    published: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
  """Returns what `results.json` holds: JSON values, the same for equal runs.

  docs/evaluation.md says what each key is.

  Args:
    tasks: The scores, at least one of the main setting.
    systems: What each system is: 'kind' and, of models, 'checkpoint' and more.
    mixtures: What was evaluated, as it was asked for.
    left_out: Datasets of it that were done without.
    templates: Which templates were ('all' and so on).
    shots: Numbers of exemplars; () where the names say them.
    best_template: Whether the best templates were looked for.
    best_template_examples: On how many validation rows at most.
    without_validation: Datasets of which there were none.
    rendering: Which rows were evaluated.
    normalisation: How options of different lengths were compared.
    decoding: How answers were written, if it is known.
    use_ema: Whether models were averages.
    published: Scores of papers on these datasets.
  """
  roles = systems_lib.roles(systems, best_template)
  by_setting: dict[str, list[summary.TaskScores]] = {'': []}
  for task in tasks:
    by_setting.setdefault(task.setting, []).append(task)
  main = by_setting.pop('')
  means = summary.summarize(main, roles)
  return {
      'format': FORMAT,
      'version': flan_jax.__version__,
      'mixtures': list(mixtures),
      'left_out': list(left_out),
      'split': rendering.split,
      'templates': templates,
      'shots': list(shots),
      'max_examples': rendering.limit,
      'seed': rendering.seed,
      'normalisation': normalisation,
      'decoding': dict(decoding or {}),
      'use_ema': use_ema,
      'systems': {name: dict(each) for name, each in systems.items()},
      **means,
      'settings': {
          setting: summary.summarize(members, roles)
          for setting, members in by_setting.items()
      },
      'best_template': (
          {
              'split': 'validation',
              'max_examples': best_template_examples,
              'without': list(without_validation),
              'predictions': VALIDATION,
          }
          if best_template
          else None
      ),
      'published': [
          {**each, **ours}
          for each in published
          for ours in _ours(each, main, means['datasets'], roles.models)
      ],
      'tasks': [task.as_json() for task in tasks],
      'values': _values(tasks),
      'bootstrap': {
          'method': 'percentile',
          'level': bootstrap.LEVEL,
          'resamples': bootstrap.RESAMPLES,
          'seed': rendering.seed,
      },
      'predictions': PREDICTIONS,
  }


def _ours(
    printed: Mapping[str, Any],
    tasks: Sequence[summary.TaskScores],
    rows: Sequence[Mapping[str, Any]],
    models: Sequence[str],
) -> Iterator[dict[str, Any]]:
  """Yields, for each group of a paper's dataset, what our models have there.

  'mean' is over templates and 'best' under the template that is best on
  validation, both in the paper's metric.
  """
  metric = printed['metric']
  for row in rows:
    mine = [
        task
        for task in tasks
        if (task.dataset, task.group) == (printed['dataset'], row['group'])
        and metric in task.scores[models[0]]
    ]
    if row['dataset'] != printed['dataset'] or not mine:
      continue
    ours = {}
    for model in models:
      best = row['best'].get(model, {}).get('template')
      ours[model] = {
          'mean': statistics.fmean(t.scores[model][metric] for t in mine),
          'best': next(
              (t.scores[model][metric] for t in mine if t.template == best),
              None,
          ),
      }
    yield {'group': row['group'], 'ours': ours}


def _values(tasks: Sequence[summary.TaskScores]) -> dict[str, dict[str, Any]]:
  """How each value that occurs is read: its unit and direction."""
  names = {
      name
      for task in tasks
      for values in task.scores.values()
      for name in values
  }
  return {
      name: dataclasses.asdict(metrics.value(name)) for name in sorted(names)
  }


def write(
    directory: str | os.PathLike[str],
    results: Mapping[str, Any],
    lines: Iterable[Mapping[str, Any]],
    validation: Iterable[Mapping[str, Any]] = (),
) -> pathlib.Path:
  """Writes the files, each whole or not at all, the report last.

  Args:
    directory: Where they go; made if need be.
    results: What `assemble` returned.
    lines: What `protocol.lines` yields.
    validation: The same of validation rows; without any, no file is written.

  Returns:
    The report.
  """
  from flan_jax.inference import writer  # It imports jax.

  folder = pathlib.Path(directory)
  main = sum(not task['setting'] for task in results['tasks'])
  chooser = samples_lib.Chooser(main, systems_lib.tuned(results['systems']))

  def noted() -> Iterator[Mapping[str, Any]]:
    for line in lines:
      if not line['setting']:
        chooser.add(line)
      yield line

  writer.write(folder / PREDICTIONS, noted())
  first = next(validating := iter(validation), None)
  if first is None:
    (folder / VALIDATION).unlink(missing_ok=True)
  else:
    writer.write(folder / VALIDATION, itertools.chain([first], validating))
  text = json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False)
  storage.write(folder / RESULTS, text + '\n')
  storage.write(folder / REPORT, page.render(results, chooser.chosen()))
  return folder / REPORT
