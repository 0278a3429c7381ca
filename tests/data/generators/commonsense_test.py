"""Sizes, kinds and places, against tables of the test's own."""

import collections

from flan_jax.data.generators import commonsense

# From the smallest to the biggest, by hand.
_ORDER = (
    'ant bee coin egg cup spoon shoe cat chair door car bus whale castle bridge'
    ' mountain'
).split()
_KINDS = {
    'animal': 'cat cow dog fox goat horse rabbit sheep',
    'flower': 'daisy lily orchid poppy rose tulip',
    'fruit': 'apple banana cherry lemon peach pear plum',
    'instrument': 'cello drum flute guitar piano violin',
    'tool': 'axe drill hammer rake saw spade wrench',
    'vehicle': 'bicycle bus car train tram truck van',
}
# A word of each deed that a reader ties to the place.
_SIGNS = {
    'at the beach': 'sand shells waves sea',
    'at school': 'class lesson blackboard teacher',
    'in a restaurant': 'bill waiter soup menu',
    'at the station': 'train platform',
    'in hospital': 'operation broken nurse doctor',
    'on a farm': 'tractor hens cows barn',
    'in the library': 'borrowed shelves returned card',
    'at the cinema': 'popcorn film screen',
}


def test_sizes_by_an_order_written_by_hand():
  seen = {}
  for split in ('train', 'validation', 'test'):
    rows = list(commonsense.sizes(split, 0))
    for row in rows:
      pair = sorted((row['first'], row['second']), key=_ORDER.index)
      assert row['label'] == pair[row['question'] == 'bigger'], row
    seen[split] = {frozenset((r['first'], r['second'])) for r in rows}
    places = collections.Counter(r['label'] == r['first'] for r in rows)
    assert places[True] == places[False]
  assert sum(map(len, seen.values())) == len(set.union(*seen.values()))
  # Every thing is met in training, or its size could not be known.
  assert set().union(*seen['train']) == set(_ORDER)


def test_odd_one_out_by_looking_kinds_up():
  kind_of = {w: kind for kind, ws in _KINDS.items() for w in ws.split()}
  rows = list(commonsense.odd_one_out('train', 1))
  for row in rows:
    assert row['words'] == ', '.join(row['candidates'])
    kinds = collections.Counter(kind_of[word] for word in row['candidates'])
    assert sorted(kinds.values()) == [1, 3]
    assert kinds[kind_of[row['label']]] == 1
  places = collections.Counter(r['candidates'].index(r['label']) for r in rows)
  assert set(places.values()) == {len(rows) / 4}


def test_scenes_by_words_that_belong_to_a_place():
  rows = list(commonsense.scenes('test', 1))
  for row in rows:
    first, second = row['story'].rstrip('.').split('. ')
    for sentence in (first, second):
      fitting = [
          place
          for place in row['candidates']
          if set(sentence.split()) & set(_SIGNS[place].split())
      ]
      assert row['label'] in fitting, row
    assert row['label'] not in row['story']
    assert len(set(row['candidates'])) == 3
  places = collections.Counter(r['candidates'].index(r['label']) for r in rows)
  assert max(places.values()) - min(places.values()) <= 1
