"""`flan-jax mixture`: shares, epochs, and what a run has drawn."""

import json

from flan_jax import cli
from flan_jax import vocabularies
from flan_jax.checkpoints import runs
from flan_jax.data import catalogue
from flan_jax.data import mixtures
from flan_jax.data import pipeline
from flan_jax.data import rows
import numpy as np
import pytest

_DATASET = """\
version: 1
cluster: {cluster}
source: {{jsonl: {name}.jsonl{obtain}}}
splits: {{train: "train[:-2]", test: "train[-2:]"}}
fields: {{text: text, answer: answer}}
metrics: [exact_match]
templates:
- {{name: ask, inputs: "{{text}}", targets: "{{answer}}"}}
"""
# Name -> cluster, rows for training, characters of inputs and targets.
_SETS = {
    'toy_a': ('reading', 30, 9, 4),
    'toy_b': ('reading', 8, 19, 2),
    'toy_c': ('writing', 100, 39, 30),
}


@pytest.fixture
def folder(tmp_path):
  """Three datasets, a mixture of them, and one with a fourth that is absent."""
  found = tmp_path / 'own'
  found.mkdir()
  for name, (cluster, count, inputs, targets) in _SETS.items():
    text = _DATASET.format(name=name, cluster=cluster, obtain='')
    (found / f'{name}.yaml').write_text(text)
    line = json.dumps({'text': 'x' * inputs, 'answer': 'y' * targets})
    (found / f'{name}.jsonl').write_text(f'{line}\n' * (count + 2))
  (found / 'lost.yaml').write_text(
      _DATASET.format(
          name='lost', cluster='writing', obtain=', obtain: ask Ann'
      )
  )
  members = 'members: [{name: toy_a, weight: 2}, toy_b, toy_c]\n'
  (found / 'toys.yaml').write_text(
      f'version: 1\n{members}cap: 60\nmax_rate: 20\nheld_out: []\n'
  )
  (found / 'more.yaml').write_text(
      'version: 1\nmembers: [toys, lost]\nheld_out: [toy_b]\n'
  )
  return found


@pytest.fixture
def run(folder, cache, capsys):
  """Runs the command; returns its exit code, stdout and stderr."""

  def call(*args):
    code = cli.main(
        ['mixture', *args, f'--mixtures={folder}', '--vocabulary=bytes']
    )
    printed = capsys.readouterr()
    return code, printed.out, printed.err

  return call


def test_shares_by_hand(run):
  code, out, _ = run('toys', '--json')
  found = json.loads(out)
  assert code == 0
  # Rates: 2 * 20 (the maximum), 8, and 20 of 60 in use.
  rates = np.array([40.0, 8.0, 20.0])
  # Bytes and an end each.
  tokens = np.array([10 + 5, 20 + 3, 40 + 31])
  of_tokens = rates * tokens / (rates * tokens).sum()
  assert (found['cap'], found['max_rate'], found['examples']) == (60, 20, 98)
  assert [(t['rows'], t['examples']) for t in found['tasks']] == [
      (30, 30),
      (8, 8),
      (100, 60),
  ]
  for key, expected in (
      ('rate', rates),
      ('share_of_examples', rates / rates.sum()),
      ('input_tokens', [10, 20, 40]),
      ('target_tokens', [5, 3, 31]),
      ('share_of_tokens', of_tokens),
  ):
    assert [task[key] for task in found['tasks']] == pytest.approx(expected)
  assert [task['epochs'] for task in found['tasks']] == [None] * 3


def test_tokens_are_those_that_are_left(run):
  _, out, _ = run('toys', '--json', '--inputs_length=16', '--targets_length=8')
  found = json.loads(out)['tasks']
  assert [task['input_tokens'] for task in found] == [10, 16, 16]
  assert [task['target_tokens'] for task in found] == [5, 3, 8]


def test_epochs_over_steps(run):
  sizes = '--inputs_length=80', '--targets_length=62'
  code, out, _ = run('toys', '--json', '--steps=50', '--batch_size=4', *sizes)
  found = json.loads(out)
  per_row = found['examples_a_packed_row']
  # By tokens 80 / 22 or 62 / 12.4 would fit at the very most.
  assert code == 0 and 2 < per_row < 80 / 19.9
  drawn = 50 * 4 * per_row
  for task in found['tasks']:
    assert task['epochs'] == pytest.approx(
        drawn * task['share_of_examples'] / task['examples']
    )
  text = run('toys', '--steps=50', '--batch_size=4', *sizes)[1]
  assert f'50 steps of 4 rows (80/62), about {per_row:.1f} examples' in text


