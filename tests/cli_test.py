"""The command line: flags, errors in arguments, and how fast it answers."""

import subprocess
import sys

from flan_jax import cli
from flan_jax import errors
import pytest


def _fails(argv, capsys) -> str:
  with pytest.raises(SystemExit) as stopped:
    cli.main(argv)
  assert stopped.value.code == 2
  message = capsys.readouterr().err
  assert message.count('\n') == 1, message
  return message


def test_t5x_flag_forms():
  args = cli.parse([
      'train',
      '--gin_file=a.gin',
      '--gin_file',
      'b.gin',
      '--gin.MODEL_DIR=/tmp/x',
      '--gin.TRAIN_STEPS',
      '5',
      '--gin_bindings=BATCH_SIZE = 8',
      '--mixtures=one',
      '--mixtures=two',
  ])
  assert args.gin_file == ['a.gin', 'b.gin']
  assert args.gin_bindings == [
      'MODEL_DIR=/tmp/x',
      'TRAIN_STEPS=5',
      'BATCH_SIZE = 8',
  ]
  assert args.mixtures == ['one', 'two']


def test_shorthands_come_last_and_mean_macros():
  args = cli.parse(['eval', '--checkpoint=c', '--max_examples=5'])
  assert args.gin_file == ['gin/runs/eval.gin']
  assert args.gin_bindings == ['CHECKPOINT_PATH=c', 'MAX_EXAMPLES=5']


def test_several_checkpoints_are_another_macro():
  args = cli.parse(['eval', '--checkpoint=a', '--checkpoint', 'big=b'])
  assert args.gin_bindings == ["CHECKPOINT_PATHS=['a', 'big=b']"]
  args = cli.parse(['eval', *[f'--checkpoint={n}' for n in 'abc']])
  assert args.gin_bindings == ["CHECKPOINT_PATHS=['a', 'b', 'c']"]
  args = cli.parse(['eval', '--checkpoint=big=b'])
  assert args.gin_bindings == ['CHECKPOINT_PATH=big=b']
  assert cli.parse(['infer', '--checkpoint=c']).gin_bindings == [
      'CHECKPOINT_PATH=c'
  ]


def test_a_value_may_hold_an_equals_sign():
  args = cli.parse(['train', '--gin.NAME=a=b'])
  assert args.gin_bindings == ['NAME=a=b']


def test_unknown_flag_suggests_the_nearest(capsys):
  assert '--gin_file' in _fails(['train', '--gin_fiel=x'], capsys)


def test_unknown_command(capsys):
  assert 'trian' in _fails(['trian'], capsys)


def test_gin_flag_without_a_value(capsys):
  assert cli.main(['train', '--gin.MODEL_DIR']) == 2
  assert '--gin.MODEL_DIR=VALUE' in capsys.readouterr().err


def test_flags_are_not_abbreviated(capsys):
  assert '--dry_run' in _fails(['train', '--dry'], capsys)


def test_user_errors_are_one_line_and_exit_2(capsys, monkeypatch):
  from flan_jax import browse

  def fail(args):
    raise errors.UserError('rte.yaml:3: colour: unknown key')

  monkeypatch.setattr(browse, 'tasks', fail)
  assert cli.main(['tasks']) == 2
  message = capsys.readouterr().err
  assert message == 'flan-jax: error: rte.yaml:3: colour: unknown key\n'


@pytest.mark.parametrize(
    'command', ['train', 'infer', 'eval', 'tasks', 'show', 'mixture']
)
def test_every_command_explains_itself(command, capsys):
  with pytest.raises(SystemExit) as stopped:
    cli.main([command, '--help'])
  assert stopped.value.code == 0
  shown = capsys.readouterr().out
  assert '--mixtures PATH' in shown


@pytest.mark.parametrize(
    'argv, code', [(['--help'], 0), (['tasks'], 0), (['train', '--nope'], 2)]
)
def test_quick_answers_load_nothing_slow(argv, code):
  # Seconds depend on the machine; what is imported does not.
  script = (
      'import sys; from flan_jax import cli\n'
      'try: code = cli.main(sys.argv[1:])\n'
      'except SystemExit as stopped: code = stopped.code\n'
      'slow = {"jax", "tensorflow", "flax", "orbax", "grain", "seqio"}\n'
      'print(code, sorted(slow & set(sys.modules)), file=sys.stderr)'
  )
  done = subprocess.run(
      [sys.executable, '-c', script, *argv], capture_output=True, text=True
  )
  assert done.stderr.splitlines()[-1] == f'{code} []'
