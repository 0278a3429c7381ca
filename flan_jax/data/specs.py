"""Declarations: what a dataset and a mixture are, and what can be wrong.

`mixtures/BLANK.yaml` explains every key; `spec_files` reads the files.
"""

from collections.abc import Iterator, Mapping
import dataclasses
import pathlib
import re

from flan_jax import errors
from flan_jax.data import slots

SPLITS = ('train', 'validation', 'test')
METRICS = ('accuracy', 'exact_match', 'f1', 'squad', 'trivia_qa', 'rouge')
# Kind of source -> the options that may stand beside it.
SOURCES: Mapping[str, tuple[str, ...]] = {
    'tfds': (),
    'jsonl': ('rows',),
    'csv': ('columns', 'quoting'),
    'tsv': ('columns', 'quoting'),
    'sni': (),
    'generated': (),
    'seqio': (),
}
_NAME = re.compile(r'[a-z0-9_]+\Z')
_FUNCTION = re.compile(r'[A-Za-z_][\w.]*:[A-Za-z_]\w*\Z')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Template:
  """An instruction: two texts with `{field}` slots.

  Attributes:
    name: Letters, digits and '_'; unique in its dataset.
    inputs: What the model reads. Literal braces are `{{` and `}}`.
    targets: What the model is to write.
    inverted: It asks for something else than the dataset's answer.
    held_out: It is used in evaluation only, never in training.
  """

  name: str
  inputs: str
  targets: str
  inverted: bool = False
  held_out: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choices:
  """The answers to choose from; one of `names`, `fields` and `list` is given.

  Attributes:
    label: The field (or path into the row) that holds the class id, counted
      from 0, or the right answer's own text.
    names: The same answers for every example, in class order.
    fields: Answers that differ by example: one field each, in class order.
    list: Answers that differ by example: one field with a list of texts.
  """

  label: str
  names: tuple[str, ...] = ()
  fields: tuple[str, ...] = ()
  list: str = ''


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
  """Where rows come from.

  Attributes:
    kind: A key of `SOURCES`.
    where: A TFDS name, a file or folder, or 'module:function'.
    options: What else the kind of source wants to know.
  """

  kind: str
  where: str
  options: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
  """One dataset's declaration.

  Attributes:
    name: The file's name without '.yaml'.
    cluster: The type of task; the unit that is held out.
    source: Where rows come from.
    splits: train, validation, test -> a slice of the source ('train[:-200]'),
      another of these names, or a path for sources made of files.
    fields: Field -> path into the row ('answers.text.0'); or a function from
      row to fields, 'module:function'.
    metrics: Names from `METRICS`.
    templates: In the order of the file; a number in a task's name counts them
      from 0.
    field_names: The fields that templates may use; taken from `fields` unless
      that is a function.
    choices: None for generation.
    references: The field (or path) with the list of accepted answers; '' when
      there is but one.
    limits: Split -> the most rows to keep, a seeded sample.
    collection: The collection it belongs to.
    path: The file; empty for a dataset declared in Python.
    version: Raised when a change makes scores incomparable.
    description: One line.
    licence: Of the data.
  """

  name: str
  cluster: str
  source: Source
  splits: Mapping[str, str]
  fields: Mapping[str, str] | str
  metrics: tuple[str, ...]
  templates: tuple[Template, ...]
  field_names: tuple[str, ...] = ()
  choices: Choices | None = None
  references: str = ''
  limits: Mapping[str, int] = dataclasses.field(default_factory=dict)
  collection: str = ''
  path: pathlib.Path = pathlib.Path()
  version: int = 1
  description: str = ''
  licence: str = ''

  def __post_init__(self):
    if not self.field_names and not isinstance(self.fields, str):
      object.__setattr__(self, 'field_names', tuple(self.fields))

  @property
  def slot_names(self) -> tuple[str, ...]:
    """What templates may use: the fields, and options and answer."""
    extra = ('options', 'answer') if self.choices else ()
    return (*self.field_names, *extra)

  @property
  def row_paths(self) -> dict[str, str]:
    """Name -> path into the row, for all that rendering needs of a row.

    These are the fields, and under their own path what only `choices` and
    `references` name. Empty when `fields` is a function, which gives all.
    """
    if isinstance(self.fields, str):
      return {}
    extra = dict.fromkeys(name for _, name in _named_fields(self))
    return {**{name: name for name in extra}, **self.fields}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Member:
  """A line of a mixture's members.

  Attributes:
    name: A dataset, task or mixture; '' when cluster or collection selects.
    weight: Multiplies the member's mixing rate.
    cluster: Selects all datasets of a cluster.
    collection: Selects all datasets of a collection; with `cluster`, those of
      that cluster within the collection.
  """

  name: str = ''
  weight: float = 1.0
  cluster: str = ''
  collection: str = ''


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixtureSpec:
  """One mixture's declaration.

  Attributes:
    name: The file's name without '.yaml'.
    members: What is mixed.
    held_out: Datasets (by name, cluster or collection) that are taken out of
      the mixture; the name followed by ':held_out' means them.
    cap: The most training examples of a dataset that are used.
    max_rate: The number of examples from which a dataset's mixing rate stops
      growing.
    path: The file; a folder of task files for Super-NaturalInstructions.
    version: Raised when a change makes scores incomparable.
    description: One line.
  """

  name: str
  members: tuple[Member, ...]
  held_out: tuple[Member, ...] = ()
  cap: int | None = None
  max_rate: int | None = None
  path: pathlib.Path = pathlib.Path()
  version: int = 1
  description: str = ''


