"""Rows made by code: the same for a seed, new when the code is."""

import importlib
import sys
import textwrap

from flan_jax import errors
from flan_jax.data import functions
from flan_jax.data import rows as rows_lib
from flan_jax.data import specs
from flan_jax.data.sources import base
from flan_jax.data.sources import generated
import numpy as np
import pytest


def _dataset(where, fields=('text',), **splits):
  return specs.Dataset(
      name='toy',
      cluster='misc',
      source=specs.Source(kind='generated', where=where),
      splits=splits or {'train': 'train'},
      fields={name: name for name in fields},
      metrics=('accuracy',),
      templates=(),
  )


@pytest.fixture
def module(tmp_path, monkeypatch):
  """Writes modules and forgets them after the test."""
  monkeypatch.syspath_prepend(str(tmp_path))
  written = []

  def write(name, code):
    written.append(name)
    (tmp_path / f'{name}.py').write_text(textwrap.dedent(code))
    importlib.invalidate_caches()
    return tmp_path / f'{name}.py'

  yield write
  for name in written:
    sys.modules.pop(name, None)


def _fingerprint(where):
  source = generated.Generated(_dataset(where), base.SourceSettings())
  return source.fingerprint('train')


def test_rows_depend_on_split_and_seed(module, cache):
  module(
      'gen_seeds',
      """
      import numpy as np
      def rows(split, seed):
        for i in range(3):
          yield {'text': f'{split} {seed} {i}', 'n': np.int64(i)}
      """,
  )
  dataset = _dataset('gen_seeds:rows', train='train', test='test[:1]')
  for seed in (0, 1):
    store = rows_lib.RowStore(cache, rows_lib.SourceSettings(seed=seed))
    rows = store.open(dataset, 'train')
    assert rows.take([2]) == [{'text': f'train {seed} 2', 'n': 2}]
    assert len(store.open(dataset, 'test')) == 1
  assert len(list((cache / 'rows/toy').iterdir())) == 4


def test_new_code_is_noticed_beside_it_too(module):
  beside = module('gen_words', 'WORDS = ["a"]\n')
  path = module(
      'gen_main',
      """
      import json
      import gen_words
      def rows(split, seed):
        return [{'text': word} for word in gen_words.WORDS]
      """,
  )
  seen = {_fingerprint('gen_main:rows')}
  for changed in (path, beside):
    changed.write_text(changed.read_text() + '\n# changed\n')
    # The process that imported it still has the old code, and its rows.
    assert _fingerprint('gen_main:rows') in seen
    del sys.modules['gen_main'], sys.modules['gen_words']
    seen.add(_fingerprint('gen_main:rows'))
  assert len(seen) == 3


def test_a_version_is_part_of_it(module):
  module('gen_version', 'VERSION = 1\ndef rows(split, seed):\n  return []\n')
  first = _fingerprint('gen_version:rows')
  sys.modules['gen_version'].VERSION = 2
  functions._DIGESTS.clear()
  assert _fingerprint('gen_version:rows') != first


def test_what_is_no_row(module, cache):
  module(
      'gen_odd', 'def rows(split, seed):\n  yield {"text": "a"}\n  yield 3\n'
  )
  dataset = _dataset('gen_odd:rows')
  with pytest.raises(errors.UserError) as caught:
    rows_lib.RowStore(cache).open(dataset, 'train')
  assert str(caught.value) == (
      "gen_odd:rows('train', 0): row 1: a int, where the function must yield a"
      ' dict'
  )
  settings = rows_lib.SourceSettings(on_error='skip')
  assert len(rows_lib.RowStore(cache, settings).open(dataset, 'train')) == 1


def test_a_missing_function_is_a_missing_source(cache):
  dataset = _dataset('no_such_generator:rows')
  status = rows_lib.RowStore(cache).status(dataset)
  assert status.state == 'missing'
  assert "no Python module 'no_such_generator'" in status.detail


def test_other_splits_than_ours_are_unknown(module, cache):
  module('gen_three', 'def rows(split, seed):\n  return [{"text": "a"}]\n')
  with pytest.raises(errors.UserError, match='train, validation, test'):
    rows_lib.RowStore(cache).open(
        _dataset('gen_three:rows', train='trian'), 'train'
    )


def test_the_packages_own_generators(cache):
  dataset = _dataset(
      'flan_jax.data.generators.facts:capitals',
      fields=('country', 'capital'),
      train='train',
      validation='validation',
      test='test',
  )
  store = rows_lib.RowStore(cache)
  assert store.status(dataset).state == 'here'
  manifest = store.prepare(dataset)
  for split in dataset.splits:
    rows = store.open(dataset, split)
    assert len(rows.take(np.arange(len(rows)))) == manifest.splits[split].rows
