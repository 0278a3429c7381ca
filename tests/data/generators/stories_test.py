"""Stories, answered by searching them; pronouns, by role."""

import re

from flan_jax.data.generators import stories
import pytest


@pytest.mark.parametrize(
    'generator, said',
    [
        (stories.whereabouts, r'{} is (in the \w+)\.'),
        (stories.presents, r'{} got (a \w+)\.'),
        (stories.trips, r'{} went to (\w+)\.'),
    ],
)
def test_answers_by_searching_the_story(generator, said):
  asked_first = 0
  rows = list(generator('train', 4))
  for row in rows:
    found = re.findall(said.format(row['name']), row['story'])
    assert found == [row['answer']], row
    asked_first += row['story'].startswith(row['name'])
  assert 0.4 < asked_first / len(rows) < 0.6


# What may be said of whom: the verb's subject (0) or its object (1).
_ROLES = {
    'lift': {'weak': 0, 'tired': 0, 'heavy': 1, 'big': 1},
    'beat': {'fast': 0, 'quick': 0, 'slow': 1, 'tired': 1},
    'lent': {'rich': 0, 'generous': 0, 'poor': 1, 'need': 1},
    'taught': {'rules': 0, 'teacher': 0, 'learn': 1, 'beginner': 1},
    'thanked': {'grateful': 0, 'got': 0, 'helped': 1, 'brought': 1},
    'fit': {'big': 0, 'small': 1},
}


def test_pronouns_by_the_roles_of_verbs():
  rows = list(stories.pronouns('train', 0))
  for row in rows:
    event, reason = row['sentence'].split(' because ')
    assert reason.startswith(row['pronoun'] + ' ')
    verb = next(v for v in _ROLES if f' {v} ' in event)
    roles = {
        r for w, r in _ROLES[verb].items() if re.search(rf'\b{w}\b', reason)
    }
    assert len(roles) == 1, row
    in_order = sorted(row['candidates'], key=event.index)
    assert row['label'] == in_order[roles.pop()], row
  first = sum(row['candidates'][0] == row['label'] for row in rows)
  assert 0.45 < first / len(rows) < 0.55
  earlier = sum(
      row['label'] == min(row['candidates'], key=row['sentence'].index)
      for row in rows
  )
  assert earlier == len(rows) / 2
