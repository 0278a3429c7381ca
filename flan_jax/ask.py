"""Asks a model in the terminal: one prompt, or a conversation.

    flan-jax ask --checkpoint=runs/mini "Is Paris in France?"
    flan-jax ask --checkpoint=runs/mini --option=yes --option=no < prompt.txt
    flan-jax ask --checkpoint=runs/mini        # A conversation.

Answers go to stdout as their tokens come, all else to stderr.
"""

import argparse
from collections.abc import Callable, Generator, Iterator, Sequence
import contextlib
import dataclasses
import importlib.util
import math
import pathlib
import re
import sys
from typing import TYPE_CHECKING

from flan_jax import compilation
from flan_jax import configuration
from flan_jax import errors
from flan_jax import library_log
from flan_jax import partitioning
from flan_jax import paths
from flan_jax import prediction_run
from flan_jax import vocabularies
from flan_jax.checkpoints import places
from flan_jax.inference import asking
from flan_jax.inference import settings as decoding_lib

if TYPE_CHECKING:
  from flan_jax.inference import predictor as predictor_lib

_INVITATION = '> '
_COMMANDS = ('/quit', '/reset')
_BETWEEN_TURNS = '\n\n'
_INTERRUPTED = 130


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ask(asking.Writing):
  """The settings of `flan-jax ask`, beside those of `Writing`.

  Attributes:
    checkpoint_path: A run, one of its checkpoints, or a checkpoint in
      another format.
  """

  checkpoint_path: str

  def __post_init__(self):
    super().__post_init__()
    configuration.text('CHECKPOINT_PATH', self.checkpoint_path)


def main(args: argparse.Namespace) -> int:
  """Answers; returns the exit code.

  Raises:
    UserError: An argument or a setting is wrong, or the checkpoint is.
  """
  options = _options(args.option)
  prompt = args.prompt
  if prompt is None and not sys.stdin.isatty():
    prompt = _read_all()
  if prompt is not None and not prompt.strip():
    raise errors.UserError(
        'PROMPT: is empty; pass one as an argument, or on the standard input'
    )
  configuration.register(partitioning.MeshConfig)
  configuration.register(decoding_lib.Decoding)
  settings = configuration.load(
      args.gin_file, args.gin_bindings, args.gin_search_paths, entry=Ask
  ).settings
  place = places.locate(settings.checkpoint_path)
  vocabulary = place.vocabulary()
  lengths = settings.task_feature_lengths or place.run['lengths']
  with library_log.LibraryLog():
    compilation.use_cache(paths.cache_dir(args.cache_dir))
    checkpoint, predictor = _load(settings, place, lengths)
    answerer = Answerer(predictor, settings.decoding, options)
    history = History(vocabulary, lengths['inputs'], args.history)
    if prompt is not None:
      line = vocabularies.losses_notice(vocabulary, 'the prompt', [prompt])
      if line is not None:
        _say(line)
      history.prompt(prompt)  # Says so where it is too long.
      for piece in answerer.answer(prompt):
        _write(piece)
      return 0
    _say(
        f'{checkpoint}: /reset forgets what was said, /quit (or Ctrl-D) ends,'
        ' Ctrl-C stops an answer'
    )
    return converse(answerer, history)


def _options(given: Sequence[str] | None) -> tuple[str, ...]:
  """Returns the options to choose from.

  Raises:
    UserError: One is empty or there twice.
  """
  for option in given or ():
    if not option.strip():
      raise errors.UserError('--option: must not be empty')
    if list(given or ()).count(option) > 1:
      raise errors.UserError(f'--option: {option!r} is there twice')
  return tuple(given or ())


def _read_all() -> str:
  """Returns the standard input, without the end of its last line.

  Raises:
    UserError: It is no UTF-8.
  """
  try:
    return sys.stdin.buffer.read().decode('utf-8').removesuffix('\n')
  except UnicodeDecodeError as error:
    raise errors.UserError(
        f'PROMPT: byte {error.object[error.start]:#04x} at {error.start} of the'
        ' standard input is not UTF-8'
    ) from error


def _load(
    settings: Ask, place: places.Place, lengths: dict[str, int]
) -> 'tuple[pathlib.Path, predictor_lib.Predictor]':
  """Returns the newest checkpoint that can be read, and its predictor."""
  from flan_jax.inference import predictor as predictor_lib

  mesh = partitioning.make_mesh(settings.mesh)

  def load(checkpoint: pathlib.Path) -> predictor_lib.Predictor:
    return predictor_lib.Predictor.from_checkpoint(
        checkpoint,
        mesh=mesh,
        use_ema=settings.use_ema,
        lengths=lengths,
        batch_size=1,
    )

  return prediction_run.newest(
      place.candidates(settings.checkpoint_path), load, _say
  )


