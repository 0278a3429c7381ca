"""How much alike templates are."""

import dataclasses
import itertools
import re

from flan_jax.data import similarity
from flan_jax.data import specs
import hypothesis
from hypothesis import strategies as st

_WORDS = st.lists(st.sampled_from('a b c d {x}'.split()), min_size=1)


def _dataset(name: str, *inputs: str) -> specs.Dataset:
  return specs.Dataset(
      name=name,
      cluster='c',
      source=specs.Source(kind='generated', where='nowhere:rows'),
      splits={'train': 'train'},
      fields={'x': 'x'},
      metrics=('exact_match',),
      templates=tuple(
          specs.Template(name=f't{i}', inputs=text, targets='{x}')
          for i, text in enumerate(inputs)
      ),
  )


@hypothesis.given(st.lists(_WORDS, min_size=2, max_size=5))
def test_every_pair_by_the_definition(texts):
  inputs = [' '.join(words) for words in texts]
  found = similarity.alike([_dataset('d', *inputs)], 0.01)
  expected = {}
  sets = []
  for words in texts:
    padded = ['', *(re.sub('{x}', '#', word) for word in words), '']
    sets.append({tuple(padded[i : i + 2]) for i in range(len(padded) - 1)})
  for i, j in itertools.combinations(range(len(sets)), 2):
    value = len(sets[i] & sets[j]) / len(sets[i] | sets[j])
    if value >= 0.01:
      expected[f'd:t{i}', f'd:t{j}'] = value
  assert {(p.first, p.second): p.similarity for p in found} == expected
  assert found == sorted(found, key=lambda pair: -pair.similarity)


def test_words_count_and_layout_does_not():
  first = _dataset('one', 'Say, in brief:\n\n{x}')
  second = _dataset('two', 'say in brief {x}?', 'Something else about {x}.')
  (pair,) = similarity.alike([first, second], 0.5)
  assert str(pair) == '1.00  one:t0  two:t0'


def test_a_shared_list_is_compared_once():
  first = _dataset('one', 'Say {x}', 'Tell me {x}')
  second = dataclasses.replace(first, name='two')
  assert similarity.alike([first, second], 0.9) == []
