"""Lets TFDS fetch a dataset into the folder where it is then looked for."""

import os
import re

from flan_jax import errors
from flan_jax.data import specs
from flan_jax.data.sources import base
from flan_jax.data.sources import tfds as tfds_source


def fetch(dataset: specs.Dataset, settings: base.SourceSettings) -> None:
  """Downloads and prepares what a declaration names, showing TFDS's progress.

  Args:
    dataset: With a source of kind 'tfds'.
    settings: Name the folder.

  Raises:
    UserError: TFDS does not know it, or cannot fetch it: the network, the
      disk, files that a person has to get.
  """
  name = dataset.source.where
  folder = tfds_source.data_dir(settings)
  where = base.declared_in(dataset, 'source')
  tfds = tfds_source.import_tfds(where)
  try:
    os.makedirs(folder, exist_ok=True)
    builder = tfds.builder(name, data_dir=str(folder))
    builder.download_and_prepare()
  except Exception as error:  # Whatever a dataset's code may raise.
    manual = dataset.source.options.get('manual', '')
    hint = f'; {manual}' if manual else ''
    raise errors.UserError(
        f'{where}: TFDS cannot fetch {name} into {folder}:'
        f' {type(error).__name__}: {_first_line(error)}{hint}'
    ) from error


def has_manual(dataset: specs.Dataset, settings: base.SourceSettings) -> bool:
  """Whether a file that a person has to get lies where TFDS looks for it.

  The source's `manual` says which: it names them.
  """
  folder = tfds_source.data_dir(settings) / 'downloads' / 'manual'
  words = re.findall(r'[\w.-]*\w', dataset.source.options.get('manual', ''))
  return any((folder / word).exists() for word in words)


def _first_line(error: Exception) -> str:
  """What an error says; TFDS's may run over a page."""
  lines = [line.strip() for line in str(error).splitlines() if line.strip()]
  text = ' '.join(lines[:3])
  return text if len(text) <= 400 else f'{text[:397]}...'
