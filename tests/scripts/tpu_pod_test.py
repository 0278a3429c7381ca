"""scripts/tpu_pod.sh, with a gcloud that only writes down what it is told."""

import os
import pathlib
import subprocess

import pytest

# States and the log's exit codes come from files, a line a time.
GCLOUD = """\
#!/usr/bin/env bash
echo "$*" | tr '\\n' ' ' >> "$FAKE/calls"
echo >> "$FAKE/calls"
next() {
  head -n 1 "$1"
  sed -i 1d "$1"
}
case "$*" in
  *' describe '*) next "$FAKE/states" ;;
  *'told to stop'*) next "$FAKE/codes" ;;
esac
exit 0
"""
TRAIN = ['--gin_file=gin/pods/base.gin', '--gin.MODEL_DIR=gs://mine/a run']
BASE = ['--name=pod', '--zone=here-a']


class Pod:
  """The script, and what gcloud was asked."""

  def __init__(self, root: pathlib.Path, folder: pathlib.Path):
    self._root = root
    self._folder = folder
    binaries = folder / 'bin'
    binaries.mkdir()
    (binaries / 'gcloud').write_text(GCLOUD)
    (binaries / 'gcloud').chmod(0o755)
    self._path = f'{binaries}:{os.environ["PATH"]}'

  def __call__(self, *arguments, states=(), codes=()):
    (self._folder / 'states').write_text(''.join(f'{s}\n' for s in states))
    (self._folder / 'codes').write_text(''.join(f'{c}\n' for c in codes))
    return subprocess.run(
        ['bash', self._root / 'scripts' / 'tpu_pod.sh', *arguments],
        env={
            **os.environ,
            'PATH': self._path,
            'FAKE': str(self._folder),
            'TPU_POD_POLL': '0',
        },
        capture_output=True,
        text=True,
        timeout=30,
    )

  def calls(self) -> list[str]:
    """Returns what gcloud was asked, in order."""
    path = self._folder / 'calls'
    return path.read_text().splitlines() if path.exists() else []

  def verbs(self) -> list[str]:
    """Returns the same, each as one word."""
    return [call.split()[3] for call in self.calls()]


@pytest.fixture
def pod(root, tmp_path) -> Pod:
  return Pod(root, tmp_path)


def _run(*more):
  return ['run', *BASE, '--type=v5litepod-16', *more, '--', *TRAIN]


def test_dry_run_prints_every_command_and_runs_none(pod):
  done = pod(*_run('--dry-run', '--spot', '--project=mine'))
  assert done.returncode == 0, done.stderr
  assert pod.calls() == []
  lines = [ln for ln in done.stderr.splitlines() if ln.startswith('+ ')]
  where = '--zone=here-a --project=mine'
  assert lines[1] == (
      f'+ gcloud compute tpus tpu-vm create pod {where}'
      ' --accelerator-type=v5litepod-16 --version=v2-alpha-tpuv5-lite --spot'
  )
  starts = [
      '+ gcloud compute tpus tpu-vm describe pod',
      '+ gcloud compute tpus tpu-vm create pod',
      '+ git archive --format=tar.gz',
      '+ gcloud compute tpus tpu-vm scp ',
      '+ gcloud compute tpus tpu-vm ssh pod',  # Install.
      '+ gcloud compute tpus tpu-vm ssh pod',  # Start.
      '+ gcloud compute tpus tpu-vm ssh pod',  # The log.
      '+ gcloud compute tpus tpu-vm ssh pod',  # The exit code.
      '+ gcloud compute tpus tpu-vm describe pod',
      '+ gcloud compute tpus tpu-vm delete pod',
  ]
  assert len(lines) == len(starts)
  for line, start in zip(lines, starts, strict=True):
    assert line.startswith(start)
  assert '--worker=all' in lines[4] and 'uv pip install' in lines[4]
  assert '--worker=all' in lines[5] and 'flan-jax' in lines[5]
  assert '--worker=0' in lines[6] and 'run.log' in lines[6]


