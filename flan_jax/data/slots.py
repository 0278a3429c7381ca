"""Text with slots: `{field}` is a slot, `{{` and `}}` are literal braces."""

import re

# Braces come in pairs or around a name; any other brace is a mistake.
_TOKEN = re.compile(r'\{\{|\}\}|\{([^{}\n]*)\}|[{}]')
_NAME = re.compile(r'[a-z0-9_]+\Z')

# Literal text and slot names by turns, literal first and last (maybe empty).
Pieces = tuple[str, ...]


class SlotError(ValueError):
  """A text with slots that cannot be read; `position` is where."""

  def __init__(self, message: str, position: int):
    super().__init__(message)
    self.position = position


def split(text: str) -> Pieces:
  """Cuts a text at its slots.

  Args:
    text: A template's inputs or targets, as written in its declaration.

  Returns:
    Literal, slot name, literal, slot name, ..., literal: always an odd number
    of strings, literals at even places with their braces unescaped.

  Raises:
    SlotError: A brace stands alone, or a slot's name is not a name.
  """
  pieces = ['']
  end = 0
  for match in _TOKEN.finditer(text):
    pieces[-1] += text[end : match.start()]
    end = match.end()
    token = match.group()
    if token in ('{{', '}}'):
      pieces[-1] += token[0]
    elif match.group(1) is None:
      raise SlotError(
          f"a lone '{token}'; a literal brace is written '{token * 2}'",
          match.start(),
      )
    elif not _NAME.match(match.group(1)):
      raise SlotError(
          f"'{token}' is no field; field names are lower-case letters, digits"
          " and '_', and literal braces are written '{{' and '}}'",
          match.start(),
      )
    else:
      pieces += [match.group(1), '']
  pieces[-1] += text[end:]
  return tuple(pieces)


def join(pieces: Pieces) -> str:
  """Writes pieces back as a text that `split` cuts the same way."""
  return ''.join(
      f'{{{piece}}}'
      if place % 2
      else piece.replace('{', '{{').replace('}', '}}')
      for place, piece in enumerate(pieces)
  )


def names(pieces: Pieces) -> tuple[str, ...]:
  """Returns the slots' names, in order of appearance, with repetitions."""
  return pieces[1::2]


def without(pieces: Pieces, name: str) -> Pieces:
  """Removes a slot that has nothing to say, and the gap it would leave.

  The white space on both sides becomes one gap, the taller of the two (more
  line breaks, then more characters); at the text's start or end it goes
  altogether.
  """
  kept = [pieces[0]]
  for slot, literal in zip(pieces[1::2], pieces[2::2], strict=True):
    if slot != name:
      kept += [slot, literal]
      continue
    before = kept[-1].rstrip()
    after = literal.lstrip()
    gaps = kept[-1][len(before) :], literal[: len(literal) - len(after)]
    at_start = len(kept) == 1 and not before
    gap = max(gaps, key=lambda gap: (gap.count('\n'), len(gap)))
    kept[-1] = before + ('' if at_start else gap) + after
  if pieces[-2:-1] == (name,) and not pieces[-1].strip():
    kept[-1] = kept[-1].rstrip()
  return tuple(kept)


def fill(pieces: Pieces, name: str, value: str) -> Pieces:
  """Writes a value that is always the same into the text."""
  filled = [pieces[0]]
  for slot, literal in zip(pieces[1::2], pieces[2::2], strict=True):
    if slot == name:
      filled[-1] += value + literal
    else:
      filled += [slot, literal]
  return tuple(filled)
