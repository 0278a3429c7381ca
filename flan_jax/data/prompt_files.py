"""Prompts from a file that no declaration describes.

JSON Lines (.jsonl, .ndjson): an object a line with `inputs`, and maybe
`options` (a list of answers to choose from), `targets` (the right answer) and
`id`. Any other file is text, a prompt a line.
"""

from collections.abc import Mapping, Sequence
import hashlib
import json
import os
import pathlib
from typing import Any

from flan_jax import errors
from flan_jax.data import examples as examples_lib
import numpy as np

_JSON = ('.jsonl', '.ndjson')
_PACKED = ('.gz', '.bz2', '.xz', '.zst', '.zip')
_FIELDS = ('inputs', 'options', 'targets', 'id')


class PromptFile:
  """A file of prompts, every line of which is checked.

  Lines are read again when they are asked for, so that a file may be larger
  than memory.

  Attributes:
    path: The file.
    name: What its examples have for a task: the file's name without ending.
    sha256: Of its bytes.
    unused: Fields that lines have and nothing reads, sorted.
  """

  def __init__(self, path: str | os.PathLike[str]):
    """Reads and checks the whole file.

    Raises:
      UserError: It cannot be read, or a line of it is broken.
    """
    self.path = pathlib.Path(path).expanduser()
    self.name = self.path.name.removesuffix(self.path.suffix)
    self.unused: list[str] = []
    self._json = self.path.suffix in _JSON
    if self.path.suffix in _PACKED:
      raise errors.UserError(f'{self.path}: is compressed: unpack it first')
    try:
      self._read()
    except OSError as error:
      raise errors.UserError(f'{self.path}: {error.strerror}') from error
    if not len(self):
      raise errors.UserError(f'{self.path}: holds no prompts')

  def __len__(self) -> int:
    return len(self._starts)

  def examples(
      self, indices: Sequence[int] | np.ndarray
  ) -> list[examples_lib.Example]:
    """Returns the examples of some places, which count from 0."""
    at = np.asarray(indices, np.int64)
    found = []
    with self.path.open('rb') as file:
      for start, number in zip(
          self._starts[at], self._numbers[at], strict=True
      ):
        file.seek(start)
        found.append(self._example(int(number), file.readline()))
    return found

  def _read(self) -> None:
    starts, numbers = [], []
    digest = hashlib.sha256()
    ids: dict[str, int] = {}
    unused: set[str] = set()
    start = 0
    with self.path.open('rb') as file:
      for number, line in enumerate(file, 1):
        digest.update(line)
        if line.strip() or not self._json:  # An empty prompt is a mistake.
          starts.append(start)
          numbers.append(number)
          example = self._example(number, line, unused)
          own = example.row_id
          if own != _place(number) and ids.setdefault(own, number) != number:
            raise self._error(
                number,
                f'id: {own!r} is that of line {ids[own]} too; ids tell lines'
                ' apart, so change one or leave them out',
            )
        start += len(line)
    self.sha256 = digest.hexdigest()
    self.unused = sorted(unused)
    self._starts = np.asarray(starts, np.int64)
    self._numbers = np.asarray(numbers, np.int64)

  def _error(self, number: int, message: str) -> errors.UserError:
    return errors.UserError(f'{self.path}:{number}: {message}')

  def _example(
      self, number: int, line: bytes, unused: set[str] | None = None
  ) -> examples_lib.Example:
    """Makes an example of a line.

    Raises:
      UserError: The line is broken.
    """
    row = self._row(number, line)
    if unused is not None:
      unused.update(row.keys() - set(_FIELDS))
    try:
      if 'inputs' not in row:
        raise errors.UserError(
            f'inputs: is missing; the line has {", ".join(row) or "nothing"}.'
            + errors.nearest('inputs', list(row))
        )
      inputs = _text('inputs', row['inputs'])
      options = _options(row.get('options'))
      targets = row.get('targets')
      answer = None
      if targets is not None:
        targets = _text('targets', targets)
        if options is not None:
          answer = _index(targets, options)
      row_id = _id(row.get('id'), number)
    except errors.UserError as error:
      raise self._error(number, str(error)) from None
    return examples_lib.Example(
        task=self.name,
        template='',
        row_id=row_id,
        inputs=inputs,
        targets=targets or '',
        options=options,
        answer_index=answer,
        references=() if targets is None else (targets,),
    )

  def _row(self, number: int, line: bytes) -> Mapping[str, Any]:
    if number == 1:
      line = line.removeprefix(b'\xef\xbb\xbf')
    try:
      text = line.rstrip(b'\r\n').decode('utf-8')
    except UnicodeDecodeError as error:
      raise self._error(
          number,
          f'byte {error.object[error.start]:#04x} at {error.start} is not'
          ' UTF-8: save the file as UTF-8',
      ) from error
    if not self._json:
      return {'inputs': text}
    try:
      row = json.loads(text)
    except json.JSONDecodeError as error:
      raise self._error(
          number,
          f'not valid JSON ({error.msg} at column {error.colno}): fix the line,'
          ' or call a file of one prompt a line .txt',
      ) from error
    except RecursionError as error:
      raise self._error(number, 'too many brackets in each other') from error
    if not isinstance(row, dict):
      raise self._error(
          number, 'is no object: write a line such as {"inputs": "..."}'
      )
    return row


def _text(name: str, value: Any) -> str:
  if not isinstance(value, str):
    raise errors.UserError(f'{name}: must be a text, not {_shown(value)}')
  if not value.strip():
    raise errors.UserError(f'{name}: is empty; fill it in, or delete the line')
  try:
    value.encode()
  except UnicodeEncodeError as error:
    raise errors.UserError(
        f'{name}: character {error.start} is half of one'
        f' ({value[error.start]!a}); write both halves, or none'
    ) from error
  return value


def _options(value: Any) -> tuple[str, ...] | None:
  if value is None:
    return None
  if not isinstance(value, list) or not value:
    raise errors.UserError(
        'options: must be a list of one text or more, such as ["yes", "no"],'
        f' not {_shown(value)}; leave it out for a free answer'
    )
  found: list[str] = []
  for place, option in enumerate(value):
    text = _text(f'options[{place}]', option)
    if text in found:
      raise errors.UserError(f'options: {text!r} is there twice; delete one')
    found.append(text)
  return tuple(found)


def _index(targets: str, options: Sequence[str]) -> int:
  if targets not in options:
    raise errors.UserError(
        f'targets: {targets!r} is none of the options.'
        + errors.nearest(targets, list(options))
    )
  return options.index(targets)


def _id(value: Any, number: int) -> str:
  if value is None:
    return _place(number)
  if isinstance(value, bool) or not isinstance(value, str | int):
    raise errors.UserError(
        f'id: must be a text or a whole number, not {_shown(value)}'
    )
  return str(value)


def _place(number: int) -> str:
  return f'line:{number}'


def _shown(value: Any) -> str:
  text = json.dumps(value, ensure_ascii=True)
  return text if len(text) <= 60 else text[:60] + '...'
