"""Reads mixtures from YAML; `mixtures/BLANK_MIXTURE.yaml` explains every key.

A file is one mixture, or a series of them that differ in a number: `{n}`
stands for it, wherever it occurs.
"""

from collections.abc import Mapping
import pathlib

from flan_jax.data import nodes
from flan_jax.data import spec_problems
from flan_jax.data import specs

BLANK = 'BLANK_MIXTURE.yaml'  # The file to copy: it loads, and is no mixture.
_NUMBER = '{n}'
_KINDS = ('proportional', 'equal', 'explicit')


def names(path: pathlib.Path) -> list[str]:
  """Returns the names that a file of a series declares.

  Raises:
    UserError: The file cannot be read, or its series is wrong.
  """
  return list(_series(nodes.read(path)))


def read(node: nodes.Node, name: str, path: pathlib.Path) -> specs.MixtureSpec:
  """Reads a mixture.

  Args:
    node: The whole file.
    name: The mixture's name. Of a series it is one of the file's names; the
      file's own name means the first of them.
    path: The file.

  Raises:
    UserError: Something in the file is wrong.
  """
  series = _series(node)
  pattern = ''
  if series:
    name = name if name in series else next(iter(series))
    pattern = node.entries()['series'].entries()['name'].text()
    node = node.filled(_NUMBER, str(series[name]))
  keys = node.section(
      ('version', 'members'),
      (
          'description',
          'series',
          'held_out',
          'without',
          'cap',
          'max_rate',
          'rates',
          'sample',
          'leave_out',
      ),
  )
  members = _lines(keys, 'members')
  if not members:
    raise keys['members'].error('names no member')
  spec = specs.MixtureSpec(
      name=name,
      path=path,
      series=pattern,
      version=keys['version'].integer(1),
      description=keys['description'].text() if 'description' in keys else '',
      members=members,
      held_out=_lines(keys, 'held_out'),
      without=_lines(keys, 'without'),
      cap=_number(keys, 'cap', 1),
      max_rate=_number(keys, 'max_rate', 1),
      rates=_rates(keys['rates']) if 'rates' in keys else specs.Rates(),
      sample=_sample(keys['sample'], len(members))
      if 'sample' in keys
      else None,
      leave_out=_leave_out(keys['leave_out']) if 'leave_out' in keys else None,
  )
  _check_rates(spec, keys)
  return spec


def _series(node: nodes.Node) -> dict[str, int]:
  """Returns name -> number; nothing if the file is one mixture."""
  entries = node.entries()
  if 'series' not in entries:
    return {}
  keys = entries['series'].section(('name', 'n'))
  pattern = keys['name'].text()
  if _NUMBER not in pattern:
    raise keys['name'].error(
        f"must hold {_NUMBER}, as in 'my_mixture_{_NUMBER}'"
    )
  if not spec_problems.is_name(pattern.replace(_NUMBER, '0')):
    raise keys['name'].error(
        f"'{pattern}': names are lower-case letters, digits and '_'"
    )
  numbers = [each.integer(0) for each in keys['n'].items()]
  if not numbers:
    raise keys['n'].error('names no number')
  found = {pattern.replace(_NUMBER, str(n)): n for n in numbers}
  if len(found) < len(numbers):
    raise keys['n'].error('has a number twice')
  return found


def _lines(
    keys: Mapping[str, nodes.Node], key: str
) -> tuple[specs.Member, ...]:
  if key not in keys:
    return ()
  read_line = _member if key == 'members' else _excluded
  return tuple(read_line(line) for line in keys[key].items())


_SELECTORS = ('cluster', 'subcluster', 'collection')


def _member(node: nodes.Node) -> specs.Member:
  listed = _listed(node)
  if listed:
    return listed
  keys = node.section((), ('name', *_SELECTORS, 'weight'))
  weight = keys['weight'].positive() if 'weight' in keys else None
  return _selecting(node, keys, weight)


def _listed(node: nodes.Node) -> specs.Member | None:
  """Reads a line that is a name or a list of names."""
  if node.is_text():
    return specs.Member(name=node.text())
  if not node.is_list():
    return None
  if not node.items():
    raise node.error('names no dataset')
  return specs.Member(names=node.texts())


def _excluded(node: nodes.Node) -> specs.Member:
  """Reads a line of `held_out` or `without`."""
  listed = _listed(node)
  if listed:
    return listed
  if 'one_of' not in node.entries():
    return _selecting(node, node.section((), ('name', *_SELECTORS)), None)
  keys = node.section(('one_of', 'turn'))
  names = keys['one_of'].texts()
  if not names:
    raise keys['one_of'].error('names no dataset')
  return specs.Member(names=names, turn=keys['turn'].integer(0))


def _selecting(
    node: nodes.Node, keys: Mapping[str, nodes.Node], weight: float | None
) -> specs.Member:
  if ('name' in keys) == any(key in keys for key in _SELECTORS):
    raise node.error('must have a name, or else a cluster or a collection')
  name, cluster, subcluster, collection = (
      keys[key].text() if key in keys else '' for key in ('name', *_SELECTORS)
  )
  return specs.Member(
      name=name,
      weight=weight,
      cluster=cluster,
      subcluster=subcluster,
      collection=collection,
  )


def _number(
    keys: Mapping[str, nodes.Node], key: str, minimum: int
) -> int | None:
  return keys[key].integer(minimum) if key in keys else None


def _rates(node: nodes.Node) -> specs.Rates:
  if node.is_text():
    if node.text() not in _KINDS:
      raise node.error(
          f"'{node.text()}' is none of {', '.join(_KINDS)} and"
          ' {temperature: 2}'
      )
    return specs.Rates(kind=node.text())
  keys = node.section(('temperature',))
  return specs.Rates(
      kind='temperature', temperature=keys['temperature'].positive()
  )


def _check_rates(
    spec: specs.MixtureSpec, keys: Mapping[str, nodes.Node]
) -> None:
  """Refuses keys that contradict each other."""
  kind = spec.rates.kind
  if kind in ('equal', 'explicit') and spec.max_rate is not None:
    raise keys['max_rate'].error(
        f'has no meaning with `rates: {kind}`; take one of them out'
    )
  if kind == 'explicit':
    for line, member in zip(keys['members'].items(), spec.members, strict=True):
      if member.weight is None:
        raise line.error('needs a weight, which is its rate (rates: explicit)')


def _sample(node: nodes.Node, lines: int) -> specs.Sample:
  keys = node.section((), ('lines', 'per_line', 'datasets', 'seed'))
  if not keys.keys() & {'lines', 'per_line', 'datasets'}:
    raise node.error('needs a number of lines, of datasets, or per_line')
  if 'lines' in keys and keys['lines'].integer(1) > lines:
    raise keys['lines'].error(f'there are only {lines} lines of members')
  return specs.Sample(
      lines=_number(keys, 'lines', 1),
      per_line=_number(keys, 'per_line', 1),
      datasets=_number(keys, 'datasets', 1),
      seed=_number(keys, 'seed', 0),
  )


def _leave_out(node: nodes.Node) -> specs.LeaveOut:
  keys = node.section((), ('overlaps',))
  overlaps = keys['overlaps'].entries() if 'overlaps' in keys else {}
  return specs.LeaveOut(
      overlaps={cluster: each.texts() for cluster, each in overlaps.items()}
  )
