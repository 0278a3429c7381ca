"""What a run saves, what it refuses, and how it ends: from the command line."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys

from flan_jax import errors
from flan_jax.checkpoints import integrity
from flan_jax.checkpoints import native
from flan_jax.checkpoints import runs
from flan_jax.training import metrics
import jax
import numpy as np
import pytest

STEPS = 8
LINES = f"""\
TRAIN_STEPS = {STEPS}
EVAL_PERIOD = 2
EVAL_STEPS = 1
CHECKPOINT_PERIOD = 2
CHECKPOINTS_TO_KEEP = 2
"""


@pytest.fixture(scope='module')
def project(make_project):
  return make_project(LINES)


@pytest.fixture(scope='module')
def straight(project):
  """A run of eight steps that keeps all that it may."""
  flags = ['--gin.CHECKPOINTS_TO_KEEP=1', '--gin.KEEP_EVERY=4']
  # The first evaluation has the highest loss: it would go without this.
  flags += ['--gin.KEEP_BEST=1', '--gin.BEST_MODE=max']
  assert project.train('straight', *flags) == 0
  return project / 'straight'


def _copy(straight: pathlib.Path, name: str) -> pathlib.Path:
  return shutil.copytree(straight, straight.parent / name)


def _losses(run: pathlib.Path) -> list[tuple[int, float]]:
  records = metrics.read(run / metrics.METRICS_FILE)
  return [(record['step'], record['loss']) for record in records]


def _same_params(one: pathlib.Path, other: pathlib.Path) -> None:
  trees = [native.load_model(path).params for path in (one, other)]
  jax.tree.map(np.testing.assert_array_equal, *jax.device_get(trees))


def test_the_newest_the_best_and_every_fourth_stay(straight):
  scores = {
      record['step']: record['eval/loss']
      for record in metrics.read(straight / 'metrics.jsonl')
      if 'eval/loss' in record
  }
  worst = max(scores, key=lambda step: scores[step])
  assert worst == 2
  assert runs.steps(straight) == [0, worst, 4, 8]
  # What a checkpoint is judged by is in it, for a run that goes on.
  for step in (2, 4, 8):
    saved = integrity.read_position(runs.step_path(straight, step))
    assert saved['numbers']['eval/loss'] == scores[step]


def test_the_best_is_known_to_a_run_that_goes_on(project, straight):
  run = _copy(straight, 'longer')
  flags = ['--gin.TRAIN_STEPS=10', '--gin.CHECKPOINTS_TO_KEEP=1']
  flags += ['--gin.KEEP_BEST=1', '--gin.BEST_MODE=max']
  assert project.train('longer', *flags) == 0
  assert runs.steps(run) == [0, 2, 10]


@pytest.mark.parametrize(
    ('flags', 'wanted'),
    [
        (['--gin.BEST_MODE=lowest'], "BEST_MODE: 'lowest' is none of 'min'"),
        (
            ['--gin.KEEP_BEST=1', '--gin.EVAL_PERIOD=0'],
            'KEEP_BEST: eval/loss is known where EVAL_PERIOD and',
        ),
        (
            ['--gin.KEEP_BEST=1', '--gin.BEST_METRIC=eval/los'],
            "BEST_METRIC: step 2 has no number 'eval/los'",
        ),
    ],
)
def test_a_mistake_about_the_best_is_one_line(project, flags, wanted):
  with pytest.raises(errors.UserError) as error:
    project.train('mistaken', *flags)
  assert wanted in str(error.value)


def test_a_broken_newest_checkpoint_is_passed_over(project, straight, capsys):
  run = _copy(straight, 'broken')
  # At the last step: it is not taken for done, either.
  for path in (run / 'checkpoint_8' / 'params' / 'd').iterdir():
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  capsys.readouterr()
  assert project.train('broken') == 0
  lines = capsys.readouterr().err.splitlines()
  (warning,) = (line for line in lines if line.startswith('warning: '))
  assert warning.startswith(f'warning: {run}/checkpoint_8 cannot be read (')
  assert warning.endswith(
      '; it is now broken_checkpoint_8, and checkpoint_4 is used'
  )
  assert f'going on from {run}/checkpoint_4' in lines
  assert _losses(run) == _losses(straight)
  _same_params(run, straight)
  assert (run / 'broken_checkpoint_8').is_dir()


def test_another_optimizer_is_refused_or_starts_afresh(
    project, straight, capsys
):
  run = _copy(straight, 'other')
  longer = ['--gin.TRAIN_STEPS=9']
  # Its state has other shapes.
  other = [*longer, '--gin.Adafactor.min_dim_size_to_factor=8']
  with pytest.raises(errors.UserError, match='OPTIMIZER.min_dim_size_to_fac'):
    project.train('other', *other)
  with pytest.raises(errors.UserError) as error:
    project.train('other', *other, '--resume_with_changes')
  assert str(error.value).startswith(
      f'{run}/checkpoint_8/optimizer: belongs to another optimizer: '
  )
  assert '--reset_optimizer goes on with them' in str(error.value)
  assert runs.steps(run) == [0, 2, 4, 8]
  assert project.train('other', *other, '--reset_optimizer') == 0
  assert 'starts afresh' in capsys.readouterr().err
  records = metrics.read(run / 'metrics.jsonl')
  assert [record['step'] for record in records] == list(range(1, 10))
  # The parameters are the run's: one step changes them a little.
  before, after = (
      jax.device_get(native.load_model(path).params) for path in (straight, run)
  )
  for one, two in zip(
      jax.tree.leaves(before), jax.tree.leaves(after), strict=True
  ):
    np.testing.assert_allclose(two, one, atol=0.02)
  # With the same flags it goes on: what it saved is its own optimizer's.
  capsys.readouterr()
  again = [flag.replace('STEPS=9', 'STEPS=10') for flag in other]
  assert project.train('other', *again, '--reset_optimizer') == 0
  assert 'starts afresh' not in capsys.readouterr().err


@pytest.fixture
def read_only(tmp_path):
  """A folder on a file system without the right to write."""
  if os.geteuid():
    tmp_path.chmod(0o555)
    yield tmp_path
    tmp_path.chmod(0o755)
    return
  mount = ['mount', '-t', 'tmpfs', '-o', 'ro', 'tmpfs', str(tmp_path)]
  try:
    subprocess.run(mount, check=True, capture_output=True)
  except (OSError, subprocess.CalledProcessError):
    pytest.skip('no file system can be mounted here')
  yield tmp_path
  subprocess.run(['umount', '-l', str(tmp_path)], check=True)


@pytest.mark.parametrize('name', ['.', 'new', 'new/deeper'])
def test_a_folder_that_cannot_be_written_is_found_before_anything_is_made(
    project, read_only, name
):
  code = (
      'import sys\n'
      'from flan_jax import cli\n'
      f'flags = {project.arguments("x")!r}\n'
      f'flags.append("--gin.MODEL_DIR={read_only / name}")\n'
      'code = cli.main(flags)\n'
      'print(code, "flan_jax.training.trainer" in sys.modules)\n'
  )
  done = subprocess.run(
      [sys.executable, '-c', code], capture_output=True, text=True
  )
  assert done.stdout.strip() == '2 False', done.stderr
  (line,) = done.stderr.splitlines()
  assert line.startswith(
      f'flan-jax: error: MODEL_DIR: {read_only / name}: {read_only} cannot be'
      ' written ('
  )


def test_a_file_in_the_way_is_found_as_early(project, tmp_path):
  (tmp_path / 'file').write_text('')
  for name in ('file', 'file/run'):
    with pytest.raises(errors.UserError, match='cannot be written'):
      runs.check_writable(tmp_path / name)
  runs.check_writable(tmp_path / 'new' / 'run')
  assert os.listdir(tmp_path) == ['file']


def _process(code: str) -> subprocess.Popen:
  return subprocess.Popen(
      [sys.executable, '-c', code],
      stdout=subprocess.DEVNULL,
      stderr=subprocess.PIPE,
      text=True,
  )


# Steps that never end, so that only the signals do.
_SLOW = """
import sys, time
from flan_jax import cli
from flan_jax.training import metrics
write = metrics.Writer.write
def slowly(self, step, record):
  write(self, step, record)
  print('step', step, file=sys.stderr, flush=True)
  time.sleep({seconds})
