"""SeqIO's tasks as ours: by name, with their rows read once."""

import argparse
import sys

from flan_jax import cli
from flan_jax import errors
from flan_jax.data import access
from flan_jax.data import mixtures
from flan_jax.data import pipeline
import numpy as np
import pytest

seqio = pytest.importorskip('seqio')

from flan_jax.data.sources import seqio as seqio_source  # noqa: E402

_MODULE = """
import functools
import seqio
import tensorflow as tf

_VOCABULARY = seqio.ByteVocabulary()
_FEATURES = {
    'inputs': seqio.Feature(_VOCABULARY),
    'targets': seqio.Feature(_VOCABULARY),
}


def _sums(split, shuffle_files):
  del shuffle_files
  first = {'train': 0, 'validation': 50}[split]
  numbers = tf.data.Dataset.range(first, first + 6)
  return numbers.map(lambda n: {
      'inputs': tf.strings.join(['é ', tf.strings.as_string(n), ' + 1 =']),
      'targets': tf.strings.as_string(n + 1),
      'number': n,
      'parts': tf.stack([tf.strings.as_string(n), '1']),
  })


def _add(name, *preprocessors, features=_FEATURES, **kwargs):
  seqio.TaskRegistry.add(
      name,
      source=seqio.FunctionDataSource(_sums, ['train', 'validation']),
      preprocessors=[*preprocessors, seqio.preprocessors.append_eos],
      output_features=features,
      **kwargs,
  )


@seqio.map_over_dataset(num_seeds=1)
def _draw(features, seed):
  drawn = tf.random.stateless_uniform([], seed, 0, 1000, tf.int32)
  return {**features, 'inputs': tf.strings.as_string(drawn)}


_add('toy:Sums.v1', seqio.preprocessors.tokenize)
_add('toy_ids', functools.partial(
    seqio.preprocessors.tokenize, copy_pretokenized=False))
_add('toy_targets_only',
     functools.partial(
         seqio.preprocessors.rekey, key_map={'targets': 'targets'}),
     seqio.preprocessors.tokenize,
     features={'targets': _FEATURES['targets']})
_add('toy_random', _draw, seqio.preprocessors.tokenize)
_add('toy_inputs_only', seqio.preprocessors.tokenize,
     features={'inputs': _FEATURES['inputs']})
_add('mini', seqio.preprocessors.tokenize)
seqio.MixtureRegistry.add(
    'toy:all', [('toy:Sums.v1', 3), ('toy_ids', 1.5)])
"""
_NAMES = (
    'toy:Sums.v1',
    'toy_ids',
    'toy_targets_only',
    'toy_random',
    'toy_inputs_only',
    'mini',
)


@pytest.fixture(scope='module')
def module(tmp_path_factory):
  """A user's module that registers SeqIO tasks."""
  folder = tmp_path_factory.mktemp('user')
  (folder / 'my_seqio_tasks.py').write_text(_MODULE)
  sys.path.insert(0, str(folder))
  yield 'my_seqio_tasks'
  sys.path.remove(str(folder))
  for name in _NAMES:
    seqio.TaskRegistry.remove(name)
  seqio.MixtureRegistry.remove('toy:all')


@pytest.fixture
def opened(module, tmp_path):
  return access.Access.from_args(
      argparse.Namespace(
          imports=[module],
          mixtures=[],
          cache_dir=str(tmp_path),
          tfds_data_dir=None,
          data_dir=None,
          on_error='raise',
          first_rows=False,
      )
  )


def _examples(opened, name, split='train', **kwargs):
  task = mixtures.resolve(opened.catalogue, name)
  return pipeline.examples(task, split, opened.store, **kwargs)


@pytest.mark.parametrize('name', ['toy:Sums.v1', 'toy_ids'])
def test_examples_are_the_tasks_texts(opened, name):
  found = _examples(opened, name)
  assert [example.inputs for example in found] == [
      f'é {n} + 1 =' for n in range(6)
  ]
  assert [example.targets for example in found] == [
      str(n + 1) for n in range(6)
  ]
  assert found[0].task == name
  assert found[0].options is None
  assert [e.targets for e in _examples(opened, name, 'validation')] == [
      str(n + 51) for n in range(6)
  ]


def test_other_features_are_kept_in_the_row(opened):
  task = mixtures.resolve(opened.catalogue, 'toy:Sums.v1')
  (row,) = opened.store.open(task.dataset, 'train').take(np.array([3]))
  assert row == {
      'inputs': 'é 3 + 1 =',
      'targets': '4',
      'number': 3,
      'parts': ['3', '1'],
  }


