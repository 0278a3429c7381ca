"""Entailment, by a prover that enumerates models."""

import itertools
import re

from flan_jax.data.generators import inference

# What a dictionary says, as far as the premises need it.
_IS_A = {
    'animal': 'cat cow dog fox goat horse rabbit sheep',
    'flower': 'daisy lily orchid poppy rose tulip',
    'fruit': 'apple banana cherry lemon peach pear plum',
    'instrument': 'cello drum flute guitar piano violin',
    'tool': 'axe drill hammer rake saw spade wrench',
    'vehicle': 'bicycle bus car train tram truck van',
}


def test_entailment_by_looking_things_up():
  for row in inference.entailment('train', 2):
    who, did, thing = re.fullmatch(
        r'(\w+) (\w+) an? (\w+)\.', row['premise']
    ).groups()
    claimed_who, claimed_did, kind = re.fullmatch(
        r'(\w+) (\w+) an? (\w+)\.', row['hypothesis']
    ).groups()
    follows = (who, did) == (claimed_who, claimed_did)
    follows = follows and thing in _IS_A[kind].split()
    assert row['label'] == ('yes' if follows else 'no'), row


# Each comparative as a statement about a quantity: taller is more height.
_MEANING = {
    'taller': ('height', 1),
    'shorter': ('height', -1),
    'older': ('age', 1),
    'younger': ('age', -1),
    'faster': ('speed', 1),
    'slower': ('speed', -1),
}


def _true_in(world: dict, sentence: str) -> bool:
  one, word, other = re.fullmatch(
      r'(\w+) is (\w+) than (\w+)\.', sentence
  ).groups()
  quantity, sign = _MEANING[word]
  return sign * (world[quantity, one] - world[quantity, other]) > 0


def _prove(premise: str, hypothesis: str) -> str:
  """Returns yes, no or maybe: truth in all worlds where the premise holds."""
  text = f'{premise} {hypothesis}'
  people = sorted(set(re.findall(r'[A-Z]\w+', text)))
  quantities = sorted({_MEANING[w][0] for w in _MEANING if f' {w} ' in text})
  things = list(itertools.product(quantities, people))
  verdicts = set()
  for values in itertools.product(range(3), repeat=len(things)):
    world = dict(zip(things, values, strict=True))
    if _true_in(world, premise):
      verdicts.add(_true_in(world, hypothesis))
  return {(True,): 'yes', (False,): 'no'}.get(tuple(verdicts), 'maybe')


def test_comparisons_by_enumerating_worlds():
  rows = list(inference.comparisons('test', 0))
  rows += list(inference.comparisons('train', 5))[:200]
  for row in rows:
    assert _prove(row['premise'], row['hypothesis']) == row['label'], row


def test_labels_are_balanced_and_the_hypothesis_alone_tells_nothing():
  rows = list(inference.comparisons('train', 0))
  labels = [row['label'] for row in rows]
  assert {labels.count(label) for label in ('yes', 'no', 'maybe')} == {1000}
  for word in _MEANING:
    said = [r['label'] for r in rows if f' {word} ' in r['hypothesis']]
    assert max(said.count(label) for label in set(said)) < 0.45 * len(said)
  rows = list(inference.entailment('train', 0))
  for kind in _IS_A:
    said = [r['label'] for r in rows if f' {kind}.' in r['hypothesis']]
    assert 0.4 < said.count('yes') / len(said) < 0.6
