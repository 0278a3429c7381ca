"""Parameters under T5X's names and back."""

from flan_jax import errors
from flan_jax import partitioning
from flan_jax.models import naming
import jax
import jax.numpy as jnp
import numpy as np
import pytest


@pytest.mark.parametrize('kind', [np.asarray, jnp.asarray])
def test_there_and_back_again(kind, model, params):
  params = jax.tree.map(kind, params)
  flat = model.unstack(params)

  assert flat['encoder/layers_1/mlp/wo/kernel'].shape == (64, 32)
  assert len(flat) == 52
  back = model.stack(flat)
  assert jax.tree.structure(back) == jax.tree.structure(params)
  for before, after in zip(*map(jax.tree.leaves, (params, back)), strict=True):
    assert type(after) is type(before)
    np.testing.assert_array_equal(before, after)


def test_layers_keep_their_order(model):
  params = jax.tree.map(
      lambda leaf: np.arange(leaf.size).reshape(leaf.shape),
      model.abstract_params(),
  )
  flat = model.unstack(params)
  stacked = params['decoder']['layers']['mlp']['wi_0']['kernel']
  for layer in range(2):
    np.testing.assert_array_equal(
        flat[f'decoder/layers_{layer}/mlp/wi_0/kernel'], stacked[layer]
    )


def test_shapes_keep_their_shardings(model):
  mesh = partitioning.make_mesh(partitioning.MeshConfig(fsdp=2, tensor=2))
  shardings = partitioning.shardings(mesh, model.logical_axes())
  params = jax.tree.map(
      lambda leaf, sharding: jax.ShapeDtypeStruct(
          leaf.shape, leaf.dtype, sharding=sharding
      ),
      model.abstract_params(),
      shardings,
  )

  flat = model.unstack(params)

  leaf = flat['encoder/layers_1/mlp/wo/kernel']
  assert leaf.shape == (64, 32)
  assert leaf.sharding.spec == jax.P('tensor', 'fsdp')
  back = model.stack(flat)['encoder']['layers']['mlp']['wo']['kernel']
  assert back.shape == (2, 64, 32)
  assert back.sharding.spec == jax.P(None, 'tensor', 'fsdp')


def test_what_does_not_fit_is_named(model):
  flat = model.unstack(model.abstract_params())
  name = 'decoder/layers_1/mlp/wo/kernel'

  missing = dict(flat)
  missing['decoder/layer_1/mlp/wo/kernel'] = missing.pop(name)
  with pytest.raises(errors.UserError, match=f'{name} .* is missing. Did you'):
    model.stack(missing)

  other = dict(flat)
  other[name] = jax.ShapeDtypeStruct((64, 48), np.float32)
  with pytest.raises(
      errors.UserError, match=rf'{name} is \(64, 48\) there and \(64, 32\)'
  ):
    model.stack(other)

  more = flat | {'decoder/layers_2/mlp/wo/kernel': flat[name]}
  with pytest.raises(errors.UserError, match='has no decoder/layers_2'):
    model.stack(more)


def test_flatten_and_unflatten():
  tree = {'a': {'b': 1, 'layers': {'c': 2}}, 'd': 3}
  flat = naming.flatten(tree)
  assert flat == {'a/b': 1, 'a/layers/c': 2, 'd': 3}
  assert naming.unflatten(flat) == tree
  assert [name for name in flat if naming.is_stacked(name)] == ['a/layers/c']
