"""Runs from gin files to checkpoints: stopped anywhere, they go on the same."""

import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

from flan_jax import cli
from flan_jax import errors
from flan_jax import train
from flan_jax.checkpoints import native
from flan_jax.checkpoints import runs
from flan_jax.checkpoints import starts
from flan_jax.training import metrics
import jax
import numpy as np
import pytest

STEPS = 12
LINES = """\
TRAIN_STEPS = 12
EVAL_STEPS = 2
CHECKPOINT_PERIOD = 4
LOG_PERIOD = 5
DROPOUT_RATE = 0.1
"""


@pytest.fixture(scope='module')
def project(make_project):
  return make_project(LINES)


def _losses(project: pathlib.Path, name: str) -> list[tuple[int, float, int]]:
  """Returns step, loss and tokens of each line, to the last bit."""
  return [
      (record['step'], record['loss'], record['tokens'])
      for record in metrics.read(project / name / metrics.METRICS_FILE)
  ]


@pytest.fixture(scope='module')
def straight(project):
  """A run that nothing stopped."""
  assert project.train('straight') == 0
  return project / 'straight'


def test_drawn_so_far_comes_from_a_checkpoint(project, straight, capsys):
  capsys.readouterr()
  args = [
      f'--mixtures={project / "sums.yaml"}',
      f'--cache_dir={project.folder}/cache',
  ]
  assert cli.main(['mixture', f'--run={straight}', '--json', *args]) == 0
  found = json.loads(capsys.readouterr().out)
  (task,) = found['tasks']
  # Packed: more examples than rows have been seen.
  assert task['share_drawn'] == 1
  assert task['drawn'] > found['steps'] * found['batch_size'] / 2
  assert task['epochs'] == pytest.approx(
      task['drawn'] / task['examples'], abs=0.01
  )


def test_missing_rows_stop_a_run_at_once_or_are_left_out(project, capsys):
  folder = project / 'missing'
  folder.mkdir()
  lost = project.declaration.replace('sums.jsonl', 'lost.jsonl')
  (folder / 'lost.yaml').write_text(lost)
  (folder / 'both.yaml').write_text('version: 1\nmembers: [sums, lost]\n')
  more = [
      f'--mixtures={folder}',
      '--gin.MIXTURE_OR_TASK_NAME=both',
      '--gin.EVAL_MIXTURE_OR_TASK_NAME=sums',
      '--gin.TRAIN_STEPS=1',
  ]
  with pytest.raises(
      errors.UserError, match='both: the rows of 1 of 2 datasets are not here'
  ):
    project.train('both', *more)
  assert not (project / 'both').exists()
  assert project.train('both', *more, '--skip_missing') == 0
  assert 'left out, since their rows are not here' in capsys.readouterr().err
  run = json.loads((project / 'both' / 'run.json').read_text())
  assert run['left_out'] == ['lost']
  assert 'MIXTURE_OR_TASK_NAME.lost' not in run['settings']


def _stop_after(monkeypatch, step: int) -> None:
  """Sends SIGTERM when the record of `step` is written."""
  write = metrics.Writer.write

  def writes(self, at, record):
    write(self, at, record)
    if at == step:
      os.kill(os.getpid(), signal.SIGTERM)

  monkeypatch.setattr(metrics.Writer, 'write', writes)


def _same_arrays(one: pathlib.Path, other: pathlib.Path) -> None:
  trees = [native.load_model(path).params for path in (one, other)]
  jax.tree.map(np.testing.assert_array_equal, *jax.device_get(trees))


