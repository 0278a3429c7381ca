"""Meshes of eight virtual devices, and what a wrong name or size does."""

from flan_jax import errors
from flan_jax import partitioning
import jax
import numpy as np
import pytest

MESHES = [
    dict(data=8),
    dict(data=4, tensor=2),
    dict(data=1, fsdp=8),
    dict(data=2, fsdp=2, tensor=2),
]


def _mesh(**sizes: int) -> jax.sharding.Mesh:
  return partitioning.make_mesh(partitioning.MeshConfig(**sizes))


@pytest.mark.parametrize('sizes', MESHES)
def test_a_mesh_has_the_three_axes(sizes):
  mesh = _mesh(**sizes)
  assert mesh.axis_names == ('data', 'fsdp', 'tensor')
  assert dict(mesh.shape) == dict(data=1, fsdp=1, tensor=1) | sizes
  assert set(mesh.devices.flat) == set(jax.devices())


def test_the_rest_of_the_devices_are_along_one_axis():
  assert dict(_mesh().shape) == dict(data=8, fsdp=1, tensor=1)
  assert dict(_mesh(tensor=4).shape) == dict(data=2, fsdp=1, tensor=4)
  mesh = _mesh(data=2, fsdp=-1)
  assert dict(mesh.shape) == dict(data=2, fsdp=4, tensor=1)
  one = partitioning.make_mesh(devices=jax.devices()[:1])
  assert dict(one.shape) == dict(data=1, fsdp=1, tensor=1)


@pytest.mark.parametrize(
    'sizes, words',
    [
        (
            dict(data=3),
            r'data=3, fsdp=1, tensor=1 needs 3 devices, and there are 8;'
            r' nearest: \(data=8, fsdp=1, tensor=1\) or',
        ),
        (
            dict(tensor=3),
            r'needs a multiple of 3 devices, and there are 8; nearest:'
            r' \(data=-1, fsdp=1, tensor=4\) or \(data=-1, fsdp=1, tensor=2\)',
        ),
        (dict(data=-1, fsdp=-1), 'only one of data, fsdp and tensor can be -1'),
        (dict(fsdp=0), 'MeshConfig.fsdp: must be a positive integer, or -1'),
        (dict(tensor='2'), 'MeshConfig.tensor: must be a positive integer'),
    ],
)
def test_a_mesh_that_does_not_fit_is_refused(sizes, words):
  with pytest.raises(errors.UserError, match=words):
    _mesh(**sizes)


