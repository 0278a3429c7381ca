"""What is known of a run from its MODEL_DIR, for comparing it with others."""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import os
import pathlib
import statistics
from typing import Any

from flan_jax import errors
from flan_jax import storage
from flan_jax.checkpoints import runs as runs_lib
from flan_jax.checkpoints import starts
from flan_jax.training import metrics

# Points of a curve that has one a step; more could not be told apart.
_POINTS = 240
_STEP_CURVES = ('loss', 'accuracy', 'gradient_norm', 'learning_rate')

# Steps and values.
Curve = list[tuple[int, float]]


@dataclasses.dataclass(frozen=True)
class Run:
  """A run.

  Attributes:
    name: What sets it apart from the others: its folder's name, as a rule.
    directory: Its MODEL_DIR.
    records: Lines of its metrics.jsonl, at least one.
    facts: What its run.json says.
    start: Its last start, as environment.json has it; {} if it has none.
  """

  name: str
  directory: pathlib.Path
  records: list[dict[str, Any]]
  facts: Mapping[str, Any]
  start: Mapping[str, Any]

  def summary(self) -> dict[str, float]:
    """Returns the numbers of the whole run, as far as there are any.

    'steps', 'loss' and 'accuracy' (of the last period), each 'eval/...' (the
    last), 'tokens' (all), 'tokens_per_second' (the median step's), 'seconds'.
    """
    last = self._last_steps()
    found: dict[str, float] = {'steps': self.records[-1]['step']}
    for name in ('loss', 'accuracy'):
      mean = _mean(last, name)
      if mean is not None:
        found[name] = mean
    for record in self.records:
      found |= _evaluated(record)
    found['tokens'] = sum(r['tokens'] for r in self.records)
    found['tokens_per_second'] = statistics.median(
        r['tokens_per_second'] for r in self.records
    )
    found['seconds'] = sum(r['seconds'] for r in self.records)
    return found

  def curves(self) -> dict[str, Curve]:
    """Returns all curves by name: of steps, of evaluations, of periods."""
    found: dict[str, Curve] = {name: [] for name in _STEP_CURVES}
    found['tokens_per_second'] = []
    for part in _parts(self.records):
      step = part[-1]['step']
      for name in _STEP_CURVES:
        mean = _mean(part, name)
        if mean is not None:
          found[name].append((step, mean))
      seconds = max(sum(r['seconds'] for r in part), 1e-9)
      speed = sum(r['tokens'] for r in part) / seconds
      found['tokens_per_second'].append((step, speed))
    for record in self.records:
      named = _evaluated(record) | {
          name: value
          for name, value in record.get('period', {}).items()
          if name.startswith('loss/') or name == 'mfu'
      }
      for name, value in named.items():
        found.setdefault(name, []).append((record['step'], value))
    return found

  def settings(self) -> dict[str, Any]:
    """Returns what may explain a difference, by name."""
    found = dict(self.facts.get('settings', {}))
    for name in ('left_out', 'parameters', 'train_steps'):
      if name in self.facts:
        found[name.upper()] = self.facts[name]
    for name in ('devices', 'mesh', 'processes', 'python'):
      if name in self.start:
        found[name] = self.start[name]
    for name, version in self.start.get('packages', {}).items():
      found[f'packages.{name}'] = version
    for name, revision in self.start.get('git', {}).items():
      changed = ' and changes' if revision.get('changed') else ''
      found[f'git.{name}'] = f'{revision["commit"][:10]}{changed}'
    return found

  def _last_steps(self) -> list[dict[str, Any]]:
    """Returns the steps of the last period that was finished, or the last."""
    for place in range(len(self.records) - 1, -1, -1):
      period = self.records[place].get('period')
      if period:
        return self.records[
            max(place + 1 - int(period['steps']), 0) : place + 1
        ]
    return self.records[-1:]


def _evaluated(record: Mapping[str, Any]) -> dict[str, float]:
  return {
      name: value
      for name, value in record.items()
      if name.startswith('eval/') and value is not None
  }


def _mean(records: Sequence[Mapping[str, Any]], name: str) -> float | None:
  """Returns the mean over target tokens, of steps that have a number."""
  known = [r for r in records if r[name] is not None and not r.get('skipped')]
  weight = sum(r['target_tokens'] for r in known)
  if not weight:
    return None
  return sum(r[name] * r['target_tokens'] for r in known) / weight


def _parts(records: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
  """Yields runs of steps, as equal as they can be and not more than fit."""
  size = -(-len(records) // _POINTS)
  for first in range(0, len(records), size):
    yield list(records[first : first + size])


def load(paths: Sequence[str | os.PathLike[str]]) -> list[Run]:
  """Reads runs.

  Raises:
    UserError: One is no run, or has done no step.
  """
  for path in paths:
    storage.check('flan-jax compare', path)
  folders = [storage.path(path) for path in paths]
  found = []
  for folder, name in zip(folders, _names(folders), strict=True):
    if not (folder / runs_lib.RUN_FILE).is_file():
      runs_lib.locate(folder)  # It says which runs there are.
      raise errors.UserError(
          f'{folder}: is a checkpoint; name its run, {folder.parent}'
      )
    path = folder / metrics.METRICS_FILE
    records = metrics.read(path) if path.is_file() else []
    if not records:
      raise errors.UserError(f'{path}: holds no step yet')
    before = starts.read(folder)
    facts = runs_lib.read(folder)
    found.append(
        Run(name, folder, records, facts, before[-1] if before else {})
    )
  return found


def _names(folders: Sequence[pathlib.Path]) -> list[str]:
  """Returns the ends of paths, as long as it takes to tell them apart."""
  parts = [storage.absolute(folder).parts for folder in folders]
  for place, part in enumerate(parts):
    if part in parts[:place]:
      raise errors.UserError(f'{folders[place]}: is named twice')
  length = 1
  while len({part[-length:] for part in parts}) < len(parts):
    length += 1
  return ['/'.join(part[-length:]) for part in parts]


def differing(runs: Sequence[Run]) -> dict[str, list[Any]]:
  """Returns the settings that are not the same in all runs.

  What a run does not say of its environment differs from nothing, and where
  mixtures differ their tasks are not listed.

  Returns:
    By name, the value in each run; None where a run does not have it.
  """
  settings = [run.settings() for run in runs]
  names = dict.fromkeys(name for each in settings for name in each)
  columns = {name: [each.get(name) for each in settings] for name in names}
  return {
      name: values
      for name, values in columns.items()
      if any(value != values[0] for value in values)
      and not (None in values and (name.islower() or _is_task(name)))
  }


def _is_task(name: str) -> bool:
  """Whether a setting is the version of a task's dataset."""
  return name.startswith('MIXTURE_OR_TASK_NAME.')
