"""Curves as inline SVG that keep their letters readable at any width."""

from collections.abc import Callable, Mapping, Sequence
import html
import math

# Heights in pixels; the curves' own coordinates are thousandths of the plot.
_PLOT, _AXIS = 190, 20
_WHOLE = 1000
_COLORS = 6
# The share of the width that a point alone gets.
_SHORT = 0.03

Curve = Sequence[tuple[float, float]]


def lines(
    curves: Mapping[int, Curve],
    names: Sequence[str],
    identity: str,
    title: str,
) -> str:
  """Draws the curves of one number.

  Values that are not finite are left out. The vertical axis is logarithmic
  where all values are positive and the largest is many times the smallest.

  Args:
    curves: By the run's place, its steps and values.
    names: Of all runs.
    identity: An HTML id that no other chart has.
    title: What is shown, for those who do not see it.

  Returns:
    An `<svg>` element.
  """
  shown = {
      run: [(step, value) for step, value in curve if math.isfinite(value)]
      for run, curve in curves.items()
  }
  values = [value for curve in shown.values() for _, value in curve]
  last = max((step for curve in shown.values() for step, _ in curve), default=1)
  ticks, place = _scale(values)
  told = '; '.join(
      f'{names[run]}: {label(curve[-1][1])} at step {curve[-1][0]:,}'
      for run, curve in shown.items()
      if curve
  )
  parts = [
      (
          f'<svg role="img" aria-labelledby="{identity}-title {identity}-desc"'
          f' height="{_PLOT + _AXIS}">'
      ),
      f'<title id="{identity}-title">{html.escape(title)}</title>',
      f'<desc id="{identity}-desc">{html.escape(told)}</desc>',
  ]
  for tick in ticks:
    y = _PLOT * (1 - place(tick))
    parts.append(
        f'<line class="grid" x1="0" x2="100%" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="tick" x="0" y="{y - 3:.1f}">{label(tick)}</text>'
    )
  for share, anchor in ((0.5, 'middle'), (1.0, 'end')):
    parts.append(
        f'<text class="tick" x="{share:.0%}" y="{_PLOT + 15}"'
        f' text-anchor="{anchor}">step {round(last * share):,}</text>'
    )
  parts.append(
      f'<svg class="plot" width="100%" height="{_PLOT}" viewBox="0 0'
      f' {_WHOLE} {_WHOLE}" preserveAspectRatio="none">'
  )
  for run, curve in shown.items():
    if len(curve) == 1:
      # A point alone is drawn as a short line.
      step, value = curve[0]
      curve = [(step - last * _SHORT, value), (step, value)]
    points = ' '.join(
        f'{_WHOLE * step / last:.1f},{_WHOLE * (1 - place(value)):.1f}'
        for step, value in curve
    )
    if curve:
      parts.append(f'<polyline class="{classes(run)}" points="{points}"/>')
  parts.append('</svg></svg>')
  return '\n'.join(parts)


def classes(run: int) -> str:
  """Returns the style classes of the run at a place."""
  dashes = run // _COLORS % 3
  return f'run run-{run} color-{run % _COLORS}' + (
      f' dash-{dashes}' if dashes else ''
  )


def label(value: float) -> str:
  """Returns a number as short as it may be."""
  if value and (abs(value) >= 1e5 or abs(value) < 1e-3):
    return f'{value:.2e}'
  return f'{value:,.4g}' if abs(value) < 1000 else f'{value:,.0f}'


def _scale(
    values: Sequence[float],
) -> tuple[list[float], Callable[[float], float]]:
  """Returns ticks, and what puts a value between 0 (bottom) and 1."""
  low, high = min(values, default=0.0), max(values, default=1.0)
  if low > 0 and high > 4 * low:
    first, last = math.log(low), math.log(high)
    steps = [
        digit * 10.0**power
        for power in range(-12, 13)
        for digit in (1, 2, 5)
        if low <= digit * 10.0**power <= high
    ]
    return _few(steps), lambda v: (math.log(v) - first) / (last - first)
  if high == low:
    return [low], lambda v: 0.5
  step = 10 ** math.floor(math.log10((high - low) / 3))
  step *= max(f for f in (1, 2, 5) if f * step <= (high - low) / 2)
  count = math.floor(high / step) - math.ceil(low / step) + 1
  ticks = [(math.ceil(low / step) + i) * step for i in range(count)]
  return _few(ticks), lambda v: (v - low) / (high - low)


def _few(ticks: list[float]) -> list[float]:
  """Leaves out ticks until there is room for the rest."""
  return ticks[:: -(-len(ticks) // 6)] if ticks else ticks
