"""Runs and rows in a bucket are those of a folder, byte for byte.

The bucket is an object store of its own process. It is reached by the clients
that reach Google's: gcsfs for files, tensorstore for arrays.
"""

import importlib.util
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

from flan_jax import cli
from flan_jax import errors
from flan_jax import storage
from flan_jax.checkpoints import runs
from flan_jax.data import catalogue
from flan_jax.data import rows
from flan_jax.training import metrics
import numpy as np
import pytest
import tensorstore

LINES = """\
TRAIN_STEPS = 8
CHECKPOINT_PERIOD = 2
CHECKPOINTS_TO_KEEP = 2
KEEP_BEST = 1
BEST_METRIC = 'loss'
LOG_PERIOD = 3
DROPOUT_RATE = 0.1
VOCABULARY = 'mixtures/mini/mini.model'
EncoderDecoderConfig.vocab_size = 1280
"""
BUCKET = 'gs://bucket'


@pytest.fixture(scope='module')
def bucket(root):
  """The address of a bucket; the clients are told where it is."""
  for name in ('gcsfs', 'gcp_storage_emulator'):
    if importlib.util.find_spec(name) is None:
      pytest.skip(f'{name} is not installed: no bucket here')
  process = subprocess.Popen(
      [sys.executable, root / 'tests' / 'object_store.py'],
      stdout=subprocess.PIPE,
      stderr=subprocess.DEVNULL,
      text=True,
  )
  assert process.stdout is not None
  address = f'http://127.0.0.1:{process.stdout.readline().strip()}'
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('STORAGE_EMULATOR_HOST', address)
    patch.setenv('TENSORSTORE_GCS_HTTP_URL', address)
    # There are no credentials to ask for the bucket's kind with; gcsfs reads
    # this when it is imported.
    patch.setenv('GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT', 'false')
    yield BUCKET
  process.kill()
  process.wait()


@pytest.fixture(scope='module')
def project(make_project):
  return make_project(LINES)


@pytest.fixture(scope='module')
def straight(project, bucket):
  """A run in a folder that nothing stopped."""
  assert project.train('straight') == 0
  return project / 'straight'


@pytest.fixture(scope='module')
def remote(project, bucket):
  """The same run in a bucket."""
  assert project.train('remote', _model_dir(f'{bucket}/remote')) == 0
  return f'{bucket}/remote'


def _model_dir(address: str) -> str:
  return f'--gin.MODEL_DIR={address}'


def _arrays(checkpoint: pathlib.Path) -> dict[str, np.ndarray]:
  """Reads all arrays of a checkpoint by way of tensorstore alone."""
  found = {}
  scheme = '' if storage.is_address(checkpoint) else 'file://'
  for item in ('params', 'optimizer'):
    base = {'driver': 'ocdbt', 'base': f'{scheme}{checkpoint / item}/'}
    keys = tensorstore.KvStore.open(base).result().list().result()
    for key in keys:
      name = key.decode().removesuffix('/.zarray')
      if name != key.decode():
        spec = {'driver': 'zarr', 'kvstore': {**base, 'path': f'{name}/'}}
        array = tensorstore.open(spec, open=True).result().read().result()
        found[f'{item}/{name}'] = array
  return found


def _same(one: str | pathlib.Path, other: str | pathlib.Path) -> None:
  """Checks that two runs have the same checkpoints and the same numbers."""
  assert runs.steps(one) == runs.steps(other)
  for step in runs.steps(one):
    first, second = (_arrays(runs.step_path(run, step)) for run in (one, other))
    assert first.keys() == second.keys() and len(first) > 30
    for name, array in first.items():
      np.testing.assert_array_equal(array, second[name], err_msg=name)
  assert _losses(one) == _losses(other)


def _losses(run: str | pathlib.Path) -> list[tuple[int, float]]:
  return [
      (record['step'], record['loss'])
      for record in metrics.read(storage.path(run) / metrics.METRICS_FILE)
  ]


