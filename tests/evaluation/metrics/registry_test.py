"""The table of metrics by name."""

import subprocess
import sys

from flan_jax import errors
from flan_jax.evaluation import metrics
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import numpy as np
import pytest

_COLUMNS = {
    'classes': ([1, 0, 1], [1, 1, 1]),
    'numbers': ([1.0, 2.0, 4.0], [1.0, 3.0, 2.0]),
    'texts': ([['a b'], ['c'], ['d e f g']], ['a b', 'd', 'd e f g']),
}
_COLUMNS['answers'] = _COLUMNS['texts']


def _tally(name):
  metric = metrics.METRICS[name]
  columns = [*_COLUMNS[metric.over]]
  if metric.groups != 'never':
    columns.append([0, 0, 1])
  return metric.function(*columns)


@pytest.mark.parametrize('name', sorted(metrics.METRICS))
def test_the_named_values_come_back(name):
  metric = metrics.METRICS[name]
  values = _tally(name).once()
  assert sorted(values) == sorted(metric.values)
  assert all(0 <= value <= 100 for value in values.values())
  # Tables and means take the main value for one of which more is better.
  assert metrics.value(metric.values[0]).higher_is_better


@pytest.mark.parametrize('name', sorted(metrics.METRICS))
def test_values_of_any_weights_are_numbers(name):
  tally = _tally(name)
  assert tally.units == (2 if metrics.METRICS[name].groups != 'never' else 3)
  weights = np.array([[3, 0, 0], [0, 3, 0], [1, 1, 1], [0, 1, 2]], float)
  found = tally.values(weights[:, : tally.units])
  if tally.units == 2:
    found = tally.values(np.array([[2, 0], [0, 2], [1, 1], [1, 1]], float))
  assert sorted(found) == sorted(metrics.METRICS[name].values)
  for values in found.values():
    assert values.shape == (4,) and np.isfinite(values).all()
  once = tally.once()
  for value, numbers in found.items():
    assert numbers[2] == pytest.approx(once[value])


_TEXTS = st.text(max_size=25)


@pytest.mark.parametrize(
    'name',
    [n for n, m in metrics.METRICS.items() if m.over in ('texts', 'answers')],
)
@settings(max_examples=40, deadline=None)
@given(
    cases=st.lists(
        st.tuples(st.lists(_TEXTS, min_size=1, max_size=3), _TEXTS),
        min_size=1,
        max_size=4,
    )
)
def test_any_text_can_be_scored(name, cases):
  metric = metrics.METRICS[name]
  groups = [] if metric.groups == 'never' else [range(len(cases))]
  references, predictions = zip(*cases, strict=True)
  values = metric.function(references, predictions, *groups).once()
  assert all(0 <= value <= 100 + 1e-9 for value in values.values())


def test_titles_say_what_is_unusual():
  assert metrics.title('squad_f1') == 'squad f1'
  assert metrics.title('pearson') == 'pearson x100'
  assert metrics.title('edit_distance') == 'edit distance (lower is better)'


def test_a_missing_package_is_named(monkeypatch):
  monkeypatch.setattr(metrics.importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(errors.UserError, match='bleu.*pip install sacrebleu'):
    metrics.check_packages(['accuracy', 'bleu'])
  metrics.check_packages(['accuracy', 'spearman'])


def test_importing_metrics_is_light():
  heavy = ('jax', 'tensorflow', 'nltk', 'sacrebleu', 'scipy', 'sklearn')
  code = (
      'import sys; from flan_jax.evaluation import metrics;'
      f'print([m for m in {heavy} if m in sys.modules])'
  )
  out = subprocess.run(
      [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert out.stdout.strip() == '[]'


def test_the_page_explains_every_metric_and_value(root):
  page = (root / 'docs/metrics.md').read_text()
  rows = {
      cells[1].strip(' `'): cells[2]
      for cells in (line.split('|') for line in page.splitlines())
      if len(cells) == 5
  }
  for name, metric in metrics.METRICS.items():
    assert rows[name].replace('`', '').strip() == ', '.join(metric.values)
