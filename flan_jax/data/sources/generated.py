"""Rows that code makes: 'module:function', called as f(split, seed).

The function yields one dict a row, and the same rows for the same split and
seed. A change of its module, of the modules beside it that it imports, or of a
constant VERSION in it makes new rows.
"""

from collections.abc import Callable, Iterator
import hashlib
import marshal
import pathlib
import sys
import types
from typing import Any

from flan_jax import errors
from flan_jax.data import functions
from flan_jax.data import row_types
from flan_jax.data import specs
from flan_jax.data.sources import base

_DIGESTS: dict[str, tuple[Any, str]] = {}


class Generated:
  """A source whose rows a function makes."""

  version = ''
  seeded = True

  def __init__(
      self,
      dataset: specs.Dataset,
      settings: base.SourceSettings,
      keep: pathlib.Path | None = None,
  ):
    del keep  # Code is small: it is read each time.
    self._where = base.declared_in(dataset, 'source')
    self._spec = dataset.source.where
    self._dataset = dataset
    self._seed = settings.seed

  def is_split(self, name: str) -> bool:
    return name in specs.SPLITS

  def unknown(self, name: str) -> errors.UserError:
    return base.no_split(name, list(specs.SPLITS), self._spec, self._dataset)

  def locate(self, split: str) -> str:
    functions.load(self._spec, self._where)
    return self._spec

  def fingerprint(self, split: str) -> str:
    function = functions.load(self._spec, self._where)
    module = sys.modules[self._spec.partition(':')[0]]
    # What it was when it was imported: a module is not imported again when its
    # file changes, so within one process neither do its rows.
    imported = module.__spec__ or function
    known = _DIGESTS.get(self._spec)
    if known is None or known[0] is not imported:
      known = _DIGESTS[self._spec] = imported, _digest(module, function)
    return known[1]

  def count(self, split: str) -> int | None:
    return None

  def read(
      self, split: str, skipped: base.Skipped
  ) -> Iterator[tuple[base.Number, base.Row]]:
    function = functions.load(self._spec, self._where)
    for number, row in enumerate(function(split, self._seed)):
      row = row_types.plain(row)
      if isinstance(row, dict):
        yield number, row
      else:
        skipped.add(
            errors.UserError(
                f'{self.place(split, number)}: a {type(row).__name__}, where'
                ' the function must yield a dict'
            )
        )

  def place(self, split: str, number: base.Number) -> str:
    return f"{self._spec}('{split}', {self._seed}): row {number}"


def _digest(module: types.ModuleType, function: Callable) -> str:
  digest = hashlib.sha256(str(getattr(module, 'VERSION', '')).encode())
  paths = sorted(_sources(module))
  for path in paths:
    digest.update(path.read_bytes())
  if not paths:  # Declared in a notebook.
    digest.update(marshal.dumps(function.__code__))
  return digest.hexdigest()


def _sources(module: types.ModuleType) -> set[pathlib.Path]:
  """The files of a module and of the modules beside it that it imports."""
  found: set[pathlib.Path] = set()
  waiting = [module]
  while waiting:
    module = waiting.pop()
    path = _file(module)
    if path is None or path in found:
      continue
    found.add(path)
    for value in list(vars(module).values()):
      other = value
      if not isinstance(value, types.ModuleType):
        name = getattr(value, '__module__', None)
        other = sys.modules.get(name) if isinstance(name, str) else None
      if other is None:
        continue
      beside = _file(other)
      if beside is not None and beside.parent == path.parent:
        waiting.append(other)
  return found


def _file(module: types.ModuleType) -> pathlib.Path | None:
  name = getattr(module, '__file__', None)
  return pathlib.Path(name) if name and name.endswith('.py') else None
