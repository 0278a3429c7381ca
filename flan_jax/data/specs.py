"""Declarations: one YAML file is one dataset or one mixture.

`mixtures/BLANK.yaml` explains every key. The reader is strict: a mistake is a
`UserError` that names the file, the line and the key.
"""

from collections.abc import Iterator, Mapping
import dataclasses
import pathlib
import re

from flan_jax import errors
from flan_jax import paths
from flan_jax.data import nodes
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
}
BLANK = 'BLANK.yaml'  # The file to copy: it loads, and is no dataset.
_NAME = re.compile(r'[a-z0-9_]+\Z')
_FUNCTION = re.compile(r'[A-Za-z_][\w.]*:[A-Za-z_]\w*\Z')
_KEY_PART = re.compile(r'([^.\[\]]+)|\[(\d+)\]')


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


def load(
    path: pathlib.Path | str, *, collection: str = ''
) -> Dataset | MixtureSpec:
  """Reads a declaration.

  Args:
    path: A YAML file.
    collection: The collection that a dataset belongs to; the first folder
      under `mixtures/`, or elsewhere the file's folder, if it is not given.

  Raises:
    UserError: The file cannot be read, or something in it is wrong.
  """
  path = pathlib.Path(path)
  node = nodes.read(path)
  name = 'blank' if path.name == BLANK else path.stem
  if not is_name(name):
    raise node.error(
        f"the file's name '{path.stem}' becomes the dataset's name, so it must"
        " be lower-case letters, digits and '_'"
    )
  if 'members' in node.entries():
    return _read_mixture(node, name, path)
  dataset = _read_dataset(node, name, path, collection or _collection(path))
  for problem in problems(dataset):
    raise _find(node, problem.key).error(problem.message, problem.position)
  return dataset


def _collection(path: pathlib.Path) -> str:
  folder = path.resolve().parent
  packaged = paths.mixtures_dir()
  if folder != packaged and folder.is_relative_to(packaged):
    return folder.relative_to(packaged).parts[0]
  return folder.name


def _find(node: nodes.Node, key: str) -> nodes.Node:
  """Returns the value at a key, or the innermost one around where it lacks."""
  for name, index in _KEY_PART.findall(key):
    if index and node.is_list():
      node = node.items()[int(index)]
    elif name and not node.is_list() and not node.is_text():
      node = node.entries().get(name, node)
  return node


def _read_dataset(
    node: nodes.Node, name: str, path: pathlib.Path, collection: str
) -> Dataset:
  keys = node.section(
      ('version', 'cluster', 'source', 'splits', 'fields', 'metrics')
      + ('templates',),
      ('description', 'licence', 'field_names', 'choices', 'references')
      + ('limits',),
  )
  fields = keys['fields']
  if not fields.is_text() and 'field_names' in keys:
    raise keys['field_names'].error(
        'is for a function in `fields`; a mapping names its fields itself'
    )
  return Dataset(
      name=name,
      path=path,
      collection=collection,
      cluster=keys['cluster'].text(),
      version=keys['version'].integer(1),
      description=_text(keys, 'description'),
      licence=_text(keys, 'licence'),
      source=_read_source(keys['source']),
      splits={
          split: value.text()
          for split, value in keys['splits'].entries().items()
      },
      fields=fields.text()
      if fields.is_text()
      else {field: value.text() for field, value in fields.entries().items()},
      field_names=keys['field_names'].texts() if 'field_names' in keys else (),
      choices=_read_choices(keys['choices']) if 'choices' in keys else None,
      references=_text(keys, 'references'),
      metrics=keys['metrics'].texts(),
      limits={
          split: value.integer(1)
          for split, value in keys['limits'].entries().items()
      }
      if 'limits' in keys
      else {},
      templates=tuple(_read_template(n) for n in keys['templates'].items()),
  )


def _text(keys: Mapping[str, nodes.Node], key: str) -> str:
  return keys[key].text() if key in keys else ''


def _read_source(node: nodes.Node) -> Source:
  entries = node.entries()
  kinds = [key for key in entries if key in SOURCES]
  if len(kinds) != 1:
    raise node.error(
        'must name one source, as in `source: {jsonl: my_rows.jsonl}`; the'
        f' kinds are {", ".join(SOURCES)}'
    )
  keys = node.section(kinds, SOURCES[kinds[0]])
  where = keys.pop(kinds[0])
  options = {key: value.text() for key, value in keys.items()}
  return Source(kind=kinds[0], where=where.text(), options=options)


def _read_choices(node: nodes.Node) -> Choices:
  keys = node.section(('label',), ('names', 'fields', 'list'))
  return Choices(
      label=keys['label'].text(),
      names=keys['names'].texts() if 'names' in keys else (),
      fields=keys['fields'].texts() if 'fields' in keys else (),
      list=_text(keys, 'list'),
  )


def _read_template(node: nodes.Node) -> Template:
  keys = node.section(('name', 'inputs', 'targets'), ('inverted', 'held_out'))
  return Template(
      name=keys['name'].text(),
      inputs=keys['inputs'].text(),
      targets=keys['targets'].text(),
      inverted='inverted' in keys and keys['inverted'].flag(),
      held_out='held_out' in keys and keys['held_out'].flag(),
  )


def _read_mixture(
    node: nodes.Node, name: str, path: pathlib.Path
) -> MixtureSpec:
  keys = node.section(
      ('version', 'members'), ('description', 'held_out', 'cap', 'max_rate')
  )
  members = tuple(
      _read_member(n, weighed=True) for n in keys['members'].items()
  )
  if not members:
    raise keys['members'].error('names no member')
  return MixtureSpec(
      name=name,
      path=path,
      version=keys['version'].integer(1),
      description=_text(keys, 'description'),
      members=members,
      held_out=tuple(
          _read_member(n, weighed=False) for n in keys['held_out'].items()
      )
      if 'held_out' in keys
      else (),
      cap=keys['cap'].integer(1) if 'cap' in keys else None,
      max_rate=keys['max_rate'].integer(1) if 'max_rate' in keys else None,
  )


def _read_member(node: nodes.Node, *, weighed: bool) -> Member:
  if node.is_text():
    return Member(name=node.text())
  keys = node.section(
      (), ('name', 'cluster', 'collection') + (('weight',) if weighed else ())
  )
  if ('name' in keys) == ('cluster' in keys or 'collection' in keys):
    raise node.error('must have a name, or else a cluster or a collection')
  return Member(
      name=_text(keys, 'name'),
      cluster=_text(keys, 'cluster'),
      collection=_text(keys, 'collection'),
      weight=keys['weight'].positive() if 'weight' in keys else 1.0,
  )


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
