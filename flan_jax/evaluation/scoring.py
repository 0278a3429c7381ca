"""From examples and answers to scores: which metric, over what, in percent."""

import collections
from collections.abc import Iterable, Sequence
import dataclasses

from flan_jax.data import examples as examples_lib
from flan_jax.evaluation import metrics
from flan_jax.evaluation.metrics import classification
from flan_jax.evaluation.metrics import text as text_metrics

# The value in which datasets of one way of answering are averaged.
HEADLINE = {'rank': 'accuracy', 'generate': 'exact_match'}


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
  """What one system says to one example.

  Attributes:
    text: The chosen option or the written text.
    option_index: The chosen option's place; None where text was written.
    score: Its log-probability, if the system has one.
    option_scores: The same for each option, in order.
  """

  text: str
  option_index: int | None = None
  score: float | None = None
  option_scores: tuple[float, ...] | None = None


def accepted(example: examples_lib.Example) -> tuple[str, ...]:
  """Returns all texts that count as right."""
  return example.references or (example.targets,)


def chosen_option(example: examples_lib.Example, answer: Answer) -> int:
  """Returns the place of the option that was chosen or written, else -1."""
  if answer.option_index is not None:
    return answer.option_index
  written = text_metrics.normalize_whitespace(answer.text)
  for index, option in enumerate(example.options or ()):
    if text_metrics.normalize_whitespace(option) == written:
      return index
  return classification.NO_CLASS


def is_right(example: examples_lib.Example, answer: Answer) -> bool:
  """Whether the answer is the right option, or an accepted text."""
  if example.options and example.answer_index is not None:
    return chosen_option(example, answer) == example.answer_index
  return text_metrics.is_exact(accepted(example), answer.text)


def main_value(metric_names: Sequence[str], how: str) -> str:
  """Returns the name of the value that stands for a dataset.

  Args:
    metric_names: The dataset's metrics, the main one first.
    how: 'rank' or 'generate'.
  """
  if metric_names:
    return metrics.METRICS[metric_names[0]].values[0]
  return HEADLINE[how]


def score(
    examples: Sequence[examples_lib.Example],
    answers: Sequence[Answer],
    metric_names: Sequence[str],
    how: str,
    classes: Sequence[str] = (),
) -> dict[str, float]:
  """Scores one system on one task.

  Args:
    examples: What was asked, at least one.
    answers: The answers, in the same order.
    metric_names: The dataset's metrics, the main one first.
    how: 'rank' or 'generate'; its `HEADLINE` value is always among the result.
    classes: The dataset's fixed options in class order, if it has any: with
      them a class is the same under any order of the options shown.

  Returns:
    Values by name, in percent.
  """
  values: dict[str, float] = {}
  for name in dict.fromkeys([*metric_names, HEADLINE[how]]):
    metric = metrics.METRICS[name]
    if metric.over_classes:
      targets, predictions = _classes(examples, answers, classes)
      found = metric.function(targets, predictions)
    else:
      found = metric.function(
          [accepted(example) for example in examples],
          [answer.text for answer in answers],
      )
    values |= found
  return values


def _classes(
    examples: Sequence[examples_lib.Example],
    answers: Sequence[Answer],
    names: Sequence[str],
) -> tuple[list[int], list[int]]:
  """Class indices of what is right and of what was said."""
  targets = []
  predictions = []
  for example, answer in zip(examples, answers, strict=True):
    if not example.options or example.answer_index is None:
      # No classes here: right or not is all there is to say.
      right = is_right(example, answer)
      targets.append(1)
      predictions.append(1 if right else classification.NO_CLASS)
      continue
    chosen = chosen_option(example, answer)
    target = example.answer_index
    if names and all(option in names for option in example.options):
      target = names.index(example.options[target])
      if chosen != classification.NO_CLASS:
        chosen = names.index(example.options[chosen])
    targets.append(target)
    predictions.append(chosen)
  return targets, predictions


@dataclasses.dataclass(frozen=True)
class Majority:
  """Gives every example the most frequent answer of the training split.

  Attributes:
    text: The most frequent option (fixed options) or target text.
    option_index: The most frequent place of the right option, where each
      example has options of its own; otherwise None.
  """

  text: str
  option_index: int | None = None

  @classmethod
  def of(
      cls,
      examples: Iterable[examples_lib.Example],
      classes: Sequence[str] = (),
  ) -> 'Majority':
    """Counts the answers of training examples; the first of equals wins.

    Args:
      examples: Examples of the training split.
      classes: The dataset's fixed options, if it has any.

    Raises:
      ValueError: There are no examples.
    """
    texts: collections.Counter[str] = collections.Counter()
    places: collections.Counter[int] = collections.Counter()
    for example in examples:
      if example.options and example.answer_index is not None:
        texts[example.options[example.answer_index]] += 1
        places[example.answer_index] += 1
      else:
        texts[example.targets] += 1
    if not texts:
      raise ValueError('There are no examples to count answers of.')
    text = texts.most_common(1)[0][0]
    if places and not classes:
      return cls(text='', option_index=places.most_common(1)[0][0])
    return cls(text=text)

  def answer(self, example: examples_lib.Example) -> Answer:
    """Returns the majority's answer to an example."""
    options = example.options
    if not options:
      return Answer(self.text)
    if self.option_index is not None:
      if self.option_index < len(options):
        return Answer(options[self.option_index], self.option_index)
      return Answer('', classification.NO_CLASS)
    if self.text in options:
      return Answer(self.text, options.index(self.text))
    return Answer(self.text, classification.NO_CLASS)