@pytest.mark.parametrize('sizes', MESHES)
def test_every_device_gets_its_rows(sizes):
  mesh = _mesh(**sizes)
  rows = np.arange(48, dtype=np.int32).reshape(16, 3)

  batch = partitioning.put_batch({'tokens': rows}, mesh)

  np.testing.assert_array_equal(batch['tokens'], rows)
  parts = partitioning.batch_divisor(mesh)
  assert parts == 8 // sizes.get('tensor', 1)
  for shard in batch['tokens'].addressable_shards:
    assert shard.data.shape == (16 // parts, 3)
  assert batch['tokens'].sharding == partitioning.batch_sharding(mesh)


def test_rows_that_do_not_divide_are_refused():
  with pytest.raises(errors.UserError, match='12 rows .* 8 parts .*: 8 or 16'):
    partitioning.put_batch({'tokens': np.zeros((12, 3))}, _mesh())


def test_batch_divisor_of_the_mesh_in_use():
  assert partitioning.batch_divisor() == 1
  with partitioning.use(_mesh(fsdp=2, tensor=2)):
    assert partitioning.batch_divisor() == 4


def test_a_constraint_is_live_in_the_mesh_and_absent_without():
  def half(x):
    return partitioning.constrain(x / 2, ('batch', 'length', 'mlp'))

  x = np.ones((8, 3, 4), np.float32)
  mesh = _mesh(data=2, fsdp=2, tensor=2)
  with partitioning.use(mesh):
    inside = jax.jit(half)(x)
  assert inside.sharding.spec == jax.P(('data', 'fsdp'), None, 'tensor')
  outside = jax.jit(half)(x)
  assert outside.sharding.is_fully_replicated


def test_an_unknown_name_is_an_error_with_a_mesh_and_without():
  x = np.ones((8, 3), np.float32)
  words = "no logical axis 'btach'. Did you mean batch"
  with pytest.raises(ValueError, match=words):
    partitioning.constrain(x, ('btach', None))
  with partitioning.use(_mesh()), pytest.raises(ValueError, match=words):
    jax.jit(lambda x: partitioning.constrain(x, ('btach', None)))(x)
  with pytest.raises(ValueError, match=words):
    partitioning.shardings(_mesh(), {'a': {'b': ('btach',)}})


def test_names_must_be_as_many_as_axes():
  with pytest.raises(ValueError, match='names 1 axes of'):
    partitioning.constrain(np.ones((8, 3)), ('batch',))


def test_a_mesh_axis_goes_to_the_name_that_is_earlier_in_the_rules():
  assert partitioning.spec(('vocab', 'mlp')) == jax.P(None, 'tensor')
  assert partitioning.spec(('embed', 'batch')) == jax.P(None, ('data', 'fsdp'))


@pytest.fixture
def usual_rules():
  """Puts the usual rules back after a test."""
  yield
  _mesh()
  assert partitioning.spec(('hidden',)) == jax.P(None)


@pytest.mark.usefixtures('usual_rules')
def test_a_run_may_have_rules_of_its_own():
  mesh = _mesh(
      fsdp=2,
      tensor=2,
      rules={'hidden': 'tensor', 'embed': None, 'batch': ('data',)},
  )
  names = ('batch', 'length', 'hidden')
  assert partitioning.spec(names) == jax.P('data', None, 'tensor')
  # Of two that want 'tensor', the earlier one in RULES gets it.
  assert partitioning.spec(('vocab', 'hidden')) == jax.P('tensor', None)
  assert partitioning.spec(('embed', 'mlp')) == jax.P(None, 'tensor')
  assert partitioning.batch_divisor(mesh) == 2

  @jax.jit
  def half(x):
    return partitioning.constrain(x / 2, names)

  x = np.ones((8, 3, 4), np.float32)
  with partitioning.use(mesh):
    assert half(x).sharding.spec == jax.P('data', None, 'tensor')
  # Other rules hold for what was traced under these, too.
  with partitioning.use(_mesh(fsdp=2, tensor=2)):
    assert half(x).sharding.spec == jax.P(('data', 'fsdp'))


@pytest.mark.usefixtures('usual_rules')
def test_an_axis_of_one_entry_stays_whole_but_the_batch_does_not():
  mesh = _mesh(fsdp=2, tensor=2, rules={'length': 'tensor'})
  with partitioning.use(mesh):
    constrain = jax.jit(
        lambda x: partitioning.constrain(x, ('batch', 'length', None))
    )
    whole = jax.P(('data', 'fsdp'))
    assert constrain(np.ones((4, 1, 3))).sharding.spec == whole
    shared = constrain(np.ones((4, 6, 3))).sharding.spec
    assert shared == jax.P(('data', 'fsdp'), 'tensor')
    with pytest.raises(errors.UserError, match='the batch has 1 entries'):
      constrain(np.ones((1, 6, 3)))


@pytest.mark.parametrize(
    'rules, words',
    [
        ({'hiden': 'tensor'}, "no logical axis 'hiden'. Did you mean hidden"),
        ({'abspos': None}, "no logical axis 'abspos'. .*batch, heads"),
        ({'mlp': 'model'}, "'mlp' is to go along 'model', .* data, fsdp, ten"),
        ({'mlp': ('fsdp', 'fsdp')}, 'along one axis twice'),
        ([('mlp', 'tensor')], r"must be like \{'hidden': 'tensor'"),
    ],
)
def test_rules_that_name_nothing_are_refused(rules, words):
  with pytest.raises(errors.UserError, match=f'MeshConfig.rules: .*{words}'):
    partitioning.MeshConfig(rules=rules)


class _Device:
  """A device of a host that is not here."""

  def __init__(self, number: int, host: int):
    self.id, self.process_index = number, host


@pytest.mark.parametrize(
    'tensor, per_host, expected',
    [
        (1, 4, (0, 2)),
        (2, 2, (0, 4)),
        (4, 2, (0, 2)),  # Two hosts for each part of the batch.
        (8, 2, (0, 1)),  # All hosts hold all rows.
        (4, 3, None),
    ],
)
def test_hosts_read_what_their_devices_hold(
    tensor, per_host, expected, monkeypatch
):
  own = _mesh(tensor=tensor)
  where = {
      _Device(d.id, place // per_host): index
      for place, (d, index) in enumerate(
          partitioning.batch_sharding(own)
          .devices_indices_map((8 // tensor,))
          .items()
      )
  }

  class Sharding:

    def devices_indices_map(self, shape):
      return where

  monkeypatch.setattr(partitioning, 'batch_sharding', lambda mesh: Sharding())
  if expected is None:
    with pytest.raises(errors.UserError, match='some rows of a batch in comm'):
      partitioning.host_share(own)
  else:
    assert partitioning.host_share(own) == expected


def test_an_axis_that_does_not_divide_is_named():
  mesh = _mesh(data=2, tensor=4)
  with pytest.raises(
      errors.UserError,
      match="MeshConfig.tensor: the axis 'heads' has 6 .* tensor=4 .* of 6",
  ):
    partitioning.shardings(
        mesh,
        {'bias': ('heads', 'relpos_buckets')},
        {'bias': jax.ShapeDtypeStruct((6, 32), np.float32)},
    )
  with (
      partitioning.use(mesh),
      pytest.raises(
          errors.UserError, match='the batch has 3 .* a multiple of 2 rows'
      ),
  ):
    partitioning.constrain(np.ones((3, 5)), ('batch', 'length'))


def test_rules_name_axes_of_the_mesh_only():
  for axes in partitioning.RULES.values():
    assert set(axes) <= set(partitioning.AXES)
