"""Lists of words, and what is asked of them."""

from collections.abc import Iterator
import random

from flan_jax.data.generators import sampling
from flan_jax.data.generators import words

_WORDS = tuple(sorted(words.KIND_OF))
_REQUESTS = ('first', 'middle', 'last', 'reverse')


def edits(split: str, seed: int) -> Iterator[sampling.Row]:
  """Yields three `words`, a `request` and its `result`.

  The requests: the first, the middle or the last word, or all in reverse order.
  """

  def draw(rng: random.Random, place: int) -> sampling.Row:
    items = rng.sample(_WORDS, 3)
    request, result = {
        'first': ('the first word', items[0]),
        'middle': ('the middle word', items[1]),
        'last': ('the last word', items[2]),
        'reverse': ('the words in reverse order', ', '.join(items[::-1])),
    }[_REQUESTS[place % len(_REQUESTS)]]
    return {
        'words': ' '.join(f'{n}. {item}' for n, item in enumerate(items, 1)),
        'request': request,
        'result': result,
    }

  return sampling.draw_rows(draw, name='edits', split=split, seed=seed)