def test_a_run_leaves_what_later_commands_need(project, straight):
  assert sorted(path.name for path in straight.iterdir()) == [
      'checkpoint_0',
      'checkpoint_12',
      'checkpoint_4',
      'checkpoint_8',
      'config.gin',
      'environment.json',
      'libraries.log',
      'metrics.jsonl',
      'parameters.txt',
      'run.json',
      'tensorboard',
  ]
  records = metrics.read(straight / 'metrics.jsonl')
  assert [record['step'] for record in records] == list(range(1, STEPS + 1))
  assert all(record['tokens'] > 8 * 24 for record in records)  # Packed.
  assert records[-1]['loss'] < records[0]['loss']
  # LOG_PERIOD is 5, and the last step ends a period too. The one dataset is
  # all of its cluster.
  periods = {r['step']: r['period'] for r in records if 'period' in r}
  assert list(periods) == [5, 10, 12]
  for step, period in periods.items():
    steps = records[step - int(period['steps']) : step]
    tokens = sum(r['target_tokens'] for r in steps)
    loss = sum(r['loss'] * r['target_tokens'] for r in steps) / tokens
    assert period['loss'] == pytest.approx(loss)
    assert period['loss/cluster/arithmetic'] == pytest.approx(loss, rel=1e-5)
    assert 0 < period['decoder_density'] <= 1
    assert period['process_memory'] > 0
  run = runs.read(straight)
  assert run['lengths'] == {'inputs': 24, 'targets': 16}
  assert run['mixture'] == 'sums'
  assert run['model']['emb_dim'] == 16
  loaded = native.load_model(straight)
  assert loaded.step == STEPS
  assert run['parameters'] == sum(
      leaf.size for leaf in jax.tree.leaves(loaded.params)
  )
  table = (straight / 'parameters.txt').read_text().splitlines()
  assert table[-1].split() == ['all'] + [f'{run["parameters"]:,}'] * 2
  (start,) = starts.read(straight)
  assert start['checkpoints'] == [] and start['devices'] == 'cpu'
  assert start['mesh'] == {'data': 8, 'fsdp': 1, 'tensor': 1}
  assert start['packages']['jax'] == jax.__version__


def test_its_curves_can_be_drawn(straight, tmp_path, capsys):
  output = tmp_path / 'curves.html'
  assert cli.main(['compare', str(straight), f'--output={output}']) == 0
  shown = capsys.readouterr().out.splitlines()
  assert shown[1].split()[:2] == ['straight', '12']
  assert 'Training loss, nats a target token' in output.read_text()


def test_the_saved_configuration_is_a_gin_file(straight):
  first = train.load([str(straight / 'config.gin')], [], [])
  assert first.settings.model_dir == str(straight)
  assert first.text == (straight / 'config.gin').read_text()


def test_stopped_by_sigterm_it_goes_on_bit_by_bit(
    project, straight, monkeypatch, capsys
):
  # Stops on a checkpoint's step, beside one, and right at the start. The last
  # stop saves no earlier than the step after.
  for step in (1, 4, 6):
    with monkeypatch.context() as patch:
      _stop_after(patch, step)
      assert project.train('stopped') == 0
    last = runs.steps(project / 'stopped')[-1]
    assert last in (step, step + 1)
    assert capsys.readouterr().err.splitlines()[-1] == (
        f'told to stop: saved step {last} of {STEPS} as'
        f' {project / "stopped" / f"checkpoint_{last}"}; the same command goes'
        ' on from there'
    )
  assert project.train('stopped') == 0
  assert _losses(project, 'stopped') == _losses(project, 'straight')
  _same_arrays(project / 'stopped', straight)


def test_killed_it_goes_on_bit_by_bit(project, straight):
  directory = project / 'killed'
  code = (
      'import sys, time\n'
      'from flan_jax import cli\n'
      'from flan_jax.training import metrics\n'
      'write = metrics.Writer.write\n'
      'def slowly(self, step, record):\n'
      '  write(self, step, record)\n'
      '  time.sleep(0.2)\n'
      'metrics.Writer.write = slowly\n'
      f'cli.main({project.arguments("killed")!r})\n'
  )
  process = subprocess.Popen(
      [sys.executable, '-c', code], stderr=subprocess.DEVNULL
  )
  try:
    path = directory / metrics.METRICS_FILE
    while process.poll() is None:
      if path.is_file() and len(metrics.read(path)) >= 6:
        break
      time.sleep(0.02)
  finally:
    process.send_signal(signal.SIGKILL)
  assert process.wait() == -signal.SIGKILL
  assert 6 <= len(metrics.read(path)) < STEPS
  with open(path, 'a') as file:
    file.write('{"step": 7, "lo')  # A line that was cut short.
  assert project.train('killed') == 0
  assert _losses(project, 'killed') == _losses(project, 'straight')
  _same_arrays(directory, straight)


