"""Metrics by name: what a dataset's `metrics:` may say.

A metric scores all examples of a task at once and gives a `tally.Tally`, which
holds its values and can compute them again on resamples. Importing this loads
nothing heavy; packages that a metric needs are loaded when it is computed.
"""

from collections.abc import Callable, Iterable
import dataclasses
import importlib.util
from typing import Literal

from flan_jax import errors
from flan_jax.evaluation.metrics import bleu
from flan_jax.evaluation.metrics import classification
from flan_jax.evaluation.metrics import correlation
from flan_jax.evaluation.metrics import edit_distance
from flan_jax.evaluation.metrics import rouge
from flan_jax.evaluation.metrics import tally
from flan_jax.evaluation.metrics import text


@dataclasses.dataclass(frozen=True)
class Metric:
  """How a metric is computed, and what of.

  Attributes:
    function: Called with (targets, predictions), lists of equal length, and
      with a third list where it scores groups: each example's group, 0, 1 ...
    over: What targets and predictions are. 'classes': class indices.
      'texts': lists of references, and texts. 'numbers': floats. 'answers':
      as texts, but without the ending that all options of an example share.
    values: The names of its values, the main one first.
    groups: 'never' scores each example; 'must' needs to know which examples
      belong together; with 'may' an example without a group is one of its own.
    needs: Packages that have to be installed, by the names to install.
  """

  function: Callable[..., tally.Tally]
  over: Literal['classes', 'texts', 'numbers', 'answers']
  values: tuple[str, ...]
  groups: Literal['never', 'may', 'must'] = 'never'
  needs: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Value:
  """How a value is read.

  Attributes:
    unit: '%', or 'x100' of what lies between -1 and 1.
    higher_is_better: Which way is better.
  """

  unit: str = '%'
  higher_is_better: bool = True


METRICS: dict[str, Metric] = {
    'accuracy': Metric(classification.accuracy, 'classes', ('accuracy',)),
    'exact_match': Metric(text.exact_match, 'texts', ('exact_match',)),
    'f1': Metric(classification.f1, 'classes', ('f1', 'accuracy')),
    'macro_f1': Metric(
        classification.macro_f1, 'classes', ('macro_f1', 'accuracy')
    ),
    'matthews': Metric(classification.matthews, 'classes', ('matthews',)),
    'pearson': Metric(correlation.pearson, 'numbers', ('pearson',)),
    'spearman': Metric(correlation.spearman, 'numbers', ('spearman',)),
    'squad': Metric(text.squad, 'texts', ('squad_f1', 'squad_em')),
    'trivia_qa': Metric(
        text.trivia_qa, 'texts', ('trivia_qa_em', 'trivia_qa_f1')
    ),
    'multirc': Metric(
        classification.multirc,
        'classes',
        ('multirc_f1a', 'multirc_em'),
        groups='must',
    ),
    'record': Metric(
        text.record, 'answers', ('record_f1', 'record_em'), groups='may'
    ),
    'rouge': Metric(
        rouge.rouge,
        'texts',
        ('rougeL', 'rougeLsum', 'rouge1', 'rouge2'),
        needs=('rouge-score',),
    ),
    'bleu': Metric(bleu.bleu, 'texts', ('bleu',), needs=('sacrebleu',)),
    'edit_distance': Metric(
        edit_distance.edit_distance,
        'texts',
        ('edit_similarity', 'edit_distance'),
    ),
}

# Values that are not percentages of which more is better.
_OTHER_VALUES = {
    'matthews': Value('x100'),
    'pearson': Value('x100'),
    'spearman': Value('x100'),
    'edit_distance': Value(higher_is_better=False),
}


def value(name: str) -> Value:
  """Returns how the value of that name is read."""
  return _OTHER_VALUES.get(name, Value())


def title(name: str) -> str:
  """Returns a value's name for a table or page, with its unit if not '%'."""
  read = value(name)
  words = name.replace('_', ' ')
  if not read.higher_is_better:
    words += ' (lower is better)'
  return words if read.unit == '%' else f'{words} {read.unit}'


def check_packages(names: Iterable[str]) -> None:
  """Checks that what metrics are computed with is installed.

  Args:
    names: Of metrics.

  Raises:
    UserError: A package is missing.
  """
  for name in dict.fromkeys(names):
    for package in METRICS[name].needs:
      if importlib.util.find_spec(package.replace('-', '_')) is None:
        raise errors.UserError(
            f'metric {name}: needs the package {package}, which is not'
            f' installed: pip install {package}'
        )
