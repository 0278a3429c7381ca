"""A stand-in for stored rows, and a folder of declarations to write in."""

from collections.abc import Callable, Sequence
import pathlib
import textwrap
from typing import Any

import numpy as np
import pytest


class FakeRows:
  """Rows of fields in memory, with what rendering asks of the row store."""

  def __init__(self, fields: Sequence[dict[str, Any]], split: str, first: int):
    self._fields = list(fields)
    self.split = split
    self._first = first

  def __len__(self) -> int:
    return len(self._fields)

  def fields(self, indices: np.ndarray) -> list[dict[str, Any]]:
    return [dict(self._fields[i]) for i in np.asarray(indices).tolist()]

  def row_ids(self, indices: np.ndarray) -> list[str]:
    return [f'train:{self._first + i}' for i in np.asarray(indices).tolist()]


@pytest.fixture(scope='session')
def fake_rows() -> Callable[..., FakeRows]:
  """Makes rows; `first` is the place in the source where they begin."""

  def make(fields, split='train', first=0):
    return FakeRows(fields, split, first)

  return make


@pytest.fixture
def declare(tmp_path: pathlib.Path) -> Callable[[str, str], pathlib.Path]:
  """Writes a declaration into a folder of this test's own."""

  def write(name: str, text: str) -> pathlib.Path:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text).lstrip('\n'), encoding='utf-8')
    return path

  return write
