"""Stories of two or three sentences, and questions that they answer."""

from collections.abc import Iterator
import random

from flan_jax.data.generators import sampling
from flan_jax.data.generators import words

_THINGS_TO_OWN = (
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
_VEHICLES = ('bus', 'car', 'train')
# Past tense, plain form.
_DEEDS = (
    ('bought', 'buy'),
    ('found', 'find'),
    ('lost', 'lose'),
    ('sold', 'sell'),
)
_REMARKS = (
    'It rained all day.',
    'It was a good day.',
    'It was late and dark.',
    'The sun was out.',
    'There were many people.',
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


def events(split: str, seed: int) -> Iterator[sampling.Row]:
  """Yields a `story` of who did what, a `question`, and its `answer`."""

  def draw(rng: random.Random, place: int) -> sampling.Row:
    name, thing = rng.choice(words.PEOPLE), rng.choice(_THINGS_TO_OWN)
    city, day = rng.choice(words.CITIES), rng.choice(words.DAYS)
    did, do = rng.choice(_DEEDS)
    question, answer = (
        (f'Who {did} a {thing}?', name),
        (f'What did {name} {do}?', f'a {thing}'),
        (f'Where did {name} {do} a {thing}?', city),
        (f'When did {name} {do} a {thing}?', day),
    )[place % 4]
    news = rng.choice((
        f'On {day} {name} {did} a {thing} in {city}.',
        f'{name} {did} a {thing} in {city} on {day}.',
    ))
    return _ask(rng, news, question, answer)

  return sampling.draw_rows(
      draw, name='events', split=split, seed=seed, key=_story_and_question
  )


def presents(split: str, seed: int) -> Iterator[sampling.Row]:
  """Yields a `story` of a present, a `question`, and its `answer`."""

  def draw(rng: random.Random, place: int) -> sampling.Row:
    giver, taker = rng.sample(words.PEOPLE, 2)
    thing, month = rng.choice(_THINGS_TO_OWN), rng.choice(words.MONTHS)
    question, answer = (
        (f'Who gave the {thing} away?', giver),
        (f'Who got the {thing}?', taker),
        (f'What did {taker} get?', f'a {thing}'),
        (f'When did {taker} get the {thing}?', month),
    )[place % 4]
    news = rng.choice((
        f'In {month} {giver} gave a {thing} to {taker}.',
        f'{taker} got a {thing} from {giver} in {month}.',
    ))
    return _ask(rng, news, question, answer)

  return sampling.draw_rows(
      draw, name='presents', split=split, seed=seed, key=_story_and_question
  )


def trips(split: str, seed: int) -> Iterator[sampling.Row]:
  """Yields a `story` of a journey, a `question`, and its `answer`."""

  def draw(rng: random.Random, place: int) -> sampling.Row:
    name, city = rng.choice(words.PEOPLE), rng.choice(words.CITIES)
    day, vehicle = rng.choice(words.DAYS), rng.choice(_VEHICLES)
    question, answer = (
        (f'Who went to {city}?', name),
        (f'Where did {name} go?', city),
        (f'When did {name} go to {city}?', day),
    )[place % 3]
    news = rng.choice((
        f'On {day} {name} went to {city} by {vehicle}.',
        f'{name} went to {city} by {vehicle} on {day}.',
    ))
    return _ask(rng, news, question, answer)

  return sampling.draw_rows(
      draw, name='trips', split=split, seed=seed, key=_story_and_question
  )


def _ask(
    rng: random.Random, news: str, question: str, answer: str
) -> sampling.Row:
  """Returns a row whose story is the news and a remark that is no help."""
  return {
      'story': f'{news} {rng.choice(_REMARKS)}',
      'question': question,
      'answer': answer,
  }


def _story_and_question(row: sampling.Row) -> tuple:
  return row['story'], row['question']


def pronouns(split: str, seed: int) -> Iterator[sampling.Row]:
  """Yields a `sentence`, its `pronoun`, two `candidates` and the `label`.

  In half of the rows the candidates are a woman and a man, and the pronoun
  tells which; in the others both fit it, and what is said of it decides.
  """

  def draw(rng: random.Random, place: int) -> sampling.Row:
    asked, told_by_pronoun = place % 2, place // 2 % 2
    if not told_by_pronoun and rng.randrange(5) == 0:
      candidates = [rng.choice(_THINGS), rng.choice(_BOXES)]
      pronoun = 'it'
      clue = ('too big', 'too small')[asked]
      sentence = (
          f'The {candidates[0]} does not fit in the {candidates[1]} because it'
          f' is {clue}.'
      )
    else:
      candidates = _two_people(rng, alike=not told_by_pronoun)
      pronoun = 'she' if candidates[asked] in words.WOMEN else 'he'
      frame, first_clues, second_clues = rng.choice(_FRAMES)
      clue = rng.choice((first_clues, second_clues)[asked])
      sentence = frame.format(
          one=candidates[0], two=candidates[1], pronoun=pronoun, clue=clue
      )
    label = candidates[asked]
    rng.shuffle(candidates)  # The order shown must not give the answer away.
    return {
        'sentence': sentence,
        'pronoun': pronoun,
        'candidates': candidates,
        'label': label,
    }

  return sampling.draw_rows(
      draw,
      name='pronouns',
      split=split,
      seed=seed,
      key=lambda row: str(row['sentence']),
  )


def _two_people(rng: random.Random, *, alike: bool) -> list[str]:
  """Returns two women or two men, or else one of each in any order."""
  if alike:
    return rng.sample(rng.choice((words.WOMEN, words.MEN)), 2)
  pair = [rng.choice(words.WOMEN), rng.choice(words.MEN)]
  rng.shuffle(pair)
  return pair
