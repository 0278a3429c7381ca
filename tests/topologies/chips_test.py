"""The table of chips, and the names of slices."""

from flan_jax import errors
from flan_jax.topologies import chips
from flan_jax.training import utilization
import pytest


@pytest.mark.parametrize(
    'name, found, size',
    [
        ('v5e:16x16', 'v5e:16x16', 256),
        ('v5e-256', 'v5e:16x16', 256),
        ('v5litepod-16', 'v5e:4x4', 16),
        ('v4-8', 'v4:2x2x1', 4),
        ('v5p-128', 'v5p:4x4x4', 64),
        ('V6E-64', 'v6e:8x8', 64),
    ],
)
def test_slices_go_by_shape_and_by_accelerator_type(name, found, size):
  slice_ = chips.find(name)
  assert (slice_.name, slice_.size) == (found, size)


def test_every_name_means_itself():
  for slice_ in chips.slices():
    assert chips.find(slice_.name) == slice_
    assert chips.find(slice_.accelerator_type) == slice_


@pytest.mark.parametrize(
    'name, said',
    [
        ('v5e:3x3', "'v5e:3x3' is no slice of v5e; there are v5e:1x1, 2x2"),
        ('v4-6', 'is no slice of v4; there are v4:2x2x1, 2x2x2'),
        ('h100', 'is no TPU slice that is known; there are v4:2x2x1'),
        ('', 'is no TPU slice that is known'),
    ],
)
def test_unknown_ones_are_answered_with_those_there_are(name, said):
  with pytest.raises(errors.UserError) as caught:
    chips.find(name)
  assert said in str(caught.value)


def test_peaks_are_those_that_training_measures_against():
  for chip in chips.CHIPS:
    assert utilization.peak_flops(chip.kind) == chip.flops
