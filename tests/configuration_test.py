"""gin files and flags: what is read, and one line for each mistake."""

import dataclasses
import pathlib
import subprocess
import sys
from typing import Any

from flan_jax import configuration
from flan_jax import errors
from flan_jax import partitioning
import pytest


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
  size: int = 3
  names: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Whole:
  model_dir: str
  part: Any
  steps: int = 3
  lengths: dict[str, int] | None = None

  def __post_init__(self):
    configuration.text('MODEL_DIR', self.model_dir)
    configuration.whole_number('STEPS', self.steps, 1)
    configuration.instance('PART', self.part, Part)


RUN = """\
MODEL_DIR = %gin.REQUIRED
PART = %gin.REQUIRED
STEPS = 5
LENGTHS = {'inputs': 4, 'targets': 2}

Whole:
  model_dir = %MODEL_DIR
  part = %PART
  steps = %STEPS
  lengths = %LENGTHS
"""
PART = 'PART = @Part()\n'


@pytest.fixture
def load(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
  """Loads gin text, from a file run.gin in a folder of search paths."""
  configuration.register(Part)
  configuration.register(Whole)
  # What tests of other files register must not be suggested here.
  known = configuration._REGISTRY
  own = {name: known[name] for name in ('Part', 'Whole')}
  monkeypatch.setattr(configuration, '_REGISTRY', own)

  def run(text: str, *flags: str, **others: str):
    for name, content in {'run': text, **others}.items():
      (tmp_path / f'{name}.gin').write_text(content)
    return configuration.load(['run.gin'], flags, [str(tmp_path)], entry=Whole)

  return run


def test_files_and_flags_make_settings(load):
  loaded = load(RUN + PART, 'MODEL_DIR=/tmp/x', 'Part.size=4', 'STEPS=7')
  assert loaded.settings == Whole(
      model_dir='/tmp/x',
      part=Part(size=4),
      steps=7,
      lengths={'inputs': 4, 'targets': 2},
  )
  assert type(loaded.settings.part) is Part


@pytest.mark.parametrize(
    ('flag', 'value'),
    [
        ('runs/mini', 'runs/mini'),
        ('"quoted"', 'quoted'),
        ("'quoted'", 'quoted'),
        ('10-percent', '10-percent'),
        ('flan2021:no_options', 'flan2021:no_options'),
        ('gs://bucket/run', 'gs://bucket/run'),
        ('a = b', 'a = b'),
        ('naïve', 'naïve'),
    ],
)
def test_bare_strings_need_no_quotes(load, flag, value):
  loaded = load(RUN + PART, f'MODEL_DIR={flag}')
  assert loaded.settings.model_dir == value


@pytest.mark.parametrize(
    ('flag', 'value'),
    [
        ("{'inputs': 8, 'targets': 4}", {'inputs': 8, 'targets': 4}),
        ('None', None),
        ('%STEPS', 5),
    ],
)
def test_other_values_are_read_as_gin(load, flag, value):
  loaded = load(RUN + PART, 'MODEL_DIR=x', f'LENGTHS={flag}')
  assert loaded.settings.lengths == value


def test_the_text_gives_the_same_settings_again(load):
  first = load(RUN + PART, 'MODEL_DIR=x', 'Part.names=("a", "b")')
  again = load(first.text)
  assert again.settings == first.settings
  assert again.text == first.text
  # Defaults too, so that a later version's other default does not matter.
  assert 'size = 3' in first.text


def test_loading_again_forgets_the_first_time(load):
  load(RUN + PART, 'MODEL_DIR=x', 'STEPS=9', 'Part.size=9')
  loaded = load(RUN + PART, 'MODEL_DIR=y')
  assert loaded.settings.steps == 5
  assert loaded.settings.part.size == 3
  assert '9' not in loaded.text


def test_includes_are_found_from_the_root_search_paths_and_beside(
    load, tmp_path, monkeypatch
):
  (tmp_path / 'deep').mkdir()
  (tmp_path / 'deep' / 'beside.gin').write_text('STEPS = 8\n')
  (tmp_path / 'deep' / 'inner.gin').write_text("include 'beside.gin'\n")
  monkeypatch.chdir(tmp_path)
  text = RUN + PART + "include 'deep/inner.gin'\n"
  assert load(text, 'MODEL_DIR=x').settings.steps == 8


def test_required_does_not_take_a_value_away(load):
  loaded = load(
      "include 'part.gin'\ninclude 'base.gin'\n",
      'MODEL_DIR=x',
      part=PART,
      base=RUN,
  )
  assert loaded.settings.part == Part()


def test_a_users_own_module_is_imported(load, tmp_path, monkeypatch):
  (tmp_path / 'my_parts.py').write_text(
      'import gin\n\n\n@gin.configurable\ndef seven():\n  return 7\n'
  )
  monkeypatch.syspath_prepend(str(tmp_path))
  text = 'import my_parts\n' + RUN + PART + 'STEPS = @seven()\n'
  loaded = load(text, 'MODEL_DIR=x')
  assert loaded.settings.steps == 7
  assert loaded.text.startswith('import my_parts\n')


@pytest.mark.parametrize(
    ('text', 'flags', 'wanted'),
    [
        (
            RUN + PART,
            [],
            'run.gin:1: MODEL_DIR is required: pass --gin.MODEL_DIR=VALUE',
        ),
        (
            RUN,
            [],
            'run.gin:1: MODEL_DIR is required, so is PART (run.gin:2)',
        ),
        (
            RUN + PART + 'Whole.steps = %gin.REQUIRED\n',
            ['MODEL_DIR=x', 'STEPS=%gin.REQUIRED'],
            None,  # Each already has a value, which REQUIRED leaves alone.
        ),
        (
            RUN + PART,
            ['MODEL_DIRR=x'],
            (
                '--gin.MODEL_DIRR: no gin file has a macro MODEL_DIRR. Did you'
                ' mean MODEL_DIR'
            ),
        ),
        (
            RUN + PART,
            ['MODEL_DIR=x', 'LENGTHS={3'],
            '--gin.LENGTHS: {3 does not parse',
        ),
        (RUN + PART, ['MODEL_DIR'], '--gin.MODEL_DIR: has no value'),
        (
            RUN + PART,
            ['MODEL DIR=x'],
            "--gin.MODEL DIR: 'MODEL DIR' is no name",
        ),
        (
            RUN + PART,
            ['MODEL_DIR=x', 'STEPS=0'],
            '--gin.STEPS: must be a whole number of at least 1, not 0',
        ),
        (
            RUN + PART,
            ['MODEL_DIR=x', 'STEPS=1O'],
            "--gin.STEPS: must be a whole number of at least 1, not '1O'",
        ),
        (
            RUN + PART + 'STEPS = 2.5\n',
            ['MODEL_DIR=x'],
            'run.gin:12: STEPS: must be a whole number of at least 1, not 2.5',
        ),
        (
            RUN + PART,
            ['MODEL_DIR=12'],
            '--gin.MODEL_DIR: must be a string, not 12',
        ),
        (
            RUN + 'PART = @Part\n',
            ['MODEL_DIR=x'],
            'run.gin:11: PART: must be @Part(), not @Part',
        ),
        (
            RUN + PART,
            ['MODEL_DIR=x', 'Whole.stps=3'],
            (
                "--gin.Whole.stps: Whole has no parameter 'stps'. Did you mean"
                ' steps?'
            ),
        ),
        (
            RUN + PART + 'Whoole.steps = 3\n',
            ['MODEL_DIR=x'],
            (
                "run.gin:12: nothing configurable is called 'Whoole'. Did you"
                ' mean Whole?'
            ),
        ),
        (
            RUN + PART + 'Whoole:\n  steps = 3\n',
            ['MODEL_DIR=x'],
            "run.gin:13: nothing configurable is called 'Whoole'.",
        ),
        (
            RUN + 'PART = @Prat()\n',
            ['MODEL_DIR=x'],
            (
                "run.gin:11: nothing configurable is called 'Prat'. Did you"
                ' mean Part?'
            ),
        ),
        (
            RUN + PART + 'Part.size = %STEPSS\n',
            ['MODEL_DIR=x'],
            (
                'run.gin:12: %STEPSS is used, but no file or flag sets STEPSS.'
                ' Did you mean STEPS?'
            ),
        ),
        (
            RUN + PART + 'STEPPS = 4\n',
            ['MODEL_DIR=x'],
            (
                'run.gin:12: STEPPS is set, but nothing uses it. Did you mean'
                ' STEPS'
            ),
        ),
        (
            RUN + PART + 'A = [%B]\nB = {1: %A}\nPart.size = %A\n',
            ['MODEL_DIR=x'],
            'run.gin:12: a circle: %A = %B = %A',
        ),
        (RUN + 'X = [1,\n', [], 'run.gin:12: '),
        (RUN + 'X = 3 4\n', [], 'run.gin:11: Expected newline.: X = 3 4'),
        (RUN + "X = 'abc\n", [], 'run.gin:11: '),
        (RUN + 'X 3\n', [], 'run.gin:11: '),
        (RUN + 'X = \n', [], 'run.gin:11: '),
        (RUN + 'X = @Part(\n', [], 'run.gin:'),
        (RUN + '  X = 3\n Y = 4\n', [], 'run.gin:12: '),
        (RUN + 'X:\n', [], 'run.gin:'),
        (
            RUN + "include 'gin/runs/trian.gin'\n",
            [],
            "run.gin:11: there is no gin file 'gin/runs/trian.gin'",
        ),
        (
            RUN + "include 'run.gin'\n",
            [],
            'run.gin:11: run.gin includes itself',
        ),
        (RUN + 'import no_such_module\n', [], 'run.gin:11: import no_such'),
        (
            'from __gin__ import dynamic_registration\n' + RUN,
            [],
            'run.gin:1: dynamic registration is not supported',
        ),
        (
            RUN.replace('  part = %PART\n', '').replace(
                'PART = %gin.REQUIRED\n', ''
            ),
            ['MODEL_DIR=x'],
            (
                'Whole: Whole.__init__() missing 1 required keyword-only'
                " argument: 'part'"
            ),
        ),
    ],
)
def test_a_mistake_is_one_line_that_says_where(load, text, flags, wanted):
  if wanted is None:
    load(text, *flags)
    return
  with pytest.raises(errors.UserError) as error:
    load(text, *flags)
  assert str(error.value).startswith(wanted)
  assert '\n' not in str(error.value)


def test_a_missing_file_is_named_with_the_nearest(load, tmp_path):
  with pytest.raises(
      errors.UserError, match="no gin file 'gin/runs/trian.gin'"
  ) as error:
    configuration.load(['gin/runs/trian.gin'], [], [], entry=Whole)
  assert 'Did you mean gin/runs/train.gin' in str(error.value)
  (tmp_path / 'latin.gin').write_bytes(b'X = "\xff"\n')
  with pytest.raises(errors.UserError, match='latin.gin: cannot be read'):
    configuration.load([str(tmp_path / 'latin.gin')], [], [], entry=Whole)


def test_two_objects_cannot_have_one_name():
  configuration.register(Part)
  configuration.register(Part)
  with pytest.raises(ValueError, match='registered already'):
    configuration.register(Whole, 'Part')


@pytest.mark.parametrize(
    'arguments',
    [
        ['--gin_file=gin/examples/mini.gin'],
        ['--gin_file=gin/examples/mini.gin', '--gin.MODLE_DIR=x'],
        ['--gin_file=gin/examples/mini.gin', '--gin.MODEL_DIR=x']
        + ['--gin.MIXTURE_OR_TASK_NAME=minni'],
        ['--gin_file=gin/examples/mini.gin', '--gin.MODEL_DIR=x']
        + ['--gin.EncoderDecoderConfig.emb_dim=-1'],
    ],
)
def test_mistakes_are_found_before_anything_slow_is_imported(
    root, tmp_path, arguments
):
  code = (
      'import sys\n'
      'from flan_jax import cli\n'
      f'code = cli.main({["train", *arguments]!r})\n'
      'slow = ("jax", "flax", "orbax", "grain", "tensorflow")\n'
      'print(code, [name for name in slow if name in sys.modules])\n'
  )
  done = subprocess.run(
      [sys.executable, '-c', code],
      capture_output=True,
      text=True,
      cwd=root,
      env={'PATH': '', 'FLAN_JAX_CACHE': str(tmp_path)},
  )
  assert done.stdout.strip() == '2 []', done.stderr
  assert done.stderr.startswith('flan-jax: error: ')
  assert done.stderr.count('\n') == 1


def test_settings_are_named_as_their_macros():
  @dataclasses.dataclass
  class Settings:
    mesh: partitioning.MeshConfig
    batch_size: int

  assert configuration.by_name(
      Settings(partitioning.MeshConfig(fsdp=2), 8)
  ) == {
      'MESH': 'MeshConfig',
      'MESH.data': -1,
      'MESH.fsdp': 2,
      'MESH.tensor': 1,
      'MESH.rules': {},
      'BATCH_SIZE': 8,
  }
