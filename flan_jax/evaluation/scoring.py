"""From examples and answers to scores: which metric, over what."""

import collections
from collections.abc import Iterable, Sequence
import dataclasses
import functools
import math
import os
from typing import Any

from flan_jax import errors
from flan_jax.data import examples as examples_lib
from flan_jax.data import seeding
from flan_jax.evaluation import metrics
from flan_jax.evaluation.metrics import classification
from flan_jax.evaluation.metrics import correlation
from flan_jax.evaluation.metrics import tally
from flan_jax.evaluation.metrics import text as text_metrics

_CHANCE = seeding.name_seed('random choice')
# The value in which datasets of one way of answering are averaged.
HEADLINE = {'rank': 'accuracy', 'generate': 'exact_match'}


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
  """What one system says to one example.

  Attributes:
    text: The chosen option or the written text.
    option_index: The chosen option's place; None where text was written.
    score: Its log-probability, if the system has one.
    option_scores: The same for each option, in order; None for one that is
      not a number.
    no_number: Whether a score came out as no number (NaN or infinite).
  """

  text: str
  option_index: int | None = None
  score: float | None = None
  option_scores: tuple[float | None, ...] | None = None
  no_number: bool = False

  @classmethod
  def of(
      cls,
      text: str,
      option_index: int | None,
      score: float | None,
      option_scores: Sequence[float | None] | None,
      options: Sequence[str] = (),
  ) -> 'Answer':
    """Returns what a model says, with scores that are no numbers as None.

    An option with such a score is never the answer: the likeliest of the others
    is, or none where there is no other.
    """
    if option_scores is None:
      broken = not _is_number(score)
      return cls(text, option_index, None if broken else score, None, broken)
    scores = tuple(each if _is_number(each) else None for each in option_scores)
    if None not in scores:
      return cls(text, option_index, score, scores)
    known = [(each, -i) for i, each in enumerate(scores) if each is not None]
    if not known:
      return cls('', classification.NO_CLASS, None, scores, True)
    best, place = max(known)
    return cls(options[-place], -place, best, scores, True)


def _is_number(score: float | None) -> bool:
  return score is not None and math.isfinite(score)


def accepted(example: examples_lib.Example) -> tuple[str, ...]:
  """Returns all texts that count as right."""
  return example.references or (example.targets,)


def chosen_option(example: examples_lib.Example, answer: Answer) -> int:
  """Returns the place of the option that was chosen or written, else -1.

  A written text is the option that it equals, whitespace aside; else the one
  that it equals but for case and a full stop at the end; else, where all
  options are numbers, the one of the same value. If two options are alike but
  for case, say, an inexact text is neither.
  """
  if answer.option_index is not None:
    return answer.option_index
  options = example.options or ()
  exact = text_metrics.normalize_whitespace(answer.text)
  for place, option in enumerate(options):
    if text_metrics.normalize_whitespace(option) == exact:
      return place
  loose = _loosely(answer.text)
  places = [i for i, option in enumerate(options) if _loosely(option) == loose]
  if places:
    return places[0] if len(places) == 1 else classification.NO_CLASS
  value = correlation.number(answer.text)
  values = [correlation.number(option) for option in options]
  if value is not None and None not in values and values.count(value) == 1:
    return values.index(value)
  return classification.NO_CLASS


def _loosely(text: str) -> str:
  """The form in which a written text is looked for among options."""
  return text_metrics.normalize_whitespace(text).casefold().removesuffix('.')


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


def tallies(
    examples: Sequence[examples_lib.Example],
    answers: Sequence[Answer],
    metric_names: Sequence[str],
    how: str,
    classes: Sequence[str] = (),
) -> list[tally.Tally]:
  """Computes what the scores of one system on one task are made of.

  Args:
    examples: What was asked, at least one.
    answers: The answers, in the same order.
    metric_names: The dataset's metrics, the main one first.
    how: 'rank' or 'generate'; its `HEADLINE` metric is always computed.
    classes: The dataset's fixed options in class order, if it has any: with
      them a class is the same under any order of the options shown.

  Raises:
    UserError: A metric needs numbers or groups that the examples have not, or
      a package that is not installed.
  """
  sheet = _Sheet(examples, answers, classes)
  names = tuple(dict.fromkeys([*metric_names, HEADLINE[how]]))
  metrics.check_packages(names)
  found = []
  for name in names:
    metric = metrics.METRICS[name]
    columns: list[Any] = list(getattr(sheet, metric.over))
    if metric.groups != 'never':
      columns.append(sheet.units(name))
    found.append(metric.function(*columns))
  return found


def chance_tallies(
    examples: Sequence[examples_lib.Example],
    answers: Sequence[Answer],
    metric_names: Sequence[str],
    how: str,
    classes: Sequence[str] = (),
) -> list[tally.Tally]:
  """As `tallies`, of random choice, whose accuracy is the expected one.

  In ranking it is the mean over examples of one divided by the number of
  options; other values are those of the answers that were drawn.
  """
  found = tallies(examples, answers, metric_names, how, classes)
  if how != 'rank':
    return found
  shares = [1 / len(example.options or ('',)) for example in examples]
  return [*found, tally.of_means({'accuracy': shares})]


