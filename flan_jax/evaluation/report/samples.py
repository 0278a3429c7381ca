"""Which predictions a report shows: some right, some wrong, of every task."""

from collections.abc import Iterable, Mapping
from typing import Any

# Keeps the page below a few megabytes, however much was evaluated.
_MOST = 600
_MOST_OF_A_TASK = 8
_LONGEST_TEXT = 4000


def choose(lines: Iterable[Mapping[str, Any]], tasks: int) -> list[dict]:
  """Chooses the predictions to show.

  Args:
    lines: The lines of the predictions file, in order.
    tasks: How many tasks they are of.

  Returns:
    Lines in their order: up to eight of a task, as many right as wrong where
    there are both, fewer of each where there are many tasks. Long texts are
    cut.
  """
  each = max(1, min(_MOST_OF_A_TASK, _MOST // max(tasks, 1)))
  waiting: dict[str, tuple[list, list]] = {}
  for place, line in enumerate(lines):
    right, wrong = waiting.setdefault(line['task'], ([], []))
    mine = right if line['answers']['tuned']['right'] else wrong
    if len(mine) < each:
      mine.append((place, _shortened(line)))
  chosen = []
  for right, wrong in waiting.values():
    fair = each - each // 2
    taken_wrong = wrong[: max(fair, each - len(right))]
    chosen += taken_wrong + right[: each - len(taken_wrong)]
  # Where there are more tasks than places, evenly spaced ones stay.
  step = max(1, -(-len(chosen) // _MOST))
  return [line for _, line in sorted(chosen, key=lambda pair: pair[0])[::step]]


def _shortened(line: Mapping[str, Any]) -> dict[str, Any]:
  short = dict(line)
  short['inputs'] = _cut(line['inputs'])
  short['references'] = [_cut(text) for text in line['references'][:10]]
  short['answers'] = {
      system: {**answer, 'text': _cut(answer['text'])}
      for system, answer in line['answers'].items()
  }
  return short


def _cut(text: str) -> str:
  if len(text) <= _LONGEST_TEXT:
    return text
  return f'{text[:_LONGEST_TEXT]} … ({len(text):,} characters in all)'
