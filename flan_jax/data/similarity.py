"""How much alike templates are in their words.

The measure is the Jaccard index of two texts' word pairs: how many pairs of
neighbouring words (a slot is a word) both have, over how many either has.
"""

import collections
from collections.abc import Iterable
import dataclasses
import itertools
import re

from flan_jax.data import slots
from flan_jax.data import specs

# Pairs from here on are worth a look.
NOTABLE = 0.6
_WORD = re.compile(r"\w+(?:'\w+)*|\ufffc")
_SLOT = ' \ufffc '


@dataclasses.dataclass(frozen=True)
class Pair:
  """Two templates that are alike.

  Attributes:
    similarity: From 0 to 1.
    first: 'dataset:template'.
    second: The same of the other.
  """

  similarity: float
  first: str
  second: str

  def __str__(self) -> str:
    return f'{self.similarity:.2f}  {self.first}  {self.second}'


def word_pairs(text: str) -> frozenset[tuple[str, str]]:
  """Returns the pairs of neighbouring words of a template's text."""
  literal = _SLOT.join(slots.split(text)[::2])
  words = ['', *_WORD.findall(literal.lower()), '']
  return frozenset(itertools.pairwise(words))


def alike(
    datasets: Iterable[specs.Dataset], least: float = NOTABLE
) -> list[Pair]:
  """Returns pairs of templates' inputs that are alike, the most alike first.

  Datasets that share one list of templates count as one.

  Args:
    datasets: Whose templates are compared, within a dataset and across.
    least: The similarity from which a pair is returned; above 0.
  """
  lists: dict[tuple[specs.Template, ...], str] = {}
  for dataset in datasets:
    lists.setdefault(dataset.templates, dataset.name)
  names, pairs = [], []
  for templates, name in lists.items():
    for template in templates:
      names.append(f'{name}:{template.name}')
      pairs.append(word_pairs(template.inputs))
  having: dict[tuple[str, str], list[int]] = collections.defaultdict(list)
  found = []
  for place, own in enumerate(pairs):
    shared: collections.Counter[int] = collections.Counter()
    for pair in own:
      shared.update(having[pair])
      having[pair].append(place)
    for other, count in shared.items():
      similarity = count / (len(own) + len(pairs[other]) - count)
      if similarity >= least:
        found.append(Pair(similarity, names[other], names[place]))
  return sorted(found, key=lambda p: (-p.similarity, p.first, p.second))
