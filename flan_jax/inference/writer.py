"""Predictions as JSON Lines: what a line holds, and files of them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import json
import math
import os
import pathlib
import re
from typing import Any, TextIO, TYPE_CHECKING

from flan_jax import errors
from flan_jax.data import examples as examples_lib

if TYPE_CHECKING:
  from flan_jax.inference import predictor

_CUT = re.compile(rb'"cut_tokens": [1-9]')
_UNSCORED = re.compile(rb'"score": null|"option_scores": \[[^\]]*null')


def records(
    examples: Sequence[examples_lib.Example],
    predictions: Sequence['predictor.Prediction'],
    first: int = 0,
) -> Iterator[dict[str, Any]]:
  """Joins examples and predictions to the lines of a file.

  Args:
    examples: What was asked.
    predictions: What the model says.
    first: The place of the first example in the task.

  Yields:
    For each example, in order: task, template, index (its place in the task),
    row_id, inputs, targets, references, options and answer_index (null for
    generation), example_group (what examples that a metric scores together
    share; '' for none), prediction, score (the sum of log-probabilities of what
    was predicted), option_scores (null for generation) and cut_tokens (how many
    tokens of the inputs the model did not read). A score that is not a finite
    number is null: JSON has none.
  """
  for index, (example, prediction) in enumerate(
      zip(examples, predictions, strict=True), start=first
  ):
    scores = prediction.option_scores
    yield {
        'task': example.task,
        'template': example.template,
        'index': index,
        'row_id': example.row_id,
        'inputs': example.inputs,
        'targets': example.targets,
        'references': list(example.references),
        'options': None if example.options is None else list(example.options),
        'answer_index': example.answer_index,
        'example_group': example.group,
        'prediction': prediction.text,
        'score': _finite(prediction.score),
        'option_scores': (
            None if scores is None else [_finite(score) for score in scores]
        ),
        'cut_tokens': prediction.cut_tokens,
    }


def _finite(score: float | None) -> float | None:
  return score if score is not None and math.isfinite(score) else None


def write(
    path: str | os.PathLike[str], some: Iterable[Mapping[str, Any]]
) -> int:
  """Writes one JSON object a line; the file appears when it is complete.

  Args:
    path: The file; its folder is made if need be.
    some: What to write.

  Returns:
    The number of lines.

  Raises:
    UserError: A score is not a number, which JSON cannot hold.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  count = 0
  with replacing(path) as file:
    for count, line in enumerate(some, start=1):
      try:
        text = json.dumps(line, ensure_ascii=False, allow_nan=False)
      except ValueError:
        raise errors.UserError(
            f'{path}:{count}: score: the model gives a score that is not a'
            ' number; its parameters have overflowed, or its training diverged'
        ) from None
      file.write(text + '\n')
  return count


def read(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
  """Returns the lines of a file of predictions."""
  return list(lines(path))


def lines(path: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
  """Yields the lines of a file of predictions."""
  with pathlib.Path(path).open(encoding='utf-8') as file:
    # splitlines() would also split at U+2028 and the like, inside a text.
    for line in file:
      yield json.loads(line)


@dataclasses.dataclass(frozen=True)
class Contents:
  """What a file of predictions holds.

  Attributes:
    lines: How many predictions.
    cut: Of how many the model did not read all of the inputs.
    first_cut: The row id of the first of those.
    unscored: How many of them have a score, or an option's, that is null.
    first_unscored: The row id of the first of those.
  """

  lines: int = 0
  cut: int = 0
  first_cut: str = ''
  unscored: int = 0
  first_unscored: str = ''


def contents(path: str | os.PathLike[str]) -> Contents:
  """Looks through a file of predictions."""
  count = cut = unscored = 0
  first_cut = first_unscored = ''
  with open(path, 'rb') as file:
    for line in file:
      count += 1
      # No text can hold these: its quotes would have backslashes before them.
      if _CUT.search(line):
        cut += 1
        first_cut = first_cut or json.loads(line)['row_id']
      if _UNSCORED.search(line):
        unscored += 1
        first_unscored = first_unscored or json.loads(line)['row_id']
  return Contents(count, cut, first_cut, unscored, first_unscored)


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[TextIO]:
  """Opens a file that takes the name `path` once it is whole."""
  temporary = path.with_name(f'{path.name}.{os.getpid()}.tmp')
  try:
    with temporary.open('w', encoding='utf-8') as file:
      yield file
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)
