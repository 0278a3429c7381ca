"""The made-up row of a declaration, read as stored rows are.

Documentation, `flan-jax show --sample` and tests render it: nothing has to be
fetched for that, and no row of the data itself is shown.
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

from flan_jax import errors
from flan_jax.data import examples as examples_lib
from flan_jax.data import functions
from flan_jax.data import row_paths
from flan_jax.data import row_types
from flan_jax.data import specs
from flan_jax.data import tasks
from flan_jax.data import templates
from flan_jax.data.sources import base
import numpy as np


class SampleRows:
  """Rows given as they are, with a dataset's fields made from them.

  Attributes:
    split: 'train', so that exemplars can be drawn from them.
  """

  split = 'train'

  def __init__(
      self,
      dataset: specs.Dataset,
      rows: Sequence[Mapping[str, Any]] | None = None,
  ):
    """Takes the rows.

    Args:
      dataset: Whose rows they are.
      rows: As the source gives them; the declaration's `sample` by default.

    Raises:
      UserError: There are none.
    """
    if rows is None:
      if not dataset.sample:
        raise errors.UserError(
            f"{base.declared_in(dataset, 'sample')}: '{dataset.name}' declares"
            ' no made-up row; mixtures/BLANK.yaml shows how'
        )
      rows = [dataset.sample]
    self._dataset = dataset
    self._rows = rows

  def __len__(self) -> int:
    return len(self._rows)

  def row_ids(self, indices: np.ndarray) -> list[str]:
    """Returns 'sample:0' and so on."""
    return [f'sample:{index}' for index in np.asarray(indices).tolist()]

  def fields(self, indices: np.ndarray) -> list[dict[str, Any]]:
    """Returns the fields of rows, as `reader.Rows.fields` does.

    Raises:
      UserError: A field is not in the row, or its function fails.
    """
    return [
        self._fields(self._rows[index])
        for index in np.asarray(indices).tolist()
    ]

  def _fields(self, row: Mapping[str, Any]) -> dict[str, Any]:
    dataset = self._dataset
    label = dataset.choices.label if dataset.choices else ''
    where = base.declared_in(dataset, 'sample')
    try:
      if isinstance(dataset.fields, str):
        made = functions.load(dataset.fields, where)(dict(row))
        found = {name: made[name] for name in dataset.field_names}
      else:
        kind = row_types.widen('null', dict(row))
        found = {
            name: row_paths.follow(row, row_paths.steps(path, kind))
            for name, path in dataset.row_paths.items()
        }
      return {
          name: value if name == label else row_paths.text(value)
          for name, value in found.items()
      }
    except errors.UserError:
      raise
    except Exception as error:
      raise errors.UserError(f'{where}: {functions.failure(error)}') from error


def examples(task: tasks.Task) -> list[examples_lib.Example]:
  """Returns a task's made-up row under each of its templates, in their order.

  A task with shots has no row to take exemplars from, and shows none.

  Raises:
    UserError: There is no such row, or it does not fit the declaration.
  """
  rows = SampleRows(task.dataset)
  first = np.zeros(1, np.int64)
  settings = [
      dataclasses.replace(
          task.setting,
          template=template.name,
          num_templates=None,
          shots=0,
      )
      for template in task.templates
  ]
  return [
      example
      for setting in settings
      for example in templates.Renderer(
          tasks.create(task.dataset, setting), rows, seed=0
      ).render(first, first)
  ]