def test_another_mesh_goes_on_where_the_first_stopped(
    project, straight, monkeypatch
):
  with monkeypatch.context() as patch:
    _stop_after(patch, 5)
    assert project.train('moved') == 0
  flags = ['--gin.MeshConfig.data=2', '--gin.MeshConfig.fsdp=2']
  flags += ['--gin.MeshConfig.tensor=2']
  assert project.train('moved', *flags) == 0
  for found, wanted in zip(
      _losses(project, 'moved'), _losses(project, 'straight'), strict=True
  ):
    assert found[0] == wanted[0]
    assert found[2] == wanted[2]
    # Sums are made in another order, which Adafactor's first steps magnify.
    np.testing.assert_allclose(found[1], wanted[1], rtol=1e-3)


def test_a_finished_run_says_so(project, straight, capsys):
  before = sorted(straight.rglob('*'))
  assert project.train('straight') == 0
  assert 'is at step 12 of 12 already' in capsys.readouterr().err
  assert sorted(straight.rglob('*')) == before


@pytest.mark.parametrize(
    ('flags', 'lines'),
    [
        (['--gin.RANDOM_SEED=1'], ['RANDOM_SEED: 0 -> 1']),
        (
            ['--gin.BATCH_SIZE=16', '--gin.EncoderDecoderConfig.emb_dim=32'],
            ['MODEL.emb_dim: 16 -> 32', 'BATCH_SIZE: 8 -> 16'],
        ),
        (['--gin.LEARNING_RATE=0.5'], ['SCHEDULE.value: 0.001 -> 0.5']),
        (
            ["--gin.TASK_FEATURE_LENGTHS={'inputs': 24, 'targets': 8}"],
            [
                "TASK_FEATURE_LENGTHS: {'inputs': 24, 'targets': 16} ->"
                " {'inputs': 24, 'targets': 8}"
            ],
        ),
        (['--gin.TRAIN_STEPS=11'], ['TRAIN_STEPS: 12 -> 11 (may only grow)']),
        (
            ['--gin.MIXTURE_OR_TASK_NAME=sums:template_0'],
            [
                "MIXTURE_OR_TASK_NAME: 'sums' -> 'sums:template_0'",
                "MIXTURE_OR_TASK_NAME.sums:template_0: not set -> 'version 1'",
                "MIXTURE_OR_TASK_NAME.sums: 'version 1' -> not set",
            ],
        ),
    ],
)
def test_another_configuration_is_refused_with_the_difference(
    project, straight, flags, lines
):
  with pytest.raises(errors.UserError) as error:
    project.train('straight', *flags)
  first, *rest = str(error.value).split('\n  ')
  assert first == (
      f'{straight}: holds a run with another configuration: take another'
      ' MODEL_DIR, undo the change, or go on with --resume_with_changes'
  )
  assert rest == lines


def test_changes_are_taken_when_the_user_says_so(project, monkeypatch, capsys):
  with monkeypatch.context() as patch:
    _stop_after(patch, 2)
    assert project.train('changed') == 0
  # How long and how often may change freely.
  free = ['--gin.TRAIN_STEPS=13', '--gin.CHECKPOINT_PERIOD=5']
  free += ['--gin.LOG_PERIOD=1', '--gin.EVAL_PERIOD=13']
  other = ['--gin.LEARNING_RATE=0.5', '--gin.RANDOM_SEED=1']
  with pytest.raises(errors.UserError, match='another configuration'):
    project.train('changed', *free, *other)
  capsys.readouterr()
  assert project.train('changed', *free, *other, '--resume_with_changes') == 0
  output = capsys.readouterr().err
  assert 'going on from' in output
  records = metrics.read(project / 'changed' / 'metrics.jsonl')
  assert [record['step'] for record in records] == list(range(1, 14))
  rates = [record['learning_rate'] for record in records]
  assert rates[0] == rates[1] == np.float32(1e-3)
  assert rates[-1] == np.float32(0.5)
  assert runs.steps(project / 'changed') == [0, 5, 10, 13]
  # One validation split, whole: loss and accuracy of a token.
  assert set(records[-1]) - set(records[0]) == {
      'eval/loss',
      'eval/accuracy',
      'period',
  }
  assert 0 < records[-1]['eval/loss'] < 10
  # And the changed configuration is now the run's own.
  assert runs.read(project / 'changed')['settings']['SCHEDULE.value'] == 0.5


def test_parameters_of_another_run_to_start_from(project, straight):
  flags = [f'--gin.INITIAL_CHECKPOINT_PATH={straight}', '--gin.TRAIN_STEPS=1']
  assert project.train('second', *flags) == 0
  _same_arrays(project / 'second' / 'checkpoint_0', straight)
  assert [r[0] for r in _losses(project, 'second')] == [1]


