"""Results for a terminal: a table, 80 columns wide if it can, and samples."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import dataclasses
import textwrap
from typing import Any

from flan_jax.evaluation import metrics
from flan_jax.evaluation import protocol
from flan_jax.evaluation import scoring
from flan_jax.evaluation import summary
from flan_jax.evaluation import systems as systems_lib

_WIDTH = 80
_SHORTEST_NAME = 24
_LONGEST_LABEL = 14
# With more datasets than this, a group is shown by cluster.
_MOST_ROWS = 40
_LONGEST_INPUTS, _LONGEST_ANSWER = 600, 200
# These go without saying.
_USUAL = ('accuracy', 'exact_match')
_PARTS = {
    'all': 'accuracy and EM',
    'rank': 'accuracy',
    'generate': 'exact match',
}


@dataclasses.dataclass(frozen=True)
class _Column:
  """A column of figures.

  Attributes:
    head: Its head.
    width: In letters, with the gap before it.
    system: Whose figures.
    what: 'mean', 'interval' (the mean and its interval) or 'best' (under the
      template that is best on validation).
  """

  head: str
  width: int
  system: str
  what: str = 'mean'


def _columns(results: Mapping[str, Any]) -> list[_Column]:
  described = results['systems']
  models = systems_lib.tuned(described)
  best = any(row['best'] for row in results['datasets'])
  if len(models) == 1:
    (model,) = models
    # The name in full is in the headline.
    (label,) = systems_lib.cut_names(models, _LONGEST_LABEL)
    columns = [_Column(f'{label} [95%]', 21, model, 'interval')]
    if best:
      columns.append(_Column('best', 6, model, 'best'))
  else:
    labels = systems_lib.cut_names(models, _LONGEST_LABEL)
    columns = [
        _Column(label, max(8, len(label) + 2), model)
        for label, model in zip(labels, models, strict=True)
    ]
  untuned = [n for n, facts in described.items() if facts['kind'] == 'untuned']
  if len(untuned) == 1:
    columns.append(_Column('untuned', 8, untuned[0]))
  columns += [
      _Column(name, len(name) + 1, name)
      for name in systems_lib.GUESSES
      if name in described
  ]
  return columns


def render(results: Mapping[str, Any]) -> str:
  """Returns the table: datasets (or clusters) by group, and their mean.

  The values of a model that is alone have their 95% interval in brackets, and
  the column 'best' beside them. Other settings and what papers print follow.

  Args:
    results: What `results.json` holds.
  """
  columns = _columns(results)
  blocks = []
  settings = _settings(results, columns)
  if settings:
    blocks.append(settings)
  if results['published']:
    blocks.append('\n'.join(_published(results)))
  # The headline comes last, where a terminal stands still.
  for group, name in reversed(summary.GROUPS.items()):
    rows = [r for r in results['datasets'] if r['group'] == group]
    if not rows:
      continue
    by_cluster = len(rows) > _MOST_ROWS
    block = [name, _head('cluster' if by_cluster else 'dataset', columns)]
    block.append('-' * len(block[-1]))
    if by_cluster:
      rows = [r for r in results['clusters'] if r['group'] == group]
      for row in rows:
        block.append(
            _line(row['cluster'], f' ({row["datasets"]})', row, columns)
        )
    else:
      block += [_dataset(row, columns) for row in rows]
    block.append('-' * len(block[1]))
    block += _means(results['headline'][group], columns)
    blocks.append('\n'.join(block))
  return '\n\n'.join(blocks)


def headline(results: Mapping[str, Any]) -> str:
  """Returns the headline of each group: each model's lead, in lines."""
  described = results['systems']
  models = systems_lib.tuned(described)
  width = max(map(len, described))
  lines = []
  for group, parts in results['headline'].items():
    means = parts['all']
    scores = means['scores']
    lines.append(f'{summary.GROUPS[group]}:')
    for model in models:
      around = _interval(means['intervals'][model])
      best = means['best'].get(model)
      under = '' if best is None else f', {best:.1f} under the best templates'
      lines.append(f'  {model:<{width}} {scores[model]:5.1f}{around}{under}')
      lines += [
          f'  {other:<{width}} {scores[other]:5.1f}, '
          f'{scores[model] - scores[other]:+.1f}'
          f'{_interval(means["leads"][model][other])} for {model}'
          for other in _compared(model, described, models)
      ]
  return '\n'.join(lines)