def test_the_run_is_started_on_all_workers_with_its_arguments(pod):
  done = pod(
      *_run('--env=LIBTPU_INIT_ARGS=--a=b --c'),
      states=['', 'READY'],
      codes=['0'],
  )
  assert done.returncode == 0, done.stderr
  assert pod.verbs() == [
      'describe',
      'create',
      'scp',
      'ssh',
      'ssh',
      'ssh',
      'ssh',
      'describe',
  ]
  (start,) = [c for c in pod.calls() if 'nohup' in c]
  assert '--worker=all' in start
  # Quoted once for the worker's shell, and once for the one that it starts.
  inner = start[start.index('bash -c ') + 8 : start.index(' > ~/run.log')]
  unquoted = subprocess.run(
      ['bash', '-c', f'printf %s {inner}'], capture_output=True, text=True
  ).stdout
  shown = unquoted.replace('"$HOME"/flan_env/bin/flan-jax', 'show')
  words = subprocess.run(
      [
          'bash',
          '-c',
          'show() { printf "%s\\n" "$LIBTPU_INIT_ARGS" "$@"; };'
          + shown.split('; echo ')[0],
      ],
      capture_output=True,
      text=True,
  ).stdout.splitlines()
  assert words == ['--a=b --c', 'train', *TRAIN]


@pytest.mark.parametrize(
    'directory, lost', [('gs://bucket/run', False), ('/home/me/run', True)]
)
def test_what_would_be_lost_with_the_workers_is_said(pod, directory, lost):
  arguments = _run('--dry-run')[:-1]
  done = pod(*arguments, f'--gin.MODEL_DIR={directory}')
  assert done.returncode == 0, done.stderr
  assert ('a MODEL_DIR on the workers is lost' in done.stderr) == lost


def test_a_slice_that_is_there_is_used_again(pod):
  done = pod(*_run(), states=['CREATING', 'READY', 'READY'], codes=['0'])
  assert done.returncode == 0, done.stderr
  assert 'create' not in pod.verbs()


def test_after_a_preemption_it_begins_again(pod):
  done = pod(
      *_run(),
      states=['', 'PREEMPTED', 'PREEMPTED', '', 'READY'],
      codes=['stopped', '0'],
  )
  assert done.returncode == 0, done.stderr
  verbs = [v for v in pod.verbs() if v in ('create', 'delete', 'scp')]
  assert verbs == ['create', 'scp', 'delete', 'create', 'scp']
  assert 'beginning again' in done.stderr


@pytest.mark.parametrize('code', ['75', 'stopped', ''])
def test_a_lost_worker_is_no_end(pod, code):
  done = pod(
      *_run(), states=['READY', 'READY', 'READY', 'READY'], codes=[code, '0']
  )
  assert done.returncode == 0, done.stderr
  assert sum('nohup' in call for call in pod.calls()) == 2
  assert sum('pkill' in call for call in pod.calls()) == 1


def test_a_mistake_of_the_run_is_the_end(pod):
  done = pod(*_run(), states=['READY', 'READY'], codes=['2'])
  assert done.returncode == 2
  assert 'ended with code 2' in done.stderr
  assert sum('nohup' in call for call in pod.calls()) == 1


def test_restarts_have_a_limit(pod):
  done = pod(*_run('--restarts=1'), states=['READY'] * 4, codes=['75', '75'])
  assert done.returncode == 1
  assert 'given up after 1 restarts' in done.stderr


def test_delete_happens_on_request_alone(pod):
  assert pod('delete', *BASE).returncode == 0
  assert pod.calls() == [
      'compute tpus tpu-vm delete pod --zone=here-a --quiet '
  ]


@pytest.mark.parametrize(
    'arguments, said',
    [
        (['run', '--zone=z'], '--name=NAME is needed'),
        (['run', '--name=n'], '--zone=ZONE is needed'),
        (['run', *BASE], '--type=TYPE is needed'),
        (['run', *BASE, '--type=v4-8'], 'after --'),
        (['walk', *BASE], 'unknown command walk'),
        (['run', *BASE, '--sport'], 'unknown argument --sport'),
    ],
)
def test_mistakes_are_one_line(pod, arguments, said):
  done = pod(*arguments)
  assert done.returncode == 2
  assert said in done.stderr and len(done.stderr.splitlines()) == 1
  assert pod.calls() == []
