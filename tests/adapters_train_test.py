"""Whole runs that train adapters, or some layers, of a model that is there."""

import json
import pathlib
import shutil

from flan_jax import cli
from flan_jax import errors
from flan_jax.checkpoints import bases
from flan_jax.checkpoints import native
from flan_jax.checkpoints import reading
from flan_jax.checkpoints import runs
from flan_jax.training import metrics
import jax
import numpy as np
import pytest

# Two programs are to round alike, as those that users compile do.
pytestmark = pytest.mark.usefixtures('optimised')

LINES = """\
include 'gin/adapters/lora.gin'
TRAIN_STEPS = 4
EVAL_STEPS = 1
CHECKPOINT_PERIOD = 2
LEARNING_RATE = 0.01
WARMUP_STEPS = 0
EMA_DECAY = 0.5
LORA_RANK = 4
LORA_DROPOUT = 0.25
LORA_TARGETS = ('query', 'wo')
EncoderDecoderConfig.num_encoder_layers = 2
"""
ADAPTED = ('/query/kernel', '/wo/kernel')


@pytest.fixture(scope='module')
def project(make_project):
  return make_project(LINES, optimizer='adamw')


@pytest.fixture(scope='module')
def base(project) -> pathlib.Path:
  """A model, of two steps from random parameters."""
  assert project.train('base', '--gin.LORA=None', '--gin.TRAIN_STEPS=2') == 0
  return project / 'base'


@pytest.fixture(scope='module')
def lora(project, base) -> pathlib.Path:
  """Four steps of adapters on it, without a stop."""
  assert _train(project, 'lora', base) == 0
  return project / 'lora'


def _train(project, name: str, base: pathlib.Path, *flags: str) -> int:
  return project.train(name, f'--gin.INITIAL_CHECKPOINT_PATH={base}', *flags)


def _flat(path: pathlib.Path, **settings) -> dict[str, np.ndarray]:
  loaded = native.load_model(path, **settings)
  return jax.device_get(loaded.model.unstack(loaded.params))


def _saved(path: pathlib.Path, item: str = 'params') -> dict[str, tuple]:
  return reading.names(path / item)


def test_a_checkpoint_holds_adapters_and_their_moments_alone(lora, base):
  for step in (0, 2, 4):
    saved = _saved(lora / f'checkpoint_{step}')
    assert saved['encoder/layers_1/attention/query/lora_a'] == (16, 4)
    assert saved['decoder/layers_0/mlp/wo/lora_b'] == (4, 16)
    # 3 layers' feed-forward blocks, and 4 attention blocks.
    assert len(saved) == 2 * (3 + 4)
    assert all(name.endswith(('lora_a', 'lora_b')) for name in saved)
    kept = _saved(lora / f'checkpoint_{step}', 'optimizer')
    # Two moments of each, its average, and two counts.
    assert len(kept) == 3 * len(saved) + 2
    assert not any('kernel' in name for name in kept)
  said = runs.read(lora)['adapter']
  assert said['lora']['rank'] == 4 and said['trained'] is None
  # Of the newest checkpoint that the path then meant.
  assert said['base']['path'] == str(base / 'checkpoint_2')


def test_the_base_stays_and_kernels_get_their_adapters(lora, base):
  before, untuned, after = (
      _flat(path) for path in (base, lora / 'checkpoint_0', lora)
  )
  raw = reading.restore_named(
      lora / 'checkpoint_4' / 'params',
      native.layout.flatten(
          jax.tree.map(
              lambda leaf: jax.ShapeDtypeStruct(
                  leaf, np.float32, sharding=_device()
              ),
              native.naming.unflatten(_saved(lora / 'checkpoint_4')),
              is_leaf=lambda leaf: type(leaf) is tuple,
          )
      ),
  )
  for name, array in before.items():
    np.testing.assert_array_equal(untuned[name], array, err_msg=name)
    if not name.endswith(ADAPTED):
      np.testing.assert_array_equal(after[name], array, err_msg=name)
      continue
    module = name.removesuffix('/kernel')
    a, b = (np.float64(raw[f'{module}/lora_{x}']) for x in 'ab')
    assert np.abs(b).max() > 0
    np.testing.assert_allclose(after[name], array + a @ b * 4, atol=1e-6)
    assert not np.array_equal(after[name], array)


def _device():
  return jax.sharding.SingleDeviceSharding(jax.devices()[0])


@pytest.fixture(scope='module')
def parts(project, base, lora) -> pathlib.Path:
  """The same in two parts, on a copy of the base that has grown since."""
  folder = project / 'grown'
  shutil.copytree(base, folder)
  assert _train(project, 'parts', folder, '--gin.TRAIN_STEPS=2') == 0
  shutil.copytree(folder / 'checkpoint_0', folder / 'checkpoint_3')
  assert runs.locate(folder) == (folder, 3)
  assert _train(project, 'parts', folder) == 0
  return project / 'parts'


