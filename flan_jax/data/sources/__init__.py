"""Where rows come from: one module for each kind of source.

A kind is imported when a dataset of that kind is opened.
"""

import importlib
import pathlib

from flan_jax import errors
from flan_jax.data import specs
from flan_jax.data.sources import base

# Kind -> module and what makes a source of (dataset, settings, keep).
_KINDS = {
    'tfds': ('tfds', 'Tfds'),
    'parquet': ('parquet', 'Parquet'),
    'jsonl': ('jsonl', 'create'),
    'csv': ('table', 'create'),
    'tsv': ('table', 'create'),
    'sni': ('sni', 'Sni'),
    'generated': ('generated', 'Generated'),
    'seqio': ('seqio', 'SeqioSource'),
}


def create(
    dataset: specs.Dataset,
    settings: base.SourceSettings,
    keep: pathlib.Path | None = None,
) -> base.Source:
  """Returns the source of a dataset.

  Args:
    dataset: Whose `source` says which.
    settings: What the user says about sources.
    keep: A folder in which fingerprints of files are remembered.

  Raises:
    UserError: The declaration names no such kind.
  """
  kind = dataset.source.kind
  if kind not in _KINDS:
    raise errors.UserError(
        f"{base.declared_in(dataset, 'source')}: there is no kind of source"
        f" '{kind}'.{errors.nearest(kind, list(_KINDS))} Known:"
        f' {", ".join(_KINDS)}'
    )
  module, name = _KINDS[kind]
  found = importlib.import_module(f'flan_jax.data.sources.{module}')
  return getattr(found, name)(dataset, settings, keep)
