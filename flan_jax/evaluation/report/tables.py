"""The tables of the page: datasets and templates, settings, papers."""

from collections.abc import Mapping, Sequence
import html
from typing import Any

from flan_jax.evaluation import metrics
from flan_jax.evaluation import summary
from flan_jax.evaluation import table
from flan_jax.evaluation.report import look


def by_dataset(
    results: Mapping[str, Any], systems: Sequence[look.Shown]
) -> str:
  """A table for each group: datasets, and under each one its templates.

  The best template and other settings of a dataset are rows under it, too.
  """
  tables = []
  for group, name in summary.GROUPS.items():
    datasets = [r for r in results['datasets'] if r['group'] == group]
    if not datasets:
      continue
    bodies = ''.join(_dataset(results, row, systems) for row in datasets)
    caption = f'{name} <span>· {count(len(datasets), "dataset")}</span>'
    tables.append(_table(caption, 'Dataset', systems, bodies))
  return '\n'.join(tables)


def settings(results: Mapping[str, Any], systems: Sequence[look.Shown]) -> str:
  """A section with means under each setting; '' if there is but one."""
  if not results['settings']:
    return ''
  tables = []
  for group, name in summary.GROUPS.items():
    if group not in results['headline']:
      continue
    rows = ''
    for setting in ('', *results['settings']):
      found = results['settings'][setting] if setting else results
      parts = found['headline'].get(group)
      if parts is None:
        continue
      title = table.setting_title(setting, results['shots'])
      datasets = count(parts['all']['datasets'], 'dataset')
      rows += _row(
          f'{html.escape(title)}<small>{datasets}</small>',
          parts['all']['scores'],
          parts['all']['intervals'],
          systems,
      )
    tables.append(_table(name, 'Setting', systems, f'<tbody>{rows}</tbody>'))
  return _section(
      'settings',
      'By setting',
      'Mean over datasets of accuracy where options are ranked and of exact'
      ' match where text is written. Exemplars are training examples under the'
      " same template; without a template the model sees a row's fields alone,"
      " or the dataset's name before them.",
      '\n'.join(tables),
  )


def published(results: Mapping[str, Any], systems: Sequence[look.Shown]) -> str:
  """A section with what papers print; '' if there is nothing."""
  if not results['published']:
    return ''
  models = look.models(systems)
  head = ''.join(
      f'<th scope="col">{name_of(each.title)}</th>' for each in models
  )
  rows = ''
  for row in results['published']:
    quoted = f', quoted by {row["quoted_by"]}' if row['quoted_by'] else ''
    source = f'{row["model"]}, {row["paper"]}, {row["table"]}{quoted}'
    cells = ''
    for each in models:
      value, what = table.comparable(row, each.system)
      cells += (
          f'<td class="{each.kind}">{value:.1f}<small class="interval">{what}'
          '</small></td>'
      )
    rows += (
        f'<tr><th scope="row">{name_of(row["dataset"])}<small>'
        f'{html.escape(metrics.title(row["metric"]))} · {html.escape(source)}'
        f'</small></th><td class="paper">{row["score"]:.1f}<small'
        f' class="interval">{row["template"]}</small></td>{cells}</tr>'
    )
  width = _width(len(models) + 1)
  body = (
      f'<div class="table"><table style="{width}"><thead><tr><th scope="col">'
      f'Dataset</th><th scope="col">Paper</th>{head}</tr></thead><tbody>{rows}'
      '</tbody></table></div>'
  )
  return _section(
      'published',
      'Beside the papers',
      'The numbers under “Paper” are as the papers print them: they were not'
      ' measured here, and rows, prompts and models differ. “best” is the score'
      ' of the template that is best on validation, “mean” that over all'
      ' templates.',
      body,
  )


def _section(name: str, title: str, note: str, body: str) -> str:
  return (
      f'<section aria-labelledby="{name}-title"><h2 id="{name}-title">{title}'
      f'</h2><p>{note}</p>{body}</section>'
  )


def _table(
    caption: str, first: str, systems: Sequence[look.Shown], bodies: str
) -> str:
  head = ''.join(
      f'<th scope="col">{name_of(_short(each.title))}</th>' for each in systems
  )
  return (
      f'<div class="table" tabindex="0"><table style="{_width(len(systems))}">'
      f'<caption>{caption}</caption><thead><tr><th scope="col">{first}</th>'
      f'{head}</tr></thead>{bodies}</table></div>'
  )