metrics.Writer.write = slowly
sys.exit(cli.main({arguments!r}))
"""


def test_the_first_interrupt_saves_and_the_second_ends_at_once(project):
  arguments = project.arguments('interrupted', '--gin.TRAIN_STEPS=1000')
  process = _process(_SLOW.format(arguments=arguments, seconds=60))
  assert process.stderr is not None
  for line in process.stderr:
    if line == 'step 1\n':
      break
  process.send_signal(signal.SIGINT)
  for line in process.stderr:
    if 'another Ctrl-C ends it at once' in line:
      break
  process.send_signal(signal.SIGINT)
  rest = process.communicate(timeout=50)[1]
  assert process.returncode == 130
  assert rest.splitlines()[-1] == 'flan-jax: interrupted'
  assert 'Traceback' not in rest


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_the_program_starts_is_heeded(project, number):
  # Before the first step there is only the untuned model to save.
  code = (
      'import os, sys\n'
      'from flan_jax import cli\n'
      'from flan_jax.training import trainer\n'
      'new_state = trainer.Trainer.new_state\n'
      'def signalled(self, say):\n'
      f'  os.kill(os.getpid(), {int(number)})\n'
      '  return new_state(self, say)\n'
      'trainer.Trainer.new_state = signalled\n'
      f'sys.exit(cli.main({project.arguments(f"early{int(number)}")!r}))\n'
  )
  process = _process(code)
  error = process.communicate(timeout=300)[1]
  assert process.returncode == 0, error
  run = project / f'early{int(number)}'
  assert f'told to stop: saved step 0 of {STEPS} as {run}' in error
  assert runs.steps(run) == [0]


def test_out_of_memory_says_what_fills_it(project):
  # The limit comes once the step is compiled, and is too low for it alone.
  code = (
      'import resource, sys\n'
      'from flan_jax import cli\n'
      'from flan_jax.training import loop\n'
      'trains = loop.train\n'
      'def confined(*args):\n'
      '  pages = int(open("/proc/self/statm").read().split()[0])\n'
      '  most = pages * resource.getpagesize() + 2**29\n'
      '  resource.setrlimit(resource.RLIMIT_AS, (most, most))\n'
      '  return trains(*args)\n'
      'loop.train = confined\n'
      f'sys.exit(cli.main({project.arguments("large", *_LARGE)!r}))\n'
  )
  done = subprocess.run(
      [sys.executable, '-c', code],
      env=os.environ | {'XLA_FLAGS': ''},
      capture_output=True,
      text=True,
  )
  assert done.returncode == 2, done.stderr
  assert 'Traceback' not in done.stderr
  lines = done.stderr[done.stderr.index('flan-jax: error: ') :].splitlines()
  assert lines[0].startswith('flan-jax: error: out of memory on cpu (RESOURCE')
  assert lines[1].split()[:4] == ['activations', 'and', 'other', 'temporaries']
  assert float(lines[1].split()[4]) > 1
  assert 'halved by NUM_MICROBATCHES = 2 (now 1)' in lines[1]
  assert sorted(line.split()[0] for line in lines[2:5]) == [
      'gradients',
      'optimizer',
      'parameters',
  ]


_LARGE = (
    "--gin.TASK_FEATURE_LENGTHS={'inputs': 3072, 'targets': 8}",
    '--gin.EVAL_PERIOD=0',
)
