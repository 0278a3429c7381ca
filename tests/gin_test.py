"""Every gin file that is shipped loads, and says what it should."""

import json
import pathlib

from flan_jax import configuration
from flan_jax import errors
from flan_jax import evaluate
from flan_jax import partitioning
from flan_jax import train
from flan_jax.data import few_shot
from flan_jax.inference import infer_settings
from flan_jax.inference import settings as decoding_lib
from flan_jax.models import adapters
from flan_jax.models import config as model_config
from flan_jax.models import interface
from flan_jax.topologies import chips
from flan_jax.training import optimizers
from flan_jax.training import schedules
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
_FIELDS = {
    'CHECKPOINT_PATH': 'checkpoint_path',
    'MIXTURE_OR_TASK_NAME': 'mixture_or_task_name',
    'INFER_OUTPUT_DIR': 'output_dir',
    'EVAL_OUTPUT_DIR': 'output_dir',
}
RUN = """\
include 'gin/runs/train.gin'
include 'gin/models/{family}/{model}.gin'
include 'gin/optimizers/{optimizer}.gin'
include 'gin/meshes/{mesh}.gin'
MIXTURE_OR_TASK_NAME = 'mini'
TRAIN_STEPS = 7
"""


def _names(folder: str) -> list[str]:
  return sorted(path.stem for path in (ROOT / 'gin' / folder).glob('*.gin'))


def _load(tmp_path: pathlib.Path, *flags: str, **parts: str):
  names = {
      'family': 't5_1_1',
      'model': 'mini',
      'optimizer': 'adafactor',
      'mesh': 'data',
      **parts,
  }
  path = tmp_path / 'run.gin'
  path.write_text(RUN.format(**names))
  return train.load([str(path)], ['MODEL_DIR=x', *flags], []).settings


@pytest.mark.parametrize('name', _names('examples'))
def test_an_example_is_short_and_lacks_only_the_folder(name):
  file = f'gin/examples/{name}.gin'
  text = (ROOT / file).read_text()
  statements = [
      line for line in text.splitlines() if line and not line.startswith('#')
  ]
  assert len(statements) < 25
  # big_vision's habit: the command stands at the top.
  assert text.startswith('#') and f'--gin_file={file}' in text
  train.load([file], ['MODEL_DIR=x'], [])
  with pytest.raises(errors.UserError) as error:
    train.load([file], [], [])
  assert str(error.value).startswith('gin/runs/train.gin:')
  assert 'MODEL_DIR is required:' in str(error.value)


@pytest.mark.parametrize('name', [n for n in _names('pods') if '_' in n])
def test_a_pods_batch_and_mesh_fit_its_slice(name):
  slice_ = chips.find(name.split('_', 1)[1].replace('_', '-'))
  settings = train.load([f'gin/pods/{name}.gin'], ['MODEL_DIR=x'], []).settings
  data, fsdp, tensor = settings.mesh.shape(slice_.size)
  assert data * fsdp * tensor == slice_.size
  assert settings.batch_size % (data * fsdp) == 0
  # Fewer columns than a TPU has lanes would be padded.
  assert settings.model.emb_dim // fsdp >= 128
  assert settings.model.dtype == 'bfloat16'


@pytest.mark.parametrize('model', _names('models/t5_1_1'))
def test_a_model_goes_with_a_run(tmp_path, model):
  if model == 't5_1_1':
    with pytest.raises(errors.UserError, match='EncoderDecoderConfig'):
      _load(tmp_path, model=model)
    return
  settings = _load(tmp_path, 'DROPOUT_RATE=0.1', model=model)
  assert settings.model.dropout_rate == 0.1


@pytest.mark.parametrize('model', _names('models/decoder'))
def test_a_decoder_only_model_goes_with_a_run(tmp_path, model):
  if model == 'decoder':
    with pytest.raises(errors.UserError, match='DecoderConfig'):
      _load(tmp_path, model=model, family='decoder')
    return
  flags = ['DROPOUT_RATE=0.1', 'PREFIX_LM=True']
  settings = _load(tmp_path, *flags, model=model, family='decoder')
  assert settings.model.dropout_rate == 0.1
  assert settings.model.prefix_lm
  assert settings.model.row_format == 'one_side'