def _compared(
    model: str, described: Mapping[str, Any], models: Sequence[str]
) -> list[str]:
  """Returns the systems whose distance to a model is told."""
  own = described[model].get('untuned')
  guesses = [name for name in systems_lib.GUESSES if name in described]
  if len(models) == 1 or model == models[0]:
    return ([own] if own else []) + guesses
  return [own] if own else []


def warnings(results: Mapping[str, Any]) -> list[str]:
  """Returns lines on what should not be: scores that are no numbers."""
  lines = []
  for system in results['systems']:
    counts = {
        task['task']: task['no_number'][system]
        for task in results['tasks']
        if system in task['no_number']
    }
    if counts:
      names = ', '.join(list(counts)[:3]) + (' ...' if len(counts) > 3 else '')
      lines.append(
          f'{system}: {sum(counts.values()):,} answers have a score that is not'
          f' a number ({names}); its parameters have overflowed, or its'
          ' training diverged'
      )
  return lines


def _name_width(columns: Sequence[_Column]) -> int:
  return max(_SHORTEST_NAME, _WIDTH - sum(column.width for column in columns))


def _cut(name: str, width: int) -> str:
  """A long name loses its middle."""
  if len(name) <= width:
    return name
  half = (width - 3) // 2
  return f'{name[: width - 3 - half]}...{name[-half:]}'


def _row(name: str, cells: Iterable[str], columns: Sequence[_Column]) -> str:
  shown = zip(cells, columns, strict=True)
  return f'{name:<{_name_width(columns)}}' + ''.join(
      f'{cell:>{column.width}}' for cell, column in shown
  )


def _line(
    name: str,
    note: str,
    means: Mapping[str, Any],
    columns: Sequence[_Column],
) -> str:
  """A line of the table, with the note in full."""
  name = _cut(name, _name_width(columns) - len(note)) + note
  return _row(name, (_cell(means, column) for column in columns), columns)


def _cell(means: Mapping[str, Any], column: _Column) -> str:
  system = column.system
  if column.what == 'best':
    found = means['best'].get(system)
    return '-' if found is None else f'{found:.1f}'
  around = ''
  if column.what == 'interval':
    around = _interval(means['intervals'][system])
  return f'{means["scores"][system]:.1f}{around}'


def _interval(ends: Sequence[float]) -> str:
  return f' [{ends[0]:.1f}, {ends[1]:.1f}]'


def _head(what: str, columns: Sequence[_Column]) -> str:
  return _row(what, (column.head for column in columns), columns)


def _dataset(row: Mapping[str, Any], columns: Sequence[_Column]) -> str:
  metric = row['metric']
  note = '' if metric in _USUAL else f', {metrics.title(metric)}'
  return _line(row['dataset'], note, dataset_means(row), columns)


def dataset_means(row: Mapping[str, Any]) -> dict[str, Any]:
  """Returns a dataset's row in the form of a cluster's."""
  scores = row['scores']
  return {
      'scores': {system: each['mean'] for system, each in scores.items()},
      'intervals': {s: each['interval'] for s, each in scores.items()},
      'best': {s: each['score'] for s, each in row['best'].items()},
  }


def _means(
    parts: Mapping[str, Any], columns: Sequence[_Column]
) -> Iterator[str]:
  """The mean of accuracy and exact match, and of each where both are there."""
  for part, name in _PARTS.items():
    if part in parts and (part == 'all' or len(parts) > 2):
      count = parts[part]['datasets']
      yield _line(f'mean of {count}', f', {name}', parts[part], columns)


