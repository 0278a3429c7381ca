"""Prepared TFDS directories: read as they are, and said what is missing."""

import dataclasses
import os
import subprocess
import sys

from flan_jax import errors
from flan_jax.data import rows as rows_lib
from flan_jax.data import specs
from flan_jax.data.sources import base
from flan_jax.data.sources import tfds
import pytest


def _dataset(where, **splits):
  return specs.Dataset(
      name='toy',
      cluster='misc',
      source=specs.Source(kind='tfds', where=where),
      splits=splits or {'train': 'train'},
      fields={},
      metrics=('accuracy',),
      templates=(),
  )


def _source(folder, where, **splits):
  settings = base.SourceSettings(tfds_data_dir=str(folder))
  return tfds.Tfds(_dataset(where, **splits), settings)


def _read(source, split):
  return [row for _, row in source.read(split, base.Skipped('raise'))]


# Name -> rows by split, from the README of the data.
COUNTS = {
    'super_glue/rte:1.0.2': {'train': 2490, 'validation': 277},
    'bool_q:1.0.0': {'train': 1000, 'validation': 500},
    'glue/mnli:2.0.0': {'train': 2000, 'validation_matched': 984},
    'trec:1.0.0': {'train': 5452, 'test': 500},
    'gem/dart:1.1.0': {'train': 2400, 'validation': 368},
    'squad/v1.1:3.0.0': {'train': 1000, 'validation': 190},
    'imdb_reviews/plain_text:1.0.0': {'train': 400, 'test': 100},
}


@pytest.mark.parametrize('name', sorted(COUNTS))
def test_counts_are_known_and_right(shared, name):
  source = _source(shared / 'tfds', name)
  for split, count in COUNTS[name].items():
    assert source.count(split) == count
    assert source.is_split(split)
    if count < 500:
      assert len(_read(source, split)) == count
  assert not source.is_split('tset')


@pytest.mark.parametrize(
    ('name', 'split'),
    [
        ('squad/v1.1:3.0.0', 'validation'),
        ('gem/dart:1.1.0', 'validation'),
        ('bool_q:1.0.0', 'validation'),
        ('super_glue/rte:1.0.2', 'validation'),
    ],
)
def test_rows_are_those_of_tfds_in_plain_python(shared, name, split):
  """The same rows, taken out of TFDS one by one by its own means."""
  import tensorflow_datasets

  source = _source(shared / 'tfds', name)
  builder = tensorflow_datasets.builder_from_directory(source.locate(split))
  expected = tensorflow_datasets.as_numpy(builder.as_dataset(split=split))
  found = _read(source, split)
  for place, (row, reference) in enumerate(zip(found, expected, strict=True)):
    assert row.keys() == reference.keys()
    for key, value in reference.items():
      assert _same(row[key], value), (key, row[key], value)
    if place == 100:
      break


def _same(ours, theirs) -> bool:
  if isinstance(theirs, dict):
    return all(_same(ours[key], theirs[key]) for key in theirs)
  if isinstance(theirs, bytes):
    return type(ours) is str and ours.encode() == theirs
  if hasattr(theirs, 'to_list'):
    theirs = theirs.to_list()
  if hasattr(theirs, '__len__'):
    return len(ours) == len(theirs) and all(map(_same, ours, theirs))
  return type(ours) in (bool, int, float) and ours == theirs


def test_slices_are_those_of_tfds(shared, cache):
  import tensorflow_datasets

  name = 'super_glue/rte:1.0.2'
  splits = {
      'train': 'train[:-200]',
      'validation': 'train[-200:]',
      'test': 'train[10%:12%]+validation[:5]',
  }
  store = rows_lib.RowStore(
      cache, rows_lib.SourceSettings(tfds_data_dir=str(shared / 'tfds'))
  )
  folder = shared / 'tfds/super_glue/rte/1.0.2'
  builder = tensorflow_datasets.builder_from_directory(str(folder))
  dataset = _dataset(name, **splits)
  store.prepare(dataset)
  # One part after the other; TFDS by itself takes turns between files.
  config = tensorflow_datasets.ReadConfig(interleave_cycle_length=1)
  for split in ('validation', 'test'):
    rows = store.open(dataset, split)
    expected = [
        int(row['idx'])
        for row in tensorflow_datasets.as_numpy(
            builder.as_dataset(split=splits[split], read_config=config)
        )
    ]
    assert [row['idx'] for row in rows.take(range(len(rows)))] == expected
  assert rows.manifest.version == '1.0.2'


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        (
            'super_glue/cb:1.0.2',
            "has no config 'cb' of 'super_glue' (there is rte)",
        ),
        (
            'super_glue/rte:1.0.3',
            (
                "has no version 1.0.3 of 'rte' prepared, and 1.0.2 does not fit"
                " ('text': there is no 'text'. There: hypothesis, idx, label,"
                ' prem'
            ),
        ),
        ('anli/r1:0.1.0', "holds no 'anli' (there is bool_q, cosmos_qa, gem, "),
    ],
)
def test_what_is_not_in_the_folder_is_named(shared, name, message):
  folder = shared / 'tfds'
  dataset = dataclasses.replace(
      _dataset(name), fields={'text': 'text'}, licence='CC0'
  )
  settings = base.SourceSettings(tfds_data_dir=str(folder))
  with pytest.raises(errors.UserError) as caught:
    tfds.Tfds(dataset, settings).count('train')
  text = str(caught.value)
  assert '\n' not in text
  assert text.startswith(f'dataset toy: source: {folder} {message}')
  command = f'flan-jax prepare toy --download --tfds_data_dir={folder}'
  assert f'`{command}` has TFDS fetch it (licence: CC0)' in text
  status = rows_lib.RowStore('/nowhere', settings).status(dataset)
  assert status.state == 'downloadable'
  # The same, but for what else the folder holds.
  assert status.detail.startswith(f'{folder} ') and command in status.detail
  assert '(there is' not in status.detail


