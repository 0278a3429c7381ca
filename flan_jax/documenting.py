"""Pages about a collection's datasets: `flan-jax document`.

flan-jax document flan2021 --output=docs/flan2021

One page of Markdown for each cluster, made from the declarations alone: what
each dataset is, and its made-up row under three of its templates.
"""

import argparse
from collections.abc import Sequence
import pathlib
import re
import sys

from flan_jax import errors
from flan_jax import storage
from flan_jax.data import access as access_lib
from flan_jax.data import sample_rows
from flan_jax.data import specs
from flan_jax.data import tasks

_FENCE = re.compile(r'^`{3,}', re.MULTILINE)


def main(args: argparse.Namespace) -> int:
  """Writes the pages; returns the exit code (2: some are not current).

  Raises:
    UserError: There is no such collection, a declaration has a mistake, or the
      folder cannot be written.
  """
  access = access_lib.Access.from_args(args)
  names = access.catalogue.select(collection=args.collection)
  if not names:
    known = sorted({
        access.catalogue.dataset(name).collection
        for name in access.catalogue.dataset_names()
    })
    raise errors.UserError(
        f"there is no collection '{args.collection}'."
        f'{errors.nearest(args.collection, known)} There are'
        f' {", ".join(known)}'
    )
  made = pages([access.catalogue.dataset(name) for name in names])
  folder = pathlib.Path(args.output)
  if args.check:
    stale = [name for name, text in made.items() if _old(folder, name) != text]
    for name in stale:
      print(f'{folder / name}: is not what the declarations say')
    print(f'{len(made) - len(stale)} of {len(made)} pages are current')
    return 2 if stale else 0
  try:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in made.items():
      storage.write(folder / name, text)
      print(folder / name, file=sys.stderr)
  except OSError as error:
    raise errors.UserError(
        f'--output={folder}: cannot be written: {error.strerror}'
    ) from error
  return 0


def _old(folder: pathlib.Path, name: str) -> str | None:
  path = folder / name
  return path.read_text(encoding='utf-8') if path.is_file() else None


def pages(datasets: Sequence[specs.Dataset]) -> dict[str, str]:
  """Returns a page for each cluster: file name -> Markdown.

  Raises:
    UserError: A made-up row does not fit its declaration.
  """
  clusters: dict[str, list[specs.Dataset]] = {}
  for dataset in sorted(datasets, key=lambda d: (d.cluster, d.name)):
    clusters.setdefault(dataset.cluster, []).append(dataset)
  return {
      f'{cluster}.md': page(cluster, members)
      for cluster, members in clusters.items()
  }


def page(cluster: str, datasets: Sequence[specs.Dataset]) -> str:
  """Returns the Markdown of one cluster's page."""
  title = cluster.replace('_', ' ').capitalize()
  lines = [
      f'# {title}',
      '',
      (
          'Made from the declarations by `flan-jax document'
          f' {datasets[0].collection}`; do not edit. The rows shown are'
          ' made up.'
      ),
      '',
      '| dataset | what it asks for | metrics | licence of the data |',
      '|---|---|---|---|',
  ]
  lines += [
      f'| [{d.name}](#{d.name}) | {_cell(d.description)} |'
      f' {", ".join(d.metrics)} | {_cell(d.licence)} |'
      for d in datasets
  ]
  for dataset in datasets:
    lines += ['', f'## {dataset.name}', '', *_facts(dataset)]
    if dataset.sample:
      lines += _examples(dataset)
  return '\n'.join(lines) + '\n'


def _cell(text: str) -> str:
  return text.replace('|', '\\|') or 'not stated'


def _facts(dataset: specs.Dataset) -> list[str]:
  inverted = sum(template.inverted for template in dataset.templates)
  held_out = sum(template.held_out for template in dataset.templates)
  count = f'{len(dataset.templates)}'
  count += f', {inverted} of them inverted' if inverted else ''
  count += f', {held_out} held out' if held_out else ''
  facts = {'source': _source(dataset.source)}
  for other in dataset.alternatives:
    note = f' ({other.note})' if other.note else ''
    facts['or'] = '<br>'.join(
        filter(None, (facts.get('or', ''), _source(other.source) + note))
    )
  facts |= {
      'finer cluster': dataset.subcluster,
      'held out together with': (
          f'family `{dataset.family}`' if dataset.family else ''
      ),
      'splits': ', '.join(
          f'{split} `{part}`' + _limit(dataset, split)
          for split, part in dataset.splits.items()
      ),
      'fields': ', '.join(f'`{name}`' for name in dataset.field_names),
      'answers': _answers(dataset.choices),
      'templates': count,
  }
  rows = [f'| {key} | {text} |' for key, text in facts.items() if text]
  return ['| | |', '|---|---|', *rows]


def _source(source: specs.Source) -> str:
  where = source.where.replace('|', '\\|')
  extra = [
      f'{key}: {_cell(value)}' if key != 'download' else f'downloads {value}'
      for key, value in source.options.items()
  ]
  note = f' ({"; ".join(extra)})' if extra else ''
  return f'{source.kind} `{where}`{note}'


def _limit(dataset: specs.Dataset, split: str) -> str:
  limit = dataset.limits.get(split)
  return f' (at most {limit:,})' if limit else ''


def _answers(choices: specs.Choices | None) -> str:
  if not choices:
    return ''
  if choices.names:
    return ', '.join(f'"{_cell(name)}"' for name in choices.names)
  return 'differ by example'


def _examples(dataset: specs.Dataset) -> list[str]:
  lines = []
  for template in _three(dataset.templates):
    setting = tasks.Setting(template=template.name)
    example = sample_rows.examples(tasks.create(dataset, setting))[0]
    kind = ', inverted' if template.inverted else ''
    lines += [
        '',
        f'Template `{template.name}`{kind}:',
        *_block(example.inputs),
        '',
        'is to be answered with',
        *_block(example.targets),
    ]
  return lines


def _three(
    declared: Sequence[specs.Template],
) -> list[specs.Template]:
  """The first template, one from the middle, and an inverted or last one."""
  plain = [t for t in declared if not t.inverted]
  inverted = [t for t in declared if t.inverted]
  last = inverted[0] if inverted else plain[-1]
  found = {t.name: t for t in (plain[0], plain[len(plain) // 2], last)}
  return list(found.values())


def _block(text: str) -> list[str]:
  longest = max((len(run) for run in _FENCE.findall(text)), default=0)
  fence = '`' * max(3, longest + 1)
  return ['', f'{fence}text', text, fence]
