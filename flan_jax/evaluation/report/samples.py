"""Which predictions a report shows: some right, some wrong, of every task."""

from collections.abc import Mapping, Sequence
from typing import Any

from flan_jax.evaluation import summary

# Keeps the page below a few megabytes, however much was evaluated.
_MOST = 600
_MOST_OF_A_TASK = 8
_LONGEST_TEXT = 4000
_MOST_REFERENCES = 10

_Line = Mapping[str, Any]


class Chooser:
  """Sees all lines of a predictions file, and keeps the few to show.

  Up to eight of a task (fewer where there are many tasks), as many that the
  first model has right as wrong ones where there are both.
  """

  def __init__(self, tasks: int, models: Sequence[str]):
    """Keeps nothing yet.

    Args:
      tasks: How many tasks the lines are of.
      models: The tuned models.
    """
    self._first = models[0]
    self._each = max(1, min(_MOST_OF_A_TASK, _MOST // max(tasks, 1)))
    self._seen = 0
    self._waiting: dict[str, tuple[list, list]] = {}

  def add(self, line: _Line) -> None:
    """Takes note of a line."""
    right, wrong = self._waiting.setdefault(line['task'], ([], []))
    mine = right if line['answers'][self._first]['right'] else wrong
    if len(mine) < self._each:
      mine.append((self._seen, _shortened(line)))
    self._seen += 1

  def chosen(self) -> list[dict[str, Any]]:
    """Returns the lines to show, long texts cut.

    The first line of every task comes before the second one of any, and what
    training never saw comes first.
    """
    order = list(summary.GROUPS)
    kept = []
    for right, wrong in self._waiting.values():
      fair = self._each - self._each // 2
      taken = wrong[: max(fair, self._each - len(right))]
      taken = sorted(taken + right[: self._each - len(taken)], key=_place)
      for turn, (place, line) in enumerate(taken):
        kept.append((turn, order.index(line['group']), place, line))
    kept.sort(key=lambda entry: entry[:3])
    # Where there are more tasks than places, evenly spaced ones stay.
    step = max(1, -(-len(kept) // _MOST))
    return [line for *_, line in kept[::step]]


def _place(entry: tuple[int, _Line]) -> int:
  return entry[0]


def _shortened(line: _Line) -> dict[str, Any]:
  short = dict(line)
  short['inputs'] = _cut(line['inputs'])
  short['references'] = [
      _cut(text) for text in line['references'][:_MOST_REFERENCES]
  ]
  short['answers'] = {
      system: {**answer, 'text': _cut(answer['text'])}
      for system, answer in line['answers'].items()
      if system != 'random'  # It would say nothing of the example.
  }
  return short


def _cut(text: str) -> str:
  if len(text) <= _LONGEST_TEXT:
    return text
  return f'{text[:_LONGEST_TEXT]} … ({len(text):,} characters in all)'
