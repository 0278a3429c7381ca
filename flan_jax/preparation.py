"""Reading datasets into the row store: `flan-jax prepare`.

flan-jax prepare flan2021 --tfds_data_dir=DIR
flan-jax prepare rte --download
"""

import argparse
from collections.abc import Mapping, Sequence
import sys
import time

from flan_jax import errors
from flan_jax.data import access as access_lib
from flan_jax.data import listing
from flan_jax.data import manifest as manifest_lib
from flan_jax.data import specs
import tqdm


def main(args: argparse.Namespace) -> int:
  """Reads datasets into the row store; returns the exit code (2: some failed).

  A mixture's held-out datasets are read as well: evaluation wants them.

  Raises:
    UserError: A name is unknown.
  """
  access = access_lib.Access.from_args(args)
  found = listing.members(access.catalogue, args.names, with_held_out=True)
  datasets = {task.dataset.name: task.dataset for task in found}
  failures = _download(access, datasets) if args.download else {}
  for dataset, status in access.store.missing(datasets.values()):
    # The line that says how to get it, and others that would do as well.
    ways = [status.detail, *(f'  or {way}' for way in status.alternatives)]
    failures.setdefault(dataset.name, '\n'.join(ways))
  lines = []
  with tqdm.tqdm(total=len(datasets), unit='dataset', disable=None) as bar:

    def progress(name: str, split: str, count: int) -> None:
      bar.set_postfix_str(f'{name} {split} {count:,} rows')

    for name, dataset in datasets.items():
      bar.set_postfix_str(name)
      started = time.perf_counter()
      if name not in failures:
        try:
          manifest = access.store.prepare(
              dataset, force=args.force, progress=progress
          )
        except errors.UserError as error:
          failures[name] = str(error)
        else:
          seconds = time.perf_counter() - started
          lines.append(_cells(name, manifest.splits, seconds))
      bar.update()
  if lines:
    width = max(len(line[0]) for line in lines)
    print(_line('dataset', ['train', 'valid.', 'test', 'MB', 's'], width))
    for name, *cells in lines:
      print(_line(name, cells, width))
  for name, failure in failures.items():
    print(f'{name}: {failure}', file=sys.stderr)
  return 2 if failures else 0


def _download(
    access: access_lib.Access, datasets: Mapping[str, specs.Dataset]
) -> dict[str, str]:
  """Has TFDS fetch what is not here; returns what failed, by dataset."""
  failures = {}
  for dataset, _ in access.store.missing(datasets.values()):
    print(f'{dataset.name}: fetching {dataset.source.where}', file=sys.stderr)
    try:
      access.store.download(dataset)
    except errors.UserError as error:
      failures[dataset.name] = str(error)
  return failures


def _cells(
    name: str,
    splits: Mapping[str, manifest_lib.SplitManifest],
    seconds: float,
) -> list[str]:
  """A line's cells: counts, size and time, and what is odd in the rows."""
  counts = [
      f'{splits[split].rows:,}' if split in splits else '-'
      for split in specs.SPLITS
  ]
  size = sum(split.bytes for split in splits.values()) / 1e6
  notes = manifest_lib.findings(splits.values())
  for manifest in splits.values():
    if manifest.alternative:
      notes.append(f'from {manifest.source["kind"]}: {manifest.place}')
  note = [', '.join(dict.fromkeys(notes))] if notes else []
  return [name, *counts, f'{size:.1f}', f'{seconds:.1f}', *note]


def _line(name: str, cells: Sequence[str], width: int) -> str:
  figures = ''.join(f'{cell:>10}' for cell in cells[:5])
  return '  '.join([f'{name:<{width}}{figures}', *cells[5:]])
