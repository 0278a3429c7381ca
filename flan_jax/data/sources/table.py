"""CSV and TSV files; every cell is a text.

The first line names the columns, unless the declaration does, as in
`source: {csv: rows.csv, columns: "id,text,label"}`; then the first line is a
row. CSV cells may be quoted, and hold line breaks then. TSV cells are taken as
they are (their quotes are text), as the datasets that come in TSV mean them.
`quoting: standard` or `none` beside the source says otherwise.
"""

from collections.abc import Iterator
import csv
import pathlib
import sys

from flan_jax import errors
from flan_jax.data import specs
from flan_jax.data.sources import base
from flan_jax.data.sources import files

ENDINGS = {'csv': ('.csv',), 'tsv': ('.tsv', '.tab')}
_DELIMITER = {'csv': ',', 'tsv': '\t'}
_QUOTING = {'csv': 'standard', 'tsv': 'none'}


def create(
    dataset: specs.Dataset,
    settings: base.SourceSettings,
    keep: pathlib.Path | None = None,
) -> base.Source:
  """Returns the source that a declaration with `csv` or `tsv` names."""
  return files.Files(
      dataset, settings, keep, ENDINGS[dataset.source.kind], read
  )


def read(
    path: pathlib.Path, dataset: specs.Dataset, skipped: base.Skipped
) -> Iterator[tuple[base.Number, base.Row]]:
  """Yields line numbers from 1 (where the row starts) and rows."""
  kind = dataset.source.kind
  quoting = base.option(
      dataset, 'quoting', ('standard', 'none'), _QUOTING[kind]
  )
  lines = _cells(path, _DELIMITER[kind], quoting, skipped)
  given = dataset.source.options.get('columns', '')
  if given:
    columns = [name.strip() for name in given.split(',')]
    place = base.declared_in(dataset, 'source.columns')
  else:
    line, columns = next(lines, (1, []))
    # A column that a spreadsheet or pandas left without a name.
    columns = [
        name.strip() or f'column_{i}' for i, name in enumerate(columns, 1)
    ]
    place = f'{path}:{line}'
  twice = {name for name in columns if columns.count(name) > 1}
  if twice:
    raise errors.UserError(f"{place}: two columns are called '{min(twice)}'")
  for line, cells in lines:
    if len(cells) != len(columns):
      skipped.add(
          errors.UserError(
              f'{path}:{line}: {_count(cells)} where there are'
              f' {len(columns)} columns ({", ".join(columns)}): fix it or pass'
              ' --on_error=skip'
          )
      )
    else:
      yield line, dict(zip(columns, cells, strict=True))


def _count(cells: list[str]) -> str:
  return '1 cell' if len(cells) == 1 else f'{len(cells)} cells'


def _cells(
    path: pathlib.Path, delimiter: str, quoting: str, skipped: base.Skipped
) -> Iterator[tuple[int, list[str]]]:
  """Yields the lines that are not empty, each with its number and cells."""
  if quoting == 'none':
    for number, line in files.read_lines(path, skipped):
      if line:
        yield number, line.split(delimiter)
    return
  # The default of 128 KiB a cell is less than a long document.
  csv.field_size_limit(sys.maxsize)
  # The reader counts the lines it was given; some may have been skipped.
  numbers = [0]

  def texts() -> Iterator[str]:
    for number, line in files.read_lines(path, skipped):
      numbers.append(number)
      yield line + '\n'

  reader = csv.reader(texts(), delimiter=delimiter, strict=True)
  while True:
    first = reader.line_num + 1
    try:
      cells = next(reader)
    except StopIteration:
      return
    except csv.Error as error:
      skipped.add(
          errors.UserError(
              f'{path}:{numbers[first]}: {error}: fix the quotes, say'
              ' `quoting: none` beside the source if they are text, or pass'
              ' --on_error=skip'
          )
      )
      continue
    if cells:
      yield numbers[first], cells
