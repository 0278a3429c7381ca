"""Numbers from papers: only checked ones, about datasets that are here."""

from flan_jax import errors
from flan_jax.data import catalogue
from flan_jax.evaluation import metrics
from flan_jax.evaluation import published
import pytest

_GOOD = """version: 1
tables:
- model: Big
  paper: arXiv 1
  table: Table 2
  template: mean
  scores:
    rte: {accuracy: 70.5}
"""


def test_every_score_is_of_a_dataset_and_a_value_of_ours():
  known = catalogue.Catalogue()
  scores = published.load()
  assert scores
  for score in scores:
    dataset = known.dataset(score.dataset)  # Fails where there is none.
    # Of the dataset's own metrics, or the one that ranking always has.
    values = {v for m in dataset.metrics for v in metrics.METRICS[m].values}
    assert score.metric in values | {'accuracy'}
    assert score.paper.startswith('arXiv ')


def test_these_are_the_numbers_that_were_checked(shared):
  """FLAN 137B's, in the notes on what could be verified and what not."""
  text = (shared / 'facts' / 'performance.md').read_text()
  (checked,) = [
      line
      for line in text.splitlines()
      if 'best dev template) verified' in line
  ]
  doubtful = text.split('From memory, **not verified**')[1].split('\n')[0]
  names = {
      'anli_r1': 'ANLI R1',
      'anli_r2': 'R2',
      'anli_r3': 'R3',
      'cb': 'CB',
      'arc_challenge': 'ARC-c',
      'arc_easy': 'ARC-e',
      'record': 'ReCoRD',
      'winogrande': 'WinoGrande',
      'wsc273': 'WSC273',
  }
  scores = published.load()
  assert {score.dataset for score in scores} == set(names)
  for score in scores:
    assert f'{names[score.dataset]} {score.score:.1f}' in checked
    assert f'{names[score.dataset]} {score.score:.1f}' not in doubtful
    assert score.template == 'best' and score.model == 'FLAN 137B'


def test_only_datasets_that_are_evaluated_are_told_of():
  (found,) = published.beside(['cb', 'mini_sizes'])
  assert found['dataset'] == 'cb' and found['score'] == 64.1
  assert found['quoted_by'] and found['table'] and found['model']
  assert published.beside(['mini_sizes']) == []


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [
        ('version: 1', 'version: 2', ':1: version: must be 1'),
        ('  table: Table 2\n', '', ':3: tables.0.: table is missing'),
        ('  paper', '  papers', 'papers: is no key. Did you mean paper'),
        ('mean', 'worst', ':6: tables.0..template: must be best or mean'),
        ('accuracy', 'acuracy', "no metric has a value 'acuracy'. Did you me"),
        ('70.5', 'seventy', 'must be a number above 0'),
        ('70.5', '705', ':8: tables.0..scores.rte.accuracy: must be at most'),
        ('    rte', '    rte: {accuracy: 1}\n    rte', 'is here twice'),
    ],
)
def test_the_file_is_read_strictly(tmp_path, old, new, message):
  path = tmp_path / 'published.yaml'
  path.write_text(_GOOD)
  assert published.load(path) == [
      published.Score(
          dataset='rte',
          metric='accuracy',
          score=70.5,
          model='Big',
          paper='arXiv 1',
          table='Table 2',
          template='mean',
      )
  ]
  path.write_text(_GOOD.replace(old, new, 1))
  with pytest.raises(errors.UserError, match=message) as failed:
    published.load(path)
  assert str(path) in str(failed.value)


def test_one_score_of_a_model_on_a_dataset(tmp_path):
  path = tmp_path / 'published.yaml'
  table = _GOOD.split('tables:\n')[1]
  path.write_text(_GOOD + table.replace('70.5', '71'))
  with pytest.raises(errors.UserError, match='Big has a score there already'):
    published.load(path)
