"""Premises and hypotheses: does the one follow from the other?"""

from collections.abc import Iterator
import random

from flan_jax.data.generators import sampling
from flan_jax.data.generators import words

_DEEDS = ('bought', 'drew', 'found', 'saw', 'sold')

# Each pair is one scale, read from both ends.
_SCALES = (
    ('taller', 'shorter'),
    ('older', 'younger'),
    ('faster', 'slower'),
    ('richer', 'poorer'),
    ('stronger', 'weaker'),
)
COMPARISON_LABELS = ('yes', 'no', 'maybe')


def entailment(split: str, seed: int) -> Iterator[sampling.Row]:
  """Yields a `premise`, a `hypothesis` that names a kind, `label` yes or no.

  'Anna bought a pear and a saw.' entails 'Anna bought a tool.', and does not
  entail 'Anna bought an animal.'
  """

  def draw(rng: random.Random, place: int) -> sampling.Row:
    kinds = rng.sample(tuple(words.KINDS), 3)
    name, deed = rng.choice(words.PEOPLE), rng.choice(_DEEDS)
    first, second = (
        words.with_article(rng.choice(words.KINDS[kind])) for kind in kinds[:2]
    )
    follows = place % 2 == 0
    kind = rng.choice(kinds[:2]) if follows else kinds[2]
    return {
        'premise': f'{name} {deed} {first} and {second}.',
        'hypothesis': f'{name} {deed} {words.with_article(kind)}.',
        'label': 'yes' if follows else 'no',
    }

  return sampling.draw_rows(draw, name='entailment', split=split, seed=seed)


def comparisons(split: str, seed: int) -> Iterator[sampling.Row]:
  """Yields a `premise`, a `hypothesis`, and `label`: yes, no or maybe.

  'Anna is taller than Ben.' entails 'Ben is shorter than Anna.', contradicts
  'Anna is shorter than Ben.' and says nothing about 'Anna is older than Ben.'
  """

  def draw(rng: random.Random, place: int) -> sampling.Row:
    label = COMPARISON_LABELS[place % 3]
    one, other, third = rng.sample(words.PEOPLE, 3)
    scale, unrelated = rng.sample(_SCALES, 2)
    end = rng.randrange(2)
    premise = f'{one} is {scale[end]} than {other}.'
    swapped = rng.randrange(2)
    pair = (other, one) if swapped else (one, other)
    if label == 'maybe':
      word = rng.choice(unrelated)
      if rng.randrange(2):
        word = rng.choice(scale)
        pair = rng.choice(((one, third), (third, one), (other, third)))
    else:
      agrees = label == 'yes'
      word = scale[end if agrees != bool(swapped) else 1 - end]
    return {
        'premise': premise,
        'hypothesis': f'{pair[0]} is {word} than {pair[1]}.',
        'label': label,
    }

  return sampling.draw_rows(draw, name='comparisons', split=split, seed=seed)
