"""Texts that are one token each, wherever they stand: </s>, or a line break.

A model of T5's knows no line breaks, tabs, braces and some other characters:
white space becomes one space, and the rest the unknown token. A vocabulary that
is to keep them (`PATH?keep=newline,tab,braces`) has an id for each, right above
its sentinels; T5's embedding has 28 rows there that nothing uses. So that a
space beside a brace is kept too, ' {' and the like are tokens of their own.

As in Hugging Face's tokenizers, the leftmost of such texts counts, and of those
that begin there the longest; what is between them is tokenised by itself.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import itertools
import re

from flan_jax import errors

# Two spaces, since each token is found without looking at what is beside it;
# so an indentation of an even number is kept.
_WHITE = {'newline': '\n', 'tab': '\t', 'spaces': '  '}
_SIGNS = {
    'braces': '{}',
    'angle': '<',
    'backslash': '\\',
    'backtick': '`',
    'caret': '^',
    'tilde': '~',
}
NAMES = (*_WHITE, *_SIGNS)
OPTION = '?keep='


def tokens(names: Sequence[str], where: str) -> tuple[str, ...]:
  """Returns the texts that are to be tokens, in the order of their ids.

  Args:
    names: Of `NAMES`; their order does not matter.
    where: What asks for them, for messages.

  Raises:
    UserError: One is none of them, or is there twice.
  """
  for name in names:
    if name not in NAMES:
      raise errors.UserError(
          f'{where}: keep: {name!r} is none of {", ".join(NAMES)}.'
          f'{errors.nearest(name, list(NAMES))}'
      )
  if not names or len(set(names)) < len(names):
    raise errors.UserError(
        f'{where}: keep: name each of {", ".join(NAMES)} once at most, and one'
        ' at least'
    )
  found = [_WHITE[name] for name in _WHITE if name in names]
  for name, signs in _SIGNS.items():
    if name in names:
      found += [
          before + sign + after
          for sign, before, after in itertools.product(
              signs, ('', ' '), ('', ' ')
          )
      ]
  return tuple(found)


def place(name: str) -> int:
  """Returns where a name is among `NAMES`; last if it is none of them."""
  return NAMES.index(name) if name in NAMES else len(NAMES)


def keeping(characters: Iterable[str]) -> list[str]:
  """Returns the names of what keeps characters, as far as there are any."""
  lost = set(characters)
  whole = {**_WHITE, **_SIGNS}
  return [name for name, signs in whole.items() if lost & (set(signs) - {' '})]


def split(spec: str) -> tuple[str, tuple[str, ...]]:
  """Returns a vocabulary's path, and the names of what it is to keep."""
  path, option, names = spec.partition(OPTION)
  return path, tuple(filter(None, names.split(','))) if option else ()


class Literals:
  """Finds texts that are one token each."""

  def __init__(self, ids: Mapping[str, int]):
    """Takes the id of each text."""
    self._ids = dict(ids)
    longest = sorted(ids, key=len, reverse=True)
    self._pattern = re.compile('|'.join(map(re.escape, longest)) or '(?!)')

  def within(self, text: str) -> bool:
    """Whether one of them is in a text."""
    return self._pattern.search(text) is not None

  def parts(self, text: str) -> Iterator[str | int]:
    """Yields the ids of those in a text, and the texts between them."""
    place = 0
    for match in self._pattern.finditer(text):
      if match.start() > place:
        yield text[place : match.start()]
      yield self._ids[match.group()]
      place = match.end()
    if place < len(text):
      yield text[place:]