def test_the_table(run):
  code, out, err = run('toys')
  lines = out.splitlines()
  assert code == 0 and not err
  assert lines[0] == (
      'toys: 3 tasks of 2 clusters, split train; rates proportional, at most'
      ' 20, cap 60 examples'
  )
  rows_ = {line.split()[0]: line.split() for line in lines[3:]}
  assert rows_['toy_a'][1:6] == ['30', '40', '58.82%', '10+5', '27.22%']
  assert rows_['toy_c'][1:4] == ['60', '20', '29.41%']
  assert rows_['toy_a'][6] == '█' * 12 and rows_['toy_c'][6] == '█' * 6
  assert rows_['reading'][1:4] == ['38', '48', '70.59%']
  assert rows_['all'][1:4] == ['98', '68', '100.00%']


def test_what_is_missing_is_said_and_the_rest_shown(run):
  code, out, err = run('more')
  assert code == 2
  assert 'more: the rows of 1 of 3 datasets are not here; get them, or' in err
  assert "lost: 'lost.jsonl' is not there" in err and 'ask Ann' in err
  found = {
      line.split()[0]: line.split() for line in out.splitlines()[3:] if line
  }
  assert found['toy_a'][1:] == ['30', '-', '-', '-']
  assert found['lost'][-1] == 'manual'
  code, out, err = run('more', '--skip-missing', '--json')
  found = json.loads(out)
  assert (code, err, found['left_out']) == (0, '', ['lost'])
  assert [task['task'] for task in found['tasks']] == ['toy_a', 'toy_c']
  assert sum(task['share_of_examples'] for task in found['tasks']) == 1


def test_held_out_is_shown_on_its_test_rows(run):
  code, out, _ = run('more:held_out', '--json')
  found = json.loads(out)
  assert (code, found['split']) == (0, 'test')
  assert [(t['task'], t['examples']) for t in found['tasks']] == [('toy_b', 2)]


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        ((), 'a mixture or task, or --run=MODEL_DIR, is needed'),
        (('toyz',), "unknown task or mixture 'toyz'. Did you mean toys"),
        (('toys', '--steps=0'), '--steps: must be at least 1'),
        (('toys', '--split=dev'), "toy_a has no split 'dev'"),
        (('--run=/nowhere/x',), '/nowhere/x: there is no such run'),
    ],
)
def test_mistakes(run, args, message):
  code, out, err = run(*args)
  assert (code, out) == (2, '') and message in err


@pytest.mark.parametrize('one_side', [True, False])
@pytest.mark.parametrize('pack', [True, False])
def test_drawn_against_expected(
    run, folder, cache, monkeypatch, pack, one_side
):
  """A run's position is all that is needed; here without its training."""
  found = mixtures.resolve(catalogue.Catalogue([folder]), 'more')
  found = found.only(lambda task: task.dataset.name != 'lost')
  lengths = {'inputs': 80, 'targets': 62}
  trained = pipeline.TrainPipeline(
      found,
      'train',
      vocabularies.ByteVocabulary(),
      rows.RowStore(cache),
      pipeline.PipelineConfig(
          lengths=lengths,
          batch_size=8,
          seed=3,
          pack=pack,
          row_format='one_side' if one_side else 'two_sides',
      ),
  )
  layers = ('num_layers',)
  if not one_side:
    layers = ('num_encoder_layers', 'num_decoder_layers')
  for _ in range(120):
    next(trained)
  trained.close()
  facts = {
      'mixture': 'more',
      'left_out': ['lost'],
      'seed': 3,
      'lengths': lengths,
      'settings': {'BATCH_SIZE': 8, 'PACK': pack},
      'model': {
          'family': 'decoder_only' if one_side else 'encoder_decoder',
          **{'emb_dim': 8, 'num_heads': 1, 'head_dim': 8, 'mlp_dim': 8},
          **{name: 1 for name in layers},
      },
  }
  from flan_jax.checkpoints import native

  model_dir = folder / 'run'
  (model_dir / 'checkpoint_120').mkdir(parents=True)
  (model_dir / runs.RUN_FILE).write_text(json.dumps(facts))
  monkeypatch.setattr(
      runs, 'read_vocabulary', lambda _: vocabularies.ByteVocabulary()
  )
  monkeypatch.setattr(
      native,
      'read_position',
      lambda *_: json.loads(json.dumps(trained.get_state())),
  )
  code, out, _ = run(f'--run={model_dir}', '--json')
  result = json.loads(out)
  assert code == 0 and result['left_out'] == ['lost']
  assert result['run'] == {'directory': str(model_dir), 'step': 120}
  drawn = {task['task']: task for task in result['tasks']}
  total = sum(task['drawn'] for task in drawn.values())
  if not pack:
    assert total == 120 * 8
  for task in drawn.values():
    # 960 examples are the starts of eight blocks: as exact as a random draw.
    assert task['share_drawn'] == pytest.approx(
        task['share_of_examples'], abs=0.04
    )
    assert task['epochs'] == pytest.approx(
        task['drawn'] / task['examples'], abs=0.05
    )
  assert 'of drawn' in run(f'--run={model_dir}')[1]
  code, _, err = run('toys', f'--run={model_dir}')
  assert code == 2 and "was trained on 'more', not on 'toys'" in err