def score(
    examples: Sequence[examples_lib.Example],
    answers: Sequence[Answer],
    metric_names: Sequence[str],
    how: str,
    classes: Sequence[str] = (),
) -> dict[str, float]:
  """Scores one system on one task; see `tallies` for the arguments.

  Returns:
    Values by name; `metrics.value` says how they are read.
  """
  values: dict[str, float] = {}
  for each in tallies(examples, answers, metric_names, how, classes):
    values |= each.once()
  return values


class _Sheet:
  """The columns that metrics compare, made when they are asked for."""

  def __init__(
      self,
      examples: Sequence[examples_lib.Example],
      answers: Sequence[Answer],
      names: Sequence[str],
  ):
    self._examples = examples
    self._answers = answers
    self._names = names

  @functools.cached_property
  def texts(self) -> tuple[list[tuple[str, ...]], list[str]]:
    """Accepted texts, and what was said."""
    return (
        [accepted(example) for example in self._examples],
        [answer.text for answer in self._answers],
    )

  @functools.cached_property
  def answers(self) -> tuple[list[tuple[str, ...]], list[str]]:
    """As `texts`, without the ending that an example's options share.

    ReCoRD's options are entities, each with the rest of the sentence; the
    official metric compares entities.
    """
    references = []
    said = []
    for example, texts, text in zip(self._examples, *self.texts, strict=True):
      ending = _shared_ending(example.options or ())
      references.append(tuple(each.removesuffix(ending) for each in texts))
      said.append(text.rstrip().removesuffix(ending) if ending else text)
    return references, said

  @functools.cached_property
  def numbers(self) -> tuple[list[float], list[float]]:
    """The numbers that are right and that were said, if only in words around.

    Of several references the last one counts, so that a declaration can put
    an exact number after the rounded one that models are to write.

    Raises:
      UserError: That reference holds no number.
    """
    targets = []
    said = []
    for example, answer in zip(self._examples, self._answers, strict=True):
      expected = accepted(example)[-1]
      target = correlation.only_number(expected)
      if target is None:
        raise errors.UserError(
            f"'{example.task}': row {example.row_id}: targets:"
            f' {expected[:60]!r} holds no single number, so it has no'
            ' correlation; choose another metric'
        )
      written = correlation.only_number(answer.text)
      targets.append(target)
      said.append(correlation.NO_NUMBER if written is None else written)
    return targets, said

  @functools.cached_property
  def classes(self) -> tuple[list[int], list[int]]:
    """Class indices of what is right and of what was said."""
    targets = []
    predictions = []
    names = self._names
    for example, answer in zip(self._examples, self._answers, strict=True):
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

  def units(self, name: str) -> list[int]:
    """The group of each example, 0, 1 ..., in order of appearance.

    A row that is asked a second time, under another template, belongs to a
    second group, so that no group holds a candidate twice.

    Raises:
      UserError: The metric `name` needs groups, and there are none.
    """
    units: dict[Any, int] = {}
    seen: collections.Counter[str] = collections.Counter()
    found = []
    for place, example in enumerate(self._examples):
      if example.group == '' and metrics.METRICS[name].groups == 'must':
        raise errors.UserError(
            f"'{example.task}': group_by: metric {name} scores examples"
            ' together; name the field that tells which'
        )
      alone = example.group == ''
      key = place if alone else (example.group, seen[example.row_id])
      seen[example.row_id] += 1
      found.append(units.setdefault(key, len(units)))
    return found


def _shared_ending(options: Sequence[str]) -> str:
  """The whole words, and marks before them, in which all options end."""
  if len(set(options)) < 2:
    return ''
  ending = os.path.commonprefix([option[::-1] for option in options])[::-1]
  # A word of which only the end is shared stays.
  starts = (i for i, letter in enumerate(ending) if not letter.isalnum())
  return ending[next(starts, len(ending)) :]


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


@dataclasses.dataclass(frozen=True)
class Chance:
  """Draws answers: any option, or where text is written any training target.

  Attributes:
    targets: Targets of the training split to draw from.
  """

  targets: tuple[str, ...]

  def answer(self, example: examples_lib.Example, seed: int) -> Answer:
    """Returns a choice that depends on the seed, the dataset and the row."""
    # Whatever the template, so that templates differ by their wording alone.
    name = f'{example.task.partition(":")[0]} {example.row_id}'
    drawn = seeding.hash_ints(seed, _CHANCE, seeding.name_seed(name))
    if example.options:
      place = int(seeding.choose(drawn, len(example.options))[0])
      return Answer(example.options[place], place)
    return Answer(
        self.targets[int(seeding.choose(drawn, len(self.targets))[0])]
    )
