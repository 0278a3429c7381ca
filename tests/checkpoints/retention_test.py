"""Which checkpoints stay, from steps and numbers alone."""

import math

from flan_jax import errors
from flan_jax.checkpoints import retention
import pytest

STEPS = [0, 10, 20, 30, 40, 50, 60]
NUMBERS = {
    0: {},
    10: {'eval/loss': 3.0},
    20: {'eval/loss': 1.0},
    30: {'eval/loss': 1.0, 'loss': 9.0},
    40: {'eval/loss': math.nan},
    50: {'eval/loss': 2.0},
}


def _kept(**options) -> list[int]:
  rule = retention.Retention(newest=1, **options)
  return sorted(rule.kept(STEPS, NUMBERS))


def test_the_newest_and_the_untuned_stay():
  assert _kept() == [0, 60]
  rule = retention.Retention(newest=3)
  assert rule.kept([50, 10, 30, 20], {}) == {50, 30, 20}
  assert rule.kept([], {}) == set()


def test_every_so_many_steps_one_stays():
  assert _kept(every=20) == [0, 20, 40, 60]
  assert _kept(every=25) == [0, 50, 60]


@pytest.mark.parametrize(
    ('best', 'mode', 'wanted'),
    [
        (1, 'min', [30]),  # Of equal ones the later.
        (2, 'min', [20, 30]),
        (3, 'min', [20, 30, 50]),
        (9, 'min', [10, 20, 30, 50]),  # Those without the number never.
        (1, 'max', [10]),
    ],
)
def test_the_best_stay(best, mode, wanted):
  assert _kept(best=best, mode=mode) == [0, *wanted, 60]


def test_another_number_may_say_what_is_best():
  assert _kept(best=1, metric='loss') == [0, 30, 60]


def test_a_mistyped_number_is_found_where_it_should_be():
  rule = retention.Retention(newest=1, best=1, metric='eval/lss')
  rule.check(1, {'loss': 1.0})  # Not evaluated after this step.
  with pytest.raises(errors.UserError, match="no number 'eval/lss'.*eval/loss"):
    rule.check(2, {'loss': 1.0, 'eval/loss': 2.0})
  with pytest.raises(errors.UserError, match="no number 'los'.*loss"):
    retention.Retention(newest=1, best=1, metric='los').check(1, {'loss': 1.0})