def test_a_run_in_a_bucket_is_the_run_in_a_folder(straight, remote):
  _same(straight, remote)
  assert [step for step, _ in _losses(remote)] == list(range(1, 9))
  names = {path.name for path in storage.path(remote).iterdir()}
  assert names == {path.name for path in straight.iterdir()}
  for name in (runs.CONFIG_FILE, runs.VOCABULARY_FILE, 'parameters.txt'):
    content = (storage.path(remote) / name).read_bytes()
    local = (straight / name).read_bytes()
    assert content.replace(b'gs://bucket/remote', str(straight).encode()) == (
        local
    )
  (events,) = (storage.path(remote) / 'tensorboard').iterdir()
  (local,) = (straight / 'tensorboard').iterdir()
  assert len(events.read_bytes()) == local.stat().st_size


def test_nothing_is_left_to_do(project, remote, capsys):
  assert project.train('remote', _model_dir(remote)) == 0
  assert 'is at step 8 of 8 already' in capsys.readouterr().err


def test_killed_while_saving_it_goes_on_the_same(
    project, bucket, straight, capsys
):
  address = f'{bucket}/killed'
  path = storage.path(address)
  process = subprocess.Popen(
      [
          *(sys.executable, '-m', 'flan_jax'),
          *project.arguments('killed', _model_dir(address)),
      ],
      stderr=subprocess.DEVNULL,
  )
  # It has its name from the start, and is no checkpoint before its end.
  deadline = time.monotonic() + 300
  while not (path / 'checkpoint_4').is_dir():
    assert time.monotonic() < deadline and process.poll() is None
    time.sleep(0.001)
  process.send_signal(signal.SIGKILL)
  process.wait()
  # Not all of a checkpoint, as another kill may leave it; and a damaged one.
  storage.write(path / 'checkpoint_7' / 'params' / 'd' / 'part', b'x')
  *_, before, last = runs.steps(address)
  assert last < 7
  damaged = path / f'checkpoint_{last}'
  (damaged / 'params' / 'manifest.ocdbt').unlink()
  assert project.train('killed', _model_dir(address)) == 0
  assert (
      f'warning: {damaged} cannot be read (params: files are missing); it is'
      f' now broken_checkpoint_{last}, and checkpoint_{before} is used'
  ) in capsys.readouterr().err
  assert (path / f'broken_checkpoint_{last}').is_dir()
  assert not (path / 'checkpoint_7').is_dir()
  _same(straight, address)


def test_two_hosts_write_one_run(project, bucket, straight):
  with socket.socket() as free:
    free.bind(('localhost', 0))
    coordinator = f'localhost:{free.getsockname()[1]}'
  address = f'{bucket}/hosts'
  hosts = [
      subprocess.Popen(
          [
              *(sys.executable, '-m', 'flan_jax'),
              *project.arguments('hosts', _model_dir(address)),
              f'--coordinator_address={coordinator}',
              '--process_count=2',
              f'--process_index={index}',
          ],
          stderr=subprocess.PIPE,
          env=os.environ | {'XLA_FLAGS': ''},
          text=True,
      )
      for index in range(2)
  ]
  told = [host.communicate(timeout=300)[1] for host in hosts]
  assert [host.returncode for host in hosts] == [0, 0], '\n'.join(told)
  assert runs.steps(address) == runs.steps(straight)
  np.testing.assert_allclose(
      [loss for _, loss in _losses(address)],
      [loss for _, loss in _losses(straight)],
      rtol=1e-5,
  )
  names = {path.name for path in storage.path(address).iterdir()}
  assert {'libraries.log', 'libraries_1.log'} <= names


def test_a_model_is_read_from_a_bucket(project, straight, remote, tmp_path):
  for name, run in (('local', straight), ('remote', remote)):
    code = cli.main([
        'infer',
        f'--checkpoint={run}/checkpoint_8',
        '--mixture=sums',
        '--split=test',
        f'--output={tmp_path / name}',
        f'--mixtures={project / "sums.yaml"}',
        f'--cache_dir={project / "cache"}',
    ])
    assert code == 0
  (local,) = (tmp_path / 'local').rglob('sums*.jsonl')
  (other,) = (tmp_path / 'remote').rglob('sums*.jsonl')
  lines = [json.loads(line) for line in other.read_text().splitlines()]
  assert lines == [json.loads(line) for line in local.read_text().splitlines()]
  assert len(lines) >= 8


