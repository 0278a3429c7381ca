"""Schedules against T5X's formulas."""

import math

from flan_jax import errors
from flan_jax.training import schedules
import jax
import numpy as np
import pytest


def test_constant_is_constant():
  schedule = schedules.Constant(value=1e-3)
  for step in (0, 1, 10**6):
    rate = jax.jit(schedule)(step)
    assert rate.dtype == np.float32
    assert rate == np.float32(1e-3)


def test_constant_warms_up_linearly():
  schedule = schedules.Constant(value=2.0, warmup_steps=4)
  rates = [float(schedule(step)) for step in range(7)]
  assert rates == [0, 0.5, 1, 1.5, 2, 2, 2]


@pytest.mark.parametrize('step', [0, 1, 9_999, 10_000, 10_001, 10**6])
def test_rsqrt_is_t5s(step):
  rate = jax.jit(schedules.Rsqrt())(step)
  assert rate.dtype == np.float32
  expected = 1 / math.sqrt(max(step, 10_000))
  np.testing.assert_allclose(rate, expected, rtol=1e-6)


def test_rsqrt_with_linear_warmup():
  schedule = schedules.Rsqrt(base=3.0, warmup_steps=100, linear_warmup=True)
  for step in (0, 50, 100, 400):
    expected = 3 / math.sqrt(max(step, 100)) * min(1, step / 100)
    np.testing.assert_allclose(schedule(step), expected, rtol=1e-6)


@pytest.mark.parametrize(
    'make, words',
    [
        (lambda: schedules.Constant(value=0), 'Constant.value: .* above 0'),
        (
            lambda: schedules.Constant(value='1e-3'),
            "Constant.value: must be a number above 0, not '1e-3'",
        ),
        (
            lambda: schedules.Constant(value=1.0, warmup_steps=-1),
            'Constant.warmup_steps: must be a number at least 0',
        ),
        (lambda: schedules.Rsqrt(base=-1.0), 'Rsqrt.base: .* above 0'),
        (lambda: schedules.Rsqrt(warmup_steps=0), 'Rsqrt.warmup_steps'),
    ],
)
def test_what_cannot_work_is_refused(make, words):
  with pytest.raises(errors.UserError, match=words):
    make()
