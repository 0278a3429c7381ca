"""A decoder-only model through the commands: train, resume, infer, eval."""

import json
import os
import signal

from flan_jax import cli
from flan_jax.checkpoints import native
from flan_jax.checkpoints import runs
from flan_jax.inference import writer
from flan_jax.models import config as model_config
from flan_jax.training import metrics
import jax
import numpy as np
import pytest

STEPS = 6
SUMS = """\
version: 1
cluster: arithmetic
source: {jsonl: sums.jsonl}
splits: {train: "train[:-8]", validation: "train[-8:]", test: validation}
fields: {question: question, answer: answer}
metrics: [exact_match]
templates:
- {name: plain, inputs: "{question} =", targets: "{answer}"}
"""
PARITY = """\
version: 1
cluster: parity
source: {jsonl: sums.jsonl}
splits: {train: "train[:-8]", test: "train[-8:]"}
fields: {question: question, odd: odd}
choices: {label: odd, names: ["no", "yes, it is"]}
metrics: [accuracy]
templates:
- name: plain
  inputs: |-
    Is {question} odd?

    {options}
  targets: "{answer}"
"""
RUN = """\
include 'gin/runs/train.gin'
include 'gin/models/decoder/tiny.gin'
include 'gin/optimizers/adafactor.gin'
include 'gin/meshes/fsdp.gin'
MIXTURE_OR_TASK_NAME = 'both'
TASK_FEATURE_LENGTHS = {'inputs': 40, 'targets': 16}
VOCABULARY = 'bytes'
BATCH_SIZE = 8
TRAIN_STEPS = 6
EVAL_PERIOD = 6
EVAL_STEPS = 2
CHECKPOINT_PERIOD = 3
LOG_PERIOD = 3
PREFIX_LM = True
DROPOUT_RATE = 0.1
LEARNING_RATE = 0.03
DecoderConfig.vocab_size = 384
DecoderConfig.emb_dim = 16
DecoderConfig.head_dim = 8
DecoderConfig.mlp_dim = 32
DecoderConfig.num_layers = 2
DecoderConfig.num_heads = 2
"""


@pytest.fixture(scope='module')
def project(tmp_path_factory, own_programs):
  """A folder with two datasets, a gin file and a cache."""
  folder = tmp_path_factory.mktemp('project')
  (folder / 'sums.yaml').write_text(SUMS)
  (folder / 'parity.yaml').write_text(PARITY)
  (folder / 'both.yaml').write_text('version: 1\nmembers: [sums, parity]\n')
  rows = [
      {'question': f'{a} + {b}', 'answer': str(a + b), 'odd': (a + b) % 2}
      for a in range(10)
      for b in range(8)
  ]
  lines = ''.join(json.dumps(row) + '\n' for row in rows)
  (folder / 'sums.jsonl').write_text(lines)
  (folder / 'run.gin').write_text(RUN)
  return folder


def _call(project, command, *flags):
  return cli.main([
      command,
      f'--mixtures={project}',
      f'--cache_dir={project / "cache"}',
      *flags,
  ])


def _train(project, name, *flags):
  return _call(
      project,
      'train',
      f'--gin_file={project / "run.gin"}',
      f'--gin.MODEL_DIR={project / name}',
      *flags,
  )


@pytest.fixture(scope='module')
def run(project):
  """A run that nothing stopped."""
  assert _train(project, 'straight') == 0
  return project / 'straight'


def test_a_run_says_what_its_model_is(run):
  records = metrics.read(run / metrics.METRICS_FILE)
  assert [record['step'] for record in records] == list(range(1, STEPS + 1))
  assert records[-1]['loss'] < records[0]['loss']
  # Packed: most of 8 rows of 56 tokens; and the loss is of targets alone.
  assert all(0.8 * 8 * 56 < r['tokens'] <= 8 * 56 for r in records)
  assert all(r['target_tokens'] < r['tokens'] / 2 for r in records)
  assert 0 < records[-1]['eval/loss'] < 10
  found = runs.read_model(run)
  assert isinstance(found, model_config.DecoderConfig)
  assert found.prefix_lm and found.num_layers == 2
  loaded = native.load_model(run)
  assert loaded.model.config == found
  assert runs.read(run)['parameters'] == sum(
      leaf.size for leaf in jax.tree.leaves(loaded.params)
  )


def test_stopped_it_goes_on_bit_by_bit(project, run, monkeypatch):
  write = metrics.Writer.write

  def writes(self, at, record):
    write(self, at, record)
    if at == 2:
      os.kill(os.getpid(), signal.SIGTERM)

  with monkeypatch.context() as patch:
    patch.setattr(metrics.Writer, 'write', writes)
    assert _train(project, 'stopped') == 0
  assert runs.steps(project / 'stopped')[-1] in (2, 3)
  assert _train(project, 'stopped') == 0
  losses = [
      [r['loss'] for r in metrics.read(folder / metrics.METRICS_FILE)]
      for folder in (run, project / 'stopped')
  ]
  assert losses[0] == losses[1]
  trees = [native.load_model(p).params for p in (run, project / 'stopped')]
  jax.tree.map(np.testing.assert_array_equal, *jax.device_get(trees))


def test_another_direction_is_another_run(project, run, capsys):
  assert _train(project, 'straight', '--gin.PREFIX_LM=False') == 2
  assert 'MODEL.prefix_lm: True -> False' in capsys.readouterr().err


def test_what_was_drawn_is_known(project, run, capsys):
  capsys.readouterr()
  assert _call(project, 'mixture', f'--run={run}', '--json') == 0
  found = json.loads(capsys.readouterr().out)
  assert sum(task['share_drawn'] for task in found['tasks']) == 1


def test_infer_ranks_and_generates(project, run):
  assert (
      _call(
          project,
          'infer',
          f'--checkpoint={run}',
          '--mixture=both',
          f'--output={project / "predictions"}',
      )
      == 0
  )
  ranked = writer.read(project / 'predictions' / 'parity.jsonl')
  assert len(ranked) == 8
  for line in ranked:
    assert line['prediction'] in ('no', 'yes, it is')
    assert line['score'] == max(line['option_scores']) < 0
  written = writer.read(project / 'predictions' / 'sums.jsonl')
  assert len(written) == 8
  assert all(line['score'] < 0 for line in written)


def test_eval_compares_with_the_untuned_model(project, run):
  out = project / 'evaluation'
  assert _call(project, 'eval', f'--checkpoint={run}', f'--output={out}') == 0
  results = json.loads((out / 'results.json').read_text())
  assert {'tuned', 'untuned'} <= set(results['systems'])


def test_infer_insists_on_the_model_it_is_given(project, run, capsys):
  flags = [
      '--gin_file=gin/runs/infer.gin',
      '--gin_file=gin/models/decoder/tiny.gin',
      f'--checkpoint={run}',
      '--mixture=sums',
      f'--output={project / "other"}',
  ]
  assert _call(project, 'infer', *flags) == 2
  assert 'belongs to another model' in capsys.readouterr().err
