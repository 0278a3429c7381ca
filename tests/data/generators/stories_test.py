"""Stories, answered by searching them; pronouns, by role."""

import re

from flan_jax.data.generators import stories
import pytest

# What a story says, as a reader takes it apart: one pattern per wording.
_STORIES = {
    stories.events: (
        (
            r'On (?P<when>\w+) (?P<who>\w+) \w+ (?P<what>a \w+) in'
            r' (?P<where>\w+)\.'
        ),
        (
            r'(?P<who>\w+) \w+ (?P<what>a \w+) in (?P<where>\w+) on'
            r' (?P<when>\w+)\.'
        ),
    ),
    stories.presents: (
        (
            r'In (?P<when>\w+) (?P<giver>\w+) gave (?P<what>a \w+) to'
            r' (?P<who>\w+)\.'
        ),
        r'(?P<who>\w+) got (?P<what>a \w+) from (?P<giver>\w+) in'
        r' (?P<when>\w+)\.',
    ),
    stories.trips: (
        r'On (?P<when>\w+) (?P<who>\w+) went to (?P<where>\w+) by \w+\.',
        r'(?P<who>\w+) went to (?P<where>\w+) by \w+ on (?P<when>\w+)\.',
    ),
}


@pytest.mark.parametrize('generator', _STORIES)
def test_answers_by_taking_the_story_apart(generator):
  asked = set()
  for row in generator('train', 4):
    matches = [re.match(p, row['story']) for p in _STORIES[generator]]
    (said,) = (match.groupdict() for match in matches if match)
    role = row['question'].split()[0].lower()
    if row['question'].startswith('Who gave'):
      role = 'giver'
    assert row['answer'] == said[role], row
    # The question names nobody and nothing that is not in the story.
    named = re.findall(r'(?<!^)\b[A-Z]\w+|(?<=\ba )\w+', row['question'])
    assert all(word in row['story'] for word in named), row
    asked.add(role)
  assert asked >= {'who', 'when'}


# What may be said of whom: the verb's subject (0) or its object (1).
_ROLES = {
    'lift': {'weak': 0, 'tired': 0, 'heavy': 1, 'big': 1},
    'beat': {'fast': 0, 'quick': 0, 'slow': 1, 'tired': 1},
    'lent': {'rich': 0, 'generous': 0, 'poor': 1, 'need': 1},
    'taught': {'rules': 0, 'teacher': 0, 'learn': 1, 'beginner': 1},
    'thanked': {'grateful': 0, 'got': 0, 'helped': 1, 'brought': 1},
    'fit': {'big': 0, 'small': 1},
}


_WOMEN = 'Alice Anna Emma Julia Lucy Maria Nora Sara'.split()


def test_pronouns_by_the_roles_of_verbs():
  rows = list(stories.pronouns('train', 0))
  told_by_pronoun = 0
  for row in rows:
    event, reason = row['sentence'].split(' because ')
    assert reason.startswith(row['pronoun'] + ' ')
    verb = next(v for v in _ROLES if f' {v} ' in event)
    roles = {
        role
        for word, role in _ROLES[verb].items()
        if re.search(rf'\b{word}\b', reason)
    }
    assert len(roles) == 1, row
    in_order = sorted(row['candidates'], key=event.index)
    assert row['label'] == in_order[roles.pop()], row
    if row['pronoun'] != 'it':
      women = [name in _WOMEN for name in row['candidates']]
      assert (row['label'] in _WOMEN) == (row['pronoun'] == 'she')
      told_by_pronoun += len(set(women)) == 2
  assert told_by_pronoun == len(rows) / 2
  first = sum(row['candidates'][0] == row['label'] for row in rows)
  assert 0.45 < first / len(rows) < 0.55
  earlier = sum(
      row['label'] == min(row['candidates'], key=row['sentence'].index)
      for row in rows
  )
  assert earlier == len(rows) / 2
