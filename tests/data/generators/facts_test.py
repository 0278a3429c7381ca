"""Facts, against the periodic table's order, calendars and time zones."""

import calendar
import datetime
import pathlib
import re

from flan_jax.data.generators import facts
import pytest

# The symbols in the order of atomic numbers, and the numbers by name.
_PERIODIC = (
    'H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni'
    ' Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I'
    ' Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt'
    ' Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U'
).split()
_ATOMIC_NUMBERS = {
    'hydrogen': 1,
    'helium': 2,
    'lithium': 3,
    'boron': 5,
    'carbon': 6,
    'nitrogen': 7,
    'oxygen': 8,
    'fluorine': 9,
    'neon': 10,
    'sodium': 11,
    'magnesium': 12,
    'aluminium': 13,
    'silicon': 14,
    'phosphorus': 15,
    'sulphur': 16,
    'chlorine': 17,
    'argon': 18,
    'potassium': 19,
    'calcium': 20,
    'iron': 26,
    'nickel': 28,
    'copper': 29,
    'zinc': 30,
    'silver': 47,
    'tin': 50,
    'iodine': 53,
    'gold': 79,
    'mercury': 80,
    'lead': 82,
    'uranium': 92,
}
# Time zones bear the name of a country's largest city, which here is another.
_NOT_THE_LARGEST = {
    'Canada',
    'China',
    'India',
    'Turkey',
    'Vietnam',
}
_ZONES = pathlib.Path('/usr/share/zoneinfo')


def test_symbols_by_atomic_number():
  assert facts.ELEMENTS == {
      name: _PERIODIC[number - 1] for name, number in _ATOMIC_NUMBERS.items()
  }


def test_capitals_that_nobody_doubts():
  spots = 'France Paris, Japan Tokyo, Canada Ottawa, Turkey Ankara, Kenya'
  spots += ' Nairobi, China Beijing, Vietnam Hanoi, Chile Santiago, Peru Lima'
  for spot in spots.split(', '):
    country, capital = spot.split()
    assert facts.CAPITALS[country] == capital
  assert facts.CAPITALS['India'] == 'New Delhi'
  assert len(set(facts.CAPITALS.values())) == len(facts.CAPITALS)


@pytest.mark.skipif(
    not (_ZONES / 'zone.tab').is_file(), reason='no time zone tables here'
)
def test_capitals_are_cities_of_their_country_by_the_time_zone_tables():
  codes = {}
  for line in (_ZONES / 'iso3166.tab').read_text().splitlines():
    if not line.startswith('#'):
      code, name = line.split('\t')
      codes[name] = code
  codes['England'] = codes['Britain (UK)']
  zones: dict[str, str] = {}
  for line in (_ZONES / 'zone.tab').read_text().splitlines():
    if not line.startswith('#'):
      code, _, zone = line.split('\t')[:3]
      zones[code] = zones.get(code, '') + zone.replace('_', ' ') + '\n'
  checked = 0
  for country, capital in facts.CAPITALS.items():
    if country in codes and country not in _NOT_THE_LARGEST:
      assert re.search(f'/{capital}$', zones[codes[country]], re.M), country
      checked += 1
  assert checked >= 20


def test_calendar_answers_by_counting_real_days_and_months():
  numbers = {'one': 1, 'two': 2, 'three': 3}
  rows = list(facts.calendar('test', 0))
  assert len(rows) == (7 + 12) * 3 * 2
  for row in rows:
    number, unit, direction = str(row['distance']).split()
    assert unit.rstrip('s') == row['unit']
    assert unit.endswith('s') == (number != 'one')
    steps = numbers[number] * (1 if direction == 'after' else -1)
    if row['unit'] == 'day':
      start = datetime.date(2024, 2, 26)  # Across the end of a leap February.
      while start.strftime('%A') != row['start']:
        start += datetime.timedelta(days=1)
      end = start + datetime.timedelta(days=steps)
      assert row['answer'] == end.strftime('%A')
    else:
      month = list(calendar.month_name).index(str(row['start']))
      date = datetime.date(2024, month, 15) + datetime.timedelta(30.44 * steps)
      assert row['answer'] == date.strftime('%B')


@pytest.mark.parametrize(
    'generator', [facts.capitals, facts.elements, facts.calendar]
)
def test_all_splits_hold_all_facts_once(generator):
  train = list(generator('train', 0))
  assert list(generator('test', 1)) == train
  assert len({tuple(row.values()) for row in train}) == len(train)
