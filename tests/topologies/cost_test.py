"""Counting: against XLA's own counts, hand-made programs, and known sums."""

import math

from flan_jax.topologies import cost
from flan_jax.topologies import hlo
from flan_jax.topologies import loops
import jax
import jax.numpy as jnp
import pytest

RATES = cost.Rates(flops=1e12, bandwidth=1e9)
LOOP = """\
HloModule m, is_scheduled=true

%cond (p: (s32[], f32[4])) -> pred[] {
  %p = (s32[]{:T(128)}, f32[4]{0}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%p), index=0
  %n = s32[]{:T(128)} constant(LIMIT)
  ROOT %c = pred[] compare(%i, %n), direction=DIRECTION
}

%body (q: (s32[], f32[4])) -> (s32[], f32[4]) {
  %q = (s32[], f32[4]{0}) parameter(0)
  %j = s32[] get-tuple-element(%q), index=0
  %x = f32[4]{0} get-tuple-element(%q), index=1
  %by = s32[] constant(STEP)
  %k = s32[] add(%j, %by)
  %y = f32[4]{0} all-reduce(%x), replica_groups=GROUPS, to_apply=%sum
  ROOT %t = (s32[], f32[4]{0}) tuple(%k, %y)
}

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %s = f32[] add(%a, %b)
}

ENTRY %main (v: f32[4]) -> f32[4] {
  %v = f32[4]{0} parameter(0)
  %zero = s32[] constant(START)
  %copy.1 = s32[] copy(%zero)
  %init = (s32[], f32[4]{0}) tuple(%copy.1, %v)
  %while.1 = (s32[], f32[4]{0}) while(%init), condition=%cond, body=%body
  ROOT %r = f32[4]{0} get-tuple-element(%while.1), index=1
}
"""


def _loop(start=0, limit=12, step=1, direction='LT', groups='{}'):
  text = LOOP
  for name, value in dict(
      START=start,
      LIMIT=limit,
      STEP=step,
      DIRECTION=direction,
      GROUPS=groups,
  ).items():
    text = text.replace(name, str(value))
  return text


@pytest.mark.parametrize(
    'start, limit, step, direction, rounds',
    [
        (0, 12, 1, 'LT', 12),
        (0, 7, 2, 'LT', 4),
        (3, 12, 3, 'LE', 4),
        (5, 0, -1, 'GT', 5),
        (5, 0, -1, 'GE', 6),
        (4, 4, 1, 'LT', 0),
        (0, 12, -1, 'LT', None),
        (0, 12, 1, 'EQ', None),
    ],
)
def test_rounds_of_loops(start, limit, step, direction, rounds):
  module = hlo.parse(_loop(start, limit, step, direction))
  loop = module.entry.instructions['while.1']
  assert loops.rounds(module, module.entry, loop) == rounds


@pytest.mark.parametrize(
    'groups, size',
    [
        ('{}', 16),
        ('{{0,1,2,3},{4,5,6,7}}', 4),
        ('[2,8]<=[16]', 8),
        ('[8,2]<=[2,8]T(1,0)', 2),
        ("mesh['a'=4,'b'=4] {'b'}", 4),
        ("mesh['a'=4,'b'=4] {'a','b'}", 16),
        ("mesh['a'=16] {'a':(1)8}", 8),
    ],
)
def test_collectives_in_loops_count_as_often_and_by_their_groups(groups, size):
  found = cost.count(_loop(groups=groups), 16, RATES)
  assert found.collectives == {'all-reduce': 12}
  assert found.sent['all-reduce'] == 12 * 2 * (16 * (size - 1) // size)
  assert found.unknown_loops == 0


def test_a_loop_of_unknown_length_is_said_to_be_one():
  found = cost.count(_loop(direction='EQ'), 16, RATES)
  assert found.collectives == {'all-reduce': 1}
  assert found.unknown_loops == 1


@pytest.mark.parametrize(
    'kind, given, sent',
    [
        ('all-gather', 100, 300),
        ('reduce-scatter', 400, 300),
        ('all-reduce', 400, 600),
        ('all-to-all', 400, 300),
        ('collective-permute', 400, 400),
    ],
)
def test_what_a_device_sends(kind, given, sent):
  assert cost._sent(kind, given, 4) == sent


def test_arrays_know_their_bytes_and_their_memory():
  text = (
      '(bf16[8,12]{1,0:T(8,128)(2,1)S(1)}, f32[]{:T(128)}, s4[3]{0}, pred[2])'
  )
  found = hlo.arrays(text)
  assert [a.bytes for a in found] == [192, 4, 2, 2]
  assert [a.space for a in found] == [1, 0, 0, 0]


@pytest.mark.parametrize(
    'size, kernel, out, stride, pad, dilation, meetings',
    [
        (8, 3, 6, 1, 0, 1, 18),  # A plain window.
        (8, 3, 8, 1, 1, 1, 22),  # At either edge one place is padding.
        (12, 12, 12, 11, 0, 12, 12),  # A batch: one place for each window.
    ],
)
def test_windows_meet_items(size, kernel, out, stride, pad, dilation, meetings):
  args = (size, kernel, out, stride, pad, dilation, 1)
  assert cost._meetings(*args) == meetings


def test_flops_of_scanned_layers_are_those_of_all_layers():
  layers, width, rows = 6, 32, 16

  def model(kernels, x):
    def layer(x, kernel):
      return jnp.tanh(x @ kernel), None

    return jnp.sum(jax.lax.scan(layer, x, kernels)[0])

  compiled = (
      jax.jit(jax.grad(model))
      .lower(
          jax.ShapeDtypeStruct((layers, width, width), jnp.float32),
          jax.ShapeDtypeStruct((rows, width), jnp.float32),
      )
      .compile()
  )
  found = cost.count(compiled.as_text(), 1, RATES)
  product = 2 * rows * width * width
  # Forward, and backward twice but for the gradient of the first layer's input.
  assert found.unknown_loops == 0
  assert product * (3 * layers - 1) <= found.flops <= product * 3 * layers
  # XLA itself counts a loop once.
  assert compiled.cost_analysis()['flops'] < found.flops / 3


def test_convolutions_cost_what_xla_says():
  image = jax.ShapeDtypeStruct((2, 9, 9, 4), jnp.float32)
  kernel = jax.ShapeDtypeStruct((3, 3, 4, 8), jnp.float32)
  compiled = (
      jax.jit(
          lambda x, k: jax.lax.conv_general_dilated(
              x,
              k,
              (2, 2),
              'SAME',
              dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
          )
      )
      .lower(image, kernel)
      .compile()
  )
  found = cost.count(compiled.as_text(), 1, RATES)
  assert found.flops == compiled.cost_analysis()['flops']


def test_bytes_of_a_slice_are_not_those_of_the_whole():
  def take(x, i):
    return jax.lax.dynamic_slice(x, (i, 0), (1, 1024)) * 2.0

  compiled = (
      jax.jit(take)
      .lower(
          jax.ShapeDtypeStruct((1000, 1024), jnp.float32),
          jax.ShapeDtypeStruct((), jnp.int32),
      )
      .compile()
  )
  found = cost.count(compiled.as_text(), 1, RATES)
  assert math.isclose(found.bytes, 2 * 4096, rel_tol=0.01)
  assert math.isclose(found.seconds, found.bytes / 1e9)
