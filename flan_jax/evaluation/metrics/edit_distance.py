"""How far a written text is from the accepted one, in single characters."""

from collections.abc import Sequence

from flan_jax.evaluation.metrics import tally
from flan_jax.evaluation.metrics import text


def edit_distance(
    references: Sequence[Sequence[str]], predictions: Sequence[str]
) -> tally.Tally:
  """The mean normalised edit distance, and its complement, in percent.

  A distance is the least number of characters to insert, delete or replace
  (Levenshtein 1966) over the length of the longer text: 0 for equal texts,
  100 for texts that share nothing. The nearest reference counts; runs of
  whitespace are one space (`text.normalize_whitespace`), and case and
  punctuation count. (T5's edit distance is over lower-case words without
  punctuation, so it sees nothing of what the data sets ask for that train
  case and punctuation.)

  Args:
    references: The accepted texts of each example.
    predictions: What the model wrote for each example.

  Raises:
    ValueError: As `text.exact_match`.
  """
  text.check(references, predictions)
  far = []
  for accepted, prediction in zip(references, predictions, strict=True):
    written = text.normalize_whitespace(prediction)
    far.append(
        min(
            _normalised(text.normalize_whitespace(reference), written)
            for reference in accepted
        )
    )
  return tally.of_means({
      'edit_similarity': [1.0 - share for share in far],
      'edit_distance': far,
  })


def _normalised(first: str, second: str) -> float:
  longer = max(len(first), len(second))
  return levenshtein(first, second) / longer if longer else 0.0


def levenshtein(first: str, second: str) -> int:
  """Returns the edit distance of two texts in characters.

  A column of the dynamic programme is two integers, whose bits say where it
  rises and falls by one from cell to cell (Myers 1999; the form without blocks
  of Hyyrö 2003), so a text of a few hundred characters takes tenths of a
  millisecond.
  """
  if not first or not second:
    return len(first) + len(second)
  where: dict[str, int] = {}
  for place, character in enumerate(first):
    where[character] = where.get(character, 0) | 1 << place
  every = (1 << len(first)) - 1
  last = 1 << (len(first) - 1)
  rises, falls, distance = every, 0, len(first)
  for character in second:
    equal = where.get(character, 0)
    diagonal = (((equal & rises) + rises) ^ rises) | equal
    up = falls | (every & ~(diagonal | rises))
    down = rises & diagonal
    distance += bool(up & last) - bool(down & last)
    up = (up << 1 | 1) & every
    down = (down << 1) & every
    unchanged = equal | falls
    rises = down | (every & ~(unchanged | up))
    falls = up & unchanged
  return distance
