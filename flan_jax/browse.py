"""Looking at data: `flan-jax tasks`, `show`, `vocabulary`.

flan-jax tasks sentiment
flan-jax show rte:template_3 -n 1
"""

import argparse
from collections.abc import Sequence
import dataclasses
import itertools
import json
import textwrap
import time
from typing import Any

from flan_jax import errors
from flan_jax import vocabularies
from flan_jax.data import access as access_lib
from flan_jax.data import drawing
from flan_jax.data import examples as examples_lib
from flan_jax.data import listing
from flan_jax.data import mixtures as mixtures_lib
from flan_jax.data import sample_rows
from flan_jax.data import tasks as tasks_lib
import tqdm

_WIDTH = 80
# What exemplars have to fit when examples are shown without a run.
_LENGTHS = {'inputs': 1024, 'targets': 256}


def tasks(args: argparse.Namespace) -> int:
  """Lists datasets and mixtures; returns the exit code.

  Raises:
    UserError: Nothing fits the pattern.
  """
  access = access_lib.Access.from_args(args)
  datasets = listing.datasets(access.catalogue, access.store, args.pattern)
  mixtures = listing.mixture_specs(access.catalogue, args.pattern)
  if not datasets and not mixtures:
    known = [
        *access.catalogue.dataset_names(),
        *access.catalogue.mixture_names(),
    ]
    raise errors.UserError(
        f"nothing fits '{args.pattern}'.{errors.nearest(args.pattern, known)}"
    )
  if args.json:
    counts = listing.count_tasks(access.catalogue)
    listed = {'datasets': datasets, 'mixtures': mixtures, 'names': counts}
    print(json.dumps(listed, indent=2, ensure_ascii=False))
    return 0
  broken = [row for row in (*datasets, *mixtures) if 'error' in row]
  _print_datasets(
      [row for row in datasets if 'error' not in row], bool(args.pattern)
  )
  _print_mixtures([row for row in mixtures if 'error' not in row])
  if any(
      row.get('state') not in (None, 'prepared', 'here') for row in datasets
  ):
    print('Where data is missing, `flan-jax check NAME` says what to run.\n')
  for row in broken:
    print(f'{row["name"]}: {row["error"]}')
  if not args.pattern:
    _print_scheme(listing.count_tasks(access.catalogue))
  return 0


def _print_datasets(rows: Sequence[dict[str, Any]], at_length: bool) -> None:
  """Prints a line for each dataset, and more of each where they are few."""
  for _, collection in itertools.groupby(rows, lambda row: row['collection']):
    members = list(collection)
    cells = [_dataset_cells(row) for row in members]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    heading = ''
    for row, texts in zip(members, cells, strict=True):
      if heading != row['cluster']:
        heading = row['cluster']
        print(f'{row["collection"]} / {heading}')
      padded = map(str.ljust, texts, widths)
      print(f'  {"  ".join(padded)}'.rstrip())
      if at_length:
        for text in filter(None, (row['description'], row['detail'])):
          print(f'    {text}')
    print()


def _dataset_cells(row: dict[str, Any]) -> list[str]:
  templates = row['templates']
  held_out = sum(template['held_out'] for template in templates)
  count = f'templates: {len(templates)}'
  return [
      row['name'],
      row['source']['kind'],
      count + (f' ({held_out} held out)' if held_out else ''),
      ', '.join(row['metrics']),
      row['state'],
  ]


def _print_mixtures(rows: Sequence[dict[str, Any]]) -> None:
  """Prints each mixture, and a series of them as one."""
  series: dict[str, list[dict[str, Any]]] = {}
  for row in rows:
    series.setdefault(row['series'] or row['name'], []).append(row)
  for name, group in series.items():
    counts = [len(row['members']) for row in group]
    row = group[0]
    if row['series']:
      before, after = map(len, name.split('{n}'))
      numbers = sorted(
          int(each['name'][before : len(each['name']) - after])
          for each in group
      )
      print(
          f'mixtures {name}, n = {", ".join(map(str, numbers))}:'
          f' {min(counts)} to {max(counts)} tasks'
      )
    else:
      print(f'mixture {name}: {listing.counted(counts[0], "task")}')
    if row['description']:
      print(f'  {row["description"]}')
    if row['held_out'] and len(group) == 1:
      names = ', '.join(row['held_out'][:4])
      more = len(row['held_out']) - 4
      print(f'  held out: {names}' + (f' and {more} more' if more > 0 else ''))
    if row['leave_outs']:
      print(
          f'  all but one: {name}_no_<cluster or dataset>,'
          f' {len(row["leave_outs"])} names, such as {row["leave_outs"][0]}'
      )
    print()


def _print_scheme(counts: dict[str, int]) -> None:
  """Prints how tasks are named, and how many names there are."""
  # A part's own spaces are no place for a line break.
  parts = ', '.join(part.replace(' ', '\0') for part in tasks_lib.PARTS)
  print(
      textwrap.fill(
          f'A name may be followed by parts, in this order: {parts}. Such as'
          ' rte:template_3, mini:no_options or mini:held_out.',
          _WIDTH,
      ).replace('\0', ' ')
  )
  print(
      textwrap.fill(
          f'That makes {counts["tasks"]:,} tasks without exemplars, as many'
          ' again for every number of shots and for fit_shot, and'
          f' {counts["mixtures"]:,} mixtures under any of these settings. A'
          ' name is looked up when it is asked for.',
          _WIDTH,
      )
  )