@dataclasses.dataclass(frozen=True)
class Problem:
  """Something wrong in a declaration.

  Attributes:
    key: Where, such as 'templates[2].inputs'.
    message: What, and how to mend it.
    position: The place in the text at `key`; None if all of it is meant.
  """

  key: str
  message: str
  position: int | None = None


def is_name(text: str) -> bool:
  """Whether a text can name a dataset, mixture, cluster, field or template."""
  return bool(_NAME.match(text))


def problems(dataset: Dataset) -> Iterator[Problem]:
  """Yields what is wrong in a declaration, whoever wrote it and however."""
  if not is_name(dataset.name):
    yield Problem('', f"'{dataset.name}' cannot be a dataset's name: {_LEGAL}")
  if not is_name(dataset.cluster):
    yield Problem('cluster', f"'{dataset.cluster}' is no cluster: {_LEGAL}")
  yield from _source_problems(dataset.source)
  for split in dataset.splits:
    if split not in SPLITS:
      yield Problem(f'splits.{split}', _unknown('split', split, SPLITS))
  if not dataset.splits:
    yield Problem('splits', f'names no split; splits are {", ".join(SPLITS)}')
  for split in dataset.limits:
    if split not in dataset.splits:
      yield Problem(
          f'limits.{split}', _unknown('split', split, tuple(dataset.splits))
      )
  for place, metric in enumerate(dataset.metrics):
    if metric not in METRICS:
      yield Problem(f'metrics[{place}]', _unknown('metric', metric, METRICS))
  if not dataset.metrics:
    yield Problem('metrics', f'names no metric; there are {", ".join(METRICS)}')
  yield from _field_problems(dataset)
  if dataset.choices:
    yield from _choice_problems(dataset, dataset.choices)
  yield from _template_problems(dataset)


_LEGAL = "names are lower-case letters, digits and '_'"


def _unknown(kind: str, name: str, known: tuple[str, ...]) -> str:
  return (
      f"unknown {kind} '{name}'.{errors.nearest(name, list(known))}"
      f' Known here: {", ".join(known)}'
  )


def _named_fields(dataset: Dataset) -> Iterator[tuple[str, str]]:
  """Yields key and value wherever choices and references name a field."""
  choices = dataset.choices
  if choices:
    yield 'choices.label', choices.label
    for place, name in enumerate(choices.fields):
      yield f'choices.fields[{place}]', name
    if choices.list:
      yield 'choices.list', choices.list
  if dataset.references:
    yield 'references', dataset.references


