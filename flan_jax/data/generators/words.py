"""Words that several generators share.

A small model learns a word from all the datasets that use it, so they draw
from the same lists.
"""

WOMEN = ('Anna', 'Emma', 'Julia', 'Lucy', 'Maria', 'Nora', 'Sara', 'Alice')
MEN = ('Ben', 'David', 'Leo', 'Max', 'Paul', 'Peter', 'Sam', 'Tom')
PEOPLE = WOMEN + MEN

# The kinds are told apart without doubt: nothing is in two of them.
KINDS: dict[str, tuple[str, ...]] = {
    'animal': ('cat', 'cow', 'dog', 'fox', 'goat', 'horse', 'rabbit', 'sheep'),
    'flower': ('daisy', 'lily', 'orchid', 'poppy', 'rose', 'tulip'),
    'fruit': ('apple', 'banana', 'cherry', 'lemon', 'peach', 'pear', 'plum'),
    'instrument': ('cello', 'drum', 'flute', 'guitar', 'piano', 'violin'),
    'tool': ('axe', 'drill', 'hammer', 'rake', 'saw', 'spade', 'wrench'),
    'vehicle': ('bicycle', 'bus', 'car', 'train', 'tram', 'truck', 'van'),
}
KIND_OF: dict[str, str] = {
    word: kind for kind, words in KINDS.items() for word in words
}

CITIES = (
    'Athens',
    'Berlin',
    'Cairo',
    'Dublin',
    'Lima',
    'Lisbon',
    'London',
    'Madrid',
    'Oslo',
    'Paris',
    'Rome',
    'Tokyo',
    'Vienna',
    'Warsaw',
)
JOBS = (
    'baker',
    'dentist',
    'doctor',
    'farmer',
    'lawyer',
    'nurse',
    'painter',
    'pilot',
    'singer',
    'teacher',
)
DAYS = (
    'Monday',
    'Tuesday',
    'Wednesday',
    'Thursday',
    'Friday',
    'Saturday',
    'Sunday',
)
MONTHS = (
    'January',
    'February',
    'March',
    'April',
    'May',
    'June',
    'July',
    'August',
    'September',
    'October',
    'November',
    'December',
)


def with_article(noun: str) -> str:
  """Returns 'a pear', 'an apple': by letter, which is right for our words."""
  return f'{"an" if noun[0] in "aeiou" else "a"} {noun}'