def show(args: argparse.Namespace) -> int:
  """Prints the first examples of the shuffled order; returns the exit code.

  Raises:
    UserError: The name is unknown, or there are no such rows.
  """
  if args.count < 1:
    raise errors.UserError(f'-n: must be at least 1, not {args.count}')
  access = access_lib.Access.from_args(args)
  found = mixtures_lib.resolve(access.catalogue, args.name)
  vocabulary = vocabularies.load(args.vocabulary)
  if args.sample:
    _show_samples(mixtures_lib.as_mixture(found), vocabulary, args.json)
    return 0
  drawn = drawing.examples(
      found,
      args.split,
      access.store,
      args.count,
      seed=args.seed,
      vocabulary=vocabulary,
      lengths=_LENGTHS,
  )
  for place, example in enumerate(drawn):
    shown = _shown(example, vocabulary)
    if args.json:
      print(json.dumps(shown, ensure_ascii=False))
    else:
      _print_example(shown, f'{place + 1} of {args.count}')
  return 0


def _show_samples(
    mixture: mixtures_lib.Mixture,
    vocabulary: vocabularies.Vocabulary,
    as_json: bool,
) -> None:
  """Prints the made-up row of each task under each of its templates."""
  found = [
      example
      for task, _ in mixture.members
      for example in sample_rows.examples(task)
  ]
  for place, example in enumerate(found):
    shown = _shown(example, vocabulary)
    if as_json:
      print(json.dumps(shown, ensure_ascii=False))
    else:
      _print_example(shown, f'{place + 1} of {len(found)}')


def _shown(
    example: examples_lib.Example, vocabulary: vocabularies.Vocabulary
) -> dict[str, Any]:
  """An example with its tokens counted (ends included), and read back."""
  shown = dataclasses.asdict(example)
  for part in ('inputs', 'targets'):
    text = shown[part]
    back = vocabulary.round_trip(text)
    shown[f'{part}_tokens'] = len(vocabulary.encode(text)) + 1
    shown[f'{part}_read_back'] = None if back == text else back
  return shown


def _print_example(shown: dict[str, Any], count: str) -> None:
  heading = (
      f'{count}  {shown["task"]}  {shown["template"] or "no template"} '
      f' {shown["row_id"]} '
  )
  print(f'{heading:=<{_WIDTH}}')
  for part in ('inputs', 'targets'):
    print(f'--- {part}, {shown[f"{part}_tokens"]} tokens')
    print(shown[part])
    back = shown[f'{part}_read_back']
    if back is not None:
      print(
          f'--- {part} as the tokenizer gives them back:'
          f' {_where(shown[part], back)}'
      )
      print(back)
  if shown['options']:
    options = ' | '.join(map(repr, shown['options']))
    print(f'--- options: {options}')
  others = [text for text in shown['references'] if text != shown['targets']]
  if others:
    print(f'--- also accepted: {" | ".join(map(repr, others))}')
  print()


def _where(text: str, back: str) -> str:
  """Says where two texts begin to differ."""
  pairs = itertools.zip_longest(text, back)
  place = next(i for i, (a, b) in enumerate(pairs) if a != b)
  first, second = (t[place : place + 8] for t in (text, back))
  return f'from character {place + 1}, {first!r} has become {second!r}'


def vocabulary(args: argparse.Namespace) -> int:
  """Trains a SentencePiece vocabulary; returns the exit code.

  It learns from the examples that training on each name meets first, as many
  of each, so that frequent text counts as much as it will in training.

  Raises:
    UserError: A name is unknown, or the size does not suit the text.
  """
  if args.max_examples < 1:
    raise errors.UserError(
        f'--max_examples: must be at least 1, not {args.max_examples}'
    )
  access = access_lib.Access.from_args(args)
  share = -(-args.max_examples // len(args.names))
  texts: list[str] = []
  for name in args.names:
    found = mixtures_lib.resolve(access.catalogue, name)
    drawn = drawing.examples(
        found,
        'train',
        access.store,
        min(share, drawing.variety(found, 'train', access.store)),
        seed=args.seed,
    )
    bar = tqdm.tqdm(drawn, desc=name, unit='example', disable=None, leave=False)
    for example in bar:
      texts += [example.inputs, example.targets]
  started = time.perf_counter()
  vocabularies.train_sentencepiece(
      texts, args.size, args.output, seed=args.seed, max_texts=len(texts)
  )
  trained = vocabularies.load(args.output)
  # A tenth of a million texts tells enough.
  ids, _ = trained.encode_flat(texts[:100_000])
  characters = sum(map(len, texts[:100_000]))
  pieces = args.size
  used = len(set(ids.tolist()))
  print(
      f'{args.output}: learned from {len(texts):,} texts in'
      f' {time.perf_counter() - started:.1f} s'
  )
  print(
      f'  pieces: {pieces:,}, and {trained.size - pieces} sentinels; padded to'
      f' {trained.padded_size:,}'
  )
  print(
      f'  in use: {used:,} of {pieces:,} pieces ({used / pieces:.0%}; 256 are'
      ' bytes, for rare characters)'
  )
  print(f'  characters a token: {characters / max(len(ids), 1):.2f}')
  return 0