def test_runs_are_compared(straight, remote, tmp_path, capsys):
  page = tmp_path / 'page.html'
  assert cli.main(['compare', str(straight), remote, f'--output={page}']) == 0
  assert 'settings: the same' in capsys.readouterr().out


def test_a_run_that_is_not_there(remote, bucket):
  with pytest.raises(errors.UserError, match=f'There are.*{remote}'):
    runs.locate(f'{bucket}/remte')
  with pytest.raises(
      errors.UserError, match='there is no such checkpoint; .*8'
  ):
    runs.locate(f'{remote}/checkpoint_7')
  with pytest.raises(errors.UserError, match='no such bucket'):
    runs.locate('gs://nobodys/run')


def test_a_bucket_that_is_not_there(bucket, project):
  with pytest.raises(
      errors.UserError, match='^MODEL_DIR: gs://nobodys/run: .*no such bucket'
  ):
    project.train('nobodys', _model_dir('gs://nobodys/run'))


def _store(project, bucket, monkeypatch, cache: pathlib.Path):
  monkeypatch.setenv('FLAN_JAX_CACHE', str(cache))
  dataset = catalogue.Catalogue([project / 'sums.yaml']).dataset('sums')
  return rows.RowStore(f'{bucket}/cache'), dataset


def test_rows_are_shared(project, bucket, tmp_path, monkeypatch):
  first, dataset = _store(project, bucket, monkeypatch, tmp_path / 'first')
  before = first.open(dataset, 'train').take(range(136))
  # Another host, which does not have the source.
  source = project / 'sums.jsonl'
  source.rename(tmp_path / 'away')
  try:
    other, _ = _store(project, bucket, monkeypatch, tmp_path / 'other')
    assert other.status(dataset, ['train']).state == 'prepared'
    assert not list((tmp_path / 'other').rglob('*.arrow'))
    assert other.open(dataset, 'train').take(range(136)) == before
    (here,) = (tmp_path / 'other').rglob('rows.arrow')
    (there,) = storage.path(f'{bucket}/cache/rows/sums').iterdir()
    assert (there / 'rows.arrow').read_bytes() == here.read_bytes()
    # A copy that was damaged on its way is not used.
    storage.write(there / 'rows.arrow', here.read_bytes()[:-1])
    third, _ = _store(project, bucket, monkeypatch, tmp_path / 'third')
    with pytest.raises(errors.UserError, match='is not what its manifest says'):
      third.open(dataset, 'train')
    assert not list((tmp_path / 'third').rglob('rows.arrow'))
  finally:
    (tmp_path / 'away').rename(source)


def test_rows_that_are_stored_here_are_shared_by_preparing_them(
    project, bucket, tmp_path, monkeypatch
):
  store, dataset = _store(project, bucket, monkeypatch, tmp_path / 'first')
  rows.RowStore(tmp_path / 'first').open(dataset, 'validation')
  store.prepare(dataset, ['validation'])
  folders = storage.path(f'{bucket}/cache/rows/sums').iterdir()
  assert [path.name[:10] for path in folders].count('validation') == 1


def test_what_grows_is_put_whole(bucket, tmp_path):
  target = storage.path(f'{bucket}/staged')
  storage.write(target / 'log', 'one\n')
  with storage.Staging(target, ['log', 'none']) as staging:
    path = staging.folder / 'log'
    with path.open('a') as file:
      file.write('two\n')
    staging.push()
    assert (target / 'log').read_text() == 'one\ntwo\n'
    (staging.folder / 'deep').mkdir()
    (staging.folder / 'deep' / 'new').write_bytes(b'\0')
  assert (target / 'deep' / 'new').read_bytes() == b'\0'
  assert not staging.folder.exists()
  with storage.Staging(tmp_path) as staging:
    assert staging.folder == tmp_path
  assert tmp_path.is_dir()
