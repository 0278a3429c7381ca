"""A folder of Hugging Face's on devices: what is read of it, and how often."""

import collections

from flan_jax import storage
from flan_jax.checkpoints import formats
from flan_jax.checkpoints import native
from flan_jax.checkpoints import sharded
from flan_jax.checkpoints.huggingface import safetensors
from flan_jax.models import interface
import jax
import numpy as np


def test_a_mesh_has_the_same_parameters(pretrained):
  """Eight devices: each slice of a tensor is read for itself."""
  whole = native.load_model(
      pretrained, jax.make_mesh((1, 1, 1), ('data', 'fsdp', 'tensor'))
  )
  assert len(jax.devices()) == 8 and whole.vocabulary.size == 1250
  mesh = jax.make_mesh((1, 4, 2), ('data', 'fsdp', 'tensor'))
  spread = native.load_model(pretrained, mesh)
  for one, many in zip(
      jax.tree.leaves(whole.params), jax.tree.leaves(spread.params), strict=True
  ):
    assert one.dtype == np.float32
    np.testing.assert_array_equal(one, many)
  table = spread.params['token_embedder']['embedding']
  assert table.sharding.shard_shape(table.shape) == (628, 4)


def test_no_more_is_read_than_devices_hold(pretrained):
  """Of each parameter every number once, whatever holds copies of it."""

  class Counting:
    """A source that counts what it reads."""

    def __init__(self):
      self._source = formats.open_source(pretrained)
      self.read_numbers = {}

    def __getattr__(self, name):
      return getattr(self._source, name)

    def read(self, name, index=None):
      found = self._source.read(name, index)
      count = self.read_numbers.get(name, 0)
      self.read_numbers[name] = count + found.size
      return found

  source = Counting()
  model = interface.create(source.config)
  mesh = jax.make_mesh((2, 2, 2), ('data', 'fsdp', 'tensor'))
  sharded.load(source, model, native.abstract_params(model, mesh))
  assert source.read_numbers == {
      name: int(np.prod(shape)) for name, (shape, _) in source.shapes.items()
  }


def test_a_bucket_is_asked_for_each_tensor_once(pretrained, monkeypatch):
  """It has no memory map; this folder stands for one."""
  asked = collections.Counter()
  array = safetensors.Tensor.array

  def counted(tensor):
    asked[tensor.begin] += 1
    return array(tensor)

  model = interface.create(formats.open_source(pretrained).config)
  mesh = jax.make_mesh((1, 4, 2), ('data', 'fsdp', 'tensor'))
  like = native.abstract_params(model, mesh)
  expected = sharded.load(formats.open_source(pretrained), model, like)
  source = formats.open_source(pretrained)
  monkeypatch.setattr(safetensors.Tensor, 'array', counted)
  monkeypatch.setattr(storage, 'is_address', lambda path: True)
  found = sharded.load(source, model, like)
  assert set(asked.values()) == {1} and len(asked) == len(source.shapes)
  for one, other in zip(
      jax.tree.leaves(expected), jax.tree.leaves(found), strict=True
  ):
    assert one.sharding == other.sharding
    np.testing.assert_array_equal(one, other)