def test_a_task_without_inputs(opened):
  found = _examples(opened, 'toy_targets_only')
  assert {example.inputs for example in found} == {''}
  assert found[1].targets == '2'


def test_random_preprocessors_give_the_same_rows_again(opened, tmp_path):
  task = mixtures.resolve(opened.catalogue, 'toy_random')
  first = [example.inputs for example in _examples(opened, 'toy_random')]
  assert len(set(first)) > 1
  opened.store.prepare(task.dataset, force=True)
  assert [e.inputs for e in _examples(opened, 'toy_random')] == first


def test_settings_apply(opened):
  (shot,) = _examples(opened, 'toy_ids:1_shot', limit=1)
  assert shot.inputs.endswith('é 0 + 1 =')
  assert shot.inputs.count('+ 1 =') == 2


def test_a_mixture_has_seqios_rates(opened):
  found = mixtures.resolve(opened.catalogue, 'toy:all')
  assert {task.name: weight for task, weight in found.members} == {
      'toy:Sums.v1': 3,
      'toy_ids': 1.5,
  }
  sizes = [
      len(opened.store.open(task.dataset, 'train')) for task, _ in found.members
  ]
  np.testing.assert_array_equal(mixtures.rates(found, sizes), [3, 1.5])


def test_rows_are_read_once(opened, monkeypatch):
  _examples(opened, 'toy_ids')

  def fail(*args, **kwargs):
    raise AssertionError('read again')

  monkeypatch.setattr(seqio_source.SeqioSource, 'read', fail)
  assert len(_examples(opened, 'toy_ids')) == 6


def test_other_code_makes_other_rows(opened, module):
  task = mixtures.resolve(opened.catalogue, 'toy_ids')
  source = seqio_source.SeqioSource(
      task.dataset, opened.store._settings  # pylint: disable=protected-access
  )
  before = source.fingerprint('train')
  assert source.fingerprint('train') == before
  path = sys.modules[module].__file__
  with open(path, 'a') as file:
    file.write('\n')
  assert source.fingerprint('train') != before


def test_our_names_keep_their_meaning(opened):
  assert opened.catalogue.is_mixture('mini')
  assert len(mixtures.resolve(opened.catalogue, 'mini').members) > 1


def test_a_task_that_cannot_be_used(opened):
  with pytest.raises(errors.UserError, match='toy_inputs_only.*no targets'):
    mixtures.resolve(opened.catalogue, 'toy_inputs_only')


_SUMS = """\
version: 1
cluster: arithmetic
source: {seqio: NAME}
splits: {train: "train[:4]", test: validation}
fields: {question: inputs, sum: targets, number: number}
metrics: [exact_match]
templates:
- name: ask
  inputs: Reckon. {question} (from {number})
  targets: "{sum}"
"""


def _declared(module, tmp_path, name):
  path = tmp_path / 'sums.yaml'
  path.write_text(_SUMS.replace('NAME', name))
  return access.Access.from_args(
      argparse.Namespace(
          imports=[module],
          mixtures=[str(path)],
          cache_dir=str(tmp_path / 'cache'),
          tfds_data_dir=None,
          data_dir=None,
          on_error='raise',
          first_rows=False,
      )
  )


def test_a_declaration_may_name_a_seqio_task(module, tmp_path):
  found = _examples(_declared(module, tmp_path, 'toy_ids'), 'sums')
  assert len(found) == 4
  assert found[2].inputs == 'Reckon. é 2 + 1 = (from 2)'


def test_a_declaration_may_misspell_it(module, tmp_path):
  opened = _declared(module, tmp_path, 'toy_idz')
  status = opened.store.status(opened.catalogue.dataset('sums'))
  assert status.state == 'missing'
  assert "no SeqIO task 'toy_idz' is registered" in status.detail
  assert 'Did you mean toy_ids' in status.detail


def test_the_commands_find_them(module, tmp_path, capsys):
  common = [f'--import={module}', f'--cache_dir={tmp_path}']
  assert cli.main(['tasks', 'toy*', *common]) == 0
  listed = capsys.readouterr().out
  assert 'toy:Sums.v1' in listed and 'toy:all' in listed
  shown = ['show', 'toy:Sums.v1', '-n', '2', '--vocabulary=bytes', *common]
  assert cli.main(shown) == 0
  assert '+ 1 =' in capsys.readouterr().out
