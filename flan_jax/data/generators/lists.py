"""Lists of words, and what is asked of them."""

from collections.abc import Iterator
import random

from flan_jax.data.generators import sampling
from flan_jax.data.generators import words

_WORDS = tuple(sorted(words.KIND_OF))
_NUMBERS = ('two', 'three', 'four', 'five')
_REQUESTS = ('first', 'last', 'reverse', 'count')


def edits(split: str, seed: int) -> Iterator[sampling.Row]:
  """Yields `words`, a `request` and its `result`.

  The requests: the first word, the last word, the words in reverse order, the
  number of words (as a word).
  """

  def draw(rng: random.Random, place: int) -> sampling.Row:
    request = _REQUESTS[place % len(_REQUESTS)]
    items = rng.sample(_WORDS, rng.randint(2, 3 if request == 'reverse' else 5))
    request, result = {
        'first': ('the first word', items[0]),
        'last': ('the last word', items[-1]),
        'reverse': ('the words in reverse order', ', '.join(items[::-1])),
        'count': ('the number of words', _NUMBERS[len(items) - 2]),
    }[request]
    return {'words': ', '.join(items), 'request': request, 'result': result}

  return sampling.draw_rows(draw, name='edits', split=split, seed=seed)
