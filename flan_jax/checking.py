"""Validating declarations: `flan-jax check`.

flan-jax check my_dataset --mixtures=my_folder
"""

import argparse
import collections
from collections.abc import Sequence
import dataclasses
import json
from typing import Any

from flan_jax import errors
from flan_jax.data import access as access_lib
from flan_jax.data import checks
from flan_jax.data import listing
from flan_jax.data import similarity
from flan_jax.data import specs
import tqdm


def main(args: argparse.Namespace) -> int:
  """Validates declarations; returns the exit code: 2 if something is wrong.

  Rows are looked at where they are stored or quick to read; those of a TFDS
  dataset that is not stored yet only if the dataset was asked for.

  Raises:
    UserError: A name is unknown.
  """
  if args.similar is not None and not 0 < args.similar <= 1:
    raise errors.UserError(
        f'--similar: must be above 0 and at most 1, not {args.similar:g}'
    )
  access = access_lib.Access.from_args(args)
  findings: list[checks.Finding] = []
  datasets = _checked_datasets(access, args.names, findings)
  states = []
  with tqdm.tqdm(datasets, unit='dataset', disable=None, leave=False) as bar:
    for dataset in bar:
      bar.set_postfix_str(dataset.name)
      findings += checks.declaration(dataset)
      state = access.store.status(dataset)
      looked = state.state == 'prepared' or (
          state.state == 'here'
          and (dataset.source.kind != 'tfds' or bool(args.names))
      )
      if looked:
        findings += _row_findings(access, dataset)
        state = access.store.status(dataset)  # Looking has stored the rows.
      states.append({
          'name': dataset.name,
          'templates': len(dataset.templates),
          'state': state.state,
          'detail': state.detail,
          'alternatives': () if state.usable else state.alternatives,
          'rows_checked': looked,
      })
  findings = list(dict.fromkeys(findings))
  pairs = similarity.alike(datasets, args.similar) if args.similar else []
  if args.json:
    listed = [dataclasses.asdict(finding) for finding in findings]
    found = {'findings': listed, 'datasets': states}
    if args.similar:
      found['similar'] = [dataclasses.asdict(pair) for pair in pairs]
    print(json.dumps(found, indent=2, ensure_ascii=False))
  else:
    _print_check(states, findings)
    if args.similar:
      print(f'Templates alike in their words, from {args.similar:g} of 1:')
      for pair in pairs:
        print(f'  {pair}')
      if not pairs:
        print('  none')
  return 2 if findings else 0


def _checked_datasets(
    access: access_lib.Access,
    names: Sequence[str],
    findings: list[checks.Finding],
) -> list[specs.Dataset]:
  """Returns what names mean, all by default; notes what cannot be read."""
  if names:
    found = listing.members(access.catalogue, names, with_held_out=True)
    return list({t.dataset.name: t.dataset for t in found}.values())
  datasets = []
  for name in access.catalogue.dataset_names():
    try:
      datasets.append(access.catalogue.dataset(name))
    except errors.UserError as error:
      findings.append(checks.Finding('', '', str(error)))
  for row in listing.mixture_specs(access.catalogue):
    if 'error' in row:
      findings.append(checks.Finding('', '', row['error']))
  return datasets


def _row_findings(
    access: access_lib.Access, dataset: specs.Dataset
) -> list[checks.Finding]:
  found = []
  for split in dataset.splits:
    try:
      reader = access.store.open(dataset, split)
    except errors.UserError as error:
      found.append(checks.Finding('', '', str(error)))
    else:
      found += checks.rows(dataset, reader)
  return found


def _print_check(
    states: Sequence[dict[str, Any]], findings: Sequence[checks.Finding]
) -> None:
  width = max((len(row['name']) for row in states), default=0)
  wide = max((len(row['state']) for row in states), default=0)
  for row in states:
    print(f'{row["name"]:<{width}}  {row["state"]:<{wide}}  {row["detail"]}')
    for other in row['alternatives']:
      print(f'{"":<{width}}  {"or":>{wide}}  {other}')
  print()
  for finding in findings:
    print(finding)
  unseen = sum(
      row['state'] == 'here' and not row['rows_checked'] for row in states
  )
  if unseen:
    print(
        f'The rows of {listing.counted(unseen, "dataset")} were not looked at:'
        ' they are here, but not prepared; `flan-jax check NAME` reads them.'
    )
  templates = sum(row['templates'] for row in states)
  wrong = (
      listing.counted(len(findings), 'finding')
      if findings
      else 'nothing is wrong'
  )
  counts = collections.Counter(row['state'] for row in states)
  print(', '.join(f'{count} {state}' for state, count in counts.items()))
  print(
      f'{listing.counted(len(states), "dataset")},'
      f' {listing.counted(templates, "template")}: {wrong}'
  )
