"""One HTML file that shows an evaluation: numbers, chart, predictions.

The page asks nothing of the network: style, script and data are inside.
"""

from collections.abc import Mapping, Sequence
import html
import importlib.resources
import json
import re
from typing import Any

from flan_jax.evaluation import metrics
from flan_jax.evaluation import summary
from flan_jax.evaluation.report import chart

_MARK = re.compile(r'\[\[(\w+)\]\]')
_KIND = {
    'held_out_template': 'held-out template',
    'held_out_dataset': 'held-out dataset',
    'seen': 'trained template',
}
_HOW = {'rank': 'ranked options', 'generate': 'greedy text'}


def render(
    results: Mapping[str, Any], samples: Sequence[Mapping[str, Any]]
) -> str:
  """Returns the page.

  Args:
    results: What `results.json` holds.
    samples: Lines of the predictions file, those that the page shows.
  """
  systems = {
      system: name
      for system, name in summary.SYSTEMS.items()
      if system in results['systems']
  }
  files = importlib.resources.files(__package__)
  heading = ' and '.join(results['mixtures'])
  parts = {
      'title': f'{html.escape(heading)}: evaluation',
      'heading': html.escape(heading),
      'lead': _lead(results),
      'headline': _headline(results['headline'], systems),
      'chart_note': (
          'Mean over the datasets of a cluster of their main metric, in'
          ' percent (correlations times 100); every dataset and template counts'
          ' the same. Lines are 95% intervals over test rows.'
      ),
      'legend': ''.join(
          f'<li><i class="{system}-color"></i>{name}</li>'
          for system, name in systems.items()
      ),
      'charts': _charts(results['clusters'], systems),
      'tables': _tables(results, systems),
      'samples_note': _samples_note(results, samples),
      'predictions': html.escape(results['predictions']),
      'method': _method(results),
      'data': _data(samples, systems),
  }
  for name, file in (('style', 'style.css'), ('script', 'script.js')):
    parts[name] = files.joinpath(file).read_text(encoding='utf-8')
  page = files.joinpath('page.html').read_text(encoding='utf-8')
  # One pass: what is put in is not searched for marks again.
  return _MARK.sub(lambda match: parts[match[1]], page)


def _lead(results: Mapping[str, Any]) -> str:
  tuned = results['systems']['tuned']
  tasks = results['tasks']
  datasets = len({task['dataset'] for task in tasks})
  without = ', '.join(results['left_out'])
  less = (
      f' Left out, for want of rows: {html.escape(without)}.' if without else ''
  )
  return (
      f'<code>{html.escape(str(tuned["checkpoint"]))}</code>, step'
      f' {tuned["step"]:,}, on the {html.escape(results["split"])} split of'
      f' {_count(datasets, "dataset")} under {_count(len(tasks), "template")}:'
      f' {_count(sum(task["examples"] for task in tasks), "example")}.{less}'
  )


def _headline(headline: Mapping[str, Any], systems: Mapping[str, str]) -> str:
  """A tile for each group: the tuned model large, the others below."""
  tiles: list[str] = []
  for group, parts in headline.items():
    scores, leads = parts['all']['scores'], parts['all']['leads']
    tuned = scores['tuned']
    around = _interval(parts['all']['intervals']['tuned'])
    rows = [f'<div><dt>95% interval</dt><dd>{around}</dd></div>']
    for system, name in systems.items():
      if system == 'tuned':
        continue
      difference = tuned - scores[system]
      rows.append(
          f'<div><dt>{name}</dt><dd>{scores[system]:.1f} <span'
          f' class="delta">({difference:+.1f} for tuned)'
          f'<small>{_interval(leads[system])}</small></span></dd></div>'
      )
    for part, name in _HOW.items():
      if part in parts and len(parts) > 2:
        rows.append(
            f'<div><dt>Tuned, {name}</dt>'
            f'<dd>{parts[part]["scores"]["tuned"]:.1f} <span class="delta">·'
            f' {_count(parts[part]["datasets"], "dataset")}</span></dd></div>'
        )
    first = ' first' if not tiles else ''
    tiles.append(
        f'<div class="tile{first}"><h3>{summary.GROUPS[group]}</h3>'
        f'<p class="big">{tuned:.1f}<small> % right, tuned</small></p>'
        f'<dl>{"".join(rows)}</dl></div>'
    )
  note = (
      '<p>Accuracy where options are ranked, exact match where text is'
      ' written; mean over datasets.</p>'
  )
  return f'{note}<div class="tiles">{"".join(tiles)}</div>'


