"""What is wrong in a dataset's declaration, whoever wrote it and however."""

from collections.abc import Iterator
import dataclasses
import re

from flan_jax import errors
from flan_jax.data import slots
from flan_jax.data import specs

_NAME = re.compile(r'[a-z0-9_]+\Z')
_FUNCTION = re.compile(r'[A-Za-z_][\w.]*:[A-Za-z_]\w*\Z')


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


def problems(dataset: specs.Dataset) -> Iterator[Problem]:
  """Yields what is wrong in a declaration, whoever wrote it and however."""
  if not is_name(dataset.name):
    yield Problem('', f"'{dataset.name}' cannot be a dataset's name: {_LEGAL}")
  if not is_name(dataset.cluster):
    yield Problem('cluster', f"'{dataset.cluster}' is no cluster: {_LEGAL}")
  for name, key in (
      (dataset.subcluster, 'subcluster'),
      (dataset.family, 'family'),
  ):
    if name and not is_name(name):
      yield Problem(key, f"'{name}' cannot be a {key}'s name: {_LEGAL}")
  yield from _source_problems(dataset.source, 'source')
  yield from _alternative_problems(dataset)
  if dataset.keep and not _FUNCTION.match(dataset.keep):
    yield Problem('keep', f"'{dataset.keep}' is no 'module:function'")
  for split in dataset.splits:
    if split not in specs.SPLITS:
      yield Problem(f'splits.{split}', _unknown('split', split, specs.SPLITS))
  if not dataset.splits:
    yield Problem(
        'splits', f'names no split; splits are {", ".join(specs.SPLITS)}'
    )
  for split in dataset.limits:
    if split not in dataset.splits:
      yield Problem(
          f'limits.{split}', _unknown('split', split, tuple(dataset.splits))
      )
  for place, metric in enumerate(dataset.metrics):
    if metric not in specs.METRICS:
      yield Problem(
          f'metrics[{place}]', _unknown('metric', metric, specs.METRICS)
      )
  if not dataset.metrics:
    yield Problem(
        'metrics', f'names no metric; there are {", ".join(specs.METRICS)}'
    )
  yield from _field_problems(dataset)
  yield from _constant_problems(dataset)
  if dataset.choices:
    yield from _choice_problems(dataset, dataset.choices)
  yield from _template_problems(dataset)


_LEGAL = "names are lower-case letters, digits and '_'"


def _unknown(kind: str, name: str, known: tuple[str, ...]) -> str:
  return (
      f"unknown {kind} '{name}'.{errors.nearest(name, list(known))}"
      f' Known here: {", ".join(known)}'
  )


def _source_problems(source: specs.Source, key: str) -> Iterator[Problem]:
  if source.kind not in specs.SOURCES:
    yield Problem(key, _unknown('kind', source.kind, tuple(specs.SOURCES)))
    return
  if not source.where.strip():
    yield Problem(f'{key}.{source.kind}', 'must say where the rows are')
  for option in source.options:
    if option not in specs.SOURCES[source.kind]:
      yield Problem(
          f'{key}.{option}',
          _unknown('option', option, specs.SOURCES[source.kind]),
      )


def _alternative_problems(dataset: specs.Dataset) -> Iterator[Problem]:
  for place, other in enumerate(dataset.alternatives):
    key = f'alternatives[{place}]'
    yield from _source_problems(other.source, f'{key}.source')
    for split in other.splits:
      if split not in dataset.splits:
        yield Problem(
            f'{key}.splits.{split}',
            _unknown('split', split, tuple(dataset.splits)),
        )
    if isinstance(other.fields, str):
      if other.fields and not _FUNCTION.match(other.fields):
        yield Problem(f'{key}.fields', f"'{other.fields}' is no function")
    elif set(other.fields) != set(dataset.field_names):
      yield Problem(
          f'{key}.fields',
          'must give the same fields as above:'
          f' {", ".join(dataset.field_names)}',
      )
    if other.keep and not _FUNCTION.match(other.keep):
      yield Problem(f'{key}.keep', f"'{other.keep}' is no 'module:function'")


def _field_problems(dataset: specs.Dataset) -> Iterator[Problem]:
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
    for key, name in specs.named_fields(dataset):
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


def _constant_problems(dataset: specs.Dataset) -> Iterator[Problem]:
  for name, text in dataset.constants.items():
    key = f'constants.{name}'
    if not is_name(name) or name in ('options', 'answer'):
      yield Problem(key, f"'{name}' cannot be a slot's name here: {_LEGAL}")
    if name in dataset.field_names:
      yield Problem(key, f"'{name}' is a field already")
    if not text.strip():
      yield Problem(key, 'is empty')


def _choice_problems(
    dataset: specs.Dataset, choices: specs.Choices
) -> Iterator[Problem]:
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


def _template_problems(dataset: specs.Dataset) -> Iterator[Problem]:
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
    dataset: specs.Dataset, template: str, key: str, text: str
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
