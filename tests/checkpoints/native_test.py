"""Checkpoints: exact, sharding-free, and whole or not there."""

import dataclasses
import os
import pathlib
import signal
import subprocess
import sys
import time

from flan_jax import errors
from flan_jax import partitioning
from flan_jax import vocabularies
from flan_jax.checkpoints import layout
from flan_jax.checkpoints import native
from flan_jax.checkpoints import runs
from flan_jax.models import config as model_config
from flan_jax.models import interface
from flan_jax.training import optimizers
from flan_jax.training import schedules
from flan_jax.training import state as state_lib
import jax
import numpy as np
import pytest

CONFIG = model_config.EncoderDecoderConfig(
    vocab_size=384,
    emb_dim=16,
    num_heads=2,
    num_encoder_layers=2,
    num_decoder_layers=2,
    head_dim=8,
    mlp_dim=32,
)
# Small enough that the tiny matrices are factored too.
OPTIMIZER = optimizers.Adafactor(min_dim_size_to_factor=8)
POSITION = {'batches': 7, 'streams': [[1, 2], [3, 4]], 'data': {'seed': 0}}


def _like(mesh: jax.sharding.Mesh, config=CONFIG) -> state_lib.TrainState:
  model = interface.create(config)
  stacked = model.stacked()
  return state_lib.abstract(
      model,
      OPTIMIZER.create(schedules.Constant(value=0.1), stacked),
      OPTIMIZER.state_axes(
          model.abstract_params(), model.logical_axes(), stacked
      ),
      mesh,
  )


def _filled(like: state_lib.TrainState, seed: int) -> state_lib.TrainState:
  """Returns a state of random numbers, sharded as asked."""
  rng = np.random.default_rng(seed)
  return jax.tree.map(
      lambda leaf: jax.device_put(
          (rng.normal(size=leaf.shape) * 100).astype(leaf.dtype), leaf.sharding
      ),
      like,
  )


@pytest.fixture(scope='module')
def mesh():
  return partitioning.make_mesh(
      partitioning.MeshConfig(data=2, fsdp=2, tensor=2)
  )


@pytest.fixture(scope='module')
def saved(tmp_path_factory, mesh):
  """A run with the checkpoints 0, 3 and 6; and the state of each."""
  directory = tmp_path_factory.mktemp('runs') / 'run'
  directory.mkdir()
  runs.write(
      directory,
      CONFIG,
      vocabularies.load('bytes'),
      'bytes',
      {'lengths': {'inputs': 32, 'targets': 16}, 'settings': {}},
  )
  states = {}
  with native.Checkpointer(directory, keep=2) as checkpointer:
    for step in (0, 1, 2, 3, 6):
      state = states[step] = _filled(_like(mesh), seed=step)
      checkpointer.save(
          step, state.params, state.optimizer, {**POSITION, 'batches': step}
      )
  return directory, states


def _same(found, wanted):
  jax.tree.map(
      np.testing.assert_array_equal,
      jax.device_get(found),
      jax.device_get(wanted),
  )


def test_the_newest_and_the_untuned_stay(saved):
  directory, _ = saved
  assert runs.steps(directory) == [0, 3, 6]
  assert sorted(path.name for path in directory.iterdir()) == [
      'checkpoint_0',
      'checkpoint_3',
      'checkpoint_6',
      'run.json',
  ]


@pytest.mark.parametrize(
    'shape',
    [
        {'data': 2, 'fsdp': 2, 'tensor': 2},
        {'data': 1, 'fsdp': 4, 'tensor': 1},
        {'data': 1, 'fsdp': 1, 'tensor': 1},
    ],
)
def test_it_is_restored_exactly_onto_any_mesh(saved, shape):
  directory, states = saved
  config = partitioning.MeshConfig(**shape)
  count = config.data * config.fsdp * config.tensor
  other = partitioning.make_mesh(config, jax.devices()[:count])
  like = _like(other)
  with native.Checkpointer(directory, keep=2) as checkpointer:
    assert checkpointer.latest_step() == 6
    params, optimizer = checkpointer.restore(3, like.params, like.optimizer)
    assert checkpointer.position(3) == {**POSITION, 'batches': 3}
  _same((params, optimizer), states[3][1:])
  jax.tree.map(
      lambda array, leaf: np.testing.assert_equal(
          array.sharding, leaf.sharding
      ),
      (params, optimizer),
      (like.params, like.optimizer),
  )


def test_arrays_have_t5x_names_one_a_layer(saved):
  directory, states = saved
  flat = layout.flatten(states[6].params)
  layer = flat['encoder/layers_1/attention/query/kernel']
  stacked = states[6].params['encoder']['layers']['attention']['query']
  np.testing.assert_array_equal(layer, stacked['kernel'][1])
  moments = layout.flatten(states[6].optimizer)
  assert moments['moments/v_row/encoder/layers_1/mlp/wo/kernel'].ndim == 1
  assert moments['count'].shape == ()
  # Orbax itself, without us, sees the same names.
  import orbax.checkpoint as ocp

  with pytest.warns(UserWarning, match='Sharding info not provided'):
    tree = ocp.PyTreeCheckpointer().restore(
        directory / 'checkpoint_6' / 'params'
    )
  np.testing.assert_array_equal(
      tree['encoder']['layers_1']['attention']['query']['kernel'], layer
  )
  _same(layout.unflatten(flat, states[6].params), states[6].params)


def test_a_model_is_loaded_from_a_run_or_a_step(saved, mesh):
  directory, states = saved
  newest = native.load_model(directory, mesh=mesh)
  assert (newest.step, newest.model.config) == (6, CONFIG)
  assert newest.lengths == {'inputs': 32, 'targets': 16}
  assert newest.vocabulary.describe()['kind'] == 'bytes'
  _same(newest.params, states[6].params)
  untuned = native.load_model(directory / 'checkpoint_0')
  assert untuned.step == 0
  _same(untuned.params, states[0].params)


