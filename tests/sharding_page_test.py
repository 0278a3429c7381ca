"""The gin that docs/sharding.md shows is read, and gives what it says."""

import re

from flan_jax import partitioning
from flan_jax import train
import pytest

_RUN = """\
include 'gin/runs/train.gin'
include 'gin/models/t5_1_1/mini.gin'
include 'gin/optimizers/adafactor.gin'
MODEL_DIR = 'x'
MIXTURE_OR_TASK_NAME = 'mini'
TRAIN_STEPS = 7
MESH = @MeshConfig()
"""


@pytest.fixture
def page(root) -> str:
  return (root / 'docs' / 'sharding.md').read_text()


def _mesh(tmp_path, gin: str) -> partitioning.MeshConfig:
  path = tmp_path / 'run.gin'
  path.write_text(_RUN + gin)
  return train.load([str(path)], [], []).settings.mesh


def test_the_blocks_of_gin_are_read(page, tmp_path):
  blocks = re.findall(r'^```gin\n(.*?)^```', page, re.M | re.S)
  assert len(blocks) >= 3
  for block in blocks:
    _mesh(tmp_path, block).shape(16)


def test_what_stands_for_t5x_has_its_shape(page, tmp_path):
  table = page.partition("## T5X's settings")[2].partition('\n\nT5X calls')[0]
  found = {}
  for line in table.splitlines():
    _, theirs, ours, *_ = f'{line}|||'.split('|')
    bindings = re.findall(r'`(MeshConfig\.\w+ = [^`]*?)`', ours)
    if bindings and '...' not in ours:
      mesh = _mesh(tmp_path, '\n'.join(bindings))
      found[theirs.strip()] = mesh
      for file in re.findall(r"include 'gin/meshes/(\w+).gin'", ours):
        included = _mesh(tmp_path, f"include 'gin/meshes/{file}.gin'")
        assert included.shape(16) == mesh.shape(16)
  assert {mesh.shape(16) for mesh in found.values()} == {
      *((16, 1, 1), (2, 1, 8), (1, 2, 8), (1, 16, 1)),
  }
  assert len(found) >= 8


def test_the_table_of_rules_is_that_of_the_code(page):
  rows = re.findall(r'^\| (`\w+`.*?) \|.*\| ([^|]*) \|$', page, re.M)
  told = {}
  for names, goal in rows:
    axes = tuple(re.findall(r'`(\w+)`', goal))
    for name in re.findall(r'`(\w+)`', names):
      if name in partitioning.RULES:
        told[name] = axes
  assert told == partitioning.RULES
  order = list(partitioning.RULES)
  assert [n for n in told if told[n]] == [n for n in order if told[n]]