def _charts(
    clusters: Sequence[Mapping[str, Any]], systems: Mapping[str, str]
) -> str:
  figures = []
  # One order for all charts: of the tuned scores in the first one.
  place: dict[str, tuple[int, float]] = {}
  for row in clusters:
    first = list(summary.GROUPS).index(row['group'])
    place.setdefault(row['cluster'], (first, -row['scores']['tuned']))
  clusters = sorted(clusters, key=lambda row: place[row['cluster']])
  for group, name in summary.GROUPS.items():
    rows = [
        {
            'label': row['cluster'].replace('_', ' '),
            'note': _count(row['datasets'], 'dataset'),
            'scores': row['scores'],
            'intervals': row['intervals'],
        }
        for row in clusters
        if row['group'] == group
    ]
    if not rows:
      continue
    svg = chart.bars(rows, systems, f'chart-{group}', f'{name}, by cluster')
    figures.append(
        f'<figure id="figure-{group}"><figcaption><strong>{name}</strong>'
        f'</figcaption>\n{svg}\n</figure>'
    )
  return '\n'.join(figures)


def _tables(results: Mapping[str, Any], systems: Mapping[str, str]) -> str:
  """A table for each group: datasets, and their templates under them."""
  tables = []
  head = ''.join(
      f'<th scope="col">{name.removesuffix(" class")}</th>'
      for name in systems.values()
  )
  for group, name in summary.GROUPS.items():
    datasets = [r for r in results['datasets'] if r['group'] == group]
    if not datasets:
      continue
    bodies = ''.join(
        _dataset_rows(
            row,
            [
                task
                for task in results['tasks']
                if (task['group'], task['dataset']) == (group, row['dataset'])
            ],
            systems,
        )
        for row in datasets
    )
    tables.append(
        f'<div class="table"><table><caption>{name} <span>·'
        f' {_count(len(datasets), "dataset")}</span></caption><thead><tr>'
        f'<th scope="col">Dataset</th>{head}</tr></thead>{bodies}</table></div>'
    )
  return '\n'.join(tables)


def _dataset_rows(
    row: Mapping[str, Any],
    tasks: Sequence[Mapping[str, Any]],
    systems: Mapping[str, str],
) -> str:
  note = (
      f'{html.escape(metrics.title(row["metric"]))}<span class="more"> ·'
      f' {_count(row["templates"], "template")} ·'
      f' {_count(row["examples"], "example")}</span>'
  )
  cells = ''.join(_cell(system, **row['scores'][system]) for system in systems)
  rows = [
      '<tr><th scope="row"><button type="button" class="fold"'
      f' aria-expanded="true"><span>{_name(row["dataset"])}</span>'
      f'<small>{note}</small></button></th>{cells}</tr>'
  ]
  for task in tasks:
    cells = ''.join(
        _cell(
            system,
            task['scores'][system][task['metric']],
            task['intervals'][system][task['metric']],
        )
        for system in systems
    )
    rows.append(
        '<tr class="template"><th'
        f' scope="row">{_name(task["template"] or "no template")}</th>'
        f'{cells}</tr>'
    )
  return f'<tbody>{"".join(rows)}</tbody>'


def _name(name: str) -> str:
  """A name that may break after its underscores."""
  return html.escape(name).replace('_', '_<wbr>')


