"""Super-NaturalInstructions: a task file, or what the wild makes of one.

A task file is a JSON object with a `Definition` and a list of `Instances`,
each with an input and outputs. Files that differ are read too: a text where a
list should be, missing keys, instances without ids, numbers as outputs, NaN.

A file has one list of instances, so the source has one split, 'all' (or
'train'). `split_slices` divides it.
"""

from collections.abc import Iterator
import dataclasses
import pathlib
from typing import Any

from flan_jax import errors
from flan_jax.data import fingerprints
from flan_jax.data import specs
from flan_jax.data.sources import base
from flan_jax.data.sources import jsonl

SPLITS = ('all', 'train')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
  """A task file.

  Attributes:
    name: The file's name without '.json'.
    definition: The instruction; the first one where there are several.
    categories: Such as 'Question Answering'; mostly one.
    domains: Such as 'Wikipedia'.
    licences: Of the instances, where the file says.
    input_languages: Such as 'English'.
    output_languages: Such as 'English'.
    positive_examples: Solved examples, each with input, output, and mostly an
      explanation.
    instances: As they are in the file.
  """

  name: str
  definition: str
  categories: tuple[str, ...]
  domains: tuple[str, ...]
  licences: tuple[str, ...]
  input_languages: tuple[str, ...]
  output_languages: tuple[str, ...]
  positive_examples: tuple[dict[str, Any], ...]
  instances: tuple[Any, ...]


def read_task(path: pathlib.Path) -> Task:
  """Reads a task file.

  Raises:
    UserError: It is not JSON, or has no definition or instances.
  """
  value = jsonl.parse_file(path)
  if not isinstance(value, dict) or not isinstance(
      value.get('Instances'), list
  ):
    raise errors.UserError(
        f"{path}: no task file: there is no list 'Instances' in it"
    )
  definitions = [text.strip() for text in _texts(value.get('Definition'))]
  if not any(definitions):
    raise errors.UserError(f"{path}: there is no 'Definition' in it")
  examples = value.get('Positive Examples')
  return Task(
      name=path.stem,
      definition=next(text for text in definitions if text),
      categories=_texts(value.get('Categories')),
      domains=_texts(value.get('Domains')),
      licences=_texts(value.get('Instance License')),
      input_languages=_texts(value.get('Input_language')),
      output_languages=_texts(value.get('Output_language')),
      positive_examples=tuple(
          example
          for example in (examples if isinstance(examples, list) else ())
          if isinstance(example, dict)
      ),
      instances=tuple(value['Instances']),
  )


def split_slices(count: int) -> dict[str, str]:
  """Divides a task's instances into test, validation and train.

  The official evaluation takes the first 100 of a test task (Wang et al.,
  arXiv 2204.07705), so 'test' is the first 100, 'validation' the next 50 and
  'train' the rest. For short tasks to be trained on too, 'test' takes at most
  two fifths and 'validation' at most one tenth, rounded down but not to none;
  of two instances there is none for 'validation', of one it is 'train'.

  Args:
    count: The number of instances.

  Returns:
    Split -> slice of the source, without splits that would be empty.
  """
  test = min(100, max(count * 2 // 5, 1 if count > 1 else 0))
  end = test + min(50, max(count // 10, 1 if count > 2 else 0))
  slices = {'train': f'all[{end}:]' if end else 'all'}
  if end > test:
    slices['validation'] = f'all[{test}:{end}]'
  if test:
    slices['test'] = f'all[:{test}]'
  return slices


class Sni:
  """A source that is one task file.

  Rows have `id`, `definition`, `input`, and `output`, a list of texts.
  """

  version = ''
  seeded = False

  def __init__(
      self,
      dataset: specs.Dataset,
      settings: base.SourceSettings,
      keep: pathlib.Path | None = None,
  ):
    self._dataset = dataset
    self._settings = settings
    self._keep = keep

  def is_split(self, name: str) -> bool:
    return name in SPLITS

  def unknown(self, name: str) -> errors.UserError:
    place = self._dataset.source.where
    return base.no_split(name, list(SPLITS), place, self._dataset)

  def locate(self, split: str) -> str:
    return str(self._path())

  def fingerprint(self, split: str) -> str:
    return fingerprints.of_file(self._path(), self._keep)

  def count(self, split: str) -> int | None:
    return None

  def read(
      self, split: str, skipped: base.Skipped
  ) -> Iterator[tuple[base.Number, base.Row]]:
    task = read_task(self._path())
    for number in range(len(task.instances)):
      try:
        yield number, self._row(task, number)
      except errors.UserError as error:
        skipped.add(error)

  def place(self, split: str, number: base.Number) -> str:
    return f'{self._path()}: Instances[{number}]'

  def _path(self) -> pathlib.Path:
    where = self._dataset.source.where
    path = base.find(where, self._dataset, self._settings)
    if path is None or not path.is_file():
      raise base.missing(where, self._dataset, self._settings, 'source')
    return path

  def _row(self, task: Task, number: int) -> base.Row:
    instance = task.instances[number]
    if not isinstance(instance, dict):
      raise errors.UserError(f'{self.place("", number)}: not an object')
    texts = _texts(instance.get('input'))
    outputs = _texts(instance.get('output'))
    for key, value in (('input', texts), ('output', outputs)):
      if not value:
        raise errors.UserError(
            f"{self.place('', number)}: there is no '{key}': fix it or pass"
            ' --on_error=skip'
        )
    name = instance.get('id')
    return {
        'id': name if isinstance(name, str) else f'{task.name}-{number}',
        'definition': task.definition,
        'input': texts[0],
        'output': list(outputs),
    }


def _texts(value: Any) -> tuple[str, ...]:
  """The texts of a text, a number, or a list of them; nothing for null, NaN."""
  if isinstance(value, list):
    return tuple(text for item in value for text in _texts(item))
  if isinstance(value, str):
    return (value,)
  # NaN is how these files say that there is nothing.
  if isinstance(value, (int, float)) and value == value:
    return (str(value),)
  return ()
