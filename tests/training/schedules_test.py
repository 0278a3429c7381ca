"""Schedules against T5X's formulas."""

import inspect
import math

from flan_jax import errors
from flan_jax.training import schedules
import jax
import numpy as np
import optax
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


def _t5x(step, factors):
  """T5X's factors; b 0.5, w 10, decay 0.4 every 7 steps, cycles of 30."""
  rate = 1.0
  for name in factors:
    rate *= {
        'constant': 0.5,
        'linear_warmup': min(1.0, step / 10),
        'linear_decay': 0.5 * min(step / 10, 1 + 0.4 * (10 - step)),
        'rsqrt_decay': 1 / math.sqrt(max(step, 10)),
        'rsqrt_normalized_decay': math.sqrt(10) / math.sqrt(max(step, 10)),
        'decay_every': 0.4 ** (step // 7),
        'cosine_decay': (
            0.5 * (1 + math.cos(math.pi * (max(0.0, (step - 10) / 30) % 1)))
        ),
    }[name]
  return max(rate, 1e-3)


@pytest.mark.parametrize(
    'names',
    [
        'constant',
        'constant * linear_warmup * rsqrt_decay',
        'linear_decay',
        'constant*rsqrt_normalized_decay',
        'constant * linear_warmup * decay_every',
        'constant * cosine_decay',
    ],
)
def test_factors_are_t5xs(names):
  schedule = schedules.Factors(
      factors=names,
      base_learning_rate=0.5,
      warmup_steps=10,
      decay_factor=0.4,
      steps_per_decay=7,
      steps_per_cycle=30,
      step_offset=5,
      min_learning_rate=1e-3,
  )
  compiled = jax.jit(schedule)
  factors = [name.strip() for name in names.split('*')]
  for step in (0, 3, 5, 10, 14, 15, 16, 30, 47, 70):
    rate = compiled(step)
    assert rate.dtype == np.float32
    np.testing.assert_allclose(rate, _t5x(max(0, step - 5), factors), rtol=2e-5)


def test_the_table_of_optaxs_schedules_is_optaxs():
  functions = {
      name: tuple(inspect.signature(found).parameters)
      for name, found in inspect.getmembers(optax.schedules, inspect.isfunction)
      if not name.startswith('inject_')
  }
  assert functions == schedules.OPTAX


@pytest.mark.parametrize(
    ('name', 'arguments', 'wanted'),
    [
        ('constant_schedule', {'value': 0.5}, [0.5, 0.5, 0.5]),
        (
            'linear_schedule',
            {'init_value': 1.0, 'end_value': 0.0, 'transition_steps': 4},
            [1.0, 0.5, 0.0],
        ),
        (
            'piecewise_constant_schedule',
            {'init_value': 1.0, 'boundaries_and_scales': {1: 0.1}},
            [1.0, 0.1, 0.1],
        ),
        (
            'join_schedules',
            {
                'schedules': [
                    schedules.Constant(value=2.0),
                    schedules.Rsqrt(base=3.0, warmup_steps=1),
                ],
                'boundaries': [2],
            },
            [2.0, 3.0, 3 / math.sqrt(2)],
        ),
    ],
)
def test_optaxs_schedules_by_name(name, arguments, wanted):
  schedule = schedules.OptaxSchedule(name=name, arguments=arguments)
  rates = [float(jax.jit(schedule)(step)) for step in (0, 2, 4)]
  np.testing.assert_allclose(rates, wanted, rtol=1e-6)


@pytest.mark.parametrize(
    ('make', 'words'),
    [
        (
            lambda: schedules.Factors(factors='constant * rsqrt'),
            "Factors.factors: 'rsqrt' is no factor.*rsqrt_decay",
        ),
        (
            lambda: schedules.Factors(warmup_steps=0),
            'Factors.warmup_steps: must be a number at least 1',
        ),
        (
            lambda: schedules.OptaxSchedule(name='cosine', arguments={}),
            "OptaxSchedule.name: 'cosine' is no schedule of optax",
        ),
        (
            lambda: schedules.OptaxSchedule(
                name='constant_schedule', arguments={'rate': 1.0}
            ),
            "constant_schedule has no 'rate'. It has value",
        ),
        (
            lambda: schedules.OptaxSchedule(
                name='linear_schedule', arguments={'init_value': 1.0}
            )(0),
            'OptaxSchedule.arguments: linear_schedule: .*missing',
        ),
    ],
)
def test_factors_and_names_that_do_not_exist_are_refused(make, words):
  with pytest.raises(errors.UserError, match=words):
    make()
