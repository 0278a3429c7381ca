"""One HTML file with the curves of several runs.

The page asks nothing of the network: style, script and data are inside.
"""

from collections.abc import Sequence
import html
import importlib.resources
import json
import re
from typing import Any

import flan_jax
from flan_jax.training.comparison import chart
from flan_jax.training.comparison import runs as runs_lib

_MARK = re.compile(r'\[\[(\w+)\]\]')
_FIRST = {
    'loss': 'Training loss, nats a target token',
    'eval/loss': 'Validation loss, nats a target token',
    'accuracy': 'Training accuracy of a target token',
    'eval/accuracy': 'Validation accuracy of a target token',
    'gradient_norm': 'Gradient norm',
    'learning_rate': 'Learning rate',
    'tokens_per_second': 'Real tokens a second',
    'mfu': 'Model FLOPs utilization (MFU)',
}
_SECTIONS = (
    ('loss/collection/', 'By collection', 'Training loss, {}'),
    ('loss/cluster/', 'By cluster', 'Training loss, {}'),
)
_COLUMNS = {
    'steps': 'Steps',
    'loss': 'Loss',
    'accuracy': 'Accuracy',
    'tokens': 'Tokens',
    'tokens_per_second': 'Tokens a second',
    'seconds': 'Seconds',
}


def render(runs: Sequence[runs_lib.Run]) -> str:
  """Returns the page."""
  curves = [run.curves() for run in runs]
  names = [run.name for run in runs]
  present = dict.fromkeys(name for each in curves for name in each)
  first = [n for n in _FIRST if n in present] + sorted(
      name for name in present if name not in _FIRST and name[:5] == 'eval/'
  )
  sections = [('Curves', {name: _FIRST.get(name, name) for name in first})]
  for prefix, heading, title in _SECTIONS:
    inside = sorted(name for name in present if name.startswith(prefix))
    shown = {
        name: title.format(name.removeprefix(prefix).replace('_', ' '))
        for name in inside
    }
    # One group alone is the whole: the loss again.
    if len(shown) > 1:
      sections.append((heading, shown))
  data: dict[str, Any] = {'names': names, 'charts': {}}
  drawn = []
  for heading, titles in sections:
    figures = []
    for name, title in titles.items():
      of_runs = {
          place: each[name] for place, each in enumerate(curves) if name in each
      }
      identity = f'chart-{len(data["charts"])}'
      data['charts'][identity] = [
          [[step, value] for step, value in of_runs.get(place, [])]
          for place in range(len(runs))
      ]
      figures.append(
          f'<figure id="{identity}"><figcaption>{html.escape(title)}'
          '<output></output></figcaption>'
          f'{chart.lines(of_runs, names, identity, title)}</figure>'
      )
    drawn.append(
        f'<section><h2>{heading}</h2><div class="charts">'
        f'{"".join(figures)}</div></section>'
    )
  heading = ', '.join(names)
  parts = {
      'title': html.escape(f'{heading}: comparison'),
      'heading': html.escape(heading),
      'legend': _legend(runs),
      'summary': _summary(runs),
      'sections': '\n'.join(drawn),
      'settings': _settings(runs),
      'version': flan_jax.__version__,
      'data': _json(data),
  }
  files = importlib.resources.files(__package__)
  for name, file in (('style', 'style.css'), ('script', 'script.js')):
    parts[name] = files.joinpath(file).read_text(encoding='utf-8')
  page = files.joinpath('page.html').read_text(encoding='utf-8')
  # One pass: what is put in is not searched for marks again.
  return _MARK.sub(lambda match: parts[match[1]], page)


def _legend(runs: Sequence[runs_lib.Run]) -> str:
  return ''.join(
      '<li><label><input type="checkbox" checked'
      f' data-run="{place}"><svg width="28" height="10" aria-hidden="true">'
      f'<line class="{chart.classes(place)}" x1="2" x2="26" y1="5" y2="5"/>'
      f'</svg>{html.escape(run.name)}</label></li>'
      for place, run in enumerate(runs)
  )


def _summary(runs: Sequence[runs_lib.Run]) -> str:
  summaries = [run.summary() for run in runs]
  evaluated = sorted({n for s in summaries for n in s if n.startswith('eval/')})
  columns = {**_COLUMNS, **{name: name for name in evaluated}}
  return _table(
      ['Run', *columns.values()],
      [
          [run.name]
          + [chart.label(s[name]) if name in s else '' for name in columns]
          for run, s in zip(runs, summaries, strict=True)
      ],
  )


def _settings(runs: Sequence[runs_lib.Run]) -> str:
  differing = runs_lib.differing(runs)
  if not differing:
    return '<p>Their settings are the same.</p>'
  return _table(
      ['Setting', *(run.name for run in runs)],
      [
          [name, *('' if value is None else str(value) for value in values)]
          for name, values in differing.items()
      ],
  )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  top = ''.join(f'<th scope="col">{html.escape(cell)}</th>' for cell in head)
  body = ''.join(
      f'<tr><th scope="row">{html.escape(first)}</th>'
      + ''.join(f'<td>{html.escape(cell)}</td>' for cell in rest)
      + '</tr>'
      for first, *rest in rows
  )
  return (
      '<div class="table" tabindex="0"><table><thead><tr>'
      f'{top}</tr></thead><tbody>{body}</tbody></table></div>'
  )


def _json(data: Any) -> str:
  """JSON that cannot close its own script element; NaN is null."""
  finite = json.loads(json.dumps(data), parse_constant=lambda _: None)
  text = json.dumps(finite, ensure_ascii=False, separators=(',', ':'))
  # U+2028 and U+2029 are line breaks to old readers of scripts.
  for character in '<>&\u2028\u2029':
    text = text.replace(character, f'\\u{ord(character):04x}')
  return text