@pytest.mark.parametrize('part', _names('adapters'))
@pytest.mark.parametrize('family', ['t5_1_1', 'decoder'])
def test_a_part_of_the_model_is_trained_alone(tmp_path, family, part):
  if (family, part) == ('decoder', 'decoder'):
    return  # It would be all.
  _load(tmp_path, family=family)  # Writes the run.
  files = [str(tmp_path / 'run.gin'), f'gin/adapters/{part}.gin']
  flags = ['MODEL_DIR=x', 'INITIAL_CHECKPOINT_PATH=y']
  settings = train.load(files, flags, []).settings
  model = interface.create(settings.training_model)
  share = adapters.Split(model, settings.trained).share
  most = {'lora': 0.01, 'norms': 0.001, 'attention': 0.2, 'decoder': 0.75}
  assert 0 < share < most[part]
  # A run without has none of it among its settings, as before.
  assert not {'LORA', 'TRAINED'} & set(_load(tmp_path).by_name())
  if part == 'lora':
    assert settings.lora == model_config.Lora()
    more = ['LORA_RANK=4', 'LORA_ALPHA=32', 'LORA_DROPOUT=0.1']
    more += ["LORA_TARGETS=('wo',)"]
    changed = train.load(files, [*flags, *more], []).settings
    assert changed.lora == model_config.Lora(
        rank=4, alpha=32, dropout_rate=0.1, targets=('wo',)
    )
    assert changed.by_name()['LORA.targets'] == ('wo',)


@pytest.mark.parametrize('optimizer', _names('optimizers'))
def test_an_optimizer_goes_with_a_run(tmp_path, optimizer):
  settings = _load(
      tmp_path, 'LEARNING_RATE=0.5', 'WARMUP_STEPS=4', optimizer=optimizer
  )
  constant = schedules.Constant(value=0.5, warmup_steps=4)
  other = {'adafactor_rsqrt': schedules.Rsqrt(base=0.5, warmup_steps=4)}
  assert settings.schedule == other.get(optimizer, constant)
  kinds = {kind.__name__.lower(): kind for kind in optimizers.ALL}
  assert type(settings.optimizer) is kinds[optimizer.split('_')[0]]


@pytest.mark.parametrize('optimizer', _names('optimizers'))
def test_what_all_optimizers_can_do_has_macros(tmp_path, optimizer):
  settings = _load(
      tmp_path,
      'WEIGHT_DECAY=0.3',
      'CLIP_NORM=2.0',
      'EMA_DECAY=0.9',
      'PARAMETER_GROUPS=(@frozen/ParameterGroup(), @slow/ParameterGroup())',
      'frozen/ParameterGroup.pattern=encoder/.*',
      'frozen/ParameterGroup.frozen=True',
      'slow/ParameterGroup.pattern=.*/layers_[01]/.*',
      'slow/ParameterGroup.rate_factor=0.1',
      'slow/ParameterGroup.schedule=@Constant()',
      optimizer=optimizer,
  )
  made = settings.optimizer
  assert (made.weight_decay, made.clip_norm, made.ema_decay) == (0.3, 2, 0.9)
  if optimizer != 'adafactor_rsqrt':
    assert made.groups[1].schedule == settings.schedule
  assert made.groups[0] == optimizers.ParameterGroup(
      pattern='encoder/.*', frozen=True
  )
  assert made.groups[1].rate_factor == 0.1
  # Fit for run.json, where changes are looked for.
  named = json.loads(json.dumps(settings.by_name()))
  assert named['OPTIMIZER.groups'][0]['pattern'] == 'encoder/.*'