def test_files_that_a_person_has_to_get(tmp_path):
  dataset = dataclasses.replace(
      _dataset('newsroom:1.0.0'),
      source=specs.Source(
          kind='tfds',
          where='newsroom:1.0.0',
          options={'manual': 'ask at the door, put it there.'},
      ),
  )
  settings = base.SourceSettings(tfds_data_dir=str(tmp_path))
  status = rows_lib.RowStore('/nowhere', settings).status(dataset)
  assert status.state == 'manual' and not status.usable
  assert status.detail == (
      f"{tmp_path} holds no 'newsroom': ask at the door, put it there; then"
      f' `flan-jax prepare toy --download --tfds_data_dir={tmp_path}`'
  )
  with pytest.raises(errors.UserError, match='by itself: .* ask at the door'):
    rows_lib.RowStore('/nowhere', settings).download(dataset)


def test_a_folder_that_is_not_there(tmp_path):
  with pytest.raises(errors.UserError, match='no such folder'):
    _source(tmp_path / 'nowhere', 'bool_q:1.0.0').locate('train')
  with pytest.raises(errors.UserError, match='it is empty'):
    _source(tmp_path, 'bool_q:1.0.0').locate('train')


@pytest.mark.parametrize('name', ['', 'a/b/c:1.0.0', 'rte:1.0', 'rte:latest'])
def test_a_name_that_tfds_could_not_have(tmp_path, name):
  with pytest.raises(errors.UserError, match='is no TFDS name'):
    _source(tmp_path, name)


def test_what_the_name_leaves_out_is_what_is_there(shared):
  folder = shared / 'tfds'
  assert _source(folder, 'bool_q').version == '1.0.0'
  source = _source(folder, 'imdb_reviews')
  assert source.locate('train').endswith('imdb_reviews/plain_text/1.0.0')


def test_the_newest_version_is_meant(tmp_path):
  for version in ('1.0.0', '2.0.0', '10.0.0'):
    folder = tmp_path / 'toy' / version
    folder.mkdir(parents=True)
    (folder / 'dataset_info.json').write_text('{}')
  (tmp_path / 'toy' / '11.0.0.incomplete').mkdir()
  assert _source(tmp_path, 'toy').version == '10.0.0'


def test_an_unknown_split_names_those_there_are(shared):
  source = _source(shared / 'tfds', 'trec:1.0.0')
  text = str(source.unknown('validation'))
  assert "no split 'validation'" in text and 'train, test' in text


def test_reading_is_silent_and_all_else_does_without_tensorflow(
    shared, tmp_path
):
  code = f"""
import sys
from flan_jax.data import rows, specs
store = rows.RowStore({str(tmp_path)!r}, rows.SourceSettings(
    tfds_data_dir={str(shared / 'tfds')!r}))
dataset = specs.Dataset(
    name='toy', cluster='misc', splits={{'train': 'train[:9]'}},
    source=specs.Source(kind='tfds', where='bool_q:1.0.0'),
    fields={{'passage': 'passage'}}, metrics=('accuracy',), templates=())
assert store.status(dataset).state == 'here'
assert 'tensorflow' not in sys.modules
assert len(store.open(dataset, 'train')) == 9
import tensorflow
assert not tensorflow.config.get_visible_devices('GPU')
"""
  done = subprocess.run(
      [sys.executable, '-c', code], capture_output=True, text=True, check=False
  )
  assert (done.returncode, done.stdout, done.stderr) == (0, '', '')


def test_without_tensorflow_the_extra_is_named(shared, monkeypatch):
  monkeypatch.delitem(sys.modules, 'tensorflow_datasets', raising=False)
  monkeypatch.setitem(sys.modules, 'tensorflow', None)
  source = _source(shared / 'tfds', 'bool_q:1.0.0')
  with pytest.raises(errors.UserError, match=r"'flan_jax\[seqio\]'"):
    _read(source, 'train')


def test_a_failed_import_shows_what_it_wrote(capfd):
  with pytest.raises(ImportError):
    with tfds._quiet():
      print('noise', file=sys.stderr, flush=True)
      raise ImportError
  assert 'noise' in capfd.readouterr().err
  with tfds._quiet():
    os.write(2, b'noise')
  assert capfd.readouterr().err == ''
