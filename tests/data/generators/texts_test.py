"""Table rows, headlines and lists: targets rebuilt from what is shown."""

import re

from flan_jax.data.generators import lists
from flan_jax.data.generators import reports
from flan_jax.data.generators import tables


def test_people_sentences_say_each_column_once():
  for row in tables.people('train', 1):
    record = dict(cell.split(': ') for cell in row['record'].split(' | '))
    assert set(record) == {'name', 'job', 'city', 'pet'}
    said = re.fullmatch(
        r'(?P<name>\w+) is a (?P<job>\w+) in (?P<city>\w+) and has an?'
        r' (?P<pet>\w+)\.',
        row['sentence'],
    )
    assert said and said.groupdict() == record, row


def _headline(report: str) -> str:
  """Reads the first sentence word by word, as a sub-editor would."""
  news = report.split('.')[0]
  (city,) = re.findall(r'\b(?:in|of|from) ([A-Z]\w+)', news)[:1]
  words = news.split()
  if 'fire' in words:
    return f'Fire in {city} {words[words.index(city) - 2]}'
  if 'opened' in words:
    return f'New {words[2]} opens in {city}'
  if 'storm' in words:
    return f'Storm hits {city}'
  if 'escaped' in words:
    return f'{words[1].title()} escapes from {city} zoo'
  if 'won' in words:
    return f'{words[words.index("from") - 1].title()} from {city} wins prize'
  return f'{city} beats {words[8]}'


def test_headlines_by_reading_the_first_sentence():
  kinds = set()
  for row in reports.headlines('train', 1):
    assert _headline(row['report']) == row['headline'], row
    kinds.add(re.sub(r'[A-Z]\w+', '', row['headline'])[:8])
  assert len(kinds) >= 6


def test_lists_by_working_on_the_text():
  requests = []
  for row in lists.edits('train', 1):
    first, middle, last = re.fullmatch(
        r'1\. (\w+) 2\. (\w+) 3\. (\w+)', row['words']
    ).groups()
    expected = {
        'the first word': first,
        'the middle word': middle,
        'the last word': last,
        'the words in reverse order': f'{last}, {middle}, {first}',
    }
    assert row['result'] == expected[row['request']], row
    requests.append(row['request'])
  assert {requests.count(r) for r in set(requests)} == {len(requests) / 4}
