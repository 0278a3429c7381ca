"""Rows that code makes: 'module:function', called as f(split, seed).

The function yields one dict a row, and the same rows for the same split and
seed. A change of its module, of the modules beside it that it imports, or of a
constant VERSION in it makes new rows.
"""

from collections.abc import Iterator
import pathlib

from flan_jax import errors
from flan_jax.data import functions
from flan_jax.data import row_types
from flan_jax.data import specs
from flan_jax.data.sources import base


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
    return functions.digest(self._spec, self._where)

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
