"""Short news reports and their headlines."""

from collections.abc import Iterator
import random

from flan_jax.data.generators import sampling
from flan_jax.data.generators import words

_BUILDINGS = ('hotel', 'library', 'museum', 'school', 'theatre')
_ASIDES = (
    'Nobody was hurt.',
    'Many people came to look.',
    'The mayor spoke to the press.',
    'It was a warm day.',
    'It rained all day.',
)


def headlines(split: str, seed: int) -> Iterator[sampling.Row]:
  """Yields a `report` of two sentences and its `headline`.

  The headline keeps what happened, to whom and where, and drops the day and
  the remark.
  """

  def draw(rng: random.Random, place: int) -> sampling.Row:
    del place
    city, other = rng.sample(words.CITIES, 2)
    day, building = rng.choice(words.DAYS), rng.choice(_BUILDINGS)
    animal, job = rng.choice(words.KINDS['animal']), rng.choice(words.JOBS)
    news, headline = rng.choice((
        (
            f'On {day} a fire broke out in a {building} in {city}.',
            f'Fire in {city} {building}',
        ),
        (
            f'A new {building} opened in {city} on {day}.',
            f'New {building} opens in {city}',
        ),
        (
            f'On {day} a storm hit the city of {city}.',
            f'Storm hits {city}',
        ),
        (
            f'A {animal} escaped from the zoo of {city} on {day}.',
            f'{animal.capitalize()} escapes from {city} zoo',
        ),
        (
            f'On {day} a {job} from {city} won the big prize.',
            f'{job.capitalize()} from {city} wins prize',
        ),
        (
            f'The team of {city} beat the team of {other} on {day}.',
            f'{city} beats {other}',
        ),
    ))
    return {'report': f'{news} {rng.choice(_ASIDES)}', 'headline': headline}

  return sampling.draw_rows(draw, name='headlines', split=split, seed=seed)