def _short(title: str) -> str:
  return title.removesuffix(' class').removesuffix(' choice')


def _width(columns: int) -> str:
  """Widths by the number of columns, in rem; a page is 68 wide.

  More columns than fit are reached by scrolling the table.
  """
  return f'--columns:{columns};--cell:{max(5.0, min(7.0, 45 / columns)):.1f}rem'


def _dataset(
    results: Mapping[str, Any],
    row: Mapping[str, Any],
    systems: Sequence[look.Shown],
) -> str:
  """The rows of a dataset: its mean, and those that fold away under it."""
  note = (
      f'{html.escape(metrics.title(row["metric"]))}<span class="more"> ·'
      f' {count(row["templates"], "template")} ·'
      f' {count(row["examples"], "example")}</span>'
  )
  means = table.dataset_means(row)
  spreads = {system: each['std'] for system, each in row['scores'].items()}
  cells = _cells(means['scores'], means['intervals'], systems, spreads)
  rows = [
      '<tr><th scope="row"><button type="button" class="fold"'
      f' aria-expanded="true"><span>{name_of(row["dataset"])}</span>'
      f'<small>{note}</small></button></th>{cells}</tr>'
  ]
  mine = (row['dataset'], row['group'])
  for task in results['tasks']:
    if (task['dataset'], task['group']) == mine and not task['setting']:
      rows.append(_template(task, systems))
  if row['best'] and row['templates'] > 1:
    rows.append(_best(row['best'], systems))
  for setting, found in results['settings'].items():
    title = table.setting_title(setting, results['shots'])
    for other in found['datasets']:
      # A baseline knows no templates: it stands in one group of its dataset.
      if (other['dataset'], other['group']) == mine:
        means = table.dataset_means(other)
        rows.append(
            _row(
                html.escape(title),
                means['scores'],
                means['intervals'],
                systems,
                'template setting',
            )
        )
  return f'<tbody>{"".join(rows)}</tbody>'


def _template(task: Mapping[str, Any], systems: Sequence[look.Shown]) -> str:
  metric = task['metric']
  return _row(
      name_of(task['template'] or 'no template'),
      {system: values[metric] for system, values in task['scores'].items()},
      {system: ends[metric] for system, ends in task['intervals'].items()},
      systems,
      'template',
  )


def _best(best: Mapping[str, Any], systems: Sequence[look.Shown]) -> str:
  """The row of the templates that are best on validation."""
  cells = ''
  for each in systems:
    found = best.get(each.system)
    if found is None:
      cells += f'<td class="{each.kind}">–</td>'
      continue
    cells += (
        f'<td class="{each.kind}">{found["score"]:.1f}<small class="interval">'
        f'{_interval(found["interval"])}</small><small class="of">'
        f'{name_of(found["template"])}</small></td>'
    )
  return (
      '<tr class="template best"><th scope="row">best on validation</th>'
      f'{cells}</tr>'
  )


def _row(
    name: str,
    scores: Mapping[str, float],
    intervals: Mapping[str, Sequence[float]],
    systems: Sequence[look.Shown],
    style: str = '',
) -> str:
  cells = _cells(scores, intervals, systems)
  given = f' class="{style}"' if style else ''
  return f'<tr{given}><th scope="row">{name}</th>{cells}</tr>'


def _cells(
    scores: Mapping[str, float],
    intervals: Mapping[str, Sequence[float]],
    systems: Sequence[look.Shown],
    spreads: Mapping[str, float | None] | None = None,
) -> str:
  found = ''
  for each in systems:
    score, std = scores[each.system], (spreads or {}).get(each.system)
    spread = '' if std is None else f' <small>±{std:.1f}</small>'
    share = min(max(score, 0.0), 100.0)
    given = f'class="{each.kind}"'
    if each.kind == 'tuned':
      given = f'class="{each.kind} wash" style="--share:{share:.1f}%"'
    found += (
        f'<td {given}>{score:.1f}{spread}<small class="interval">'
        f'{_interval(intervals[each.system])}</small></td>'
    )
  return found


def name_of(name: str) -> str:
  """A name that may break after its underscores."""
  return html.escape(name).replace('_', '_<wbr>')


def _interval(ends: Sequence[float]) -> str:
  return f'[{ends[0]:.1f}, {ends[1]:.1f}]'


def count(number: int, noun: str) -> str:
  return f'{number:,} {noun}{"" if number == 1 else "s"}'
