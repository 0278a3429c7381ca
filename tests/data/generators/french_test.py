"""French, parsed word by word with a dictionary of the test's own."""

import re

from flan_jax.data.generators import french

_NOUNS = {
    'maison': 'house f',
    'voiture': 'car f',
    'porte': 'door f',
    'fleur': 'flower f',
    'chaise': 'chair f',
    'boîte': 'box f',
    'île': 'island f',
    'chien': 'dog m',
    'chat': 'cat m',
    'livre': 'book m',
    'jardin': 'garden m',
    'bateau': 'boat m',
    'chapeau': 'hat m',
    'oiseau': 'bird m',
    'arbre': 'tree m',
    'sac': 'bag m',
}
# Masculine, feminine, and whether it stands before (b) or after (a) the noun.
_ADJECTIVES = {
    'red': 'rouge rouge a',
    'black': 'noir noire a',
    'green': 'vert verte a',
    'blue': 'bleu bleue a',
    'white': 'blanc blanche a',
    'small': 'petit petite b',
    'big': 'grand grande b',
    'pretty': 'joli jolie b',
}
_OPENINGS = {
    'je vois': 'I see',
    'nous avons': 'we have',
    'il veut': 'he wants',
    'elle cherche': 'she is looking for',
    'ils vendent': 'they sell',
}
_DETERMINERS = {
    'le': 'the m',
    'la': 'the f',
    "l'": 'the',
    'un': 'a m',
    'une': 'a f',
    'mon': 'my',
    'ma': 'my f',
    'les': 'the p',
    'mes': 'my p',
    'deux': 'two p',
}


def _translate(phrase: str) -> str:
  """Returns the English of a French phrase, or fails on any disagreement."""
  opening, rest = re.fullmatch(r'(\w+ \w+) (.+)', phrase).groups()
  determiner, *pair = rest.replace("l'", "l' ").split()
  plural = determiner in ('les', 'mes', 'deux')
  (noun_at,) = (i for i, w in enumerate(pair) if w.rstrip('sx') in _NOUNS)
  noun, adjective = pair[noun_at], pair[1 - noun_at]
  english, gender = _NOUNS[noun.rstrip('sx')].split()
  ending = ('x' if noun.rstrip('sx').endswith('eau') else 's') * plural
  assert noun == noun.rstrip('sx') + ending

  (quality,) = (
      k
      for k, v in _ADJECTIVES.items()
      if v.split()[gender == 'f'] == adjective.removesuffix('s' * plural)
  )
  assert adjective.endswith('s') == plural
  before = _ADJECTIVES[quality].endswith('b')
  assert noun_at == (1 if before else 0)

  vowel = pair[0][0] in 'aeiouîé'
  meaning = _DETERMINERS[determiner].split()
  if determiner == "l'":
    assert vowel
  elif determiner in ('le', 'la', 'ma'):
    assert not vowel
  if determiner == 'mon':
    assert gender == 'm' or vowel
  elif len(meaning) == 2 and meaning[1] != 'p':
    assert meaning[1] == gender
  if plural:
    english += 'es' if english == 'box' else 's'
  return f'{_OPENINGS[opening]} {meaning[0]} {quality} {english}'


def test_phrases_by_parsing_the_french():
  for generator in (french.english_to_french, french.french_to_english):
    for row in generator('train', 1):
      assert _translate(row['french']) == row['english'], row


def test_spots_that_a_teacher_would_mark():
  pairs = {}
  for split in ('train', 'validation', 'test'):
    for row in french.english_to_french(split, 0):
      for ouverture, opening in _OPENINGS.items():
        if row['english'].startswith(opening):
          english = row['english'].removeprefix(opening).strip()
          pairs[english] = row['french'].removeprefix(ouverture).strip()
  assert pairs['the green island'] == "l'île verte"
  assert pairs['my green island'] == 'mon île verte'
  assert pairs['my small island'] == 'ma petite île'
  assert pairs['the white boats'] == 'les bateaux blancs'
  assert pairs['a pretty flower'] == 'une jolie fleur'


def test_a_test_phrase_is_new_in_both_directions():
  seen = {row['english'] for row in french.english_to_french('train', 0)}
  seen |= {row['english'] for row in french.french_to_english('train', 0)}
  tested = {row['english'] for row in french.english_to_french('test', 0)}
  assert not seen & tested
