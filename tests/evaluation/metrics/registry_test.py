"""The table of metrics by name."""

import subprocess
import sys

from flan_jax.evaluation import metrics
import pytest


@pytest.mark.parametrize('name', sorted(metrics.METRICS))
def test_the_named_values_come_back(name):
  metric = metrics.METRICS[name]
  if metric.over_classes:
    values = metric.function([1, 0], [1, 1])
  else:
    values = metric.function([['a b'], ['c']], ['a b', 'd'])
  assert sorted(values) == sorted(metric.values)
  assert all(0 <= value <= 100 for value in values.values())


def test_importing_metrics_is_light():
  code = (
      'import sys; from flan_jax.evaluation import metrics;'
      'print([m for m in ("jax", "tensorflow", "nltk") if m in sys.modules])'
  )
  out = subprocess.run(
      [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert out.stdout.strip() == '[]'
