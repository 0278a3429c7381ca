"""Scores that papers print, read from published.yaml."""

from collections.abc import Iterable
import dataclasses
import pathlib
from typing import Any

from flan_jax import errors
from flan_jax.data import nodes
from flan_jax.evaluation import metrics

_FILE = pathlib.Path(__file__).with_name('published.yaml')
_KEYS = ('model', 'paper', 'table', 'template', 'quoted_by', 'scores')
_OPTIONAL = ('quoted_by',)
_TEMPLATES = ('best', 'mean')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
  """A number from a paper.

  Attributes:
    dataset: The dataset, by our name.
    metric: The value, as `metrics` names it.
    score: The number.
    model: Whose it is.
    paper: Where it is printed.
    table: The paper's table, or what that shows.
    template: 'best' (the template that is best on validation) or 'mean' (over
      templates): what of ours it compares with.
    quoted_by: Who quotes it, if it was not read in the paper; else ''.
  """

  dataset: str
  metric: str
  score: float
  model: str
  paper: str
  table: str
  template: str
  quoted_by: str = ''


def load(path: pathlib.Path = _FILE) -> list[Score]:
  """Reads the file strictly.

  Raises:
    UserError: A key is unknown or missing, or a value makes no sense.
  """
  node = nodes.read(path)
  entries = node.entries()
  _check_keys(node, entries, ('version', 'tables'))
  if entries['version'].integer(1) != 1:
    raise entries['version'].error('must be 1')
  found: dict[tuple[str, str, str], Score] = {}
  for table in entries['tables'].items():
    for where, score in _read(table):
      key = (score.model, score.dataset, score.template)
      if key in found:
        raise where.error(f'{score.model} has a score there already')
      found[key] = score
  return list(found.values())


def beside(names: Iterable[str]) -> list[dict[str, Any]]:
  """Returns the scores on the datasets of these names, as JSON values."""
  wanted = set(names)
  return [
      dataclasses.asdict(score) for score in load() if score.dataset in wanted
  ]


def _read(table: nodes.Node) -> list[tuple[nodes.Node, Score]]:
  keys = table.entries()
  _check_keys(table, keys, _KEYS, _OPTIONAL)
  texts = {name: keys[name].text() for name in _KEYS[:-1] if name in keys}
  if texts['template'] not in _TEMPLATES:
    raise keys['template'].error(f'must be {" or ".join(_TEMPLATES)}')
  known = [name for each in metrics.METRICS.values() for name in each.values]
  found = []
  for dataset, values in keys['scores'].entries().items():
    for metric, value in values.entries().items():
      if metric not in known:
        raise value.error(
            f'no metric has a value {metric!r}.{errors.nearest(metric, known)}'
        )
      number = value.positive()
      if number > 100:
        raise value.error('must be at most 100')
      score = Score(dataset=dataset, metric=metric, score=number, **texts)
      found.append((value, score))
  return found


def _check_keys(
    node: nodes.Node,
    found: dict[str, nodes.Node],
    known: tuple[str, ...],
    optional: tuple[str, ...] = (),
) -> None:
  for name, value in found.items():
    if name not in known:
      raise value.error(
          f'is no key.{errors.nearest(name, list(known))} There are'
          f' {", ".join(known)}'
      )
  for name in known:
    if name not in found and name not in optional:
      raise node.error(f'{name} is missing')
