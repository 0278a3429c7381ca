"""Arguments of the commands that train, predict and evaluate.

Each function adds a command to `argparse`'s subparsers, with the function that
runs it by name: its module is imported then.
"""

import argparse
from collections.abc import Sequence
from typing import Any

from flan_jax.commands import arguments


def train(commands: Any) -> None:
  parser = commands.add_parser(
      'train',
      help='train a model on a mixture',
      description='Trains a model on a mixture; goes on where it stopped.',
  )
  arguments.gin(parser)
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
  arguments.skip_missing(parser)
  arguments.data(parser)
  arguments.hosts(parser)
  parser.set_defaults(run='flan_jax.train:main')


def compile(commands: Any) -> None:
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
  arguments.gin(parser)
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


class _Checkpoints(argparse.Action):
  """One checkpoint is CHECKPOINT_PATH, several are CHECKPOINT_PATHS."""

  def __call__(self, parser, namespace, values, option_string=None):
    several = namespace.checkpoints or []
    if namespace.checkpoint is not None:
      several = [namespace.checkpoint]
    if several:
      namespace.checkpoint, namespace.checkpoints = None, [*several, values]
    else:
      namespace.checkpoint = values


def _prediction_arguments(
    parser: argparse.ArgumentParser,
    output_macro: str,
    *,
    several: bool = False,
    more: Sequence[tuple[str, str, str, str]] = (),
) -> None:
  """Adds flags that stand for macros.

  Args:
    parser: The command's.
    output_macro: What --output means.
    several: Whether --checkpoint may be there more than once.
    more: Further flags: name, macro, the value in the help, and the help.
  """
  group = parser.add_argument_group('shorthands for gin macros')
  shorthands: dict[str, str] = {}
  if several:
    group.add_argument(
        '--checkpoint',
        action=_Checkpoints,
        metavar='[LABEL=]DIR',
        help=(
            'CHECKPOINT_PATH: a run or checkpoint, of any format; repeatable,'
            ' then CHECKPOINT_PATHS'
        ),
    )
    parser.set_defaults(checkpoints=None)
    shorthands['--checkpoints'] = 'CHECKPOINT_PATHS'
  else:
    group.add_argument(
        '--checkpoint',
        metavar='DIR',
        help='CHECKPOINT_PATH: a run or checkpoint, of any format',
    )
  shorthands['--checkpoint'] = 'CHECKPOINT_PATH'
  for flag, macro, metavar, text in (
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
      *more,
  ):
    group.add_argument(flag, metavar=metavar, help=f'{macro}: {text}')
    shorthands[flag] = macro
  parser.set_defaults(shorthands=shorthands)


def infer(commands: Any) -> None:
  parser = commands.add_parser(
      'infer',
      help='write zero-shot predictions as JSON Lines',
      description=(
          'Writes one JSON Lines file of predictions for each task of a'
          ' mixture, or for a file of\nprompts. Killed and started again, it'
          ' goes on where it was.'
      ),
  )
  arguments.gin(parser, 'gin/runs/infer.gin')
  _prediction_arguments(
      parser,
      'INFER_OUTPUT_DIR',
      more=[
          (
              '--input',
              'INPUT_FILE',
              'FILE',
              (
                  'JSON Lines with inputs and maybe options, targets and id; or'
                  ' text, a prompt a line'
              ),
          ),
          (
              '--block_size',
              'BLOCK_SIZE',
              'N',
              'examples that are written at once',
          ),
      ],
  )
  arguments.decoding(parser)
  parser.add_argument(
      '--overwrite',
      action='store_true',
      help='predict again what is there already',
  )
  group = parser.add_argument_group(
      'shards', 'For several programs that share nothing but the directory.'
  )
  group.add_argument(
      '--num_shards', type=int, metavar='N', help='how many of them there are'
  )
  group.add_argument(
      '--shard',
      type=int,
      metavar='I',
      help='which of them this is, from 0: it predicts its share',
  )
  group.add_argument(
      '--join',
      metavar='DIR',
      help='join the files of all shards in DIR, and predict nothing',
  )
  arguments.skip_missing(parser)
  arguments.data(parser)
  arguments.hosts(parser)
  parser.set_defaults(run='flan_jax.predict:main')


