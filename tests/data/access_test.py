"""What a command's flags open."""

import argparse
import sys

from flan_jax import errors
from flan_jax.data import access
import pytest

_DATASET = """
version: 1
cluster: toys
source: {jsonl: rows.jsonl}
splits: {train: train}
fields: {a: a}
metrics: [exact_match]
templates:
- {name: ask, inputs: "{a}?", targets: "{a}!"}
"""


def _args(**kwargs):
  values = {
      'mixtures': None,
      'imports': None,
      'cache_dir': None,
      'tfds_data_dir': None,
      'data_dir': None,
      'on_error': 'raise',
      'first_rows': False,
  }
  return argparse.Namespace(**(values | kwargs))


def test_flags_lead_to_declarations_and_rows(declare, cache, tmp_path):
  path = declare('mine/toy_access.yaml', _DATASET)
  declare('data/rows.jsonl', '{"a": "one"}\nbroken\n{"a": "two"}\n')
  opened = access.Access.from_args(
      _args(
          mixtures=[str(path)],
          data_dir=str(tmp_path / 'data'),
          cache_dir=str(tmp_path / 'elsewhere'),
          on_error='skip',
      )
  )
  dataset = opened.catalogue.dataset('toy_access')
  assert len(opened.store.open(dataset, 'train')) == 2
  assert (tmp_path / 'elsewhere').is_dir() and not cache.exists()
  strict = access.Access.from_args(
      _args(mixtures=[str(path)], data_dir=str(tmp_path / 'data'))
  )
  with pytest.raises(errors.UserError, match='rows.jsonl:2: '):
    strict.store.open(dataset, 'train')


def test_first_rows_in_place_of_a_sample(declare, cache):
  text = _DATASET.replace('splits:', 'limits: {train: 3}\nsplits:')
  path = declare('mine/toy_first.yaml', text)
  declare('mine/rows.jsonl', '\n'.join(f'{{"a": "{i}"}}' for i in range(50)))
  rows = {}
  for first in (False, True):
    opened = access.Access.from_args(
        _args(mixtures=[str(path)], first_rows=first)
    )
    dataset = opened.catalogue.dataset('toy_first')
    rows[first] = opened.store.open(dataset, 'train').row_ids(range(3))
  assert rows[True] == ['train:0', 'train:1', 'train:2'] != rows[False]


def test_modules_of_the_working_directory(declare, tmp_path, monkeypatch):
  declare('toy_importable.py', 'DONE = True\n')
  declare('toy_incomplete.py', 'import toy_that_is_nowhere\n')
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, 'path', [p for p in sys.path if p])
  access.import_modules(['toy_importable'])
  assert sys.modules['toy_importable'].DONE
  with pytest.raises(errors.UserError, match="no module 'toy_missing' from he"):
    access.import_modules(['toy_missing'])
  with pytest.raises(errors.UserError, match="no module 'toy_importable.x'"):
    access.import_modules(['toy_importable.x'])
  # The module is there; what it lacks is its own affair.
  with pytest.raises(ModuleNotFoundError, match='toy_that_is_nowhere'):
    access.import_modules(['toy_incomplete'])
