"""The figures of the page: clusters, templates, and what models are made of."""

from collections.abc import Callable, Mapping, Sequence
import html
from typing import Any

from flan_jax.evaluation import summary
from flan_jax.evaluation.report import chart
from flan_jax.evaluation.report import look
from flan_jax.evaluation.report import tables


def clusters(
    rows: Sequence[Mapping[str, Any]], systems: Sequence[look.Shown]
) -> str:
  """Bars by cluster, a figure for each group."""
  first = look.models(systems)[0].system
  # One order for all charts: of the scores in the first one.
  place: dict[str, tuple[int, float]] = {}
  for row in rows:
    rank = list(summary.GROUPS).index(row['group'])
    place.setdefault(row['cluster'], (rank, -row['scores'][first]))
  rows = sorted(rows, key=lambda row: place[row['cluster']])
  found = []
  for group, name in summary.GROUPS.items():
    shown = [
        {
            'label': row['cluster'].replace('_', ' '),
            'note': tables.count(row['datasets'], 'dataset'),
            'scores': row['scores'],
            'intervals': row['intervals'],
        }
        for row in rows
        if row['group'] == group
    ]
    if shown:
      svg = chart.bars(shown, systems, f'chart-{group}', f'{name}, by cluster')
      found.append(_figure(f'figure-{group}', name, svg))
  return '\n'.join(found)


def templates(results: Mapping[str, Any], systems: Sequence[look.Shown]) -> str:
  """A section with a dot for each template; '' where none has another."""
  found = []
  for group, name in summary.GROUPS.items():
    shown = []
    for row in results['datasets']:
      if row['group'] != group or row['templates'] < 2:
        continue
      tasks = [
          task
          for task in results['tasks']
          if (task['dataset'], task['group']) == (row['dataset'], group)
          and not task['setting']
      ]
      shown.append({
          'label': row['dataset'],
          'note': tables.count(len(tasks), 'template'),
          'dots': {
              each.system: [
                  (task['template'], task['scores'][each.system][row['metric']])
                  for task in tasks
              ]
              for each in systems
          },
          'best': {s: best['template'] for s, best in row['best'].items()},
          'means': {s: each['mean'] for s, each in row['scores'].items()},
      })
    if shown:
      title = f'{name}, by template'
      svg = chart.dots(shown, systems, f'dots-{group}', title)
      found.append(_figure(f'templates-{group}', name, svg))
  if not found:
    return ''
  ring = ', a ring is around the one that is best on validation'
  if not any(row['best'] for row in results['datasets']):
    ring = ''
  return (
      '<section aria-labelledby="templates-title"><h2 id="templates-title">How'
      ' much the wording matters</h2><p>One dot a template, the main metric of'
      f' its dataset; a stroke is the mean over templates{ring}.</p><div'
      f' class="charts">{"".join(found)}</div></section>'
  )


def scaling(results: Mapping[str, Any], systems: Sequence[look.Shown]) -> str:
  """A section on training clusters and size; '' where models are alike."""
  described = results['systems']
  models = look.models(systems)

  def clusters_of(name: str) -> int | None:
    found = described[name].get('training_clusters')
    return None if found is None else len(found)

  def parameters_of(name: str) -> int | None:
    return described[name].get('parameters')

  def mixture_of(name: str) -> str:
    return str(described[name].get('mixture'))

  figures = [
      *_over(
          results,
          models,
          'clusters',
          'by number of training clusters',
          clusters_of,
          # Lines join models of one size.
          lambda name: _parameters(parameters_of(name) or 0),
          lambda value: f'{value:g}',
          False,
      ),
      *_over(
          results,
          models,
          'size',
          'by parameters',
          parameters_of,
          mixture_of,
          _parameters,
          True,
      ),
  ]
  if not figures:
    return ''
  return (
      '<section aria-labelledby="scaling-title"><h2 id="scaling-title">What the'
      ' models are made of</h2><p>Mean over datasets of accuracy where options'
      ' are ranked and of exact match where text is written. Lines are 95%'
      ' intervals over test rows; another training run would differ as'
      f' well.</p><div class="charts">{"".join(figures)}</div></section>'
  )


def _over(
    results: Mapping[str, Any],
    models: Sequence[look.Shown],
    what: str,
    title: str,
    value: Callable[[str], int | None],
    alike: Callable[[str], str],
    axis: Callable[[float], str],
    logarithmic: bool,
) -> list[str]:
  """A figure for each group, of models that have different values."""
  known = {
      each: found
      for each in models
      if (found := value(each.system)) is not None and found > 0
  }
  if len(set(known.values())) < 2:
    return []
  kinds = list(dict.fromkeys(alike(each.system) for each in known))
  figures = []
  for group, name in summary.GROUPS.items():
    if group not in results['headline']:
      continue
    means = results['headline'][group]['all']
    series = [
        chart.Series(
            kind,
            look.STYLES[place % len(look.STYLES)],
            [
                chart.Point(
                    x,
                    means['scores'][each.system],
                    means['intervals'][each.system],
                    each.title,
                )
                for each, x in known.items()
                if alike(each.system) == kind
            ],
        )
        for place, kind in enumerate(kinds)
    ]
    svg = chart.curve(
        series, f'{what}-{group}', f'{name}, {title}', axis, logarithmic
    )
    legend = ''
    if len(series) > 1:
      legend = '<ul class="legend">{}</ul>'.format(
          ''.join(
              f'<li><i class="{each.style}-color"></i>'
              f'{html.escape(each.title)}</li>'
              for each in series
          )
      )
    figures.append(
        _figure(f'{what}-figure-{group}', f'{name}, {title}', legend + svg)
    )
  return figures


def _parameters(number: float) -> str:
  for unit, size in (('B', 1e9), ('M', 1e6), ('k', 1e3)):
    if number >= size:
      return f'{number / size:.3g}{unit}'
  return f'{number:g}'


def _figure(identity: str, name: str, body: str) -> str:
  return (
      f'<figure id="{identity}"><figcaption><strong>{html.escape(name)}'
      f'</strong></figcaption>\n{body}\n</figure>'
  )
