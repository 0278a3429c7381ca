"""A bar chart as inline SVG that keeps its letters readable on a phone."""

from collections.abc import Mapping, Sequence
import html
from typing import Any

# Lengths are percent of the chart's width, so that the chart follows the page
# while letters keep their size; the last part is for the longest bar's value.
_FULL = 87.0
_LABEL, _BAR, _GAP, _BETWEEN, _AXIS = 18, 13, 3, 16, 22


def bars(
    rows: Sequence[Mapping[str, Any]],
    systems: Mapping[str, str],
    identity: str,
    title: str,
) -> str:
  """Draws a group of horizontal bars for each row, 0 to 100 percent.

  A line over the end of a bar is its interval; what is below 0 is not drawn.

  Args:
    rows: Each with 'label', 'note', 'scores' (percent by system) and
      'intervals' (of each score, the ends).
    systems: The systems' names, in the order of the bars.
    identity: An HTML id that no other chart has.
    title: What the chart says, for those who do not see it.

  Returns:
    An `<svg>` element.
  """
  height = _LABEL + len(systems) * (_BAR + _GAP) + _BETWEEN
  bottom = len(rows) * height - _BETWEEN + 6
  parts = [
      (
          f'<svg role="img" aria-labelledby="{identity}-title {identity}-desc"'
          f' height="{bottom + _AXIS}">'
      ),
      f'<title id="{identity}-title">{html.escape(title)}</title>',
      f'<desc id="{identity}-desc">{html.escape(_told(rows, systems))}</desc>',
  ]
  for tick in (0, 25, 50, 75, 100):
    at = f'{tick * _FULL / 100:.2f}%'
    parts.append(
        f'<line class="grid" x1="{at}" x2="{at}" y1="0" y2="{bottom}"/>'
    )
    anchor = 'start' if tick == 0 else 'middle'
    parts.append(
        f'<text class="tick" x="{at}" y="{bottom + 15}"'
        f' text-anchor="{anchor}">{tick}{"%" if tick == 100 else ""}</text>'
    )
  for place, row in enumerate(rows):
    parts += _group(row, systems, place * height)
  parts.append('</svg>')
  return '\n'.join(parts)


def _group(
    row: Mapping[str, Any], systems: Mapping[str, str], top: int
) -> list[str]:
  """The label of a row and its bars below."""
  parts = [
      f'<text y="{top + 12}">{html.escape(row["label"])}'
      f' <tspan class="count">{html.escape(row["note"])}</tspan></text>'
  ]
  for place, (system, name) in enumerate(systems.items()):
    value = row['scores'][system]
    low, high = row['intervals'][system]
    y = top + _LABEL + place * (_BAR + _GAP)
    middle = y + _BAR / 2
    tip = html.escape(
        f'{row["label"]}, {name}: {value:.1f}, 95% interval {low:.1f} to'
        f' {high:.1f}'
    )
    parts.append(
        f'<rect class="{system}" y="{y}" width="{_at(value)}" height="{_BAR}"'
        f' rx="2"><title>{tip}</title></rect>'
        f'<line class="interval" x1="{_at(low)}" x2="{_at(high)}"'
        f' y1="{middle}" y2="{middle}"/>'
        f'<text class="value {system}" x="{_at(max(value, high))}" dx="5"'
        f' y="{y + _BAR - 2}">{value:.1f}</text>'
    )
  return parts


def _at(value: float) -> str:
  return f'{max(value, 0.0) * _FULL / 100:.2f}%'


def _told(rows: Sequence[Mapping[str, Any]], systems: Mapping[str, str]) -> str:
  """The chart in words."""
  return '; '.join(
      f'{row["label"]}: '
      + ', '.join(
          f'{name} {row["scores"][system]:.1f}'
          for system, name in systems.items()
      )
      for row in rows
  )
