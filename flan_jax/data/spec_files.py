"""Reads declarations from YAML: one file is one dataset or one mixture.

The reader is strict: a mistake is a `UserError` that names the file, the line
and the key.
"""

from collections.abc import Mapping
import pathlib
import re

from flan_jax import paths
from flan_jax.data import mixture_files
from flan_jax.data import nodes
from flan_jax.data import spec_problems
from flan_jax.data import specs

BLANK = 'BLANK.yaml'  # The file to copy: it loads, and is no dataset.
_DATASET_KEYS = (
    'version',
    'cluster',
    'source',
    'splits',
    'fields',
    'metrics',
    'templates',
)
_KEY_PART = re.compile(r'([^.\[\]]+)|\[(\d+)\]')


def load(
    path: pathlib.Path | str, *, collection: str = '', name: str = ''
) -> specs.Dataset | specs.MixtureSpec:
  """Reads a declaration.

  Args:
    path: A YAML file.
    collection: The collection that a dataset belongs to; the first folder
      under `mixtures/`, or elsewhere the file's folder, if it is not given.
    name: Which mixture of a file that declares a series; the first if it is
      not given.

  Raises:
    UserError: The file cannot be read, or something in it is wrong.
  """
  path = pathlib.Path(path)
  node = nodes.read(path)
  stem = 'blank' if path.name in (BLANK, mixture_files.BLANK) else path.stem
  if not spec_problems.is_name(stem):
    raise node.error(
        f"the file's name '{path.stem}' becomes the dataset's name, so it must"
        " be lower-case letters, digits and '_'"
    )
  if 'members' in node.entries():
    return mixture_files.read(node, name or stem, path)
  dataset = _read_dataset(node, stem, path, collection or _collection(path))
  for problem in spec_problems.problems(dataset):
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
) -> specs.Dataset:
  keys = node.section(
      required=_DATASET_KEYS,
      optional=(
          'description',
          'licence',
          'subcluster',
          'family',
          'alternatives',
          'limits',
          'keep',
          'field_names',
          'constants',
          'choices',
          'references',
          'group_by',
          'sample',
      ),
  )
  fields = keys['fields']
  if not fields.is_text() and 'field_names' in keys:
    raise keys['field_names'].error(
        'is for a function in `fields`; a mapping names its fields itself'
    )
  return specs.Dataset(
      name=name,
      path=path,
      collection=collection,
      cluster=keys['cluster'].text(),
      version=keys['version'].integer(1),
      description=_text(keys, 'description'),
      licence=_text(keys, 'licence'),
      source=_read_source(keys['source']),
      splits=_text_map(keys['splits']),
      limits=_read_limits(keys['limits']) if 'limits' in keys else {},
      fields=fields.text() if fields.is_text() else _text_map(fields),
      field_names=_texts(keys, 'field_names'),
      choices=_read_choices(keys['choices']) if 'choices' in keys else None,
      references=_text(keys, 'references'),
      metrics=keys['metrics'].texts(),
      templates=_read_templates(keys['templates'], path),
      subcluster=_text(keys, 'subcluster'),
      family=_text(keys, 'family'),
      alternatives=tuple(
          _read_alternative(n)
          for n in (
              keys['alternatives'].items() if 'alternatives' in keys else ()
          )
      ),
      constants=_text_map(keys['constants']) if 'constants' in keys else {},
      keep=_text(keys, 'keep'),
      group_by=_text(keys, 'group_by'),
      sample=_read_sample(keys['sample']) if 'sample' in keys else {},
  )


def _text(keys: Mapping[str, nodes.Node], key: str) -> str:
  return keys[key].text() if key in keys else ''


def _texts(keys: Mapping[str, nodes.Node], key: str) -> tuple[str, ...]:
  return keys[key].texts() if key in keys else ()


def _text_map(node: nodes.Node) -> dict[str, str]:
  return {key: value.text() for key, value in node.entries().items()}


def _read_limits(node: nodes.Node) -> dict[str, int]:
  return {split: value.integer(1) for split, value in node.entries().items()}


def _read_source(node: nodes.Node) -> specs.Source:
  entries = node.entries()
  kinds = [key for key in entries if key in specs.SOURCES]
  if len(kinds) != 1:
    raise node.error(
        'must name one source, as in `source: {jsonl: my_rows.jsonl}`; the'
        f' kinds are {", ".join(specs.SOURCES)}'
    )
  keys = node.section(kinds, specs.SOURCES[kinds[0]])
  where = keys.pop(kinds[0])
  options = {key: value.text() for key, value in keys.items()}
  return specs.Source(kind=kinds[0], where=where.text(), options=options)


def _read_alternative(node: nodes.Node) -> specs.Alternative:
  keys = node.section(('source',), ('splits', 'fields', 'keep', 'note'))
  fields: Mapping[str, str] | str = ''
  if 'fields' in keys:
    given = keys['fields']
    fields = given.text() if given.is_text() else _text_map(given)
  return specs.Alternative(
      source=_read_source(keys['source']),
      splits=_text_map(keys['splits']) if 'splits' in keys else {},
      fields=fields,
      keep=_text(keys, 'keep'),
      note=_text(keys, 'note'),
  )


def _read_sample(node: nodes.Node) -> Mapping[str, object]:
  node.entries()  # It must be a mapping.
  sample = node.typed()
  assert isinstance(sample, dict)
  return sample


def _read_templates(
    node: nodes.Node, path: pathlib.Path
) -> tuple[specs.Template, ...]:
  """Reads a list of templates, or those of another dataset beside this one."""
  if not node.is_text():
    return tuple(_read_template(n) for n in node.items())
  other = path.with_name(f'{node.text()}.yaml')
  if other == path or not other.is_file():
    raise node.error(
        f"'{node.text()}' must be a list of templates, or the name of another"
        f' dataset in {path.parent} whose templates these are'
    )
  entries = nodes.read(other).entries()
  if 'templates' not in entries or entries['templates'].is_text():
    raise node.error(f'{other} has no list of templates itself')
  return tuple(_read_template(n) for n in entries['templates'].items())


def _read_choices(node: nodes.Node) -> specs.Choices:
  keys = node.section(('label',), ('names', 'fields', 'list'))
  return specs.Choices(
      label=keys['label'].text(),
      names=_texts(keys, 'names'),
      fields=_texts(keys, 'fields'),
      list=_text(keys, 'list'),
  )


def _read_template(node: nodes.Node) -> specs.Template:
  keys = node.section(('name', 'inputs', 'targets'), ('inverted', 'held_out'))
  return specs.Template(
      name=keys['name'].text(),
      inputs=keys['inputs'].text(),
      targets=keys['targets'].text(),
      inverted='inverted' in keys and keys['inverted'].flag(),
      held_out='held_out' in keys and keys['held_out'].flag(),
  )
