"""Reviews, judged by counting words of praise and blame by hand."""

import re

from flan_jax.data.generators import reviews
import pytest

# Written apart from the generator: what a reader takes as praise or as blame.
_PRAISE = set(
    'brilliant charming delightful excellent great lovely perfect pleasant'
    ' superb wonderful clever exciting funny moving clean comfortable cosy'
    ' quiet loved laughed clapped treat'.split()
)
_BLAME = set(
    'awful bad disappointing dreadful horrible poor sad terrible unpleasant'
    ' weak boring clumsy dull silly dirty noisy shabby uncomfortable hated left'
    ' waste'.split()
)


def _judge(review: str) -> set[str]:
  """Returns every verdict found, each word read with the 'not' before it."""
  found = set()
  words = re.findall(r'[a-z]+', review.lower())
  for before, word in zip(['', *words[:-1]], words, strict=True):
    if word in _PRAISE | _BLAME:
      good = (word in _PRAISE) != (before == 'not')
      found.add('positive' if good else 'negative')
  if re.search(r'would (see|stay)', review):
    found.add('positive')
  if re.search(r'would not (see|stay)', review):
    found.add('negative')
  return found


@pytest.mark.parametrize('generator', [reviews.films, reviews.hotels])
@pytest.mark.parametrize('split', ['train', 'test'])
def test_all_that_a_review_says_agrees_with_its_label(generator, split):
  rows = list(generator(split, 3))
  for row in rows:
    assert _judge(row['review']) == {row['label']}, row
  labels = [row['label'] for row in rows]
  assert labels.count('positive') == len(labels) / 2
