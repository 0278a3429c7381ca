"""Rows that stay in memory: the same fields, read once, within bounds."""

from flan_jax.data import kept_rows
import numpy as np


class _Counted:
  """Rows that remember how often they were read."""

  split = 'train'

  def __init__(self, size):
    self.size = size
    self.read: list[int] = []

  def __len__(self):
    return self.size

  def fields(self, indices):
    self.read += indices.tolist()
    return [{'a': f'text {i}', 'b': [str(i)] * 3} for i in indices.tolist()]

  def row_ids(self, indices):
    return [f'train:{i}' for i in indices.tolist()]


def _fields(i):
  return {'a': f'text {i}', 'b': [str(i)] * 3}


def test_each_row_is_read_once():
  rows = _Counted(50)
  kept = kept_rows.KeptRows(rows, kept_rows.Budget())
  assert len(kept) == 50 and kept.split == 'train'
  assert kept.row_ids(np.array([3])) == ['train:3']
  generator = np.random.default_rng(0)
  for _ in range(20):
    indices = generator.integers(0, 50, 17)
    assert kept.fields(indices) == [_fields(i) for i in indices.tolist()]
  assert kept.fields(np.array([], np.int64)) == []
  # A row that one batch asks for twice may be read twice.
  assert set(rows.read) == set(range(50))
  assert len(rows.read) < 70


def test_what_is_kept_is_bounded_over_all_datasets():
  budget = kept_rows.Budget(2000)
  datasets = [_Counted(100) for _ in range(3)]
  kept = [kept_rows.KeptRows(rows, budget) for rows in datasets]
  for _ in range(2):
    for rows in kept:
      for i in range(100):
        assert rows.fields(np.array([i])) == [_fields(i)]
  assert budget.left <= 0
  # A row takes some 600 bytes: four fit, and the rest is read each time.
  reads = [len(rows.read) for rows in datasets]
  assert 180 < reads[0] < 200 and reads[1:] == [200, 200]
