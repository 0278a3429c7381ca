"""Table rows, and the sentence that says what a row says."""

from collections.abc import Iterator
import random

from flan_jax.data.generators import sampling
from flan_jax.data.generators import words

_PETS = words.KINDS['animal']


def people(split: str, seed: int) -> Iterator[sampling.Row]:
  """Yields a `record` of a person, columns in any order, and a `sentence`."""

  def draw(rng: random.Random, place: int) -> sampling.Row:
    del place
    row = {
        'name': rng.choice(words.PEOPLE),
        'job': rng.choice(words.JOBS),
        'city': rng.choice(words.CITIES),
        'pet': rng.choice(_PETS),
    }
    columns = rng.sample(tuple(row), len(row))
    return {
        'record': ' | '.join(f'{column}: {row[column]}' for column in columns),
        'sentence': (
            f'{row["name"]} is {words.with_article(row["job"])} in'
            f' {row["city"]} and has {words.with_article(row["pet"])}.'
        ),
    }

  return sampling.draw_rows(
      draw,
      name='people',
      split=split,
      seed=seed,
      key=lambda row: str(row['sentence']),
  )