@pytest.mark.parametrize('schedule', _names('schedules'))
def test_a_schedule_goes_with_any_optimizer(tmp_path, schedule):
  path = tmp_path / 'run.gin'
  text = RUN.format(
      family='t5_1_1', model='mini', optimizer='adamw', mesh='data'
  )
  path.write_text(text + f"include 'gin/schedules/{schedule}.gin'\n")
  flags = ['MODEL_DIR=x', 'LEARNING_RATE=0.5', 'WARMUP_STEPS=4']
  loaded = train.load([str(path)], flags, [])
  rates = [float(loaded.settings.schedule(step)) for step in (0, 2, 4, 7)]
  wanted = {
      'cosine': [0, 0.25, 0.5, 0],
      'factors': [1e-8, 0.125, 0.25, 0.5 / 7**0.5],
  }
  np.testing.assert_allclose(rates, wanted[schedule], atol=1e-6)
  # And what the run writes down is the same configuration.
  saved = tmp_path / 'config.gin'
  saved.write_text(loaded.text)
  again = train.load([str(saved)], [], []).settings
  assert again.by_name() == loaded.settings.by_name()


@pytest.mark.parametrize('mesh', _names('meshes'))
def test_a_mesh_goes_with_a_run(tmp_path, mesh):
  settings = _load(tmp_path, mesh=mesh)
  shapes = {
      'data': (16, 1, 1),
      'fsdp': (1, 16, 1),
      'tensor': (2, 1, 8),
      'fsdp_tensor': (1, 2, 8),
  }
  assert settings.mesh.shape(16) == shapes[mesh]


def test_the_order_of_includes_does_not_matter(tmp_path):
  path = tmp_path / 'run.gin'
  lines = RUN.format(
      family='t5_1_1', model='mini', optimizer='adafactor', mesh='data'
  )
  path.write_text('\n'.join(reversed(lines.splitlines())))
  settings = train.load([str(path)], ['MODEL_DIR=x'], []).settings
  assert settings.train_steps == 7
  assert settings.model.emb_dim == 384
  assert settings.mesh == partitioning.MeshConfig()


@pytest.mark.parametrize(
    ('name', 'entry', 'needed'),
    [
        (
            'infer',
            infer_settings.Infer,
            ['CHECKPOINT_PATH', 'INFER_OUTPUT_DIR'],
        ),
        ('eval', evaluate.Eval, ['CHECKPOINT_PATH', 'EVAL_OUTPUT_DIR']),
    ],
)
def test_a_run_file_lacks_only_what_it_must(name, entry, needed):
  configuration.register(partitioning.MeshConfig)
  configuration.register(decoding_lib.Decoding)
  file = f'gin/runs/{name}.gin'
  mixture = 'MIXTURE_OR_TASK_NAME'  # For infer, a file would do instead.
  given = [*needed, mixture]
  flags = [f'{macro}=a/{macro}' for macro in given]
  settings = configuration.load([file], flags, [], entry=entry).settings
  assert settings.checkpoint_path == 'a/CHECKPOINT_PATH'
  assert settings == entry(**{
      field: f'a/{macro}' for macro, field in _FIELDS.items() if macro in given
  })
  for macro in needed:
    others = [flag for flag in flags if not flag.startswith(macro)]
    with pytest.raises(errors.UserError, match='is required'):
      configuration.load([file], others, [], entry=entry)


def test_the_layout_of_exemplars_is_a_setting(tmp_path):
  assert _load(tmp_path).few_shot_layout == few_shot.Layout()
  settings = _load(
      tmp_path, "FewShotLayout.between='###'", 'FewShotLayout.mixed=True'
  )
  assert settings.few_shot_layout == few_shot.Layout(between='###', mixed=True)
  assert settings.by_name()['FEW_SHOT_LAYOUT.between'] == '###'
  with pytest.raises(errors.UserError, match='FEW_SHOT_LAYOUT: .*Layout'):
    _load(tmp_path, "FEW_SHOT_LAYOUT='###'")
  with pytest.raises(errors.UserError, match='FEW_SHOT_LAYOUT: mixed is 1'):
    _load(tmp_path, 'FewShotLayout.mixed=1')
