"""The `flan-jax` command: argument parsing, and nothing else.

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


def _data_arguments(parser: argparse.ArgumentParser) -> None:
  group = parser.add_argument_group('data')
  group.add_argument(
      '--mixtures',
      action='append',
      default=[],
      metavar='PATH',
      help=(
          'a file or folder of your own declarations, or a folder of'
          ' Super-NaturalInstructions task files; repeatable'
      ),
  )
  group.add_argument(
      '--import',
      dest='imports',
      action='append',
      default=[],
      metavar='MODULE',
      help='a Python module that registers SeqIO tasks; repeatable',
  )
  group.add_argument(
      '--tfds_data_dir',
      metavar='DIR',
      help='where prepared TFDS datasets lie (default: TFDS_DATA_DIR)',
  )
  group.add_argument(
      '--data_dir',
      metavar='DIR',
      help='where the files that declarations name are looked for last',
  )
  group.add_argument(
      '--cache_dir',
      metavar='DIR',
      help=(
          'where rows are stored once read (default: FLAN_JAX_CACHE, or'
          ' ~/.cache/flan_jax)'
      ),
  )
  group.add_argument(
      '--on_error',
      choices=('raise', 'skip'),
      default='raise',
      help='what to do with a broken row: stop, or skip and count it',
  )
  group.add_argument(
      '--first_rows',
      action='store_true',
      help=(
          'where a dataset has more rows than its limit, keep the first ones,'
          ' as the released FLAN code does, and not a sample'
      ),
  )


def _vocabulary_argument(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
      '--vocabulary',
      default='mixtures/mini/mini.model',
      metavar='SPEC',
      help="a SentencePiece file, or 'bytes' (default: %(default)s)",
  )


def _skip_missing_argument(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
      '--skip_missing',
      '--skip-missing',
      action='store_true',
      help=(
          'do without the datasets whose rows are not here; what is left out is'
          ' printed and recorded'
      ),
  )


def _gin_arguments(
    parser: argparse.ArgumentParser, default_file: str | None = None
) -> None:
  group = parser.add_argument_group('configuration')
  default = f' (default: {default_file})' if default_file else ''
  group.add_argument(
      '--gin_file',
      action='append',
      default=[],
      metavar='FILE',
      help=f'a gin file, such as gin/examples/mini.gin; repeatable{default}',
  )
  group.add_argument(
      '--gin.NAME=VALUE',
      dest='_shown_in_help',
      metavar='',
      default=argparse.SUPPRESS,
      help='sets a macro or a parameter, after the files; repeatable',
  )
  group.add_argument(
      '--gin_bindings',
      action='append',
      default=[],
      metavar='NAME=VALUE',
      help='the same as --gin.NAME=VALUE; repeatable',
  )
  group.add_argument(
      '--gin_search_paths',
      action='append',
      default=[],
      metavar='DIR',
      help='a folder in which gin files are looked for; repeatable',
  )
  parser.set_defaults(default_gin_file=default_file)


def _host_arguments(parser: argparse.ArgumentParser) -> None:
  group = parser.add_argument_group(
      'hosts',
      'The same command on each of several hosts. On TPU pods, under Slurm and'
      ' Open MPI\nand in Kubernetes jobs nothing need be said: JAX finds the'
      ' hosts.',
  )
  for flags, metavar, text in (
      (
          ['--coordinator_address'],
          'HOST:PORT',
          'where host 0 is reached (default: JAX_COORDINATOR_ADDRESS)',
      ),
      (
          ['--process_count', '--num_processes'],
          'N',
          'how many hosts there are (default: JAX_NUM_PROCESSES)',
      ),
      (
          ['--process_index', '--process_id'],
          'N',
          'which of them this is, from 0 (default: JAX_PROCESS_ID)',
      ),
      (
          ['--initialization_timeout'],
          'SECONDS',
          'how long to wait for all hosts (default: 300)',
      ),
      (
          ['--heartbeat_timeout'],
          'SECONDS',
          'when to give up a host that is silent (default: 100)',
      ),
  ):
    group.add_argument(*flags, metavar=metavar, help=text)


def _train(commands) -> None:
  parser = commands.add_parser(
      'train',
      help='train a model on a mixture',
      description='Trains a model on a mixture; goes on where it stopped.',
  )
  _gin_arguments(parser)
  parser.add_argument(
      '--dry_run',
      action='store_true',
      help=(
          'print the configuration, the mixture and the parameter count, and'
          ' stop'
      ),
  )
  parser.add_argument(
      '--resume_with_changes',
      action='store_true',
      help='go on in a MODEL_DIR that holds a run with another configuration',
  )
  parser.add_argument(
      '--reset_optimizer',
      action='store_true',
      help=(
          'where the checkpoint is of another optimizer, go on with its'
          ' parameters alone'
      ),
  )
  _skip_missing_argument(parser)
  _data_arguments(parser)
  _host_arguments(parser)
  parser.set_defaults(run='flan_jax.train:main')


def _compile(commands) -> None:
  parser = commands.add_parser(
      'compile',
      help='compile the training step for a TPU slice, without one',
      description=(
          'Compiles the training step of a run for a TPU slice that need not be'
          ' there, and\nprints memory, FLOPs, bytes, collectives and a floor of'
          ' the time of a step.\nNeeds the TPU compiler (pip install'
          ' "flan_jax[tpu]"), no TPU and no data.'
      ),
  )
  _gin_arguments(parser)
  parser.add_argument(
      '--topology',
      metavar='SLICE',
      help='such as v5e:16x16 or v5e-256, v4-8, v5p:4x4x4, v6e-64',
  )
  parser.add_argument(
      '--effort',
      metavar='X',
      help=(
          'how hard the compiler tries: 0 as in training (default), -1 for a'
          ' first look in less than half of the time'
      ),
  )
  parser.add_argument('--json', action='store_true', help='print JSON')
  parser.add_argument(
      '--mixtures',
      action='append',
      default=[],
      metavar='PATH',
      help='a file or folder of your own declarations; repeatable',
  )
  parser.set_defaults(run='flan_jax.compile:main')


def _prediction_arguments(
    parser: argparse.ArgumentParser, output_macro: str
) -> None:
  group = parser.add_argument_group('shorthands for gin macros')
  shorthands = {}
  for flag, macro, metavar, text in (
      ('--checkpoint', 'CHECKPOINT_PATH', 'DIR', 'a run or one checkpoint'),
      ('--mixture', 'MIXTURE_OR_TASK_NAME', 'NAME', 'a mixture or task'),
      ('--split', 'SPLIT', 'SPLIT', 'train, validation or test'),
      ('--output', output_macro, 'DIR', 'where the results go'),
      (
          '--max_examples',
          'MAX_EXAMPLES',
          'N',
          'at most N rows of each dataset or task',
      ),
      ('--batch_size', 'BATCH_SIZE', 'N', 'examples a batch'),
  ):
    group.add_argument(flag, metavar=metavar, help=f'{macro}: {text}')
    shorthands[flag] = macro
  parser.set_defaults(shorthands=shorthands)


def _infer(commands) -> None:
  parser = commands.add_parser(
      'infer',
      help='write zero-shot predictions as JSON Lines',
      description=(
          'Writes one JSON Lines file of predictions for each task of a'
          ' mixture.'
      ),
  )
  _gin_arguments(parser, 'gin/runs/infer.gin')
  _prediction_arguments(parser, 'INFER_OUTPUT_DIR')
  parser.add_argument(
      '--overwrite',
      action='store_true',
      help='predict again where a finished file is there already',
  )
  _skip_missing_argument(parser)
  _data_arguments(parser)
  _host_arguments(parser)
  parser.set_defaults(run='flan_jax.predict:main')


def _eval(commands) -> None:
  parser = commands.add_parser(
      'eval',
      help='score a checkpoint and write a report',
      description=(
          'Scores a checkpoint on every template of a mixture, beside the'
          ' untuned model\nand the majority class; writes results.json,'
          ' predictions.jsonl and report.html.\nMacros: TEMPLATES (all,'
          ' trained or held_out) and UNTUNED_CHECKPOINT_PATH\n(default: the'
          " run's checkpoint_0; none for none)."
      ),
  )
  _gin_arguments(parser, 'gin/runs/eval.gin')
  _prediction_arguments(parser, 'EVAL_OUTPUT_DIR')
  _skip_missing_argument(parser)
  _data_arguments(parser)
  _host_arguments(parser)
  parser.set_defaults(run='flan_jax.evaluate:main')


def _compare(commands) -> None:
  parser = commands.add_parser(
      'compare',
      help='show the curves of several runs side by side',
      description=(
          'Prints the last loss, validation loss, steps and speed of runs, and'
          ' which settings\ndiffer; writes one HTML file with their curves.'
          ' Runs may still be going on.'
      ),
  )
  parser.add_argument(
      'runs', nargs='+', metavar='RUN', help="a run's folder, its MODEL_DIR"
  )
  parser.add_argument(
      '--output',
      default='compare.html',
      metavar='FILE',
      help='where the curves go (default: %(default)s)',
  )
  parser.set_defaults(run='flan_jax.compare:main')


def _tasks(commands) -> None:
  parser = commands.add_parser(
      'tasks',
      help='list datasets and mixtures',
      description='Lists the datasets and mixtures, and how tasks are named.',
  )
  parser.add_argument(
      'pattern',
      nargs='?',
      default=None,
      help='part of a name, cluster or collection, or a pattern with *',
  )
  parser.add_argument('--json', action='store_true', help='print JSON')
  _data_arguments(parser)
  parser.set_defaults(run='flan_jax.browse:tasks')


def _show(commands) -> None:
  parser = commands.add_parser(
      'show',
      help='print examples as the model reads them',
      description='Prints rendered examples of a task or mixture.',
  )
  parser.add_argument('name', help='a task or mixture, such as rte:template_3')
  parser.add_argument(
      '-n', dest='count', type=int, default=3, help='how many (default: 3)'
  )
  parser.add_argument('--seed', type=int, default=0, help='which (default: 0)')
  parser.add_argument(
      '--split',
      default='train',
      help='train, validation or test (default: train)',
  )
  parser.add_argument(
      '--sample',
      action='store_true',
      help="the declaration's made-up row under each template: needs no data",
  )
  _vocabulary_argument(parser)
  parser.add_argument('--json', action='store_true', help='print JSON Lines')
  _data_arguments(parser)
  parser.set_defaults(run='flan_jax.browse:show')


def _mixture(commands) -> None:
  parser = commands.add_parser(
      'mixture',
      help='print what a mixture is made of',
      description=(
          'Prints the tasks of a mixture with their examples, rates, and'
          ' expected shares of\nexamples and tokens; with --steps how often'
          ' each is gone through, with --run\nwhat a run has drawn, beside what'
          ' it was to draw.'
      ),
  )
  parser.add_argument(
      'name', nargs='?', help='a mixture or task, such as flan2021_no_sentiment'
  )
  parser.add_argument(
      '--run', dest='run_dir', metavar='DIR', help='a run or one checkpoint'
  )
  for flag, default, text in (
      ('--steps', None, 'training steps to estimate epochs for'),
      ('--batch_size', 128, 'packed rows in a batch (default: %(default)s)'),
      ('--inputs_length', 1024, 'tokens of inputs (default: %(default)s)'),
      ('--targets_length', 256, 'tokens of targets (default: %(default)s)'),
      ('--sample', 200, 'examples of each task to count tokens of'),
      ('--seed', 0, 'which examples (default: %(default)s)'),
  ):
    parser.add_argument(flag, type=int, default=default, metavar='N', help=text)
  parser.add_argument(
      '--split',
      help='train, validation or test (default: train; test for :held_out)',
  )
  _vocabulary_argument(parser)
  parser.add_argument(
      '--prepare',
      action='store_true',
      help='read all rows that are here, not only those that are quick to read',
  )
  parser.add_argument('--json', action='store_true', help='print JSON')
  _skip_missing_argument(parser)
  _data_arguments(parser)
  parser.set_defaults(run='flan_jax.composition:mixture')


def _prepare(commands) -> None:
  parser = commands.add_parser(
      'prepare',
      help='read datasets into the row store',
      description=(
          'Reads datasets from their sources into the row store. Training does'
          ' so on\nfirst use; this does it beforehand, with progress. What a'
          ' mixture holds out\nis read too.'
      ),
  )
  parser.add_argument('names', nargs='+', help='tasks or mixtures')
  parser.add_argument(
      '--force', action='store_true', help='read again what is stored already'
  )
  parser.add_argument(
      '--download',
      action='store_true',
      help='let TFDS fetch what is not here, into --tfds_data_dir',
  )
  _data_arguments(parser)
  parser.set_defaults(run='flan_jax.preparation:main')


def _check(commands) -> None:
  parser = commands.add_parser(
      'check',
      help='validate declarations and say which data is here',
      description=(
          'Validates declarations and templates, on real rows where the data is'
          ' here,\nand says for each dataset whether it is. TFDS rows that are'
          ' not prepared yet\nare read only when named. Exits with 2 when'
          ' something is wrong.'
      ),
  )
  parser.add_argument(
      'names', nargs='*', help='datasets or mixtures (default: all)'
  )
  parser.add_argument(
      '--similar',
      type=float,
      nargs='?',
      const=0.6,
      metavar='LEAST',
      help=(
          'also list pairs of templates whose wording is alike: the share of'
          ' their word pairs that both have, from LEAST (default: 0.6) to 1'
      ),
  )
  parser.add_argument('--json', action='store_true', help='print JSON')
  _data_arguments(parser)
  parser.set_defaults(run='flan_jax.checking:main')


def _document(commands) -> None:
  parser = commands.add_parser(
      'document',
      help='write pages about the datasets of a collection',
      description=(
          'Writes a page of Markdown for each cluster of a collection: each'
          " dataset's facts\nand its made-up row under three templates."
      ),
  )
  parser.add_argument('collection', help='such as flan2021')
  parser.add_argument(
      '--output', required=True, metavar='DIR', help='where the pages go'
  )
  parser.add_argument(
      '--check',
      action='store_true',
      help='write nothing; exit with 2 if a page there is not current',
  )
  _data_arguments(parser)
  parser.set_defaults(run='flan_jax.documenting:main')


def _vocabulary(commands) -> None:
  parser = commands.add_parser(
      'vocabulary',
      help='train a SentencePiece vocabulary on a mixture',
      description=(
          'Trains a lossless SentencePiece vocabulary on the rendered text of'
          ' a mixture.'
      ),
  )
  parser.add_argument('names', nargs='+', help='tasks or mixtures')
  parser.add_argument(
      '--output', required=True, metavar='FILE', help='the .model to write'
  )
  parser.add_argument(
      '--size', type=int, default=16000, help='pieces (default: 16000)'
  )
  parser.add_argument(
      '--max_examples',
      type=int,
      default=200_000,
      help=(
          'examples to learn from, shared equally among the names (default:'
          ' 200000)'
      ),
  )
  parser.add_argument('--seed', type=int, default=0, help='(default: 0)')
  _data_arguments(parser)
  parser.set_defaults(run='flan_jax.browse:vocabulary')


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
      _train,
      _compile,
      _infer,
      _eval,
      _compare,
      _tasks,
      _show,
      _mixture,
      _prepare,
      _check,
      _document,
      _vocabulary,
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
