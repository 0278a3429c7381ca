"""A checkpoint that a disk or a copy has broken is passed over, and kept."""

import pathlib
import shutil

from flan_jax import errors
from flan_jax.checkpoints import integrity
from flan_jax.checkpoints import native
from flan_jax.checkpoints import runs
import jax
import numpy as np
import pytest

SIZES = {'kernel': (300, 200), 'scale': (300,)}


def _params(step: int) -> dict[str, np.ndarray]:
  rng = np.random.default_rng(step)
  return {
      name: rng.normal(size=shape).astype(np.float32)
      for name, shape in SIZES.items()
  }


def _like() -> dict[str, jax.ShapeDtypeStruct]:
  sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  return {
      name: jax.ShapeDtypeStruct(shape, np.float32, sharding=sharding)
      for name, shape in SIZES.items()
  }


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """A run with the checkpoints 0, 4 and 8."""
  folder = tmp_path_factory.mktemp('runs') / 'run'
  with native.Checkpointer(folder, keep=3) as checkpointer:
    for step in (0, 4, 8):
      params = _params(step)
      checkpointer.save(step, params, params, {'batches': step})
  return folder


@pytest.fixture
def run(whole, tmp_path):
  """A copy, to be broken."""
  return shutil.copytree(whole, tmp_path / 'run')


def _newest(run: pathlib.Path) -> tuple[int | None, list[str]]:
  """Reads the newest step, as a run that goes on does; and what is said."""
  said: list[str] = []
  with native.Checkpointer(run, keep=3) as checkpointer:

    def attempt(step: int) -> int:
      position = checkpointer.position(step)
      for tree in checkpointer.restore(step, _like(), _like()):
        jax.tree.map(np.testing.assert_array_equal, tree, _params(step))
      assert position == {'batches': step}
      return step

    step = checkpointer.newest(attempt, said.append)
    if step not in (None, 8):
      # The run writes the steps again.
      params = _params(8)
      checkpointer.save(8, params, params, {'batches': 8}, block=True)
      assert checkpointer.newest(attempt, said.append) == 8
  return step, said


def _cut(path: pathlib.Path) -> None:
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _largest(folder: pathlib.Path) -> pathlib.Path:
  files = [path for path in folder.rglob('*') if path.is_file()]
  return max(files, key=lambda path: path.stat().st_size)


def _flip(path: pathlib.Path) -> None:
  data = bytearray(path.read_bytes())
  middle = len(data) // 2
  data[middle : middle + 64] = bytes(64)
  path.write_bytes(bytes(data))


BREAKING = {
    'arrays cut short': (
        lambda step: _cut(_largest(step / 'params')),
        'params: files are cut short',
    ),
    'arrays gone': (
        lambda step: _largest(step / 'optimizer').unlink(),
        'optimizer: files are damaged',
    ),
    'an index cut short': (
        lambda step: _cut(step / 'params' / 'manifest.ocdbt'),
        'params: files are damaged',
    ),
    'an index gone': (
        lambda step: (step / 'params' / 'manifest.ocdbt').unlink(),
        'params: files are missing',
    ),
    'an item gone': (
        lambda step: shutil.rmtree(step / 'optimizer'),
        'optimizer: files are missing',
    ),
    'no item at all': (
        lambda step: [shutil.rmtree(path) for path in step.glob('*/')],
        'position: files are missing',
    ),
    'names are garbage': (
        lambda step: (step / 'params' / '_METADATA').write_text('{"tree'),
        'params: is no JSON',
    ),
    'position is garbage': (
        lambda step: (step / 'position' / 'metadata').write_bytes(b'\xff\x00{'),
        'position: is no JSON',
    ),
    'position is empty': (
        lambda step: (step / 'position' / 'metadata').write_text('{}'),
        'position: holds no data position',
    ),
}


@pytest.mark.parametrize('kind', BREAKING)
def test_the_one_before_a_broken_one_is_used(run, kind):
  breaks, why = BREAKING[kind]
  breaks(run / 'checkpoint_8')
  before = sorted(p.name for p in (run / 'checkpoint_8').rglob('*'))
  assert integrity.fault(run / 'checkpoint_8') == why
  step, said = _newest(run)
  assert step == 4
  assert said == [
      f'warning: {run}/checkpoint_8 cannot be read ({why}); it is now'
      ' broken_checkpoint_8, and checkpoint_4 is used'
  ]
  # Nothing is deleted, and the step is written anew.
  kept = run / 'broken_checkpoint_8'
  assert sorted(p.name for p in kept.rglob('*')) == before
  assert runs.steps(run) == [0, 4, 8]
  assert integrity.fault(run / 'checkpoint_8') is None


def test_packed_numbers_that_are_damaged_are_found(run):
  data = _largest(run / 'checkpoint_8' / 'params')
  _flip(data)
  why = integrity.fault(run / 'checkpoint_8')
  assert why is not None and why.startswith('params: ')
  assert _newest(run)[0] == 4


def test_several_broken_ones_are_passed_over(run):
  for step in (4, 8):
    shutil.rmtree(run / f'checkpoint_{step}' / 'params')
  step, said = _newest(run)
  assert step == 0
  assert len(said) == 2
  assert (run / 'broken_checkpoint_4').is_dir()
  # Broken once more, it gets a name of its own.
  shutil.rmtree(run / 'checkpoint_8' / 'params')
  assert _newest(run)[1][0].count('broken_checkpoint_8_2') == 1


def test_where_none_can_be_read_nothing_is_touched(run):
  for step in (0, 4, 8):
    shutil.rmtree(run / f'checkpoint_{step}' / 'params')
  with pytest.raises(errors.UserError, match='no checkpoint can be read') as e:
    _newest(run)
  assert 'checkpoint_4: params: files are missing' in str(e.value)
  assert runs.steps(run) == [0, 4, 8]


def test_a_whole_run_is_left_alone(run, whole):
  step, said = _newest(run)
  assert (step, said) == (8, [])
  assert integrity.fault(whole / 'checkpoint_4') is None


def test_readers_share_the_arrays(run):
  # Damage within one of the two arrays: it is one reader's.
  _flip(_largest(run / 'checkpoint_8' / 'params'))
  faults = [integrity.fault(run / 'checkpoint_8', i, 2) for i in range(2)]
  assert faults.count(None) == 1


def test_a_named_checkpoint_that_is_broken_is_one_line(run):
  shutil.rmtree(run / 'checkpoint_8' / 'params')
  with native.Checkpointer(run, keep=3) as checkpointer:
    with pytest.raises(errors.UserError) as error:
      checkpointer.restore(8, _like(), _like())
  assert str(error.value) == (
      f'{run}/checkpoint_8: cannot be read (params: files are missing); name an'
      ' earlier checkpoint'
  )


def test_no_memory_says_nothing_of_the_checkpoint(run):
  def attempt(step):
    with native.reading.readable(run / f'checkpoint_{step}' / 'params'):
      raise MemoryError

  with native.Checkpointer(run, keep=3) as checkpointer:
    with pytest.raises(MemoryError):
      checkpointer.newest(attempt, print)
  assert runs.steps(run) == [0, 4, 8]
