"""Predictions as JSON Lines: one file a task, whole or not there at all."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import contextlib
import json
import os
import pathlib
from typing import Any, TextIO

from flan_jax import errors
from flan_jax.data import examples as examples_lib
from flan_jax.inference import predictor

SETTINGS = 'settings.json'


def records(
    examples: Sequence[examples_lib.Example],
    predictions: Sequence[predictor.Prediction],
) -> Iterator[dict[str, Any]]:
  """Joins examples and predictions to the lines of a file.

  Yields:
    For each example, in order: task, template, index (its place in the file),
    row_id, inputs, targets, references, options and answer_index (null for
    generation), example_group (what examples that a metric scores together
    share; '' for none), prediction, score (the sum of log-probabilities of what
    was predicted) and option_scores (null for generation).
  """
  for index, (example, prediction) in enumerate(
      zip(examples, predictions, strict=True)
  ):
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
        'score': prediction.score,
        'option_scores': (
            None
            if prediction.option_scores is None
            else list(prediction.option_scores)
        ),
    }


def write(
    path: str | os.PathLike[str], lines: Iterable[Mapping[str, Any]]
) -> int:
  """Writes one JSON object a line; the file appears when it is complete.

  Args:
    path: The file; its folder is made if need be.
    lines: What to write.

  Returns:
    The number of lines.

  Raises:
    UserError: A score is not a number, which JSON cannot hold.
  """
  path = pathlib.Path(path)
  count = 0
  with _replacing(path) as file:
    for count, line in enumerate(lines, start=1):
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
  """Returns the lines of a file that `write` made."""
  with pathlib.Path(path).open(encoding='utf-8') as file:
    # splitlines() would also split at U+2028 and the like, inside a text.
    return [json.loads(line) for line in file]


class Output:
  """A directory of predictions, one file a task, and what they depend on.

  A finished file is not predicted again, so the directory also records what
  each file was made with (`settings.json`): predictions of another checkpoint
  are never taken for this one's.
  """

  def __init__(
      self, directory: str | os.PathLike[str], settings: Mapping[str, Any]
  ):
    """Looks at what is there; writes nothing yet.

    Args:
      directory: Where the files go; made with the first file.
      settings: What predictions depend on (checkpoint, split ...); JSON values.
    """
    self.directory = pathlib.Path(directory)
    # As they come back from the file: tuples are lists there.
    self._settings = json.loads(json.dumps(dict(settings)))

  def path(self, task: str) -> pathlib.Path:
    """Returns the file of a task; ':' is written '.'."""
    return self.directory / f'{task.replace(":", ".")}.jsonl'

  def finished(self, task: str) -> bool:
    """Whether the task's file is here, made with the same settings.

    Raises:
      UserError: It was made with other settings, or not by `write`.
    """
    path = self.path(task)
    if not path.exists():
      return False
    there = self._recorded().get(path.name)
    if there is None:
      raise errors.UserError(
          f'{path}: is not in {SETTINGS}, so it may be of another checkpoint;'
          ' choose another directory, or pass --overwrite'
      )
    wanted = self._settings_of(task)
    for key in sorted({*there, *wanted}):
      old, new = there.get(key), wanted.get(key)
      if old != new:
        raise errors.UserError(
            f'{path}: {key}: was predicted with {old!r}, not {new!r}; choose'
            ' another directory, or pass --overwrite'
        )
    return True

  def write(self, task: str, lines: Iterable[Mapping[str, Any]]) -> int:
    """Writes a task's file, over one that may be there; returns its lines."""
    path = self.path(task)
    # In this order, a kill never leaves an old file under new settings.
    path.unlink(missing_ok=True)
    recorded = {**self._recorded(), path.name: self._settings_of(task)}
    with _replacing(self.directory / SETTINGS) as file:
      json.dump(recorded, file, indent=2, sort_keys=True)
      file.write('\n')
    return write(path, lines)

  def _settings_of(self, task: str) -> dict[str, Any]:
    # The task too: 'a:b' and 'a.b' would go into one file.
    return {**self._settings, 'task': task}

  def _recorded(self) -> dict[str, dict[str, Any]]:
    path = self.directory / SETTINGS
    if not path.exists():
      return {}
    return json.loads(path.read_text(encoding='utf-8'))


@contextlib.contextmanager
def _replacing(path: pathlib.Path) -> Iterator[TextIO]:
  """Opens a file that takes the name `path` once it is whole."""
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f'{path.name}.{os.getpid()}.tmp')
  try:
    with temporary.open('w', encoding='utf-8') as file:
      yield file
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)