def ask(commands: Any) -> None:
  parser = commands.add_parser(
      'ask',
      help='answer a prompt, or hold a conversation in the terminal',
      description=(
          'Answers one prompt, from the argument or from the standard input;'
          ' without either, holds\na conversation in the terminal. With'
          ' --option, ranks the options by their probability.'
      ),
  )
  parser.add_argument(
      'prompt', nargs='?', metavar='PROMPT', help='what to answer'
  )
  arguments.gin(parser, 'gin/runs/ask.gin')
  parser.add_argument(
      '--checkpoint',
      metavar='DIR',
      help='CHECKPOINT_PATH: a run or checkpoint, of any format',
  )
  parser.set_defaults(shorthands={'--checkpoint': 'CHECKPOINT_PATH'})
  parser.add_argument(
      '--option',
      action='append',
      metavar='TEXT',
      help='an answer to choose from; repeatable',
  )
  parser.add_argument(
      '--history',
      type=_count,
      metavar='N',
      help=(
          'in a conversation, how many earlier prompts the model reads with'
          ' each prompt (default: all that fit)'
      ),
  )
  arguments.decoding(parser)
  parser.add_argument(
      '--cache_dir',
      metavar='DIR',
      help='where compiled programs are kept (default: FLAN_JAX_CACHE)',
  )
  parser.set_defaults(run='flan_jax.ask:main')


def _count(text: str) -> int:
  if not text.isdecimal():
    raise argparse.ArgumentTypeError(f'must be 0 or more, not {text!r}')
  return int(text)


def eval(commands: Any) -> None:
  parser = commands.add_parser(
      'eval',
      help='score checkpoints and write a report',
      description=(
          'Scores checkpoints on every template of a mixture, beside the'
          ' untuned models,\nthe majority class and random choice; writes'
          ' results.json, predictions.jsonl,\nvalidation.jsonl and report.html.'
          ' Killed and started again it goes on.\n\nMacros: TEMPLATES (all,'
          ' trained or held_out), SHOTS (such as (0, 1, 5)),\nBASELINES'
          ' (no_template, name_only), BEST_TEMPLATE (True) and\n'
          "UNTUNED_CHECKPOINT_PATH (each run's checkpoint_0; none for none)."
      ),
  )
  arguments.gin(parser, 'gin/runs/eval.gin')
  _prediction_arguments(parser, 'EVAL_OUTPUT_DIR', several=True)
  arguments.skip_missing(parser)
  arguments.data(parser)
  arguments.hosts(parser)
  parser.set_defaults(run='flan_jax.evaluate:main')


def compare(commands: Any) -> None:
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


def convert(commands: Any) -> None:
  parser = commands.add_parser(
      'convert',
      help='turn a checkpoint of one format into one of another',
      description=(
          'Turns a checkpoint of one format into one of another:\n  huggingface'
          '  a folder with config.json and *.safetensors\n  t5x          a'
          ' checkpoint of T5X\n  native       a run of our own, a'
          ' MODEL_DIR\nWhich one SRC is in is found by looking. The page'
          ' docs/checkpoints.md says what is\ncarried along.'
      ),
  )
  parser.add_argument('source', metavar='SRC', help='the checkpoint to read')
  parser.add_argument('target', metavar='DST', help='the folder to make')
  formats = ('huggingface', 't5x', 'native')
  parser.add_argument(
      '--from',
      dest='source_format',
      choices=formats,
      help='the format of SRC, where it holds several',
  )
  parser.add_argument(
      '--to',
      dest='target_format',
      choices=(*formats, 'peft'),
      help=(
          'the format of DST (default: huggingface for a run of our own, and'
          ' native for all others); peft is the adapters of a run alone'
      ),
  )
  parser.add_argument(
      '--step', type=int, help='which checkpoint of a run (default: the newest)'
  )
  parser.add_argument(
      '--vocabulary',
      metavar='FILE',
      help="a SentencePiece model, or bytes (default: SRC's own)",
  )
  parser.add_argument(
      '--dtype',
      choices=('float32', 'bfloat16', 'float16'),
      help="of DST's tensors, for huggingface (default: as SRC has them)",
  )
  parser.add_argument(
      '--allow-missing',
      action='store_true',
      help=(
          'draw parameters that SRC lacks at random, and leave out what its'
          ' architecture does not know'
      ),
  )
  parser.set_defaults(run='flan_jax.convert:main')
