"""A phrase grammar of English and French, with French agreement.

A phrase is an opening ('I see'), a determiner, an adjective and a noun. French
makes the determiner and the adjective agree with the noun in gender and number,
shortens `le` and `la` before a vowel, and puts most adjectives after the noun.
"""

from collections.abc import Iterator
import dataclasses
import random

from flan_jax.data.generators import sampling

_VOWELS = 'aeiouéî'


@dataclasses.dataclass(frozen=True)
class Noun:
  """A noun in both languages; `gender` is 'm' or 'f'."""

  english: str
  english_plural: str
  french: str
  french_plural: str
  gender: str


@dataclasses.dataclass(frozen=True)
class Adjective:
  """An adjective; `before` says that it stands before its noun in French."""

  english: str
  masculine: str
  feminine: str
  before: bool

  def french(self, gender: str, plural: bool) -> str:
    """Returns the form that agrees; all of ours make their plural with s."""
    form = self.masculine if gender == 'm' else self.feminine
    return f'{form}s' if plural else form


def _noun(english: str, french: str, gender: str) -> Noun:
  """Returns a noun with its plurals: x for French -eau, es for English -x."""
  return Noun(
      english,
      f'{english}{"es" if english.endswith("x") else "s"}',
      french,
      f'{french}{"x" if french.endswith("eau") else "s"}',
      gender,
  )


NOUNS = (
    _noun('house', 'maison', 'f'),
    _noun('car', 'voiture', 'f'),
    _noun('door', 'porte', 'f'),
    _noun('flower', 'fleur', 'f'),
    _noun('chair', 'chaise', 'f'),
    _noun('box', 'boîte', 'f'),
    _noun('island', 'île', 'f'),
    _noun('dog', 'chien', 'm'),
    _noun('cat', 'chat', 'm'),
    _noun('book', 'livre', 'm'),
    _noun('garden', 'jardin', 'm'),
    _noun('boat', 'bateau', 'm'),
    _noun('hat', 'chapeau', 'm'),
    _noun('bird', 'oiseau', 'm'),
    _noun('tree', 'arbre', 'm'),
    _noun('bag', 'sac', 'm'),
)
ADJECTIVES = (
    Adjective('red', 'rouge', 'rouge', False),
    Adjective('black', 'noir', 'noire', False),
    Adjective('green', 'vert', 'verte', False),
    Adjective('blue', 'bleu', 'bleue', False),
    Adjective('white', 'blanc', 'blanche', False),
    Adjective('small', 'petit', 'petite', True),
    Adjective('big', 'grand', 'grande', True),
    Adjective('pretty', 'joli', 'jolie', True),
)
OPENINGS = (
    ('I see', 'je vois'),
    ('we have', 'nous avons'),
    ('he wants', 'il veut'),
    ('she is looking for', 'elle cherche'),
    ('they sell', 'ils vendent'),
)
# English; French masculine, feminine, before a vowel; whether it is plural.
_DETERMINERS = (
    ('the', 'le', 'la', "l'", False),
    ('a', 'un', 'une', '', False),
    ('my', 'mon', 'ma', 'mon', False),
    ('the', 'les', 'les', '', True),
    ('my', 'mes', 'mes', '', True),
    ('two', 'deux', 'deux', '', True),
)


def english_to_french(split: str, seed: int) -> Iterator[sampling.Row]:
  """Yields `english` and its translation `french`."""
  return _rows(split, seed)


def french_to_english(split: str, seed: int) -> Iterator[sampling.Row]:
  """Yields `french` and its translation `english`."""
  return _rows(split, seed)


def _rows(split: str, seed: int) -> Iterator[sampling.Row]:
  # The same phrases for both directions: a test phrase is new in either.
  def draw(rng: random.Random, place: int) -> sampling.Row:
    del place
    opening, ouverture = rng.choice(OPENINGS)
    determiner = rng.choice(_DETERMINERS)
    adjective, noun = rng.choice(ADJECTIVES), rng.choice(NOUNS)
    english = _english_phrase(determiner, adjective, noun)
    french = _french_phrase(determiner, adjective, noun)
    return {
        'english': f'{opening} {english}',
        'french': f'{ouverture} {french}',
    }

  return sampling.draw_rows(draw, name='french', split=split, seed=seed)


def _english_phrase(
    determiner: tuple[str, str, str, str, bool],
    adjective: Adjective,
    noun: Noun,
) -> str:
  head = noun.english_plural if determiner[-1] else noun.english
  return f'{determiner[0]} {adjective.english} {head}'


def _french_phrase(
    determiner: tuple[str, str, str, str, bool],
    adjective: Adjective,
    noun: Noun,
) -> str:
  _, masculine, feminine, before_vowel, plural = determiner
  head = noun.french_plural if plural else noun.french
  agreed = adjective.french(noun.gender, plural)
  rest = f'{agreed} {head}' if adjective.before else f'{head} {agreed}'
  if before_vowel and rest[0] in _VOWELS:
    gap = '' if before_vowel.endswith("'") else ' '
    return f'{before_vowel}{gap}{rest}'
  return f'{masculine if noun.gender == "m" else feminine} {rest}'
