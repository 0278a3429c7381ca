"""What is odd in stored rows: empty texts, characters that no text needs."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import re
from typing import Any

from flan_jax.data import row_paths
from flan_jax.data import row_types
from flan_jax.data import specs
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# C0 but for tab and line feed, and what stands for bytes that were no text.
_CONTROL = r'[\x00-\x08\x0b-\x1f' + '\ufffd]'
_HAS_CONTROL: Callable[[str], Any] = re.compile(_CONTROL).search


@dataclasses.dataclass(frozen=True)
class Report:
  """Field -> the number of rows; fields without any are left out.

  Attributes:
    empty: Rows in which the field holds nothing but white space.
    control: Rows in which it holds control characters.
  """

  empty: Mapping[str, int]
  control: Mapping[str, int]


def look(
    dataset: specs.Dataset,
    batches: Sequence[pa.RecordBatch],
    types: Mapping[str, row_types.Type],
) -> Report:
  """Looks at the fields of all rows.

  A field that the rows do not have is passed over: opening them says so.

  Args:
    dataset: Names the fields.
    batches: The rows.
    types: Column -> type.
  """
  empty: dict[str, int] = {}
  control: dict[str, int] = {}
  label = dataset.choices.label if dataset.choices else ''
  for name in dataset.field_names:
    if name == label:
      continue
    path = name if isinstance(dataset.fields, str) else dataset.fields[name]
    look_at = _by_column if types.get(path) == 'str' else _one_by_one
    try:
      counts = look_at(path, batches, types)
    except row_paths.NoPath:
      continue
    for found, count in zip((empty, control), counts, strict=True):
      if count:
        found[name] = count
  return Report(empty, control)


def _by_column(
    path: str,
    batches: Sequence[pa.RecordBatch],
    types: Mapping[str, row_types.Type],
) -> tuple[int, int]:
  place = list(types).index(path)
  empty = control = 0
  for batch in batches:
    column = batch.column(place)
    blank = pc.equal(pc.binary_length(pc.utf8_trim_whitespace(column)), 0)
    empty += column.null_count + _true(blank)
    control += _true(pc.match_substring_regex(column, _CONTROL))
  return empty, control


def _true(column: pa.Array) -> int:
  return pc.sum(column).as_py() or 0


def _one_by_one(
    path: str,
    batches: Sequence[pa.RecordBatch],
    types: Mapping[str, row_types.Type],
) -> tuple[int, int]:
  read = row_paths.getter(path, path, types, raw=False).read
  empty = control = 0
  for batch in batches:
    for value in read(batch, pa.array(np.arange(batch.num_rows))):
      texts = [value] if isinstance(value, str) else value
      empty += not any(text.strip() for text in texts)
      control += any(map(_HAS_CONTROL, texts))
  return empty, control
