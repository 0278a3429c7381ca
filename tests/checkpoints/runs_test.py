"""A mistyped path says what there is, and run.json what was."""

import json

from flan_jax import errors
from flan_jax import vocabularies
from flan_jax.checkpoints import runs
from flan_jax.models import config as model_config
import pytest

CONFIG = model_config.EncoderDecoderConfig(
    emb_dim=16,
    num_heads=2,
    num_encoder_layers=2,
    num_decoder_layers=2,
    head_dim=8,
    mlp_dim=32,
)
FACTS = {'lengths': {'inputs': 8, 'targets': 4}, 'settings': {'Z_LOSS': 1e-4}}


def _run(directory, *steps, spec='bytes'):
  directory.mkdir(parents=True)
  runs.write(directory, CONFIG, vocabularies.load(spec), spec, FACTS)
  for step in steps:
    (directory / f'checkpoint_{step}').mkdir()
  return directory


def test_a_run_means_its_newest_step(tmp_path):
  run = _run(tmp_path / 'run', 0, 9, 100)
  (run / 'checkpoint_200.orbax-checkpoint-tmp').mkdir()
  (run / 'checkpoints').mkdir()
  assert runs.steps(run) == [0, 9, 100]
  assert runs.locate(run) == (run, 100)
  assert runs.locate(run / 'checkpoint_9') == (run, 9)
  assert runs.locate(f'{run}/checkpoint_0/') == (run, 0)
  assert runs.steps(tmp_path / 'none') == []


@pytest.mark.parametrize(
    ('path', 'wanted'),
    [
        (
            'run/checkpoint_7',
            (
                '{0}/run/checkpoint_7: there is no such checkpoint; {0}/run has'
                ' checkpoint_0, checkpoint_9'
            ),
        ),
        (
            'runn',
            '{0}/runn: there is no such run. There are {0}/bare, {0}/run.',
        ),
        (
            'runn/checkpoint_9',
            (
                '{0}/runn/checkpoint_9: there is no such run. There are'
                ' {0}/bare, {0}/run.'
            ),
        ),
        ('.', '{0}: holds no checkpoint. There are {0}/bare, {0}/run.'),
        (
            'bare',
            (
                '{0}/bare: holds no checkpoint. There is no run in {0}/bare'
                ' either.'
            ),
        ),
        (
            'lost',
            (
                '{0}/lost: the run has lost its run.json; {0}/lost has'
                ' checkpoint_3'
            ),
        ),
        (
            'run/sub/sub',
            '{0}/run/sub/sub: there is no such run. There are {0}/run.',
        ),
    ],
)
def test_a_path_that_is_none_lists_those_that_are(tmp_path, path, wanted):
  _run(tmp_path / 'run', 0, 9)
  _run(tmp_path / 'bare')
  (tmp_path / 'lost' / 'checkpoint_3').mkdir(parents=True)
  with pytest.raises(errors.UserError) as error:
    runs.locate(tmp_path / path)
  assert str(error.value) == wanted.format(tmp_path)


def test_model_and_vocabulary_come_back(tmp_path):
  run = _run(tmp_path / 'run', 0)
  assert runs.read_model(run) == CONFIG
  assert runs.read_vocabulary(run).describe()['kind'] == 'bytes'
  assert runs.read(run)['lengths'] == FACTS['lengths']
  assert sorted(path.name for path in run.iterdir()) == [
      'checkpoint_0',
      'run.json',
  ]


def test_a_run_carries_its_vocabulary(tmp_path, monkeypatch):
  model = tmp_path / 'given.model'
  syllables = [a + b for a in 'bdfgklmnprst' for b in 'aeiou']
  texts = [f'{a}{b} {b}{a}{b}' for a in syllables for b in syllables]
  vocabularies.train_sentencepiece(texts, 320, model)
  run = _run(tmp_path / 'run', 0, spec=str(model))
  wanted = vocabularies.load(model).encode('bada ki')
  model.unlink()
  monkeypatch.chdir(run)  # Paths in run.json are the run's own.
  assert runs.read_vocabulary('.').encode('bada ki') == wanted
  vocabularies.train_sentencepiece(texts, 330, run / 'vocabulary.model')
  with pytest.raises(errors.UserError, match='is not the vocabulary'):
    runs.read_vocabulary(run)


@pytest.mark.parametrize(
    ('text', 'wanted'),
    [
        ('{', 'run.json: is no JSON'),
        ('{}', 'run.json: model.family: None is none of'),
        (
            json.dumps({'model': {'family': 'decoder'}}),
            "run.json: model.family: 'decoder' is none of 'encoder_decoder'",
        ),
        (
            json.dumps({'model': {'family': 'encoder_decoder', 'depth': 3}}),
            "run.json: model: .*'depth'",
        ),
    ],
)
def test_a_broken_run_file_says_where(tmp_path, text, wanted):
  run = _run(tmp_path / 'run', 0)
  (run / 'run.json').write_text(text)
  with pytest.raises(errors.UserError, match=wanted):
    runs.read_model(run)


def test_changes_are_listed_by_name(tmp_path):
  run = tmp_path / 'run'
  run.mkdir()
  old = {'A': 1, 'B': ('x', 'y'), 'C': None, 'D': 0.5}
  runs.write(
      run,
      CONFIG,
      vocabularies.load('bytes'),
      'bytes',
      {'lengths': {}, 'settings': old},
  )
  assert runs.changes(run, dict(old)) == []
  new = {'A': 2, 'B': ('x', 'y'), 'D': None, 'E': 'new'}
  assert runs.changes(run, new) == [
      'A: 1 -> 2',
      'D: 0.5 -> None',
      "E: not set -> 'new'",
      'C: None -> not set',
  ]
