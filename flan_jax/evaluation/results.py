"""The files of an evaluation: results.json, predictions.jsonl, report.html."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import dataclasses
import json
import os
import pathlib
from typing import Any

import flan_jax
from flan_jax.evaluation import metrics
from flan_jax.evaluation import protocol
from flan_jax.evaluation import summary
from flan_jax.evaluation.metrics import bootstrap
from flan_jax.evaluation.report import page
from flan_jax.evaluation.report import samples as samples_lib

# Raised when a key of results.json changes its meaning.
FORMAT = 1
RESULTS, PREDICTIONS, REPORT = (
    'results.json',
    'predictions.jsonl',
    'report.html',
)


def assemble(
    tasks: Sequence[summary.TaskScores],
    *,
    systems: Mapping[str, Mapping[str, Any]],
    mixtures: Sequence[str],
    left_out: Sequence[str] = (),
    templates: str,
    rendering: protocol.Rendering,
    normalisation: str,
) -> dict[str, Any]:
  """Returns what `results.json` holds: JSON values, the same for equal runs.

  Args:
    tasks: The scores, at least one.
    systems: What each system is; of models, 'checkpoint' and 'step'.
    mixtures: What was evaluated, as it was asked for.
    left_out: Datasets of it that were done without.
    templates: Which templates were ('all' and so on).
    rendering: Which rows were.
    normalisation: How options of different lengths were compared.
  """
  return {
      'format': FORMAT,
      'version': flan_jax.__version__,
      'mixtures': list(mixtures),
      'left_out': list(left_out),
      'split': rendering.split,
      'templates': templates,
      'max_examples': rendering.limit,
      'seed': rendering.seed,
      'normalisation': normalisation,
      'systems': {name: dict(each) for name, each in systems.items()},
      **summary.summarize(tasks),
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
) -> pathlib.Path:
  """Writes the three files, each whole or not at all, the report last.

  Args:
    directory: Where they go; made if need be.
    results: What `assemble` returned.
    lines: What `protocol.lines` yields.

  Returns:
    The report.

  Raises:
    UserError: A score is not a number, which JSON cannot hold.
  """
  from flan_jax.inference import writer  # It imports jax.

  folder = pathlib.Path(directory)
  chooser = samples_lib.Chooser(len(results['tasks']))

  def noted() -> Iterator[Mapping[str, Any]]:
    for line in lines:
      chooser.add(line)
      yield line

  writer.write(folder / PREDICTIONS, noted())
  text = json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False)
  _replace(folder / RESULTS, text + '\n')
  _replace(folder / REPORT, page.render(results, chooser.chosen()))
  return folder / REPORT


def _replace(path: pathlib.Path, text: str) -> None:
  """Writes a file under a temporary name, and renames it."""
  temporary = path.with_name(f'{path.name}.{os.getpid()}.tmp')
  try:
    temporary.write_text(text, encoding='utf-8')
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)