def test_a_run_goes_on_bit_by_bit_with_the_base_it_began_with(lora, parts):
  for step, use_ema in ((2, False), (4, False), (4, True)):
    one, other = (
        _flat(path / f'checkpoint_{step}', use_ema=use_ema)
        for path in (lora, parts)
    )
    for name, array in one.items():
      np.testing.assert_array_equal(other[name], array, err_msg=name)
  losses = [
      [r['loss'] for r in metrics.read(path / 'metrics.jsonl')]
      for path in (lora, parts)
  ]
  assert losses[0] == losses[1] and len(losses[0]) == 4


def test_a_base_that_is_another_or_is_gone_is_refused(project, base):
  folder = project / 'moving'
  shutil.copytree(base, folder)
  name = 'on_moving'
  assert _train(project, name, folder, '--gin.TRAIN_STEPS=1') == 0
  # A copy elsewhere is the same base, once run.json says where.
  path = project / name / runs.RUN_FILE
  said = json.loads(path.read_text())
  elsewhere = dict(said['adapter']['base'], path=str(base / 'checkpoint_2'))
  moved = dict(said, adapter=dict(said['adapter'], base=elsewhere))
  path.write_text(json.dumps(moved))
  found = _flat(project / name)
  path.write_text(json.dumps(said))
  for array, other in zip(
      found.values(), _flat(project / name).values(), strict=True
  ):
    np.testing.assert_array_equal(array, other)
  # The base is trained anew, to the same step.
  shutil.rmtree(folder)
  flags = ['--gin.LORA=None', '--gin.TRAIN_STEPS=2', '--gin.RANDOM_SEED=1']
  assert project.train('moving', *flags) == 0
  for use in (
      lambda: native.load_model(project / name),
      lambda: _train(project, name, folder),
  ):
    with pytest.raises(errors.UserError) as error:
      use()
    message = str(error.value)
    assert message.startswith(f'{project / name}: was trained on top of')
    assert 'whose parameters are others now' in message
    assert '\n' not in message
  shutil.rmtree(folder)
  with pytest.raises(errors.UserError, match='its base is not there') as error:
    native.load_model(project / name)
  assert '\n' not in str(error.value)


def test_adapters_on_adapters(project, base, lora):
  """A run of adapters may be the base of another."""
  assert _train(project, 'second', lora, '--gin.TRAIN_STEPS=1') == 0
  first, second = _flat(lora), _flat(project / 'second' / 'checkpoint_0')
  for name, array in first.items():
    np.testing.assert_array_equal(second[name], array, err_msg=name)
  # Its own base is still checked.
  adapter = bases.Adapter.read(project / 'second')
  assert adapter.base.path == str(lora / 'checkpoint_4')


def test_the_average_of_adapters(lora):
  whole, mean = _flat(lora), _flat(lora, use_ema=True)
  for name, array in whole.items():
    assert np.array_equal(mean[name], array) != name.endswith(ADAPTED), name


PATTERNS = ('encoder/layers_1/.*', '.*/relpos_bias/.*', 'decoder/.*norm/scale')


def _chosen(name: str) -> bool:
  return (
      name.startswith('encoder/layers_1/')
      or '/relpos_bias/' in name
      or (name.startswith('decoder/') and name.endswith('norm/scale'))
  )


@pytest.fixture(scope='module')
def chosen(project, base) -> pathlib.Path:
  flags = ['--gin.LORA=None', f'--gin.TRAINED={list(PATTERNS)!r}']
  flags += ['--gin.CLIP_NORM=0.1']
  assert _train(project, 'chosen', base, *flags) == 0
  return project / 'chosen'


def test_chosen_layers_are_trained_and_kept_alone(chosen, base):
  before, after = _flat(base), _flat(chosen)
  mean = _flat(chosen, use_ema=True)
  names = {name for name in before if _chosen(name)}
  assert set(_saved(chosen / 'checkpoint_0')) == names
  kept = set(_saved(chosen / 'checkpoint_4', 'optimizer'))
  assert {n.split('/', 1)[1] for n in kept if n.startswith('average')} == names
  assert len(kept) == 3 * len(names) + 2
  for name, array in before.items():
    assert np.array_equal(after[name], array) != _chosen(name), name
    assert np.array_equal(mean[name], after[name]) != _chosen(name), name


def test_chosen_layers_are_converted_with_the_rest(chosen, tmp_path):
  out = tmp_path / 'whole'
  assert cli.main(['convert', str(chosen), str(out), '--to=native']) == 0
  one, other = _flat(chosen), _flat(out)
  assert set(one) == set(other)
  for name, array in one.items():
    np.testing.assert_array_equal(other[name], array, err_msg=name)


def test_chosen_layers_move_as_if_the_others_had_been_frozen(
    project, base, chosen
):
  """Against the optimizer's own way: groups that are frozen."""
  rest = '(?!' + '|'.join(f'{p}$' for p in PATTERNS) + ').*'
  flags = [
      '--gin.LORA=None',
      '--gin.CLIP_NORM=0.1',
      '--gin.PARAMETER_GROUPS=(@rest/ParameterGroup(),)',
      f"--gin.rest/ParameterGroup.pattern='{rest}'",
      '--gin.rest/ParameterGroup.frozen=True',
  ]
  assert _train(project, 'other_way', base, *flags) == 0
  one, other_way = _flat(chosen), _flat(project / 'other_way')
  for name, array in one.items():
    np.testing.assert_allclose(other_way[name], array, atol=1e-6, err_msg=name)


