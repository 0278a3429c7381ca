"""Arguments that several commands take."""

import argparse

from flan_jax import errors


def data(parser: argparse.ArgumentParser) -> None:
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


def vocabulary(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
      '--vocabulary',
      default='mixtures/mini/mini.model',
      metavar='SPEC',
      help="a SentencePiece file, or 'bytes' (default: %(default)s)",
  )


def skip_missing(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
      '--skip_missing',
      '--skip-missing',
      action='store_true',
      help=(
          'do without the datasets whose rows are not here; what is left out is'
          ' printed and recorded'
      ),
  )


def gin(
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


# Flag -> the method of decoding that it is for, its value in the help, and what
# it does.
_DECODING = {
    'temperature': ('sample', 'X', 'draw tokens at this temperature'),
    'top_k': ('sample', 'N', 'draw only from the N likeliest tokens'),
    'top_p': (
        'sample',
        'P',
        'draw only from the likeliest tokens that have probability P together',
    ),
    'num_beams': ('beam', 'N', 'search with N beams'),
    'max_length': ('', 'N', 'at most N tokens an answer'),
    'seed': ('', 'N', 'with the example, what drawn tokens depend on'),
}


def decoding(parser: argparse.ArgumentParser) -> None:
  """Adds shorthands for the parameters of `Decoding`."""
  group = parser.add_argument_group(
      'decoding',
      'How answers are written: greedily unless one of these says otherwise;'
      ' --gin.Decoding.NAME=VALUE\nsets the same.',
  )
  for name, (_, metavar, text) in _DECODING.items():
    group.add_argument(f'--{name}', metavar=metavar, help=text)


def decoding_bindings(args: argparse.Namespace) -> list[str]:
  """Returns what the flags of `decoding` mean, as gin bindings.

  Raises:
    UserError: Some are for sampling and others for beam search.
  """
  given = [name for name in _DECODING if getattr(args, name, None) is not None]
  methods: dict[str, str] = {}
  for name in given:
    methods.setdefault(_DECODING[name][0], name)
  methods.pop('', None)
  if len(methods) > 1:
    raise errors.UserError(
        f'--{methods["beam"]}: is for beam search, and --{methods["sample"]}'
        ' for sampling; give one of them'
    )
  return [f'Decoding.method={method}' for method in methods] + [
      f'Decoding.{name}={getattr(args, name)}' for name in given
  ]


def hosts(parser: argparse.ArgumentParser) -> None:
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
