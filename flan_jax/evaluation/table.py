"""Results for a terminal: a table of at most 80 columns, and a few samples."""

from collections.abc import Iterator, Mapping, Sequence
import textwrap
from typing import Any

from flan_jax.evaluation import metrics
from flan_jax.evaluation import protocol
from flan_jax.evaluation import scoring
from flan_jax.evaluation import summary

_NAME, _METRIC, _FIRST, _OTHER = 25, 15, 21, 9
# With more datasets than this, a group is shown by cluster.
_MOST_ROWS = 40
_LONGEST_INPUTS, _LONGEST_ANSWER = 600, 200


def render(results: Mapping[str, Any]) -> str:
  """Returns the table: datasets (or clusters) by group, and their mean.

  The tuned model's values have their 95% interval in brackets.

  Args:
    results: What `results.json` holds.
  """
  systems = list(results['systems'])
  blocks = []
  # The headline comes last, where a terminal stands still.
  for group, name in reversed(summary.GROUPS.items()):
    rows = [r for r in results['datasets'] if r['group'] == group]
    if not rows:
      continue
    by_cluster = len(rows) > _MOST_ROWS
    block = [name, _head('cluster' if by_cluster else 'dataset', systems)]
    block.append('-' * len(block[-1]))
    if by_cluster:
      rows = [r for r in results['clusters'] if r['group'] == group]
      for row in rows:
        name, count = row['cluster'], f'{row["datasets"]} datasets'
        block.append(_line(name, count, _cells(row, systems)))
    else:
      block += [_dataset(row, systems) for row in rows]
    block.append('-' * len(block[1]))
    block += _means(results['headline'][group], systems)
    blocks.append('\n'.join(block))
  return '\n\n'.join(blocks)


def headline(results: Mapping[str, Any]) -> str:
  """Returns the headline of each group: the tuned model's lead, in lines."""
  lines = []
  for group, parts in results['headline'].items():
    means = parts['all']
    scores = dict(means['scores'])
    tuned = scores.pop('tuned')
    lines.append(f'{summary.GROUPS[group]}:')
    around = _interval(means['intervals']['tuned'])
    lines.append(f'  {"tuned":<9}{tuned:5.1f}{around}')
    for system, score in scores.items():
      around = _interval(means['leads'][system])
      lines.append(
          f'  {system:<9}{score:5.1f}, {tuned - score:+.1f}{around} for tuned'
      )
  return '\n'.join(lines)


def _line(name: str, metric: str, cells: Sequence[str]) -> str:
  """A line of the table; a long name loses its middle."""
  if len(name) > _NAME:
    half = (_NAME - 3) // 2
    name = f'{name[: _NAME - 3 - half]}...{name[-half:]}'
  first, *others = cells
  return f'{name:<{_NAME}} {metric:<{_METRIC}}{first:>{_FIRST}}' + ''.join(
      f'{cell:>{_OTHER}}' for cell in others
  )


def _head(what: str, systems: Sequence[str]) -> str:
  first, *others = systems
  return _line(what, 'metric', [f'{first} [95%]', *others])


def _dataset(row: Mapping[str, Any], systems: Sequence[str]) -> str:
  scores = {system: row['scores'][system]['mean'] for system in systems}
  intervals = {system: row['scores'][system]['interval'] for system in systems}
  cells = _cells({'scores': scores, 'intervals': intervals}, systems)
  return _line(row['dataset'], metrics.title(row['metric']), cells)


def _cells(means: Mapping[str, Any], systems: Sequence[str]) -> list[str]:
  """The means of systems, with the interval of the tuned one."""
  cells = []
  for system in systems:
    around = _interval(means['intervals'][system]) if system == 'tuned' else ''
    cells.append(f'{means["scores"][system]:.1f}{around}')
  return cells


def _interval(ends: Sequence[float]) -> str:
  return f' [{ends[0]:.1f}, {ends[1]:.1f}]'


def _means(parts: Mapping[str, Any], systems: Sequence[str]) -> Iterator[str]:
  """The mean of accuracy and exact match, and of each where both are there."""
  names = {
      'all': 'accuracy / EM',
      'rank': 'accuracy',
      'generate': 'exact match',
  }
  for part, name in names.items():
    if part in parts and (part == 'all' or len(parts) > 2):
      count = parts[part]['datasets']
      label = f'mean of {count} dataset{"" if count == 1 else "s"}'
      yield _line(label, name, _cells(parts[part], systems))


def samples(
    work: Sequence[protocol.Work],
    answers: Mapping[str, Sequence[Sequence[scoring.Answer]]],
    count: int = 3,
) -> str:
  """Returns a few predictions, whatever they are: the first of some tasks.

  What training never saw comes first, and each way of answering and each
  group is shown before any comes twice.
  """
  order = list(summary.GROUPS)
  places = sorted(
      range(len(work)), key=lambda i: order.index(work[i].item.group)
  )
  kinds: dict[tuple[str, str], list[int]] = {}
  for place in places:
    item = work[place].item
    kinds.setdefault((item.group, item.how), []).append(place)
  chosen: list[int] = []
  while len(chosen) < min(count, len(work)):
    for waiting in kinds.values():
      if waiting and len(chosen) < count:
        chosen.append(waiting.pop(0))
  return '\n\n'.join(_sample(work[place], place, answers) for place in chosen)


def _sample(
    work: protocol.Work,
    place: int,
    answers: Mapping[str, Sequence[Sequence[scoring.Answer]]],
) -> str:
  example = work.examples[0]
  item = work.item
  template = item.template or 'no template'
  lines = [f'{item.dataset.name}, {template} ({summary.GROUPS[item.group]})']
  lines.append(_entry('inputs', example.inputs, _LONGEST_INPUTS))
  lines.append(_entry('answer', ' | '.join(scoring.accepted(example)[:5])))
  for system, said in answers.items():
    if system == 'majority':
      continue
    answer = said[place][0]
    verdict = 'right' if scoring.is_right(example, answer) else 'wrong'
    lines.append(_entry(system, answer.text or '(nothing)') + f' ({verdict})')
  return '\n'.join(lines)


def _entry(name: str, text: str, longest: int = _LONGEST_ANSWER) -> str:
  """A text beside its name, wrapped to 80 columns, its line breaks kept."""
  if len(text) > longest:
    text = f'{text[:longest]} ...'
  head = f'  {name + ":":<10}'
  wrapped: list[str] = []
  for line in text.split('\n'):
    wrapped += textwrap.wrap(line, 80 - len(head)) or ['']
  first, *others = wrapped
  indented = (' ' * len(head) + line if line else '' for line in others)
  return '\n'.join([head + first, *indented])