def _source_problems(source: Source) -> Iterator[Problem]:
  if source.kind not in SOURCES:
    yield Problem('source', _unknown('kind', source.kind, tuple(SOURCES)))
    return
  if not source.where.strip():
    yield Problem(f'source.{source.kind}', 'must say where the rows are')
  for option in source.options:
    if option not in SOURCES[source.kind]:
      yield Problem(
          f'source.{option}', _unknown('option', option, SOURCES[source.kind])
      )


def _field_problems(dataset: Dataset) -> Iterator[Problem]:
  if isinstance(dataset.fields, str):
    if not _FUNCTION.match(dataset.fields):
      yield Problem(
          'fields',
          f"'{dataset.fields}' is neither a mapping from field to path nor a"
          " function, 'module:function'",
      )
    if not dataset.field_names:
      yield Problem(
          'fields',
          'a function does not tell its fields: list them beside it, as in'
          ' `field_names: [question, context]`',
      )
    for key, name in _named_fields(dataset):
      if name not in dataset.field_names:
        yield Problem(key, _unknown('field', name, dataset.field_names))
    key = 'field_names'
  else:
    key = 'fields'
    for name, path in dataset.fields.items():
      if not path:
        yield Problem(f'fields.{name}', 'must be a path into the row')
  for place, name in enumerate(dataset.field_names):
    here = f'{key}.{name}' if key == 'fields' else f'{key}[{place}]'
    if not is_name(name):
      yield Problem(here, f"'{name}' cannot be a field's name: {_LEGAL}")
    if dataset.choices and name in ('options', 'answer'):
      yield Problem(
          here, f"'{name}' is made from `choices`; give this field another name"
      )


def _choice_problems(dataset: Dataset, choices: Choices) -> Iterator[Problem]:
  given = [bool(choices.names), bool(choices.fields), bool(choices.list)]
  if sum(given) != 1:
    yield Problem(
        'choices', 'needs exactly one of names, fields and list for the answers'
    )
  if not choices.label:
    yield Problem('choices.label', 'must name the field with the right answer')
  if len(choices.names) == 1 or len(choices.fields) == 1:
    yield Problem('choices', 'one answer is no choice; list all of them')
  if len(set(choices.names)) < len(choices.names):
    yield Problem('choices.names', 'has the same answer twice')
  if any(not name.strip() for name in choices.names):
    yield Problem('choices.names', 'has an empty answer')


def _template_problems(dataset: Dataset) -> Iterator[Problem]:
  first: dict[str, int] = {}
  for place, template in enumerate(dataset.templates):
    key = f'templates[{place}]'
    if not is_name(template.name) or template.name.isdigit():
      yield Problem(
          f'{key}.name',
          f"'{template.name}' cannot be a template's name: {_LEGAL}, and not"
          ' digits alone',
      )
    if template.name in first:
      yield Problem(
          f'{key}.name',
          f"two templates are called '{template.name}': numbers"
          f' {first[template.name]} and {place}, counted from 0',
      )
    first.setdefault(template.name, place)
    for part in ('inputs', 'targets'):
      yield from _text_problems(
          dataset, template.name, f'{key}.{part}', getattr(template, part)
      )
  if all(template.held_out for template in dataset.templates):
    yield Problem(
        'templates', 'needs at least one template that is not held out'
    )


def _text_problems(
    dataset: Dataset, template: str, key: str, text: str
) -> Iterator[Problem]:
  if not text.strip():
    yield Problem(key, f"template '{template}' has nothing here")
  try:
    pieces = slots.split(text)
  except slots.SlotError as error:
    yield Problem(key, f"template '{template}': {error}", error.position)
    return
  for name in slots.names(pieces):
    if name in dataset.slot_names:
      continue
    position = text.find(f'{{{name}}}')
    if name in ('options', 'answer'):
      message = f'{{{name}}} needs `choices`, or a field of that name'
    else:
      message = _unknown('field', name, dataset.slot_names)
    yield Problem(key, f"template '{template}': {message}", position)
