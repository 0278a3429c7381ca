"""Charts as inline SVG that keep their letters readable on a phone."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import html
import itertools
import math
from typing import Any

from flan_jax.evaluation.report import look

# Lengths are percent of the chart's width, so that the chart follows the page
# while letters keep their size; the last part is for the longest bar's value.
_FULL = 87.0
_LABEL, _BAR, _GAP, _BETWEEN, _AXIS = 18, 13, 3, 16, 22
_STRIP, _CURVE = 17, 220


def bars(
    rows: Sequence[Mapping[str, Any]],
    systems: Sequence[look.Shown],
    identity: str,
    title: str,
) -> str:
  """Draws a group of horizontal bars for each row, 0 to 100 percent.

  A line over the end of a bar is its interval; what is below 0 is not drawn.

  Args:
    rows: Each with 'label', 'note', 'scores' (percent by system) and
      'intervals' (of each score, the ends).
    systems: The systems, in the order of the bars.
    identity: An HTML id that no other chart has.
    title: What the chart says, for those who do not see it.

  Returns:
    An `<svg>` element.
  """
  height = _LABEL + len(systems) * (_BAR + _GAP) + _BETWEEN
  bottom = len(rows) * height - _BETWEEN + 6
  parts = _frame(identity, title, _told(rows, systems), bottom)
  for place, row in enumerate(rows):
    parts += _group(row, systems, place * height)
  parts.append('</svg>')
  return '\n'.join(parts)


def _group(
    row: Mapping[str, Any], systems: Sequence[look.Shown], top: int
) -> list[str]:
  """The label of a row and its bars below."""
  parts = [
      f'<text y="{top + 12}">{html.escape(row["label"])}'
      f' <tspan class="count">{html.escape(row["note"])}</tspan></text>'
  ]
  for place, each in enumerate(systems):
    value = row['scores'][each.system]
    low, high = row['intervals'][each.system]
    y = top + _LABEL + place * (_BAR + _GAP)
    middle = y + _BAR / 2
    tip = html.escape(
        f'{row["label"]}, {each.title}: {value:.1f}, 95% interval {low:.1f} to'
        f' {high:.1f}'
    )
    parts.append(
        f'<rect class="{each.style}" y="{y}" width="{_at(value)}"'
        f' height="{_BAR}" rx="2"><title>{tip}</title></rect><line'
        f' class="interval" x1="{_at(low)}" x2="{_at(high)}" y1="{middle}"'
        f' y2="{middle}"/><text class="value {each.kind}"'
        f' x="{_at(max(value, high))}" dx="5"'
        f' y="{y + _BAR - 2}">{value:.1f}</text>'
    )
  return parts


def _at(value: float) -> str:
  return f'{max(value, 0.0) * _FULL / 100:.2f}%'


def _told(
    rows: Sequence[Mapping[str, Any]], systems: Sequence[look.Shown]
) -> str:
  """The chart in words."""
  return '; '.join(
      f'{row["label"]}: '
      + ', '.join(
          f'{each.title} {row["scores"][each.system]:.1f}' for each in systems
      )
      for row in rows
  )


def _frame(identity: str, title: str, told: str, bottom: float) -> list[str]:
  """The opening of a chart of percent: names, grid and axis."""
  parts = [
      (
          f'<svg role="img" aria-labelledby="{identity}-title {identity}-desc"'
          f' height="{bottom + _AXIS}">'
      ),
      f'<title id="{identity}-title">{html.escape(title)}</title>',
      f'<desc id="{identity}-desc">{html.escape(told)}</desc>',
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
  return parts


def dots(
    rows: Sequence[Mapping[str, Any]],
    systems: Sequence[look.Shown],
    identity: str,
    title: str,
) -> str:
  """Draws a line of dots for each row and system, one dot a template.

  A ring is around the template that is best on validation, and a stroke marks
  the mean.

  Args:
    rows: Each with 'label', 'note', and by system 'dots' (templates and their
      scores in percent), 'best' (a template) and 'means'.
    systems: The systems, in the order of the lines.
    identity: An HTML id that no other chart has.
    title: What the chart says, for those who do not see it.

  Returns:
    An `<svg>` element.
  """
  height = _LABEL + len(systems) * _STRIP + 6
  bottom = len(rows) * height
  told = '; '.join(
      f'{row["label"]}: '
      + ', '.join(
          f'{each.title} {min(found):.1f} to {max(found):.1f}'
          for each in systems
          if (found := [score for _, score in row['dots'][each.system]])
      )
      for row in rows
  )
  parts = _frame(identity, title, told, bottom)
  for place, row in enumerate(rows):
    top = place * height
    parts.append(
        f'<text y="{top + 12}">{html.escape(row["label"])}'
        f' <tspan class="count">{html.escape(row["note"])}</tspan></text>'
    )
    for line, each in enumerate(systems):
      middle = top + _LABEL + line * _STRIP + _STRIP / 2
      parts += _strip(row, each, middle)
  parts.append('</svg>')
  return '\n'.join(parts)


def _strip(
    row: Mapping[str, Any], each: look.Shown, middle: float
) -> list[str]:
  """The dots of one system on one dataset."""
  found = row['dots'][each.system]
  scores = [score for _, score in found]
  mean = _at(row['means'][each.system])
  parts = [
      f'<line class="span {each.style}" x1="{_at(min(scores))}"'
      f' x2="{_at(max(scores))}" y1="{middle}" y2="{middle}"/>'
  ]
  for template, score in found:
    best = template == row['best'].get(each.system)
    tip = html.escape(
        f'{row["label"]}, {template or "no template"}, {each.title}:'
        f' {score:.1f}'
        + (', best on validation' if best else '')
    )
    ring = ' best' if best else ''
    parts.append(
        f'<circle class="dot {each.style}{ring}" cx="{_at(score)}"'
        f' cy="{middle}" r="{5 if best else 4}"><title>{tip}</title></circle>'
    )
  parts.append(
      f'<line class="mean" x1="{mean}" x2="{mean}" y1="{middle - 7}"'
      f' y2="{middle + 7}"/>'
  )
  return parts


@dataclasses.dataclass(frozen=True)
class Point:
  """A model in a chart of scores.

  Attributes:
    x: Where it stands on the axis.
    score: In percent.
    interval: Of the score.
    label: Whose it is.
  """

  x: float
  score: float
  interval: Sequence[float]
  label: str


@dataclasses.dataclass(frozen=True)
class Series:
  """Points that a line joins: its name and the class of its color."""

  title: str
  style: str
  points: Sequence[Point]


def curve(
    series: Sequence[Series],
    identity: str,
    title: str,
    axis: Callable[[float], str],
    logarithmic: bool = False,
) -> str:
  """Draws scores over a quantity of the models, with intervals.

  Args:
    series: At least one, with two values of x in all.
    identity: An HTML id that no other chart has.
    title: What the chart says, for those who do not see it.
    axis: Writes a value of x.
    logarithmic: Whether equal factors are equal distances.

  Returns:
    An `<svg>` element.
  """
  points = [point for each in series for point in each.points]
  place = math.log if logarithmic else float
  low_x, high_x = (place(f(p.x for p in points)) for f in (min, max))
  low = 10 * math.floor(min(p.interval[0] for p in points) / 10)
  high = 10 * math.ceil(max(p.interval[1] for p in points) / 10)
  high = max(high, low + 10)

  def at_x(x: float) -> str:
    share = (place(x) - low_x) / (high_x - low_x)
    return f'{10 + 78 * share:.2f}%'

  def at_y(score: float) -> str:
    return f'{8 + _CURVE * (high - score) / (high - low):.1f}'

  told = '; '.join(
      f'{point.label}, {axis(point.x)}: {point.score:.1f}' for point in points
  )
  parts = [
      (
          f'<svg role="img" aria-labelledby="{identity}-title {identity}-desc"'
          f' height="{_CURVE + 8 + _AXIS}">'
      ),
      f'<title id="{identity}-title">{html.escape(title)}</title>',
      f'<desc id="{identity}-desc">{html.escape(told)}</desc>',
  ]
  step = 10 if high - low <= 50 else 20
  for tick in range(low, high + 1, step):
    y = at_y(tick)
    parts.append(f'<line class="grid" x1="8%" x2="100%" y1="{y}" y2="{y}"/>')
    parts.append(f'<text class="tick" x="0" y="{y}" dy="4">{tick}</text>')
  for x in sorted({point.x for point in points}):
    parts.append(
        f'<text class="tick" x="{at_x(x)}" y="{_CURVE + 8 + 16}"'
        f' text-anchor="middle">{html.escape(axis(x))}</text>'
    )
  for each in series:
    parts += _curve_of(each, at_x, at_y, axis)
  parts.append('</svg>')
  return '\n'.join(parts)


def _curve_of(
    series: Series,
    at_x: Callable[[float], str],
    at_y: Callable[[float], str],
    axis: Callable[[float], str],
) -> list[str]:
  """The lines, intervals and dots of a series."""
  points = sorted(series.points, key=lambda point: point.x)
  parts = [
      f'<line class="span {series.style}" x1="{at_x(a.x)}" x2="{at_x(b.x)}"'
      f' y1="{at_y(a.score)}" y2="{at_y(b.score)}"/>'
      for a, b in itertools.pairwise(points)
  ]
  for point in points:
    low, high = point.interval
    x, y = at_x(point.x), at_y(point.score)
    tip = html.escape(
        f'{point.label}, {axis(point.x)}: {point.score:.1f}, 95% interval'
        f' {low:.1f} to {high:.1f}'
    )
    parts.append(
        f'<line class="interval" x1="{x}" x2="{x}" y1="{at_y(low)}"'
        f' y2="{at_y(high)}"/>'
        f'<circle class="dot {series.style}" cx="{x}" cy="{y}" r="5">'
        f'<title>{tip}</title></circle>'
        f'<text class="value" x="{x}" y="{y}" dx="8" dy="-5">'
        f'{point.score:.1f}</text>'
    )
  return parts