def test_a_dry_run_prints_and_leaves_nothing(project, capsys):
  assert project.train('dry', '--dry_run') == 0
  output = capsys.readouterr().out
  assert "MIXTURE_OR_TASK_NAME = 'sums'" in output
  assert 'sums         136         136  100.00%' in output
  assert '18,672 parameters' in output
  assert not (project / 'dry').exists()


@pytest.mark.parametrize(
    ('flags', 'wanted'),
    [
        (['--gin.MIXTURE_OR_TASK_NAME=sumz'], 'sumz'),
        (
            ['--gin.EncoderDecoderConfig.vocab_size=128'],
            (
                'MODEL: EncoderDecoderConfig.vocab_size is 128, and bytes has'
                ' 259 ids; set it to 384'
            ),
        ),
        (
            ['--gin.BATCH_SIZE=12'],
            (
                'BATCH_SIZE: 12 rows cannot be shared out evenly to the 8 parts'
                ' that the mesh makes of a batch; nearest: 8 or 16'
            ),
        ),
        (
            ['--gin.BATCH_SIZE=8', '--gin.NUM_MICROBATCHES=3'],
            'NUM_MICROBATCHES: 3 equal parts',
        ),
        (["--gin.DROPOUT_RNG='fast'"], "DROPOUT_RNG: 'fast' is none of rbg"),
        (
            ['--gin.LOSS_NORMALIZING_FACTOR=tokens'],
            "LOSS_NORMALIZING_FACTOR: 'tokens' is none of",
        ),
        (
            ["--gin.TASK_FEATURE_LENGTHS={'inputs': 8}"],
            'TASK_FEATURE_LENGTHS: must be like',
        ),
        (['--gin.OPTIMIZER=@Adafactor'], 'OPTIMIZER: must be made by'),
        (['--gin.SCHEDULE=0.1'], 'SCHEDULE: must be made by'),
        (['--gin.MODEL=small'], 'MODEL: must be @EncoderDecoderConfig()'),
        (
            ['--gin.INITIAL_CHECKPOINT_PATH=no/such/run'],
            'no/such/run: there is no such run',
        ),
        (['--gin.VOCABULARY=no.model'], 'no.model: cannot read'),
    ],
)
def test_a_mistake_is_a_line_and_leaves_no_folder(project, flags, wanted):
  with pytest.raises(errors.UserError) as error:
    project.train('mistaken', *flags)
  assert wanted in str(error.value)
  assert not (project / 'mistaken').exists()


def test_it_needs_a_gin_file():
  with pytest.raises(errors.UserError, match='--gin_file: is needed'):
    train.main(argparse.Namespace(gin_file=[]))


def test_a_mixture_without_a_validation_split_says_so(project, tmp_path):
  declaration = project.declaration.replace('validation: "train[-8:]", ', '')
  declaration = declaration.replace('test: validation', 'test: "train[-8:]"')
  declaration = declaration.replace(
      'sums.jsonl', f'{project.folder}/sums.jsonl'
  )
  (tmp_path / 'bare.yaml').write_text(declaration)
  with pytest.raises(errors.UserError, match="bare has no split 'validation'"):
    project.train(
        'bare',
        f'--mixtures={tmp_path}',
        '--gin.MIXTURE_OR_TASK_NAME=bare',
        '--gin.EVAL_PERIOD=2',
    )


def test_a_full_disk_is_one_line_and_the_run_goes_on_afterwards(
    project, straight
):
  # The largest file allowed stands for a full disk: it needs no rights.
  code = (
      'import os, resource, signal, sys, time\n'
      'from flan_jax import cli\n'
      'from flan_jax.training import metrics\n'
      'signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n'
      'write = metrics.Writer.write\n'
      'def full(self, step, record):\n'
      '  write(self, step, record)\n'
      '  if step == 5:\n'
      f'    while not os.path.isdir({str(project / "full/checkpoint_4")!r}):\n'
      '      time.sleep(0.01)\n'
      '    resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))\n'
      'metrics.Writer.write = full\n'
      f'sys.exit(cli.main({project.arguments("full")!r}))\n'
  )
  done = subprocess.run(
      [sys.executable, '-c', code], capture_output=True, text=True
  )
  assert done.returncode == 2
  *before, last = done.stderr.splitlines()
  assert last == (
      f'flan-jax: error: {project / "full"}: a checkpoint could not be written'
      ' (File too large); checkpoint_4 is complete'
  )
  assert 'Traceback' not in done.stderr
  assert runs.steps(project / 'full') == [0, 4]
  assert native.load_model(project / 'full').step == 4
  assert project.train('full') == 0
  assert _losses(project, 'full') == _losses(project, 'straight')
  assert sorted(p.name for p in (project / 'full').iterdir()) == sorted(
      p.name for p in straight.iterdir()
  )


