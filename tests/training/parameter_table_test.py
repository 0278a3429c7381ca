"""The table of parameters counts what is there and where it lies."""

from flan_jax import partitioning
from flan_jax.training import parameter_table
import jax


def test_each_parameter_has_a_line(tiny_model, mesh_of):
  model = tiny_model(num_encoder_layers=2)
  mesh = mesh_of(data=2, fsdp=2, tensor=2)
  abstract, axes = model.abstract_params(), model.logical_axes()
  shardings = partitioning.shardings(mesh, axes, abstract)
  params = jax.tree.map(
      lambda leaf, sharding: jax.ShapeDtypeStruct(
          leaf.shape, leaf.dtype, sharding=sharding
      ),
      abstract,
      shardings,
  )
  lines = parameter_table.render(params, axes).splitlines()
  rows = {line.split()[0]: line.split() for line in lines[1:]}
  assert lines[0].split() == [
      *('parameter', 'shape', 'axes', 'partition', 'count', 'a', 'device')
  ]
  # 16 wide, 32 inside; two layers; shared by fsdp and tensor.
  assert rows['encoder/layers/mlp/wo/kernel'][1:] == [
      *('2', 'x', '32', 'x', '16', 'layers,mlp,embed', '-,tensor,fsdp'),
      *('1,024', '256'),
  ]
  assert rows['decoder/decoder_norm/scale'][1:] == ['16', 'embed', 'fsdp'] + [
      *('16', '8')
  ]
  sizes = [leaf.size for leaf in jax.tree.leaves(abstract)]
  assert len(lines) == 1 + len(sizes) + 3 + 1
  made = jax.jit(model.init, out_shardings=shardings)(jax.random.key(0))
  held = sum(
      leaf.addressable_shards[0].data.size for leaf in jax.tree.leaves(made)
  )
  assert lines[-1].split() == ['all', f'{sum(sizes):,}', f'{held:,}']
