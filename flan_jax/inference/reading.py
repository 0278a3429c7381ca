"""From texts to what the model reads, and what is odd about them."""

from collections.abc import Sequence
import dataclasses
from typing import Any, cast

from flan_jax import errors
from flan_jax import vocabularies
from flan_jax.data import examples as examples_lib
from flan_jax.inference import batching
from flan_jax.inference import settings

_Given = Sequence[examples_lib.Example | str]


@dataclasses.dataclass
class Remarks:
  """What was odd about the examples so far.

  Attributes:
    cut_inputs: Inputs that were too long, and lost their end.
    cut_options: Options that were too long, and lost their end.
    equal_options: Examples two of whose options are the same; the first of them
      may be chosen, the others are not.
    empty_options: Options of no tokens: EOS alone is scored.
    not_numbers: Examples with a score that is no finite number, by task and
      row id.
  """

  cut_inputs: int = 0
  cut_options: int = 0
  equal_options: int = 0
  empty_options: int = 0
  not_numbers: list[str] = dataclasses.field(default_factory=list)

  def lines(self) -> list[str]:
    """Returns a sentence for each kind of odd texts that there was."""
    said = (
        (self.cut_inputs, 'inputs were too long and lost their end.'),
        (self.cut_options, 'options were too long and lost their end.'),
        (self.equal_options, 'examples have equal options; the first counts.'),
        (self.empty_options, 'options have no tokens; their end alone counts.'),
    )
    return [f'{count:,} {sentence}' for count, sentence in said if count]

  def unscored(self) -> str:
    """Says which examples have scores that are no numbers; '' if none."""
    count = len(self.not_numbers)
    if not count:
      return ''
    named = ', '.join(self.not_numbers[:5])
    more = f' and {count - 5:,} more' if count > 5 else ''
    return (
        f'{count:,} examples have scores that are not finite numbers, so the'
        f' model has overflowed or its training diverged: {named}{more}'
    )


class Reader:
  """Makes token ids of texts; counts or refuses what is odd.

  Attributes:
    remarks: What was odd so far.
  """

  def __init__(
      self,
      vocabulary: vocabularies.Vocabulary,
      lengths: dict[str, int],
      too_long: settings.TooLong,
  ):
    """Args are those of `predictor.Predictor`."""
    self.remarks = Remarks()
    self._vocabulary = vocabulary
    self._lengths = dict(lengths)
    self._too_long = too_long

  def inputs(
      self, examples: Sequence[examples_lib.Example]
  ) -> tuple[list[list[int]], list[int]]:
    """Returns the inputs' tokens, and how many more each had."""
    tokens, cut = self.tokens(
        [example.inputs for example in examples],
        'inputs',
        [name_of(example) for example in examples],
    )
    self.remarks.cut_inputs += sum(map(bool, cut))
    return tokens, cut

  def tokens(
      self, texts: Sequence[str], feature: str, names: Sequence[str]
  ) -> tuple[list[list[int]], list[int]]:
    """Returns texts' tokens with EOS, and how many more each had."""
    longest = self._lengths[feature]
    tokens, cut = batching.tokens_of(self._vocabulary, texts, longest)
    if self._too_long == 'refuse':
      for name, more in zip(names, cut, strict=True):
        if more:
          raise errors.UserError(
              f'{name}: {longest + more} tokens with their end, and the model'
              f' takes {longest}; shorten it, raise the length of {feature}, or'
              " take too_long='cut'"
          )
    return tokens, cut

  def measured(self, texts: Sequence[str], feature: str) -> list[list[int]]:
    """Returns texts' tokens as `tokens` does, without any remark."""
    return batching.tokens_of(self._vocabulary, texts, self._lengths[feature])[
        0
    ]

  def options(
      self, examples: Sequence[examples_lib.Example], given: bool
  ) -> list[list[list[int]]]:
    """Returns the tokens of each example's options.

    Args:
      examples: Examples with options.
      given: Whether the user wrote the options, who can mend them; a dataset's
        own rows are taken as they are.
    """
    for example in examples:
      if not example.options:
        raise errors.UserError(
            f'{name_of(example)}: has no options to rank; give it some, or'
            ' generate'
        )
    names = [
        f'{name_of(example)}: option {place + 1} ({option!r})'
        for example in examples
        for place, option in enumerate(example.options or ())
    ]
    tokens, cut = self.tokens(
        [option for example in examples for option in example.options or ()],
        'targets',
        names,
    )
    self.remarks.cut_options += sum(map(bool, cut))
    choices: list[list[list[int]]] = []
    done = 0
    for example in examples:
      own = slice(done, done + len(example.options or ()))
      done = own.stop
      choices.append(tokens[own])
      self._remark_on_options(tokens[own], names[own], given)
    return choices

  def _remark_on_options(
      self, tokens: list[list[int]], names: list[str], given: bool
  ) -> None:
    """Counts or refuses options that are equal or empty."""
    seen: dict[tuple[int, ...], str] = {}
    equal = False
    for ids, name in zip(tokens, names, strict=True):
      if len(ids) == 1:
        if given:
          raise errors.UserError(
              f'{name}: has no tokens, so there is nothing to score; leave it'
              ' out'
          )
        self.remarks.empty_options += 1
      before = seen.setdefault(tuple(ids), name)
      if before is not name:
        if given:
          raise errors.UserError(
              f'{name}: is the same to the model as option'
              f' {before.rpartition(": option ")[2]}; leave one of them out'
          )
        equal = True
    self.remarks.equal_options += equal


def examples_of(
    given: Sequence[examples_lib.Example] | Sequence[str],
) -> list[examples_lib.Example]:
  """Returns examples, made of texts where there are texts."""
  if isinstance(given, str):
    raise errors.UserError(
        f'inputs: must be a list of texts, not the text {given[:40]!r}; put it'
        ' into a list'
    )
  return [
      _example(each, number) if isinstance(each, str) else each
      for number, each in enumerate(cast(_Given, given), start=1)
  ]


def _example(text: str, number: int) -> examples_lib.Example:
  return examples_lib.Example(
      task='', template='', row_id=f'inputs {number}', inputs=text, targets=''
  )


def with_options(
    examples: list[examples_lib.Example],
    options: Sequence[str] | Sequence[Sequence[str]] | None,
) -> list[examples_lib.Example]:
  """Returns examples that have the options given, if they are."""
  if options is None:
    return examples
  if isinstance(options, str) or any(
      isinstance(one, str) != isinstance(options[0], str) for one in options
  ):
    raise errors.UserError(
        "options: must be a list of texts, as ['yes', 'no'], or one such list"
        ' for each of the inputs'
    )
  if not options or isinstance(options[0], str):
    each: Any = [options] * len(examples)
  else:
    each = options
  if len(each) != len(examples):
    raise errors.UserError(
        f'options: there are {len(each)} lists of options for'
        f' {len(examples)} inputs'
    )
  return [
      dataclasses.replace(example, options=tuple(own))
      for example, own in zip(examples, each, strict=True)
  ]


def name_of(example: examples_lib.Example) -> str:
  """Says which example it is."""
  return f'{example.task} {example.row_id}'.strip()
