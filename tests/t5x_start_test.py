"""Runs that start from a checkpoint of T5X go on where it was."""

import functools
import json

from flan_jax import errors
from flan_jax import partitioning
from flan_jax.checkpoints import layout
from flan_jax.checkpoints import native
from flan_jax.checkpoints import reading as orbax
from flan_jax.checkpoints import runs
from flan_jax.checkpoints.t5x import reading
from flan_jax.checkpoints.t5x import writing
from flan_jax.models import config as config_lib
from flan_jax.models import interface
from flan_jax.training import metrics
from flan_jax.training import optimizers
from flan_jax.training import schedules
from flan_jax.training import settings as settings_lib
from flan_jax.training import starts
from flan_jax.training import state as state_lib
import jax
import numpy as np
import pytest

LINES = """\
TRAIN_STEPS = 3
CHECKPOINT_PERIOD = 1
CHECKPOINTS_TO_KEEP = 1
Adafactor.min_dim_size_to_factor = 16
"""


def _begun(folder, optimizer_config, say):
  """Returns the golden model, and its state from a checkpoint of T5X."""
  config = config_lib.EncoderDecoderConfig(
      vocab_size=128, emb_dim=32, num_heads=4, head_dim=8, mlp_dim=64,
      num_encoder_layers=2, num_decoder_layers=2,
  )  # fmt: skip
  model = interface.create(config)
  optimizer = optimizer_config.create(
      schedules.Constant(value=1e-3), model.stacked()
  )
  axes = optimizer_config.state_axes(
      model.abstract_params(), model.logical_axes(), model.stacked()
  )
  mesh = partitioning.make_mesh(
      partitioning.MeshConfig(data=2, fsdp=2, tensor=2)
  )
  with partitioning.use(mesh):
    like = state_lib.abstract(model, optimizer, axes, mesh)
    params = native.load_params(folder, model, mesh)
    state = starts.continued(
        folder, state_lib.with_params(optimizer, like, params), like, say
    )
  return model, state


def test_golden_parameters_and_slots(golden, shared):
  """Those of T5X after five steps, to the last bit."""
  folder = shared / 'golden' / 't5x' / 'ckpt_t5x' / 'checkpoint_5'
  source = reading.Checkpoint(folder)
  model, state = _begun(folder, optimizers.Adafactor(), pytest.fail)
  assert int(state.step) == 5
  assert int(state.optimizer.count) == int(state.optimizer.moments.count) == 5
  wanted = golden('encdec_adafactor_step5')
  for name, value in model.unstack(state.params).items():
    np.testing.assert_array_equal(value, wanted[name])
  found = layout.flatten(state.optimizer)
  for name in wanted:
    np.testing.assert_array_equal(
        found[f'moments/v/{name}'], source.slots[f'{name}/v'].read()
    )
  sharding = state.params['encoder']['layers']['mlp']['wo']['kernel'].sharding
  assert not sharding.is_fully_replicated


def test_another_optimizer_starts_afresh(shared):
  folder = shared / 'golden' / 't5x' / 'ckpt_t5x' / 'checkpoint_5'
  said = []
  _, state = _begun(folder, optimizers.AdamW(), said.append)
  (line,) = said
  assert 'OPTIMIZER starts afresh' in line
  assert 'keeps mu' in line
  # Its schedule goes on all the same; its own correction of biases does not.
  assert int(state.step) == int(state.optimizer.count) == 5
  assert int(state.optimizer.moments.count) == 0


def test_parameters_alone_start_an_optimizer_afresh(shared, tmp_path):
  source = reading.Checkpoint(shared / 'golden' / 't5x' / 'ckpt_t5x')
  said = []
  _, state = _begun(
      writing.write(tmp_path, source, None), optimizers.Adafactor(), said.append
  )
  assert 'holds no state of an optimizer' in said[0]
  assert int(state.step) == 5
  assert not np.any(state.optimizer.moments.v['token_embedder']['embedding'])


@pytest.mark.parametrize(
    ('start', 'steps', 'relative', 'last'),
    [(0, 30, None, 30), (1000, 1030, None, 1030), (1000, None, 30, 1030),
     (1000, 7, 30, 1030), (0, 7, 30, 30)],
)  # fmt: skip
def test_steps_are_absolute_or_relative(start, steps, relative, last):
  settings = settings_lib.Train(
      model_dir='x', mixture_or_task_name='x', vocabulary='bytes',
      task_feature_lengths={'inputs': 8, 'targets': 8}, batch_size=8,
      model=_tiny(), optimizer=optimizers.Adafactor(),
      schedule=schedules.Constant(value=1.0),
      train_steps=steps, train_steps_relative=relative,
  )  # fmt: skip
  assert settings.counted(start).last_step == last