def setting_title(setting: str, shots: Sequence[int | str] = ()) -> str:
  """Returns what a setting is called; '' is the main one."""
  titles = {
      'no_template': 'no template',
      'name_only': 'dataset name only',
  }
  if not setting:
    if not shots:
      return 'as named'
    setting = f'{shots[0]}_shot'
  if setting == '0_shot':
    return 'zero-shot'
  if setting == 'fit_shot':
    return 'as many shots as fit'
  return titles.get(setting, setting.replace('_', '-'))


def _settings(results: Mapping[str, Any], columns: Sequence[_Column]) -> str:
  """Means over datasets under each setting, by group; '' without others."""
  others = results['settings']
  if not others:
    return ''
  lines = ['Settings, mean of accuracy and exact match over datasets']
  for group, name in reversed(summary.GROUPS.items()):
    if group not in results['headline']:
      continue
    lines.append(_head(name[: _name_width(columns)], columns))
    lines.append('-' * len(lines[-1]))
    for setting in ('', *others):
      found = (others[setting] if setting else results)['headline'].get(group)
      if found:
        title = setting_title(setting, results['shots'])
        lines.append(
            _line(
                title, f' ({found["all"]["datasets"]})', found['all'], columns
            )
        )
  return '\n'.join(lines)


def _published(results: Mapping[str, Any]) -> Iterator[str]:
  """What papers print beside what the models have here."""
  yield 'Printed by papers (not run here), beside ours'
  models = systems_lib.tuned(results['systems'])
  labels = systems_lib.cut_names(models, 8)
  head = f'{"dataset":<22}{"paper":<29}{"theirs":>8}' + ''.join(
      f'{label:>9}' for label in labels
  )
  yield head
  yield '-' * len(head)
  for row in results['published']:
    name = _cut(f'{row["dataset"]}, {metrics.title(row["metric"])}', 21)
    paper = _cut(f'{row["model"]}, {row["paper"]}', 28)
    ours = (comparable(row, model)[0] for model in models)
    yield f'{name:<22}{paper:<29}{row["score"]:>8.1f}' + ''.join(
        f'{value:>9.1f}' for value in ours
    )


def comparable(row: Mapping[str, Any], model: str) -> tuple[float, str]:
  """Returns a model's score to compare with a paper's, 'best' or 'mean'.

  It is the mean over templates where the best one of them is not known.
  """
  ours = row['ours'][model]
  if row['template'] == 'best' and ours['best'] is not None:
    return ours['best'], 'best'
  return ours['mean'], 'mean'


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
  main = [i for i, each in enumerate(work) if not each.item.setting]
  places = sorted(main, key=lambda i: order.index(work[i].item.group))
  kinds: dict[tuple[str, str], list[int]] = {}
  for place in places:
    item = work[place].item
    kinds.setdefault((item.group, item.how), []).append(place)
  chosen: list[int] = []
  while len(chosen) < min(count, len(main)):
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
    if system in systems_lib.GUESSES:
      continue
    answer = said[place][0]
    verdict = 'right' if scoring.is_right(example, answer) else 'wrong'
    lines.append(_entry(system, answer.text or '(nothing)') + f' ({verdict})')
  return '\n'.join(lines)


def _entry(name: str, text: str, longest: int = _LONGEST_ANSWER) -> str:
  """A text beside its name, wrapped to 80 columns, its line breaks kept."""
  if len(text) > longest:
    text = f'{text[:longest]} ...'
  head = f'  {name + ": ":<10}'
  wrapped: list[str] = []
  for line in text.split('\n'):
    wrapped += textwrap.wrap(line, 80 - len(head)) or ['']
  first, *others = wrapped
  indented = (' ' * len(head) + line if line else '' for line in others)
  return '\n'.join([head + first, *indented])