def test_a_hundred_steps_are_less_than_forty_lines(project):
  # Every step, libraries are as loud as they can be.
  code = (
      'import logging, os, sys, warnings\n'
      'from flan_jax import cli\n'
      'from flan_jax.training import metrics\n'
      'write = metrics.Writer.write\n'
      'def loudly(self, step, record):\n'
      '  write(self, step, record)\n'
      '  os.write(2, b"W0000 xla.cc:1] a warning from C\\n" * 5)\n'
      '  logging.getLogger("orbax").warning("a warning from Python")\n'
      '  warnings.warn(f"number {step} is deprecated")\n'
      'metrics.Writer.write = loudly\n'
      'sys.exit(cli.main(sys.argv[1:]))\n'
  )
  flags = ['--gin.TRAIN_STEPS=100', '--gin.CHECKPOINT_PERIOD=20']
  flags += ['--gin.EVAL_PERIOD=20']
  arguments = project.arguments('loud', *flags)
  done = subprocess.run(
      [sys.executable, '-c', code, *arguments], capture_output=True, text=True
  )
  assert done.returncode == 0
  lines = done.stderr.splitlines()
  # A line every 5 steps, and one for each of 5 evaluations.
  assert 25 < len(lines) < 40, done.stderr
  assert not done.stdout
  assert 'warning' not in done.stderr and 'deprecated' not in done.stderr
  log = (project / 'loud' / 'libraries.log').read_text()
  assert log.count('a warning from C') == 500
  assert log.count('a warning from Python') == 100
  assert 'number 100 is deprecated' in log


def test_weights_and_biases_get_what_tensorboard_gets(
    project, tmp_path, monkeypatch, capsys
):
  (tmp_path / 'wandb.py').write_text(
      'calls = []\n'
      'class Settings:\n'
      '  def __init__(self, **_): pass\n'
      'class Run:\n'
      '  url = "https://wandb.example/run"\n'
      '  def log(self, scalars, step): calls.append((step, scalars))\n'
      '  def finish(self): calls.append("finish")\n'
      'def init(**arguments):\n'
      '  calls.append(arguments)\n'
      '  return Run()\n'
  )
  monkeypatch.syspath_prepend(str(tmp_path))
  flags = ['--gin.WANDB_PROJECT=flan', '--gin.TRAIN_STEPS=3']
  flags += ['--gin.LOG_PERIOD=2', '--gin.EVAL_PERIOD=3']
  assert project.train('tracked', *flags) == 0
  start, first, last, end = sys.modules.pop('wandb').calls
  assert start['project'] == 'flan' and start['name'] == 'tracked'
  assert start['config']['BATCH_SIZE'] == 8
  assert first[0] == 2 and last[0] == 3 and end == 'finish'
  assert first[1]['train/loss/cluster/arithmetic'] > 0
  assert 'eval/loss' not in first[1] and last[1]['eval/loss'] > 0
  assert 'Weights & Biases: https://wandb.example/run' in (
      capsys.readouterr().err
  )


def test_training_imports_no_tensorflow(project):
  flags = ['--gin.TRAIN_STEPS=1', '--gin.EVAL_PERIOD=1']
  code = (
      'import sys\n'
      'from flan_jax import cli\n'
      f'code = cli.main({project.arguments("light", *flags)!r})\n'
      'names = ("tensorflow", "seqio", "tensorboard", "torch")\n'
      'print(code, [name for name in names if name in sys.modules])\n'
  )
  done = subprocess.run(
      [sys.executable, '-c', code], capture_output=True, text=True
  )
  assert done.stdout.strip() == '0 []', done.stderr
  assert 'step 1/1' in done.stderr and 'first step done' in done.stderr