class Answerer:
  """A model with the way it is to answer."""

  def __init__(
      self,
      predictor: 'predictor_lib.Predictor',
      decoding: decoding_lib.Decoding,
      options: Sequence[str] = (),
  ):
    self._predictor = predictor
    self._decoding = decoding
    self._options = list(options)

  def answer(self, prompt: str) -> Generator[str, None, None]:
    """Yields an answer as it comes, with a line's end.

    With options, it is a line for each of them, the likeliest first: its share
    of the probability that all of them have together, and the option.
    """
    if self._options:
      yield from self._ranked(prompt)
      return
    if self._decoding.method == 'beam':  # What its beams write may change.
      (said,) = self._predictor.generate([prompt], decoding=self._decoding)
      yield said.text
    else:
      yield from self._predictor.stream(prompt, self._decoding)
    yield '\n'

  def _ranked(self, prompt: str) -> Iterator[str]:
    (said,) = self._predictor.rank([prompt], self._options)
    scores = [
        -math.inf if score is None else score
        for score in said.option_scores or ()
    ]
    highest = max(scores)
    if highest == -math.inf:
      raise errors.UserError(
          'no option has a score that is a number; the parameters have'
          ' overflowed, or training diverged'
      )
    shares = [math.exp(score - highest) for score in scores]
    whole = sum(shares)
    for share, option in sorted(
        zip(shares, self._options, strict=True), key=lambda pair: -pair[0]
    ):
      yield f'{share / whole:>7.2%}  {option}\n'


class History:
  """What was said so far, as far as the model can read it.

  A prompt has the earlier prompts and answers before it, in their order and
  with an empty line between any two; the oldest that do not fit are left out.
  """

  def __init__(
      self,
      vocabulary: vocabularies.Vocabulary,
      length: int,
      most: int | None = None,
      say: Callable[[str], None] | None = None,
  ):
    """Begins with nothing said.

    Args:
      vocabulary: Counts tokens.
      length: How many the model reads, the end included.
      most: How many earlier prompts a prompt may have before it; None for all
        that fit.
      say: Takes a line on what is left out; by default it is written to stderr.
    """
    self._vocabulary = vocabulary
    self._length = length
    self._most = most
    self._say = say or _say
    self._turns: list[tuple[str, str]] = []

  def prompt(self, text: str) -> str:
    """Returns what the model is to read, for the user to have said `text`."""
    size = self._size(text)
    if size > self._length:
      self._say(
          f'the prompt has {size:,} tokens, of which the model reads the first'
          f' {self._length:,}'
      )
    count = len(self._turns)
    if self._most is not None:
      count = min(count, self._most)
    for first in range(len(self._turns) - count, len(self._turns)):
      joined = self._joined(first, text)
      if self._size(joined) <= self._length:
        return joined
    return text

  def add(self, text: str, answer: str) -> None:
    """Keeps a prompt with its answer."""
    self._turns.append((text, answer))

  def reset(self) -> None:
    """Forgets all."""
    self._turns.clear()

  def _joined(self, first: int, text: str) -> str:
    earlier = [part for turn in self._turns[first:] for part in turn]
    return _BETWEEN_TURNS.join([*earlier, text])

  def _size(self, text: str) -> int:
    return len(self._vocabulary.encode(text)) + 1


def converse(answerer: Answerer, history: History) -> int:
  """Answers prompts of the terminal until it is told to stop."""
  if importlib.util.find_spec('readline'):
    import readline  # noqa: F401  Lets a line be edited.
  while True:
    try:
      text = _ask().strip()
    except EOFError:
      _write('\n')
      return 0
    except KeyboardInterrupt:
      _write('\n')
      return _INTERRUPTED
    if text == '/quit':
      return 0
    if text == '/reset':
      history.reset()
    elif re.fullmatch(r'/\w*', text):
      _say(f'{text} is none of {", ".join(_COMMANDS)}')
    elif text:
      _answer(answerer, history, text)


def _answer(answerer: Answerer, history: History, text: str) -> None:
  said = []
  try:
    with contextlib.closing(answerer.answer(history.prompt(text))) as pieces:
      for piece in pieces:
        said.append(piece)
        _write(piece)
  except KeyboardInterrupt:
    _write('\n')
    _say('stopped; this prompt is forgotten')
    return
  history.add(text, ''.join(said).strip())


def _ask() -> str:
  if sys.stdout.isatty():
    return input(_INVITATION)
  print(_INVITATION, end='', file=sys.stderr, flush=True)
  return input()


def _write(text: str) -> None:
  sys.stdout.write(text)
  sys.stdout.flush()


def _say(text: str) -> None:
  print(text, file=sys.stderr, flush=True)
