"""What everybody knows: sizes, kinds of things, what is done where."""

from collections.abc import Iterator
import random

from flan_jax.data.generators import sampling
from flan_jax.data.generators import words

# Typical longest side in metres. Two things are compared only where one is at
# least `_CLEARLY` times the other, so that no answer can be disputed.
LENGTHS: dict[str, float] = {
    'ant': 0.005,
    'bee': 0.015,
    'coin': 0.025,
    'egg': 0.06,
    'cup': 0.1,
    'spoon': 0.17,
    'shoe': 0.3,
    'cat': 0.5,
    'chair': 0.9,
    'door': 2.0,
    'car': 4.5,
    'bus': 12.0,
    'whale': 25.0,
    'castle': 80.0,
    'bridge': 300.0,
    'mountain': 5000.0,
}
_CLEARLY = 2.0
_PAIR_SHARES = {'test': 0.2, 'validation': 0.1}

# What somebody does only (or nearly so) in one place.
DEEDS_AT: dict[str, tuple[str, ...]] = {
    'at the beach': (
        'built a castle of sand',
        'collected shells',
        'looked at the waves',
        'swam in the sea',
    ),
    'at school': (
        'asked the teacher a question',
        'did some sums in class',
        'waited for the end of the lesson',
        'wrote on the blackboard',
    ),
    'in a restaurant': (
        'asked for the bill',
        'called the waiter',
        'ordered the soup',
        'read the menu',
    ),
    'at the station': (
        'got on the train',
        'looked for the platform',
        'missed the train',
        'waited on the platform',
    ),
    'in hospital': (
        'had an operation',
        'lay in bed with a broken leg',
        'talked to the nurse',
        'waited for the doctor',
    ),
    'on a farm': (
        'drove the tractor',
        'fed the hens',
        'milked the cows',
        'put the sheep in the barn',
    ),
    'in the library': (
        'borrowed two novels',
        'looked for a book on the shelves',
        'returned some books',
        'showed the library card',
    ),
    'at the cinema': (
        'ate popcorn in the dark',
        'bought tickets for the film',
        'watched the new film',
        'sat in front of the big screen',
    ),
}


def sizes(split: str, seed: int) -> Iterator[sampling.Row]:
  """Yields two things, `first` and `second`, and as `label` the answer.

  `question` is 'bigger' or 'smaller'. No pair of things is in two splits.
  """
  rows: list[sampling.Row] = []
  for first, a in LENGTHS.items():
    for second, b in LENGTHS.items():
      if max(a, b) < _CLEARLY * min(a, b) or first == second:
        continue
      for question in ('bigger', 'smaller'):
        answer = first if (a > b) == (question == 'bigger') else second
        rows.append({
            'question': question,
            'first': first,
            'second': second,
            'label': answer,
        })
  return sampling.divide(
      rows,
      name='sizes',
      split=split,
      seed=seed,
      group=lambda row: frozenset((row['first'], row['second'])),
      shares=_PAIR_SHARES,
  )


def odd_one_out(split: str, seed: int) -> Iterator[sampling.Row]:
  """Yields four words as `candidates`; `label` is the one of another kind."""

  def draw(rng: random.Random, place: int) -> sampling.Row:
    kind, other = rng.sample(tuple(words.KINDS), 2)
    same = rng.sample(words.KINDS[kind], 3)
    odd = rng.choice(words.KINDS[other])
    options = same[: place % 4] + [odd] + same[place % 4 :]
    return {'words': ', '.join(options), 'candidates': options, 'label': odd}

  return sampling.draw_rows(
      draw,
      name='odd_one_out',
      split=split,
      seed=seed,
      key=lambda row: frozenset(row['candidates']),
  )


def scenes(split: str, seed: int) -> Iterator[sampling.Row]:
  """Yields a `story`, three places as `candidates` and the right `label`.

  The place is not named: it follows from what people do there.
  """

  def draw(rng: random.Random, place: int) -> sampling.Row:
    options = rng.sample(tuple(DEEDS_AT), 3)
    answer = options[place % 3]
    name = rng.choice(words.PEOPLE)
    one, two = rng.sample(DEEDS_AT[answer], 2)
    pronoun = 'She' if name in words.WOMEN else 'He'
    return {
        'name': name,
        'story': f'{name} {one}. {pronoun} also {two}.',
        'candidates': options,
        'label': answer,
    }

  return sampling.draw_rows(
      draw,
      name='scenes',
      split=split,
      seed=seed,
      key=lambda row: (row['story'], frozenset(row['candidates'])),
  )