def _tiny():
  return config_lib.EncoderDecoderConfig(
      vocab_size=384, emb_dim=16, num_heads=2, head_dim=8, mlp_dim=32,
      num_encoder_layers=1, num_decoder_layers=1,
  )  # fmt: skip


@pytest.fixture(scope='module')
def project(make_project):
  made = make_project(LINES)
  assert made.train('straight') == 0
  return made


def _as_t5x(project, step: int):
  """Writes the run's last checkpoint as T5X's, as if at another step."""
  folder = project / f'theirs_{step}'
  if folder.exists():
    return folder
  last = runs.step_path(project / 'straight', 3)
  config = runs.read_model(project / 'straight')
  arrays = {item: _arrays(last / item) for item in ('params', 'optimizer')}

  class Source:
    pass

  source = Source()
  source.config, source.step = config, step
  source.shapes = {
      name: (value.shape, value.dtype)
      for name, value in arrays['params'].items()
  }
  source.read = lambda name: np.asarray(arrays['params'][name])
  kept = {
      name: functools.partial(np.asarray, value)
      for name, value in arrays['optimizer'].items()
  }
  writing.write(folder, source, kept)
  return folder


def _records(project, name):
  return metrics.read(project / name / metrics.METRICS_FILE)


def test_a_run_goes_on_from_t5xs_step(project, capsys):
  theirs = _as_t5x(project, 1000)
  start = f'--gin.INITIAL_CHECKPOINT_PATH={theirs}'
  assert project.train('on', start, '--gin.TRAIN_STEPS=1002') == 0
  assert 'afresh' not in capsys.readouterr().err
  assert [record['step'] for record in _records(project, 'on')] == [1001, 1002]
  # The first checkpoint stays: it is the untuned model.
  assert runs.steps(project / 'on') == [1000, 1002]
  info = json.loads((project / 'on' / 'run.json').read_text())
  assert (info['initial_step'], info['train_steps']) == (1000, 1002)
  before = runs.step_path(project / 'straight', 3)
  after = runs.step_path(project / 'on', 1000)
  for item in ('params', 'optimizer'):
    old, new = (_arrays(folder / item) for folder in (before, after))
    assert set(old) == set(new)
    for name, value in old.items():
      wanted = 1000 if name.endswith('count') else value
      np.testing.assert_array_equal(new[name], wanted)
  assert any(value.shape == (32,) for value in new.values())
  # Going on: relative steps are counted from the start, not once again.
  more = '--gin.TRAIN_STEPS_RELATIVE=3'
  assert project.train('on', start, more) == 0
  assert runs.steps(project / 'on') == [1000, 1003]


def _arrays(folder):
  wanted = {
      name: jax.ShapeDtypeStruct(shape, np.int32 if not shape else np.float32)
      for name, shape in orbax.names(folder).items()
  }
  return {
      name: np.asarray(value)
      for name, value in orbax.restore_named(folder, wanted).items()
  }


def test_no_step_left_is_an_error(project):
  start = f'--gin.INITIAL_CHECKPOINT_PATH={_as_t5x(project, 1000)}'
  with pytest.raises(
      errors.UserError,
      match='TRAIN_STEPS: 3 is not beyond step 1,000.*TRAIN_STEPS=1003',
  ):
    project.train('none', start)
  assert not (project / 'none').exists()


def test_a_run_is_converted_with_what_adafactor_keeps(project):
  from flan_jax import cli

  straight, theirs = project / 'straight', project / 'converted'
  assert cli.main(['convert', str(straight), str(theirs), '--to=t5x']) == 0
  source = reading.Checkpoint(theirs)
  assert (source.step, source.config.emb_dim) == (3, 16)
  kept = _arrays(runs.step_path(straight, 3) / 'optimizer')
  seen = set()
  for name, array in source.slots.items():
    param, _, kind = name.rpartition('/')
    if kind != 'm':
      ours = kept[f'moments/{kind}/{param}']
      np.testing.assert_array_equal(array.read(), ours)
      seen.add(ours.shape)
  assert {(1,), (32,)} <= seen
  # Back again: the parameters are those of the run.
  back = project / 'back'
  flags = ['--to=native', '--vocabulary=bytes']
  assert cli.main(['convert', str(theirs), str(back), *flags]) == 0
  wanted = _arrays(runs.step_path(straight, 3) / 'params')
  (step,) = runs.steps(back)
  found = _arrays(runs.step_path(back, step) / 'params')
  assert set(found) == set(wanted)
  for name, value in wanted.items():
    np.testing.assert_array_equal(found[name], value)
