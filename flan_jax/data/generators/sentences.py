"""Sentences to judge: same meaning, grammatical or not, what is asked for."""

from collections.abc import Iterator
import random

from flan_jax.data.generators import sampling
from flan_jax.data.generators import words

# Words of a pair mean the same here; words of different pairs never do.
SYNONYMS = (
    ('big', 'large'),
    ('clever', 'smart'),
    ('rich', 'wealthy'),
    ('strange', 'odd'),
)
_DESCRIBED = (
    'The {} was {}.',
    'I think that the {} is {}.',
    'The {} looks {}.',
    'Is the {} really {}?',
)
_PEOPLE = words.JOBS + words.KINDS['animal']
_PARAPHRASE_LABELS = ('yes', 'no')
# There are 576 sentence pairs that mean the same.
_PARAPHRASE_SIZES = {'test': 200, 'validation': 100, 'train': 800}

ACCEPTABILITY_LABELS = ('correct', 'wrong')
# Singular, plural.
_NOUNS = (
    ('bird', 'birds'),
    ('boy', 'boys'),
    ('cat', 'cats'),
    ('dog', 'dogs'),
    ('girl', 'girls'),
    ('horse', 'horses'),
    ('teacher', 'teachers'),
)
# Third person singular, plural, past participle.
_VERBS = (
    ('eats', 'eat', 'eaten'),
    ('falls', 'fall', 'fallen'),
    ('sings', 'sing', 'sung'),
    ('hides', 'hide', 'hidden'),
    ('swims', 'swim', 'swum'),
    ('wakes', 'wake', 'woken'),
)
_PLACES = (
    'behind the house',
    'in the garden',
    'near the river',
    'on the hill',
    'under the trees',
)
_ADJECTIVES = ('cold', 'happy', 'hungry', 'old', 'small', 'tired', 'young')

QUESTION_LABELS = ('person', 'place', 'time', 'number')
# What a question asks for shows in how it begins, seldom in one word.
_QUESTIONS: dict[str, tuple[str, ...]] = {
    'person': (
        'Who {made} the {work} in {city}?',
        'Which {job} {made} the {work} in {city}?',
        'What was the name of the {job} who {made} the {work}?',
        'Who saw {name} in the {building} of {city}?',
    ),
    'place': (
        'Where is the {work} that {name} {made}?',
        'In which city did {name} see the {job} and the {work}?',
        'Where did the {job} meet {name} after the {event}?',
        'In which country was the {work} that the {job} {made}?',
    ),
    'time': (
        'When did {name} see the {work} in {city}?',
        'In which year did {name} go to the {event} in {city}?',
        'On which day did the {job} of {city} see the {work}?',
        'When did the {job} go to the {event} in {city}?',
    ),
    'number': (
        'How many {things} are in the {building} of {city}?',
        'How many {things} did the {job} see in {city}?',
        'How much did {name} pay for the {work} in {city}?',
        'What was the number of {things} in the {building} of {city}?',
    ),
}
_FILLERS: dict[str, tuple[str, ...]] = {
    'building': ('castle', 'hotel', 'library', 'museum', 'school', 'theatre'),
    'city': words.CITIES,
    'event': ('concert', 'festival', 'game', 'lesson', 'race', 'war'),
    'job': words.JOBS,
    'made': ('built', 'designed', 'loved', 'made', 'paid for', 'sold'),
    'name': words.PEOPLE,
    'things': ('animals', 'chairs', 'paintings', 'people', 'rooms', 'windows'),
    'work': ('book', 'bridge', 'film', 'poem', 'ship', 'song', 'statue'),
}


def paraphrases(split: str, seed: int) -> Iterator[sampling.Row]:
  """Yields sentences `first` and `second`; `label` says if they mean the same.

  They differ in one word: by a synonym, or by a word that means something else.
  """

  def draw(rng: random.Random, place: int) -> sampling.Row:
    same = place % 2 == 0
    pair, other = rng.sample(SYNONYMS, 2)
    one, synonym = rng.sample(pair, 2)
    sentence, noun = rng.choice(_DESCRIBED), rng.choice(_PEOPLE)
    second = synonym if same else rng.choice(other)
    return {
        'first': sentence.format(noun, one),
        'second': sentence.format(noun, second),
        'label': _PARAPHRASE_LABELS[0 if same else 1],
    }

  return sampling.draw_rows(
      draw,
      name='paraphrases',
      split=split,
      seed=seed,
      sizes=_PARAPHRASE_SIZES,
  )


def acceptability(split: str, seed: int) -> Iterator[sampling.Row]:
  """Yields a `sentence` and whether its grammar is correct or wrong: `label`.

  The wrong ones break the agreement of subject and verb, of a determiner and
  its noun, or use another form than the past participle after has and have.
  """

  def draw(rng: random.Random, place: int) -> sampling.Row:
    wrong = place % 2
    number = rng.randrange(2)
    noun, other_noun = rng.sample(_NOUNS, 2)
    verb = rng.choice(_VERBS)
    where = rng.choice(_PLACES)
    adjective = rng.choice(_ADJECTIVES)
    broken = number ^ wrong  # The number of the word that should agree.
    these = ('This', 'These')
    has, are = ('has', 'have'), ('is', 'are')
    participle = verb[rng.randrange(2) if wrong else 2]
    sentence = rng.choice((
        f'The {noun[number]} {where} {verb[broken]}.',
        f'{these[broken]} {noun[number]} {verb[number]} {where}.',
        (
            f'The {noun[number]} and the {other_noun[rng.randrange(2)]}'
            f' {verb[1 - wrong]} {where}.'
        ),
        f'The {noun[number]} {has[number]} {participle} {where}.',
        f'The {adjective} {noun[number]} {are[broken]} {where}.',
    ))
    return {'sentence': sentence, 'label': ACCEPTABILITY_LABELS[wrong]}

  return sampling.draw_rows(draw, name='acceptability', split=split, seed=seed)


def questions(split: str, seed: int) -> Iterator[sampling.Row]:
  """Yields a `question` and what it asks for: a `label` of four."""

  def draw(rng: random.Random, place: int) -> sampling.Row:
    label = QUESTION_LABELS[place % 4]
    question = rng.choice(_QUESTIONS[label]).format(
        **{slot: rng.choice(fillers) for slot, fillers in _FILLERS.items()}
    )
    return {'question': question, 'label': label}

  return sampling.draw_rows(draw, name='questions', split=split, seed=seed)
