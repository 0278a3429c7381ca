"""Stories of two or three sentences, and questions that they answer."""

from collections.abc import Iterator
import random

from flan_jax.data.generators import sampling
from flan_jax.data.generators import words

_ROOMS = (
    'attic',
    'bathroom',
    'bedroom',
    'cellar',
    'garage',
    'garden',
    'hall',
    'kitchen',
    'office',
    'park',
)
_GIFTS = (
    'bag',
    'ball',
    'book',
    'clock',
    'doll',
    'hat',
    'kite',
    'lamp',
    'puzzle',
    'ring',
    'scarf',
    'watch',
)

# Sentences in which `it` can only mean one of two things, and why.
_THINGS = ('bag', 'ball', 'book', 'clock', 'doll', 'hat', 'lamp', 'puzzle')
_BOXES = ('basket', 'box', 'case', 'drawer')

# Frames whose last clause speaks of the first or of the second person.
_FRAMES: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    (
        '{one} could not lift {two} because {pronoun} was {clue}.',
        ('too weak', 'too tired'),
        ('too heavy', 'too big'),
    ),
    (
        '{one} beat {two} in the race because {pronoun} was {clue}.',
        ('fast', 'quick'),
        ('slow', 'tired'),
    ),
    (
        '{one} lent {two} some money because {pronoun} was {clue}.',
        ('rich', 'generous'),
        ('poor', 'in need'),
    ),
    (
        '{one} taught {two} the game because {pronoun} {clue}.',
        ('knew the rules', 'was a teacher'),
        ('wanted to learn', 'was a beginner'),
    ),
    (
        '{one} thanked {two} because {pronoun} {clue}.',
        ('was grateful', 'had got a present'),
        ('had helped', 'had brought a present'),
    ),
)
# There are 2,304 sentences in all.
_PRONOUN_SIZES = {'test': 200, 'validation': 100, 'train': 1500}


def whereabouts(split: str, seed: int) -> Iterator[sampling.Row]:
  """Yields a `story` of who is where, a `name`, and the room as `answer`."""

  def draw(rng: random.Random, place: int) -> sampling.Row:
    del place
    names, rooms = rng.sample(words.PEOPLE, 2), rng.sample(_ROOMS, 2)
    asked = rng.randrange(2)
    story = ' '.join(
        f'{name} is in the {room}.'
        for name, room in zip(names, rooms, strict=True)
    )
    return {
        'story': story,
        'name': names[asked],
        'answer': f'in the {rooms[asked]}',
    }

  return sampling.draw_rows(draw, name='whereabouts', split=split, seed=seed)


def presents(split: str, seed: int) -> Iterator[sampling.Row]:
  """Yields a `story` of who got what, a `name`, and the gift as `answer`."""

  def draw(rng: random.Random, place: int) -> sampling.Row:
    del place
    names, gifts = rng.sample(words.PEOPLE, 2), rng.sample(_GIFTS, 2)
    asked = rng.randrange(2)
    story = ' '.join(
        f'{name} got a {gift}.' for name, gift in zip(names, gifts, strict=True)
    )
    return {
        'story': story,
        'name': names[asked],
        'answer': f'a {gifts[asked]}',
    }

  return sampling.draw_rows(draw, name='presents', split=split, seed=seed)


def trips(split: str, seed: int) -> Iterator[sampling.Row]:
  """Yields a `story` of who went where, a `name`, and the city as `answer`."""

  def draw(rng: random.Random, place: int) -> sampling.Row:
    del place
    names, cities = rng.sample(words.PEOPLE, 2), rng.sample(words.CITIES, 2)
    asked = rng.randrange(2)
    story = ' '.join(
        f'{name} went to {city}.'
        for name, city in zip(names, cities, strict=True)
    )
    return {'story': story, 'name': names[asked], 'answer': cities[asked]}

  return sampling.draw_rows(draw, name='trips', split=split, seed=seed)


def pronouns(split: str, seed: int) -> Iterator[sampling.Row]:
  """Yields a `sentence`, its `pronoun`, two `candidates` and the `label`.

  Both candidates fit the pronoun; what is said of it decides.
  """

  def draw(rng: random.Random, place: int) -> sampling.Row:
    asked = place % 2
    if rng.randrange(4) == 0:
      options = [rng.choice(_THINGS), rng.choice(_BOXES)]
      pronoun = 'it'
      clue = 'too big' if asked == 0 else 'too small'
      sentence = (
          f'The {options[0]} does not fit in the {options[1]} because it is'
          f' {clue}.'
      )
    else:
      group = rng.choice((words.WOMEN, words.MEN))
      options = rng.sample(group, 2)
      pronoun = 'she' if group is words.WOMEN else 'he'
      frame, first_clues, second_clues = rng.choice(_FRAMES)
      clue = rng.choice((first_clues, second_clues)[asked])
      sentence = frame.format(
          one=options[0], two=options[1], pronoun=pronoun, clue=clue
      )
    answer = options[asked]
    rng.shuffle(options)  # The order shown must not give the answer away.
    return {
        'sentence': sentence,
        'pronoun': pronoun,
        'candidates': options,
        'label': answer,
    }

  return sampling.draw_rows(
      draw,
      name='pronouns',
      split=split,
      seed=seed,
      key=lambda row: row['sentence'],
      sizes=_PRONOUN_SIZES,
  )
