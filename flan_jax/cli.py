"""The `flan-jax` command: parses arguments (`commands/`), and nothing else.

Nothing slow is imported here: `--help` and a mistyped flag answer at once, and
each command's module is imported when it runs.
"""

import argparse
from collections.abc import Sequence
import importlib
import os
import sys
from typing import NoReturn

import flan_jax
from flan_jax import errors
from flan_jax.commands import arguments
from flan_jax.commands import data
from flan_jax.commands import engine

_EPILOG = """\
first steps:
  flan-jax tasks                    what there is to train and evaluate on
  flan-jax show mini_capitals       how its examples read
  flan-jax train --gin_file=gin/examples/mini.gin --gin.MODEL_DIR=runs/mini
  flan-jax eval --checkpoint=runs/mini --output=runs/mini/eval

Run `flan-jax COMMAND --help` for the arguments of a command.
"""


class _Parser(argparse.ArgumentParser):
  """An argument parser whose errors are one line, with the nearest flags."""

  def __init__(self, *args, **kwargs):
    kwargs.setdefault('allow_abbrev', False)
    kwargs.setdefault('formatter_class', argparse.RawDescriptionHelpFormatter)
    super().__init__(*args, **kwargs)

  def error(self, message: str) -> NoReturn:
    self.exit(2, f'{self.prog}: error: {message}; see {self.prog} --help\n')

  def flags(self) -> list[str]:
    return sorted(self._option_string_actions)


def parser() -> argparse.ArgumentParser:
  """Returns the parser of the whole command line."""
  top = _Parser(
      prog='flan-jax',
      description='Instruction tuning in JAX.',
      epilog=_EPILOG,
  )
  top.add_argument(
      '--version', action='version', version=f'flan-jax {flan_jax.__version__}'
  )
  commands = top.add_subparsers(
      title='commands', metavar='COMMAND', required=True, parser_class=_Parser
  )
  for add in (
      engine.train,
      engine.compile,
      engine.infer,
      engine.ask,
      engine.eval,
      engine.compare,
      engine.convert,
      data.tasks,
      data.show,
      data.mixture,
      data.prepare,
      data.check,
      data.document,
      data.vocabulary,
  ):
    add(commands)
  for command in commands.choices.values():
    command.set_defaults(command_parser=command)
  return top


def _join_gin_flags(argv: Sequence[str]) -> list[str]:
  """Turns T5X's `--gin.NAME=VALUE` and `--gin.NAME VALUE` into one flag."""
  joined = []
  rest = iter(argv)
  for argument in rest:
    if not argument.startswith('--gin.'):
      joined.append(argument)
      continue
    binding = argument.removeprefix('--gin.')
    if '=' not in binding:
      value = next(rest, None)
      if value is None:
        raise errors.UserError(f'{argument}: needs a value: {argument}=VALUE')
      binding = f'{binding}={value}'
    joined.append(f'--gin_bindings={binding}')
  return joined


def parse(argv: Sequence[str]) -> argparse.Namespace:
  """Returns the arguments; exits with 2 and one line where they are wrong."""
  args, unknown = parser().parse_known_args(_join_gin_flags(argv))
  if unknown:
    command = args.command_parser
    name = unknown[0].partition('=')[0]
    command.error(
        f'unknown argument {name}.{errors.nearest(name, command.flags())}'
        .rstrip('?.')
    )
  if hasattr(args, 'gin_file') and not args.gin_file and args.default_gin_file:
    args.gin_file = [args.default_gin_file]
  for flag, macro in (getattr(args, 'shorthands', None) or {}).items():
    value = getattr(args, flag.removeprefix('--'))
    if value is not None:
      args.gin_bindings.append(f'{macro}={value}')
  if hasattr(args, 'gin_bindings'):
    args.gin_bindings += arguments.decoding_bindings(args)
  return args


def main(argv: Sequence[str] | None = None) -> int:
  """Runs one command; returns its exit code (2 for the user's mistakes)."""
  try:
    args = parse(sys.argv[1:] if argv is None else argv)
    module, _, function = args.run.partition(':')
    return getattr(importlib.import_module(module), function)(args) or 0
  except errors.UserError as error:
    print(f'flan-jax: error: {error}', file=sys.stderr)
    return 2
  except BrokenPipeError:
    # Whoever read our output (head, less) has seen enough. Python would
    # complain when it flushes stdout at exit, so it flushes into nothing.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
  except KeyboardInterrupt:
    print('flan-jax: interrupted', file=sys.stderr)
    return 130