def test_an_average_that_was_not_kept_is_missed(saved):
  directory, _ = saved
  with pytest.raises(
      errors.UserError, match='checkpoint_6: keeps no average .*EMA_DECAY'
  ):
    native.load_model(directory, use_ema=True)


@pytest.mark.parametrize(
    ('change', 'wanted'),
    [
        (
            {'mlp_dim': 64},
            (
                'decoder/layers_0/mlp/wi_0/kernel is [16, 32] there and [16,'
                ' 64] in the model asked for'
            ),
        ),
        (
            {'num_encoder_layers': 3},
            'encoder/layers_2/attention/key/kernel [16, 16] is not in it',
        ),
        (
            {'num_encoder_layers': 1},
            (
                'it has encoder/layers_1/attention/key/kernel [16, 16], and the'
                ' model asked for has not'
            ),
        ),
    ],
)
def test_another_size_is_named_with_both_shapes(saved, change, wanted):
  directory, _ = saved
  config = dataclasses.replace(CONFIG, **change)
  with pytest.raises(errors.UserError) as error:
    native.load_model(directory, model_config=config)
  path = directory / 'checkpoint_6' / 'params'
  assert str(error.value) == f'{path}: belongs to another model: {wanted}'


def test_a_write_waits_for_the_one_before(tmp_path, mesh):
  state = _filled(_like(mesh), seed=1)
  with native.Checkpointer(tmp_path, keep=5) as checkpointer:
    for step in range(3):
      checkpointer.save(step, state.params, state.optimizer, POSITION)
    checkpointer.wait()
    assert checkpointer.steps() == [0, 1, 2]
    checkpointer.save(3, state.params, state.optimizer, POSITION, block=True)
    assert checkpointer.steps() == [0, 1, 2, 3]


@pytest.fixture
def small_disk(tmp_path):
  """A file system of one megabyte; needs the right to mount one."""
  mount = ['mount', '-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', str(tmp_path)]
  try:
    subprocess.run(mount, check=True, capture_output=True)
  except (OSError, subprocess.CalledProcessError):
    pytest.skip('no file system can be mounted here')
  yield tmp_path
  subprocess.run(['umount', '-l', str(tmp_path)], check=True)


def test_a_full_disk_keeps_the_checkpoint_before(small_disk, mesh, capfd):
  like = _like(mesh)
  written: list[int] = []
  state = _filled(like, seed=0)
  with pytest.raises(errors.UserError) as error:
    with native.Checkpointer(small_disk, keep=100) as checkpointer:
      for step in range(100):
        checkpointer.save(
            step, state.params, state.optimizer, POSITION, block=True
        )
        written.append(step)
  assert str(error.value) == (
      f'{small_disk}: a checkpoint could not be written (No space left on'
      f' device); checkpoint_{written[-1]} is complete'
  )
  # One line, from the exception: no thread's traceback.
  assert 'Traceback' not in capfd.readouterr().err
  with native.Checkpointer(small_disk, keep=1) as checkpointer:
    assert checkpointer.steps() == written
    params, optimizer = checkpointer.restore(
        written[-1], like.params, like.optimizer
    )
    _same((params, optimizer), state[1:])
  # What the failed write left is gone; its threads, which in another process
  # would be gone too, may write for a moment longer.
  for _ in range(20):
    if not list(small_disk.glob('*tmp*')):
      break
    time.sleep(0.5)
    with native.Checkpointer(small_disk, keep=1):
      pass
  assert not list(small_disk.glob('*tmp*'))


_KILLED = """
import sys
import numpy as np
from flan_jax.checkpoints import native
with native.Checkpointer(sys.argv[1], keep=3) as checkpointer:
  rng = np.random.default_rng(0)
  params = {'a': rng.normal(size=(4, 4)).astype(np.float32)}
  checkpointer.save(1, params, params, {'batches': 1}, block=True)
  params = {'a': rng.normal(size=(4096, 8192)).astype(np.float32)}
  print('writing', flush=True)
  checkpointer.save(2, params, params, {'batches': 2}, block=True)
  print('written', flush=True)
"""


def test_a_kill_in_the_middle_of_a_write_keeps_the_checkpoint_before(tmp_path):
  process = subprocess.Popen(
      [sys.executable, '-c', _KILLED, str(tmp_path)],
      stdout=subprocess.PIPE,
      text=True,
  )
  assert process.stdout is not None
  assert process.stdout.readline() == 'writing\n'
  # 268 megabytes take a while; the kill comes once the first are there.
  while _size(tmp_path) < 1_000_000:
    assert process.poll() is None
    time.sleep(0.001)
  process.send_signal(signal.SIGKILL)
  assert process.stdout.read() == ''
  assert process.wait() == -signal.SIGKILL
  assert list(tmp_path.glob('checkpoint_2*tmp*'))
  assert runs.steps(tmp_path) == [1]
  with native.Checkpointer(tmp_path, keep=3) as checkpointer:
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    like = {'a': jax.ShapeDtypeStruct((4, 4), np.float32, sharding=sharding)}
    params, _ = checkpointer.restore(1, like, like)
    assert checkpointer.position(1) == {'batches': 1}
  assert not list(tmp_path.glob('checkpoint_2*'))
  wanted = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
  np.testing.assert_array_equal(params['a'], wanted)


def _size(folder: pathlib.Path) -> int:
  total = 0
  for path, _, files in os.walk(folder):
    for name in files:
      try:
        total += os.path.getsize(os.path.join(path, name))
      except FileNotFoundError:
        continue  # Renamed under our eyes.
  return total
