"""Facts to know by heart: capitals, chemical elements, the calendar.

The splits of these datasets hold the same facts: what a model was never told
it cannot know. What differs in an evaluation is the wording of the question.
"""

from collections.abc import Iterator

from flan_jax.data.generators import sampling
from flan_jax.data.generators import words

CAPITALS: dict[str, str] = {
    'Argentina': 'Buenos Aires',
    'Austria': 'Vienna',
    'Belgium': 'Brussels',
    'Canada': 'Ottawa',
    'Chile': 'Santiago',
    'China': 'Beijing',
    'Croatia': 'Zagreb',
    'Cuba': 'Havana',
    'Denmark': 'Copenhagen',
    'Egypt': 'Cairo',
    'England': 'London',
    'Finland': 'Helsinki',
    'France': 'Paris',
    'Germany': 'Berlin',
    'Greece': 'Athens',
    'Hungary': 'Budapest',
    'India': 'New Delhi',
    'Ireland': 'Dublin',
    'Italy': 'Rome',
    'Japan': 'Tokyo',
    'Kenya': 'Nairobi',
    'Norway': 'Oslo',
    'Peru': 'Lima',
    'Poland': 'Warsaw',
    'Portugal': 'Lisbon',
    'Spain': 'Madrid',
    'Sweden': 'Stockholm',
    'Thailand': 'Bangkok',
    'Turkey': 'Ankara',
    'Vietnam': 'Hanoi',
}

ELEMENTS: dict[str, str] = {
    'aluminium': 'Al',
    'argon': 'Ar',
    'boron': 'B',
    'calcium': 'Ca',
    'carbon': 'C',
    'chlorine': 'Cl',
    'copper': 'Cu',
    'fluorine': 'F',
    'gold': 'Au',
    'helium': 'He',
    'hydrogen': 'H',
    'iodine': 'I',
    'iron': 'Fe',
    'lead': 'Pb',
    'lithium': 'Li',
    'magnesium': 'Mg',
    'mercury': 'Hg',
    'neon': 'Ne',
    'nickel': 'Ni',
    'nitrogen': 'N',
    'oxygen': 'O',
    'phosphorus': 'P',
    'potassium': 'K',
    'silicon': 'Si',
    'silver': 'Ag',
    'sodium': 'Na',
    'sulphur': 'S',
    'tin': 'Sn',
    'uranium': 'U',
    'zinc': 'Zn',
}

_STEPS = ('one', 'two', 'three')


def capitals(split: str, seed: int) -> Iterator[sampling.Row]:
  """Yields `country` and its `capital`, every country once."""
  del split, seed  # All splits hold all facts.
  for country, capital in CAPITALS.items():
    yield {'country': country, 'capital': capital}


def elements(split: str, seed: int) -> Iterator[sampling.Row]:
  """Yields `element` and its chemical `symbol`, every element once."""
  del split, seed  # All splits hold all facts.
  for element, symbol in ELEMENTS.items():
    yield {'element': element, 'symbol': symbol}


def calendar(split: str, seed: int) -> Iterator[sampling.Row]:
  """Yields the day or month `distance` ('two days after') from `start`.

  The fields are `unit` ('day' or 'month'), `distance`, `start`, `answer`.
  """
  del split, seed  # All splits hold all facts.
  for unit, names in (('day', words.DAYS), ('month', words.MONTHS)):
    for place, start in enumerate(names):
      for steps, number in enumerate(_STEPS, start=1):
        for direction, sign in (('after', 1), ('before', -1)):
          plural = '' if steps == 1 else 's'
          yield {
              'unit': unit,
              'distance': f'{number} {unit}{plural} {direction}',
              'start': start,
              'answer': names[(place + sign * steps) % len(names)],
          }
