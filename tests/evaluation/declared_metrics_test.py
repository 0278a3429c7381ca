"""Every embedded dataset's metrics, on its made-up row under every template."""

from flan_jax.data import catalogue
from flan_jax.data import sample_rows
from flan_jax.data import tasks
from flan_jax.evaluation import metrics
from flan_jax.evaluation import plan
from flan_jax.evaluation import scoring
import pytest

# Values that one example says nothing of, however well it is answered.
_OF_MANY = ('pearson', 'spearman', 'matthews')


def _sampled(collection):
  catalogued = catalogue.Catalogue()
  for name in catalogued.dataset_names():
    dataset = catalogued.dataset(name)
    if dataset.collection == collection and dataset.sample:
      yield dataset


def _main_values(dataset, answer):
  """The values of the row under each template, by metric."""
  for item in plan.items([tasks.create(dataset)], []):
    examples = sample_rows.examples(item.task)
    answers = [scoring.Answer(answer(example)) for example in examples]
    for how in ('rank', 'generate'):
      found = scoring.score(
          examples, answers, dataset.metrics, how, item.classes
      )
      for name in dataset.metrics:
        for value in metrics.METRICS[name].values:
          yield item.template, value, found[value]


def test_metrics_and_declarations_fit():
  datasets = list(_sampled('flan2021'))
  assert len(datasets) > 60
  plan.check_metrics(
      item
      for dataset in datasets
      for item in plan.items([tasks.create(dataset)], [])
  )
  for dataset in datasets:
    for template, value, got in _main_values(dataset, lambda e: e.targets):
      if value in _OF_MANY:
        continue
      best = 100.0 if metrics.value(value).higher_is_better else 0.0
      # A negative of F1 or a text of less than four words cannot have 100.
      if value in ('f1', 'bleu', 'rouge2') and got == 0.0:
        continue
      assert got == pytest.approx(best), (dataset.name, template, value)


def test_another_answer_is_not_right():
  for dataset in _sampled('flan2021'):
    for template, value, got in _main_values(dataset, lambda e: 'Zzz xq'):
      if metrics.value(value).higher_is_better and value not in _OF_MANY:
        assert got < 40, (dataset.name, template, value)
