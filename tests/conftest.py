"""What every test shares: eight virtual devices, the data, a small project."""

from collections.abc import Callable, Iterator
from importlib import metadata
import json
import os
import pathlib
import sys
from typing import Any

# Before the first import of jax: eight CPU devices stand for a node.
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
_FLAGS = '--xla_force_host_platform_device_count=8'
if _FLAGS not in os.environ.get('XLA_FLAGS', ''):
  os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {_FLAGS}'
# Without these, compiling takes two thirds of the time. An XLA that does not
# know a flag ends the process, so newer ones keep them.
_PLAIN = '--xla_cpu_use_fusion_emitters=false'
if metadata.version('jaxlib').startswith('0.10.') and (
    'fusion_emitters' not in os.environ['XLA_FLAGS']
):
  os.environ['XLA_FLAGS'] += f' {_PLAIN}'
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
os.environ.setdefault('EPATH_USE_TF', 'false')  # As flan_jax.storage does.
os.environ.setdefault('CUDA_VISIBLE_DEVICES', '-1')
# Optimising tiny models takes a third of the CPU time of tests that compile.
# Modules of golden tests compile as users do: see below.
os.environ.setdefault('JAX_DISABLE_MOST_OPTIMIZATIONS', '1')

import pytest  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent


# Files that take a minute or more, which start first: two workers then end at
# about the same time.
_LONG = (
    'meshes_test.py',
    'several_hosts_test.py',
    'docs_test.py',
    'kill_test.py',
    'train_test.py',
    'storage_test.py',
    'adapters_train_test.py',
    'refilling_test.py',
    'generating_test.py',
    'saving_test.py',
    'predict_test.py',
    'evaluate_test.py',
    'infer_kill_test.py',
    'two_hosts_saving_test.py',
    'dropout_test.py',
    'golden_test.py',
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
  """Puts the files that take long before the others."""

  def place(item: pytest.Item) -> int:
    name = item.path.name
    return _LONG.index(name) if name in _LONG else len(_LONG)

  items.sort(key=place)


def _seed_torch() -> None:
  if 'torch' in sys.modules:
    sys.modules['torch'].manual_seed(0)


@pytest.fixture(scope='module', autouse=True)
def _seeded_module() -> None:
  """Models that `transformers` makes for a module are the same in each run."""
  _seed_torch()


@pytest.fixture(autouse=True)
def _seeded_test() -> None:
  """Models that `transformers` makes in a test are the same in each run."""
  _seed_torch()


@pytest.fixture(scope='session')
def root() -> pathlib.Path:
  """The checkout's root."""
  return ROOT


@pytest.fixture(scope='session')
def shared() -> pathlib.Path:
  """The folder of real data and golden numbers beside the checkout."""
  folder = ROOT.parent / 'shared'
  if not folder.is_dir():
    pytest.skip(f'{folder.name}/ is not beside the checkout: no real data here')
  return folder


@pytest.fixture
def cache(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
  """A cache directory of this test's own."""
  folder = tmp_path / 'cache'
  monkeypatch.setenv('FLAN_JAX_CACHE', str(folder))
  return folder


@pytest.fixture(scope='session')
def golden(shared: pathlib.Path):
  """Returns a function that reads arrays that T5X computed, by file name."""
  import numpy as np

  def read(name: str) -> dict[str, np.ndarray]:
    with np.load(shared / 'golden' / 't5x' / f'{name}.npz') as arrays:
      return dict(arrays)

  return read


@pytest.fixture
def precise() -> Iterator[None]:
  """Products in full float32, as the golden numbers were made."""
  import jax

  with jax.default_matmul_precision('highest'):
    yield


def _emit_fusions(patch: pytest.MonkeyPatch) -> None:
  """Takes back `_PLAIN`, which XLA reads once a process."""
  from jax._src import compiler  # JAX itself has no setting for this flag.

  options_of = compiler.get_compile_options

  def as_users(*args: Any, **kwargs: Any) -> Any:
    options = options_of(*args, **kwargs)
    options.env_option_overrides = [
        *options.env_option_overrides,
        ('xla_cpu_use_fusion_emitters', True),
    ]
    return options

  patch.setattr(compiler, 'get_compile_options', as_users)


@pytest.fixture(scope='module')
def optimised() -> Iterator[None]:
  """Compiles as users' runs do."""
  import jax

  name = 'jax_disable_most_optimizations'
  jax.config.update(name, False)
  with pytest.MonkeyPatch.context() as patch:
    if _PLAIN in os.environ['XLA_FLAGS']:
      _emit_fusions(patch)
    yield
  jax.config.update(name, os.environ[name.upper()] == '1')


@pytest.fixture(scope='module', autouse=True)
def _golden_is_optimised(request: pytest.FixtureRequest) -> None:
  """Golden numbers are met by programs as users have them."""
  if 'golden' in request.path.name:
    request.getfixturevalue('optimised')


# A dataset that is made in no time, and a run on it whose model has some
# thousand parameters; gin takes the last of equal names, so tests add lines.
SUMS = """\
version: 1
cluster: arithmetic
source: {jsonl: sums.jsonl}
splits: {train: "train[:-8]", validation: "train[-8:]", test: validation}
fields: {question: question, answer: answer}
metrics: [exact_match]
templates:
- {name: plain, inputs: "{question} =", targets: "{answer}"}
- {name: words, inputs: "What is {question}?", targets: "It is {answer}."}
"""
RUN = """\
include 'gin/runs/train.gin'
include 'gin/models/t5_1_1/t5_1_1.gin'
include 'gin/optimizers/%(optimizer)s.gin'
include 'gin/meshes/%(mesh)s.gin'
MIXTURE_OR_TASK_NAME = 'sums'
TASK_FEATURE_LENGTHS = {'inputs': 24, 'targets': 16}
VOCABULARY = 'bytes'
BATCH_SIZE = 8
EVAL_PERIOD = 0
EncoderDecoderConfig.vocab_size = 384
EncoderDecoderConfig.emb_dim = 16
EncoderDecoderConfig.head_dim = 8
EncoderDecoderConfig.mlp_dim = 32
EncoderDecoderConfig.num_decoder_layers = 1
EncoderDecoderConfig.num_encoder_layers = 1
EncoderDecoderConfig.num_heads = 2
"""


class Project:
  """A folder with sums.yaml, its rows, run.gin, runs by name, and a cache."""

  def __init__(self, folder: pathlib.Path, run: str):
    self.folder = folder
    self.declaration = SUMS
    rows = [
        {'question': f'{a} + {b}', 'answer': str(a + b)}
        for a in range(12)
        for b in range(12)
    ]
    lines = ''.join(json.dumps(row) + '\n' for row in rows)
    (folder / 'sums.yaml').write_text(SUMS)
    (folder / 'sums.jsonl').write_text(lines)
    (folder / 'run.gin').write_text(run)

  def __truediv__(self, name: str) -> pathlib.Path:
    return self.folder / name

  def arguments(self, name: str, *flags: str) -> list[str]:
    """Returns the command line that trains the run of a name."""
    return [
        'train',
        f'--gin_file={self / "run.gin"}',
        f'--gin.MODEL_DIR={self / name}',
        f'--mixtures={self / "sums.yaml"}',
        f'--cache_dir={self / "cache"}',
        *flags,
    ]

  def train(self, name: str, *flags: str) -> int:
    """Trains in this process; errors come as exceptions."""
    from flan_jax import cli
    from flan_jax import train

    return train.main(cli.parse(self.arguments(name, *flags)))


@pytest.fixture(scope='module')
def own_programs() -> Iterator[None]:
  """Puts back where jax keeps compiled programs: commands change that."""
  import jax

  names = ('jax_compilation_cache_dir',)
  names += ('jax_persistent_cache_min_compile_time_secs',)
  before = {name: getattr(jax.config, name) for name in names}
  yield
  for name, value in before.items():
    jax.config.update(name, value)


@pytest.fixture(scope='module')
def make_project(tmp_path_factory, own_programs) -> Callable[..., Project]:
  """Returns a function that makes a `Project` from more lines of gin."""

  def make(
      lines: str, optimizer: str = 'adafactor', mesh: str = 'data'
  ) -> Project:
    run = RUN % {'optimizer': optimizer, 'mesh': mesh} + lines
    return Project(tmp_path_factory.mktemp('project'), run)

  return make
