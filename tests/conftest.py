"""Settings that every test shares: eight virtual devices and the data."""

import os
import pathlib

# Before the first import of jax: eight CPU devices stand for a node.
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
_FLAGS = '--xla_force_host_platform_device_count=8'
if _FLAGS not in os.environ.get('XLA_FLAGS', ''):
  os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {_FLAGS}'
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
os.environ.setdefault('CUDA_VISIBLE_DEVICES', '-1')

import pytest  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent


# Files that take a minute or more, which start first: two workers then end at
# about the same time.
_LONG = (
    'meshes_test.py',
    'train_test.py',
    'several_hosts_test.py',
    'kill_test.py',
    'docs_test.py',
    'saving_test.py',
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
