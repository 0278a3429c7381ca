"""Arguments of the commands about tasks, mixtures and their data.

Each function adds a command to `argparse`'s subparsers, with the function that
runs it by name: its module is imported then.
"""

from typing import Any

from flan_jax.commands import arguments


def tasks(commands: Any) -> None:
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
  arguments.data(parser)
  parser.set_defaults(run='flan_jax.browse:tasks')


def show(commands: Any) -> None:
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
  arguments.vocabulary(parser)
  parser.add_argument('--json', action='store_true', help='print JSON Lines')
  arguments.data(parser)
  parser.set_defaults(run='flan_jax.browse:show')


def mixture(commands: Any) -> None:
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
  arguments.vocabulary(parser)
  parser.add_argument(
      '--prepare',
      action='store_true',
      help='read all rows that are here, not only those that are quick to read',
  )
  parser.add_argument('--json', action='store_true', help='print JSON')
  arguments.skip_missing(parser)
  arguments.data(parser)
  parser.set_defaults(run='flan_jax.composition:mixture')


def prepare(commands: Any) -> None:
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
  arguments.data(parser)
  parser.set_defaults(run='flan_jax.preparation:main')


def check(commands: Any) -> None:
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
  arguments.data(parser)
  parser.set_defaults(run='flan_jax.checking:main')


def document(commands: Any) -> None:
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
  arguments.data(parser)
  parser.set_defaults(run='flan_jax.documenting:main')


def vocabulary(commands: Any) -> None:
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
  arguments.data(parser)
  parser.set_defaults(run='flan_jax.browse:vocabulary')
