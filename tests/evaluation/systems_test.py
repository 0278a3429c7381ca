"""Which checkpoints are evaluated, and what stands beside them."""

import json

from flan_jax import errors
from flan_jax.evaluation import settings
from flan_jax.evaluation import systems
import pytest


@pytest.fixture
def make_run(tmp_path, monkeypatch):
  """Makes what a run looks like to those who only read its facts."""
  monkeypatch.chdir(tmp_path)

  def make(name, steps, **facts):
    for step in steps:
      (tmp_path / name / f'checkpoint_{step}').mkdir(parents=True)
    (tmp_path / name / 'run.json').write_text(json.dumps(facts))

  return make


def _find(*paths, **given):
  asked = settings.Eval(output_dir='o', checkpoint_paths=list(paths), **given)
  models, notes = systems.find(asked)
  return {
      m.name: (m.kind, m.path, m.place.step, m.untuned) for m in models
  }, notes


def test_a_run_and_what_it_started_from(make_run):
  make_run('a', [0, 5, 9])
  found, notes = _find('a')
  assert found == {
      'tuned': ('tuned', 'a', 9, 'untuned'),
      'untuned': ('untuned', 'a/checkpoint_0', 0, None),
  }
  assert notes == []


def test_checkpoints_of_one_run_share_their_start(make_run):
  make_run('a', [0, 5, 9])
  found, _ = _find('half=a/checkpoint_5', 'full=a')
  assert found['half'][3] == found['full'][3] == 'untuned'
  assert list(found) == ['half', 'full', 'untuned']


def test_runs_have_starts_of_their_own(make_run):
  make_run('a', [0, 5])
  make_run('b', [0, 5])
  found, _ = _find('a', 'b')
  assert found['a'][3] == 'a untuned' and found['b'][3] == 'b untuned'
  assert found['b untuned'][1] == 'b/checkpoint_0'


def test_one_start_may_be_named_for_all(make_run):
  make_run('a', [0, 5])
  make_run('b', [7])
  found, notes = _find('a', 'b', untuned_checkpoint_path='a/checkpoint_0')
  assert found['a'][3] == found['b'][3] == 'untuned' and not notes
  found, _ = _find('a', 'b', untuned_checkpoint_path='none')
  assert list(found) == ['a', 'b'] and found['a'][3] is None


def test_a_run_that_has_no_start_says_so(make_run):
  make_run('a', [0, 5])
  make_run('b', [7])
  found, (note,) = _find('a', 'b')
  assert found['b'][3] is None and list(found) == ['a', 'b', 'untuned']
  assert note.startswith('b has no checkpoint_0')
  with pytest.raises(errors.UserError, match='there is no such run'):
    _find('a', 'c')


def test_checkpoints_of_a_run_follow_each_other(make_run):
  make_run('a', [0, 5])
  make_run('b', [0, 5])
  asked = settings.Eval(output_dir='o', checkpoint_paths=['a', 'b'])
  models, _ = systems.find(asked)
  order = [model.name for model in systems.by_run(models)]
  assert order == ['a', 'a untuned', 'b', 'b untuned']


def test_facts_come_from_the_run(make_run):
  make_run('a', [0, 5], mixture='m', parameters=7)
  models, _ = systems.find(settings.Eval(output_dir='o', checkpoint_path='a'))
  assert models[0].facts({'nli', 'qa'}) == {
      'kind': 'tuned',
      'checkpoint': 'a',
      'step': 5,
      'parameters': 7,
      'untuned': 'untuned',
      'mixture': 'm',
      'training_clusters': ['nli', 'qa'],
  }
  # What was counted is surer.
  assert models[1].facts((), 8)['parameters'] == 8


def test_names_are_cut_and_stay_apart():
  names = ['short', 'a_very_long_name_1', 'a_very_long_name_2']
  cut = systems.cut_names(names, 10)
  assert cut[0] == 'short' and len(set(cut)) == 3
  assert max(map(len, cut)) <= 10


def test_checkpoints_of_others_do_not_share_programs():
  from flan_jax.evaluation import answering

  run = {'model': {'emb_dim': 8}, 'vocabulary': {}, 'lengths': {'inputs': 8}}
  assert answering._alike(run, dict(run))
  assert not answering._alike(run, run | {'model': {'emb_dim': 16}})
  # Nothing says whether their models, or their vocabularies, are the same.
  folder = {'lengths': {'inputs': 8}, 'format': 'huggingface'}
  assert not answering._alike(folder, dict(folder))
