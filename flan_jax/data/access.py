"""What a command needs to reach data: the catalogue and the row store."""

import argparse
import dataclasses
import importlib
import os
import shlex
import sys
from typing import TYPE_CHECKING

from flan_jax import errors
from flan_jax import paths
from flan_jax import storage
from flan_jax.data import catalogue as catalogue_lib

if TYPE_CHECKING:
  from flan_jax.data import rows


@dataclasses.dataclass(frozen=True)
class Access:
  """The declarations and the rows that a command works with.

  Attributes:
    catalogue: Finds datasets and mixtures by name.
    store: Opens their rows.
    flags: The flags that another command needs to reach the same data.
  """

  catalogue: catalogue_lib.Catalogue
  store: 'rows.RowStore'
  flags: str = ''

  @classmethod
  def from_args(cls, args: argparse.Namespace) -> 'Access':
    """Opens what the command's flags name.

    Args:
      args: With `imports`, `mixtures`, `cache_dir`, `tfds_data_dir`,
        `data_dir`, `on_error` and `first_rows`, as the command line parses
        them.

    Raises:
      UserError: A module of `imports` or a path of `mixtures` is not there, a
        folder is an address that cannot be used, or two declarations have one
        name.
    """
    # Reading rows needs pyarrow, which listing names does not.
    from flan_jax.data import rows

    storage.check('--cache_dir', args.cache_dir)
    for flag in ('tfds_data_dir', 'data_dir'):
      paths.check_local(f'--{flag}', getattr(args, flag))
    import_modules(args.imports or [])
    settings = rows.SourceSettings(
        tfds_data_dir=args.tfds_data_dir,
        data_dir=args.data_dir,
        on_error=args.on_error,
        first_rows=args.first_rows,
    )
    catalogue = catalogue_lib.Catalogue(args.mixtures or [])
    # The user's modules have imported SeqIO if they register its tasks; for
    # anybody else its seconds would be lost.
    if args.imports and 'seqio' in sys.modules:
      from flan_jax.data import seqio_bridge

      seqio_bridge.add_registered(catalogue)
    return cls(
        catalogue=catalogue,
        store=rows.RowStore(args.cache_dir, settings),
        flags=_flags(args),
    )


def _flags(args: argparse.Namespace) -> str:
  """Returns the data flags as they would be typed, each after a space."""
  given = [('mixtures', path) for path in args.mixtures or []]
  given += [('import', name) for name in args.imports or []]
  given += [
      (name, getattr(args, name))
      for name in ('tfds_data_dir', 'data_dir', 'cache_dir')
      if getattr(args, name)
  ]
  return ''.join(f' --{name}={shlex.quote(value)}' for name, value in given)


def import_modules(names: list[str]) -> None:
  """Imports the user's own modules, also from the working directory.

  Raises:
    UserError: There is no such module.
  """
  # A console script, unlike `python -m`, does not look there.
  here = os.getcwd()
  if here not in sys.path and '' not in sys.path:
    sys.path.insert(0, here)
  for name in names:
    try:
      importlib.import_module(name)
    except ModuleNotFoundError as error:
      # A module that is there, but lacks one of its own, is not this mistake.
      if error.name is None or not f'{name}.'.startswith(f'{error.name}.'):
        raise
      raise errors.UserError(
          f"--import={name}: no module '{error.name}' from here ({here}) or"
          ' among the installed packages'
      ) from error
