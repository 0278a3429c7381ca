"""Missing rows: all are named at once, or done without."""

import argparse
import re

from flan_jax import errors
from flan_jax.data import access as access_lib
from flan_jax.data import mixtures
from flan_jax.data import presence
import pytest

_DATASET = """
version: 1
cluster: toys
source: {{{source}}}
splits: {{{splits}}}
fields: {{a: a}}
metrics: [exact_match]
templates:
- {{name: ask, inputs: "{{a}}?", targets: "{{a}}"}}
"""


@pytest.fixture
def access(declare, tmp_path):
  """Five datasets, of which one is here, one fetched, two got by hand."""
  for name, source, splits in (
      ('toy_here', 'jsonl: here.jsonl', 'train: train, test: train'),
      ('toy_fetched', 'tfds: "trec:1.0.0", download: 3 KiB', 'train: train'),
      ('toy_asked', 'jsonl: asked.jsonl, obtain: ask Ann', 'train: train'),
      ('toy_lost', 'jsonl: lost.jsonl', 'train: train, test: train'),
      ('toy_tested', 'jsonl: here.jsonl', 'test: train'),
  ):
    declare(f'{name}.yaml', _DATASET.format(source=source, splits=splits))
  declare(
      'toys.yaml', f'version: 1\nmembers: [{{collection: {tmp_path.name}}}]\n'
  )
  (tmp_path / 'here.jsonl').write_text('{"a": "b"}\n' * 3)
  return access_lib.Access.from_args(
      argparse.Namespace(
          imports=[],
          mixtures=[str(tmp_path)],
          cache_dir=str(tmp_path / 'my cache'),
          tfds_data_dir=str(tmp_path / 'tfds'),
          data_dir=None,
          on_error='raise',
          first_rows=False,
      )
  )


def _tasks(access, name):
  found = mixtures.as_mixture(mixtures.resolve(access.catalogue, name))
  return [task for task, _ in found.members]


def test_all_that_is_missing_is_named_with_what_gets_it(access, tmp_path):
  wanted = presence.needs(_tasks(access, 'toys'), 'train')
  with pytest.raises(errors.UserError) as caught:
    presence.require(access, wanted, 'toys')
  first, *lines = str(caught.value).splitlines()
  assert first == (
      'toys: the rows of 3 of 4 datasets are not here; get them, or go on'
      ' without them with --skip_missing.'
  )
  text = ' '.join(' '.join(lines).replace('\\', ' ').split())
  assert (
      'flan-jax prepare toy_fetched --download'
      f' --mixtures={tmp_path} --tfds_data_dir={tmp_path}/tfds'
      f" --cache_dir='{tmp_path}/my cache'"
  ) in text
  assert re.search(r"By hand.*toy_asked: 'asked.jsonl' is not there", text)
  assert 'ask Ann' in text and 'toy_lost: ' in text
  assert 'toy_here' not in text and 'toy_tested' not in text


def test_what_is_missing_can_be_done_without(access):
  tasks = _tasks(access, 'toys')
  missing = presence.require(
      access, presence.needs(tasks, 'train'), 'toys', skip=True
  )
  assert missing == {'toy_asked', 'toy_fetched', 'toy_lost'}
  assert presence.left_out(missing) == (
      'left out, since their rows are not here (3 of the datasets): toy_asked,'
      ' toy_fetched, toy_lost'
  )


@pytest.mark.parametrize('skip', [True, False])
def test_nothing_cannot_be_done_without(access, skip):
  tasks = [*_tasks(access, 'toy_lost'), *_tasks(access, 'toy_asked')]
  with pytest.raises(
      errors.UserError,
      match='x: the rows of 2 of 2 datasets are not here, and there are no oth',
  ):
    presence.require(access, presence.needs(tasks, 'train'), 'x', skip)
  with pytest.raises(
      errors.UserError, match="y: the rows of 'toy_lost' are not here"
  ):
    presence.require(access, presence.needs(tasks[:1], 'train'), 'y', skip)


def test_nothing_is_missing(access):
  for name in ('toy_here', 'toy_tested'):
    tasks = _tasks(access, name)
    assert not presence.require(access, presence.needs(tasks, 'test'), name)


def test_exemplars_need_training_rows(access):
  (plain,) = _tasks(access, 'toy_here')
  (shot,) = _tasks(access, 'toy_here:2_shot')
  assert presence.splits(plain, 'test') == ('test',)
  assert presence.splits(shot, 'test') == ('test', 'train')
  assert presence.splits(shot, 'train') == ('train',)
  tasks = _tasks(access, 'toy_here:2_shot') + _tasks(
      access, 'toy_tested:2_shot'
  )
  kept, line = presence.with_split(tasks, 'test')
  assert [task.name for task in kept] == ['toy_here:2_shot']
  assert line == "left out, for want of a split 'train': toy_tested:2_shot"


def test_tasks_without_the_split(access):
  with pytest.raises(
      errors.UserError,
      match="SPLIT: toy_tested has no split 'tets'. Did you mean test?",
  ):
    presence.with_split(_tasks(access, 'toy_tested'), 'tets')
