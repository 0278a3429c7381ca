"""What of a text a vocabulary loses: T5's lose line breaks, tabs and braces."""

import collections
from collections.abc import Iterable

from flan_jax.vocabularies import base
from flan_jax.vocabularies import literals

_NAMES = {'\n': 'line breaks', '\t': 'tabs', '\r': 'carriage returns'}
_SHOWN = 4
# Less than this share is not worth a line.
_LEAST = 1e-4


def counts(
    vocabulary: base.Vocabulary, texts: Iterable[str]
) -> tuple[collections.Counter[str], int]:
  """Returns how often each character that is lost stands in texts.

  A character is lost where it becomes the unknown token, and white space other
  than a space where it does not come back.

  Args:
    vocabulary: The vocabulary.
    texts: Some texts.

  Returns:
    The counts, and the number of all characters.
  """
  found: collections.Counter[str] = collections.Counter()
  for text in texts:
    found.update(text)
  total = found.total()
  # Between letters, since what stands at an end may be dropped.
  probes = {character: f'a{character}a' for character in found}
  encoded = vocabulary.encode_batch(list(probes.values()))
  plain = vocabulary.unk_id in vocabulary.encode('aa')
  for (character, probe), ids in zip(probes.items(), encoded, strict=True):
    unknown = vocabulary.unk_id in ids and not plain
    gone = character.isspace() and character not in vocabulary.decode(ids)
    if not (unknown or gone) or probe == 'a a':
      del found[character]
  return found, total


def notice(
    vocabulary: base.Vocabulary, where: str, texts: Iterable[str]
) -> str | None:
  """Returns a line on what a vocabulary loses of texts; None if next to none.

  Args:
    vocabulary: The vocabulary.
    where: What the texts are of, such as a mixture.
    texts: A sample of them.
  """
  lost, total = counts(vocabulary, texts)
  if not total or lost.total() / total < _LEAST:
    return None
  most = ', '.join(
      f'{_NAMES.get(character, repr(character))} {count / total:.2%}'
      for character, count in lost.most_common(_SHOWN)
  )
  more = f' and {len(lost) - _SHOWN} more' if len(lost) > _SHOWN else ''
  names = literals.keeping(lost)
  way = (
      f'; "{literals.OPTION}{",".join(names)}" behind its path keeps these for'
      ' a model that is trained with it (docs/t5x.md)'
      if names
      else ''
  )
  return (
      f'VOCABULARY: loses {lost.total() / total:.2%} of the characters of'
      f' {where} ({most}{more}), and layout with them{way}'
  )
