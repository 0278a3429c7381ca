"""Out of memory: the sizes are the arrays' own, and the advice is open."""

from flan_jax import errors
from flan_jax.training import memory
from flan_jax.training import optimizers
from flan_jax.training import schedules
from flan_jax.training import settings as settings_lib
from flan_jax.training import trainer as trainer_lib
import jax
import pytest


def _settings(model, **changes) -> settings_lib.Train:
  return settings_lib.Train(**{
      **dict(
          model_dir='run',
          mixture_or_task_name='sums',
          task_feature_lengths={'inputs': 12, 'targets': 6},
          vocabulary='bytes',
          model=model,
          optimizer=optimizers.Adafactor(),
          schedule=schedules.Constant(value=0.1),
          train_steps=1,
          batch_size=8,
      ),
      **changes,
  })


def _table(tiny_model, mesh, compiled=None, **changes) -> list[str]:
  model = tiny_model()
  trainer = trainer_lib.Trainer(_settings(model.config, **changes), model, mesh)
  return trainer.memory_table(compiled).splitlines()


def test_sizes_are_those_of_the_arrays_on_a_device(tiny_model, mesh_of):
  model = tiny_model(emb_dim=256, mlp_dim=512)
  params = sum(leaf.size for leaf in jax.tree.leaves(model.abstract_params()))
  for fsdp in (1, 4):
    mesh = mesh_of(fsdp=fsdp)
    with jax.set_mesh(mesh):
      trainer = trainer_lib.Trainer(_settings(model.config), model, mesh)
      compiled = trainer.compiled_step()
      found = memory.sizes(trainer._like, compiled)
      state = trainer.new_state()
    for tree, size in (
        (state.params, found.parameters),
        (state.optimizer, found.optimizer),
        (state.params, found.gradients),
    ):
      assert size == sum(
          leaf.addressable_shards[0].data.nbytes
          for leaf in jax.tree.leaves(tree)
      )
    # Small vectors are whole on each device.
    assert params / fsdp <= found.parameters / 4 <= params / fsdp * 1.2
    assert found.temporaries is not None
    assert found.temporaries == (
        compiled.memory_analysis().temp_size_in_bytes - found.gradients
    )


def test_each_kind_has_a_setting_that_halves_it(tiny_model, mesh_of):
  lines = _table(tiny_model, mesh_of(data=2))
  assert (
      lines[0].split()
      == (
          'activations and other temporaries unknown halved by NUM_MICROBATCHES'
          " = 2 (now 1); EncoderDecoderConfig.remat = 'full' keeps fewest"
      ).split()
  )
  by_kind = {line.split()[0]: line for line in lines}
  for kind in ('parameters', 'gradients'):
    assert by_kind[kind].endswith('halved by MeshConfig.fsdp = 2 (now 1)')
  assert by_kind['optimizer'].endswith('Adafactor keeps least')


@pytest.mark.parametrize(
    ('changes', 'wanted'),
    [
        ({}, 'NUM_MICROBATCHES = 2 (now 1)'),
        ({'num_microbatches': 2}, 'NUM_MICROBATCHES = 4 (now 2)'),
        ({'num_microbatches': 4}, 'half of TASK_FEATURE_LENGTHS'),
        ({'batch_size': 6}, 'BATCH_SIZE = 3'),
    ],
)
def test_activations_are_halved_by_what_the_rows_allow(
    tiny_model, mesh_of, changes, wanted
):
  assert wanted in _table(tiny_model, mesh_of(data=2), **changes)[0]


def test_one_device_is_told_how_many_it_takes(tiny_model, mesh_of):
  lines = _table(tiny_model, mesh_of())
  assert 'fsdp = 2 (now 1), which takes 2 devices' in lines[-1]


def test_only_a_lack_of_memory_is_explained():
  with pytest.raises(jax.errors.JaxRuntimeError, match='INTERNAL'):
    with memory.explained(lambda: 'table'):
      raise jax.errors.JaxRuntimeError('INTERNAL: something else')
  with pytest.raises(errors.UserError) as error:
    with memory.explained(lambda: '  table'):
      raise jax.errors.JaxRuntimeError(
          'RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nmore'
      )
  assert str(error.value) == (
      'out of memory on cpu (RESOURCE_EXHAUSTED: Out of memory allocating 9'
      ' bytes.); a device needs, for a step\n  table'
  )
