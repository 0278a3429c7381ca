"""Reviews of films and hotels whose sentiment is known: a small grammar."""

from collections.abc import Iterator, Mapping, Sequence
import random

from flan_jax.data.generators import sampling
from flan_jax.data.generators import words

LABELS = ('positive', 'negative')

_ADJECTIVES = {
    'positive': (
        'brilliant',
        'charming',
        'delightful',
        'excellent',
        'great',
        'lovely',
        'perfect',
        'pleasant',
        'superb',
        'wonderful',
    ),
    'negative': (
        'awful',
        'bad',
        'disappointing',
        'dreadful',
        'horrible',
        'poor',
        'sad',
        'terrible',
        'unpleasant',
        'weak',
    ),
}
_FILM_ADJECTIVES = {
    'positive': ('clever', 'exciting', 'funny', 'moving'),
    'negative': ('boring', 'clumsy', 'dull', 'silly'),
}
_HOTEL_ADJECTIVES = {
    'positive': ('clean', 'comfortable', 'cosy', 'quiet'),
    'negative': ('dirty', 'noisy', 'shabby', 'uncomfortable'),
}
_FILM_PARTS = ('acting', 'cast', 'ending', 'film', 'music', 'script', 'story')
_HOTEL_PARTS = ('bar', 'bedroom', 'hotel', 'lounge', 'room', 'terrace')
_FILM_REMARKS = {
    'positive': (
        'I loved every minute.',
        'I would see it again.',
        'We laughed and clapped.',
        'What a treat!',
    ),
    'negative': (
        'I hated every minute.',
        'I would not see it again.',
        'We left before the end.',
        'What a waste of time!',
    ),
}
_HOTEL_REMARKS = {
    'positive': (
        'I loved every minute.',
        'I would stay there again.',
        'What a treat!',
    ),
    'negative': (
        'I hated every minute.',
        'I would not stay there again.',
        'What a waste of money!',
    ),
}


def films(split: str, seed: int) -> Iterator[sampling.Row]:
  """Yields `review` of a film and its `label`, positive or negative."""

  def draw(rng: random.Random, place: int) -> sampling.Row:
    label = LABELS[place % 2]
    return {
        'review': _review(
            rng, label, _FILM_PARTS, _FILM_ADJECTIVES, _FILM_REMARKS
        ),
        'label': label,
    }

  return sampling.draw_rows(draw, name='films', split=split, seed=seed)


def hotels(split: str, seed: int) -> Iterator[sampling.Row]:
  """Yields `review` of a hotel and its `label`, positive or negative."""

  def draw(rng: random.Random, place: int) -> sampling.Row:
    label = LABELS[place % 2]
    return {
        'review': _review(
            rng, label, _HOTEL_PARTS, _HOTEL_ADJECTIVES, _HOTEL_REMARKS
        ),
        'label': label,
    }

  return sampling.draw_rows(draw, name='hotels', split=split, seed=seed)


def _review(
    rng: random.Random,
    label: str,
    parts: Sequence[str],
    adjectives: Mapping[str, tuple[str, ...]],
    remarks: Mapping[str, tuple[str, ...]],
) -> str:
  """Returns one or two sentences that all speak for `label`."""
  first, second = rng.sample(parts, 2)
  opposite = LABELS[1 - LABELS.index(label)]
  one, two = rng.sample(_ADJECTIVES[label] + adjectives[label], 2)
  other = rng.choice(_ADJECTIVES[opposite] + adjectives[opposite])
  remark = rng.choice(remarks[label])
  return rng.choice((
      f'The {first} was {one} and the {second} was {two}.',
      f'The {first} was {one}. {remark}',
      f'{remark} The {first} was really {one}.',
      f'The {first} was not {other} at all. The {second} was {one}.',
      (
          f'What {words.with_article(one)} {first}! And the {second} was not'
          f' {other}.'
      ),
  ))