def test_adapters_beside_chosen_parameters(project, base):
  flags = ['--gin.TRAINED=[".*/scale"]', '--gin.TRAIN_STEPS=1']
  assert _train(project, 'both', base, *flags) == 0
  before, after = _flat(base), _flat(project / 'both')
  for name, array in before.items():
    moved = name.endswith((*ADAPTED, '/scale'))
    assert np.array_equal(after[name], array) != moved, name


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        ([], 'INITIAL_CHECKPOINT_PATH: is needed with LORA'),
        (['LORA=None', 'TRAINED=[".*"]'], 'is needed with TRAINED'),
        (['TRAINED="decoder"', 'BASE'], 'TRAINED: must be regular expressions'),
        (['TRAINED=["("]', 'BASE'], "TRAINED: '(' is no regular expression"),
        (['TRAINED=["x"]', 'BASE'], "TRAINED: 'x' matches none of the"),
        (['LORA_TARGETS=["q"]', 'BASE'], "Lora.targets: 'q' is no module of"),
        (['LORA_TARGETS=["logits_dense"]', 'BASE'], 'key, out, query, value'),
        (['LORA_TARGETS="query"', 'BASE'], 'Lora.targets: must be names of'),
        (['LORA_RANK=0', 'BASE'], 'Lora.rank: must be a positive integer'),
        (['LORA_ALPHA=0', 'BASE'], 'Lora.alpha: must be a positive number'),
        (['LORA_DROPOUT=1.0', 'BASE'], 'Lora.dropout_rate: must be at least'),
        (
            ['EncoderDecoderConfig.lora=@Lora()', 'BASE'],
            'EncoderDecoderConfig.lora: is not to be set',
        ),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(
    project, base, flags, message
):
  flags = [
      f'--gin.{flag}'
      if flag != 'BASE'
      else f'--gin.INITIAL_CHECKPOINT_PATH={base}'
      for flag in flags
  ]
  with pytest.raises(errors.UserError) as error:
    project.train('wrong', *flags)
  assert message in str(error.value)
  assert '\n' not in str(error.value)
  assert not runs.steps(project / 'wrong')


def test_another_rank_is_another_run(project, base, lora):
  with pytest.raises(errors.UserError, match=r'LORA\.rank: 4 -> 8'):
    _train(project, 'lora', base, '--gin.TRAIN_STEPS=9', '--gin.LORA_RANK=8')


def test_adapters_are_evaluated_on_one_base(
    project, base, lora, parts, tmp_path, monkeypatch, capsys
):
  """A base, and its copy, are read once; one set of programs serves all."""
  read = []
  load_params = native.load_params

  def counting(path, *args, **kwargs):
    read.append(pathlib.Path(path))
    return load_params(path, *args, **kwargs)

  monkeypatch.setattr(native, 'load_params', counting)
  capsys.readouterr()
  arguments = ['eval', f'--checkpoint=one={lora}']
  arguments += [f'--checkpoint=two={parts}/checkpoint_2']
  arguments += ['--mixture=sums', f'--output={tmp_path}', '--max_examples=2']
  arguments += [f'--mixtures={project / "sums.yaml"}']
  arguments += [f'--cache_dir={project / "cache"}']
  arguments += ['--gin.BEST_TEMPLATE=False']
  assert cli.main(arguments) == 0
  assert read.count(base / 'checkpoint_2') == 1
  assert set(read) == {
      base / 'checkpoint_2',
      lora,
      parts / 'checkpoint_2',
      # What both began with.
      lora / 'checkpoint_0',
  }
  found = json.loads((tmp_path / 'results.json').read_text())['systems']
  assert set(found) == {'one', 'two', 'untuned', 'majority', 'random'}
  # Predictions are those of each alone.
  error = capsys.readouterr().err
  assert error.count('compilation') == 1


def test_adapters_on_a_checkpoint_of_t5x(project, base, tmp_path):
  """Steps are counted on from its own, as they are for whole models."""
  out = tmp_path / 't5x'
  assert cli.main(['convert', str(base), str(out), '--to=t5x']) == 0
  (checkpoint,) = out.glob('checkpoint_*')
  assert _train(project, 'on_t5x', checkpoint, '--gin.TRAIN_STEPS=3') == 0
  assert runs.steps(project / 'on_t5x')[-1] == 3
  first = runs.steps(project / 'on_t5x')[0]
  before, untuned, after = (
      _flat(path)
      for path in (
          base,
          project / 'on_t5x' / f'checkpoint_{first}',
          project / 'on_t5x',
      )
  )
  for name, array in before.items():
    np.testing.assert_array_equal(untuned[name], array, err_msg=name)
    assert np.array_equal(after[name], array) != name.endswith(ADAPTED), name