def _cell(
    system: str,
    mean: float,
    interval: Sequence[float],
    std: float | None = None,
) -> str:
  spread = '' if std is None else f' <small>±{std:.1f}</small>'
  share = min(max(mean, 0.0), 100.0)
  style = f' style="--share:{share:.1f}%"' if system == 'tuned' else ''
  return (
      f'<td class="{system}"{style}>{mean:.1f}{spread}'
      f'<small class="interval">{_interval(interval)}</small></td>'
  )


def _interval(ends: Sequence[float]) -> str:
  return f'[{ends[0]:.1f}, {ends[1]:.1f}]'


def _samples_note(
    results: Mapping[str, Any], samples: Sequence[Mapping[str, Any]]
) -> str:
  total = sum(task['examples'] for task in results['tasks'])
  file = f'<code>{html.escape(results["predictions"])}</code>'
  if len(samples) >= total:
    return f'All {_count(total, "prediction")}; also in {file}.'
  return (
      f'{_count(len(samples), "prediction")} of {total:,}, from every template'
      ' right and wrong ones alike where there are both, so the shares here'
      f' mean nothing. All are in {file}.'
  )


def _method(results: Mapping[str, Any]) -> str:
  systems = results['systems']
  limit = results['max_examples']
  entries = {
      'Ranked options': (
          'The answer is the option with the highest log-likelihood. The'
          ' percentage beside it is its share of the probability of all'
          ' options.'
      ),
      'Greedy text': (
          'The answer is written token by token. Exact match forgives white'
          ' space only; SQuAD, TriviaQA and ReCoRD metrics forgive case,'
          ' punctuation and articles; the best of all accepted answers counts.'
          ' A written option counts as chosen whatever its case, with or'
          ' without a full stop.'
      ),
      'Majority class': (
          'The most frequent answer of the training split, given to every'
          ' example: the option, its place where each example has options of'
          ' its own, or the whole target text.'
      ),
      'Intervals': (
          'Percentile bootstrap: the middle'
          f' {100 * results["bootstrap"]["level"]:g}% of'
          f' {results["bootstrap"]["resamples"]:,} resamples of the test rows'
          ' (of groups of rows where a metric scores these together), the same'
          ' for all templates and systems. They say what the choice of rows'
          ' does, not another training run; with a few dozen rows they are too'
          ' narrow. Those under a difference are of the difference.'
      ),
      'Held out': (
          'A held-out template was never used in training; a held-out dataset'
          ' was not trained on at all.'
      ),
      'Rows': (
          f'{results["split"]} split, '
          + (
              'all rows'
              if limit is None
              else f'at most {limit:,} rows of a dataset'
          )
          + f', seed {results["seed"]}; the same rows under every template.'
      ),
      'Tuned': _checkpoint(systems['tuned']),
  }
  if 'untuned' in systems:
    entries['Untuned'] = _checkpoint(systems['untuned'])
  entries['Made by'] = f'flan_jax {results["version"]}'
  items = ''.join(
      f'<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>'
      for name, text in entries.items()
  )
  return f'<dl class="method">{items}</dl>'


def _checkpoint(system: Mapping[str, Any]) -> str:
  return f'{system["checkpoint"]}, step {system["step"]:,}'


def _data(
    samples: Sequence[Mapping[str, Any]], systems: Mapping[str, str]
) -> str:
  """The script's data as JSON that cannot close its own script element."""
  present = {sample['group'] for sample in samples}
  data = {
      'systems': systems,
      'groups': {
          group: _KIND[group] for group in summary.GROUPS if group in present
      },
      'datasets': sorted({sample['dataset'] for sample in samples}),
      'samples': samples,
  }
  text = json.dumps(data, ensure_ascii=False, separators=(',', ':'))
  # U+2028 and U+2029 are line breaks to old readers of scripts.
  for character in '<>&\u2028\u2029':
    text = text.replace(character, f'\\u{ord(character):04x}')
  return text


def _count(number: int, noun: str) -> str:
  return f'{number:,} {noun}{"" if number == 1 else "s"}'
