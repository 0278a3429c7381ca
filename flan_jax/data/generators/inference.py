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
)
COMPARISON_LABELS = ('yes', 'no', 'maybe')


def entailment(split: str, seed: int) -> Iterator[sampling.Row]:
  """Yields a `premise`, a `hypothesis` that names a kind, `label` yes or no.

  'Anna bought a pear.' entails 'Anna bought a fruit.', and does not entail
  'Anna bought an animal.'
  """

  def draw(rng: random.Random, place: int) -> sampling.Row:
    follows = place % 2 == 0
    name, deed = rng.choice(words.PEOPLE), rng.choice(_DEEDS)
    kind, other = rng.sample(tuple(words.KINDS), 2)
    thing = rng.choice(words.KINDS[kind])
    claimed = kind if follows else other
    return {
        'premise': f'{name} {deed} {words.with_article(thing)}.',
        'hypothesis': f'{name} {deed} {words.with_article(claimed)}.',
        'label': 'yes' if follows else 'no',
    }

  return sampling.draw_rows(draw, name='entailment', split=split, seed=seed)


def comparisons(split: str, seed: int) -> Iterator[sampling.Row]:
  """Yields a `premise`, a `hypothesis`, and `label`: yes, no or maybe.

  'Anna is taller than Ben.' entails 'Ben is shorter than Anna.', contradicts
  'Ben is taller than Anna.' and says nothing about 'Ben is older than Anna.'
  """

  def draw(rng: random.Random, place: int) -> sampling.Row:
    label = COMPARISON_LABELS[place % 3]
    one, other = rng.sample(words.PEOPLE, 2)
    scale, unrelated = rng.sample(_SCALES, 2)
    end = rng.randrange(2)
    word = {
        'yes': scale[1 - end],
        'no': scale[end],
        'maybe': rng.choice(unrelated),
    }[label]
    return {
        'premise': f'{one} is {scale[end]} than {other}.',
        'hypothesis': f'{other} is {word} than {one}.',
        'label': label,
    }

  return sampling.draw_rows(draw, name='comparisons', split=split, seed=seed)
