"""Fields of the sentiment datasets, on rows as they are."""

from flan_jax.data.fields import sentiment
import pytest


def test_imdb_line_breaks():
  text = 'Good.<br /><br />Very<br>good.<BR/>'
  found = sentiment.imdb_reviews({'text': text, 'label': 1})
  assert found == {'text': 'Good.\n\nVery\ngood.\n', 'label': 1}


def test_sst2_has_no_spaces_at_its_ends():
  row = {'sentence': 'a dull film . ', 'label': 0, 'idx': 3}
  found = sentiment.sst2(row)
  assert found == {'sentence': 'a dull film .', 'label': 0}


def _tweet(polarity, text='Rain again'):
  return {
      'polarity': polarity,
      'text': text,
      'date': 'Mon May 11 03:17:40 UTC 2009',
      'query': 'NO_QUERY',
      'user': 'someone',
  }


@pytest.mark.parametrize(
    ('polarity', 'label', 'kept'), [(0, 0, True), (4, 1, True), (2, 0, False)]
)
def test_sentiment140_has_two_sides(polarity, label, kept):
  row = _tweet(polarity)
  assert sentiment.sentiment140_takes_sides(row) is kept
  if kept:
    expected = {'text': 'Rain again', 'label': label}
    assert sentiment.sentiment140(row) == expected


@pytest.mark.parametrize(
    ('raw', 'text'),
    [
        ('  @a tea &amp; cake &lt;3 ', '@a tea & cake <3'),
        ('she said &quot;no&quot;', 'she said "no"'),
        ('R&D &c', 'R&D &c'),
    ],
)
def test_sentiment140_has_no_html(raw, text):
  assert sentiment.sentiment140(_tweet(4, raw))['text'] == text


@pytest.mark.parametrize(
    ('raw', 'text'),
    [
        (r'Nice.\n\nBack soon. ', 'Nice.\n\nBack soon.'),
        ('The ""best"" soup', 'The "best" soup'),
        (r'The \""best\"" soup', 'The "best" soup'),
        (r'The \"best\" soup', 'The "best" soup'),
        ('""""Wow""""', '""Wow""'),
        ('A 12" pizza', 'A 12" pizza'),
        ('', ''),
    ],
)
def test_yelp_has_no_escapes(raw, text):
  row = {'text': raw, 'label': 1}
  expected = {'text': text, 'label': 1}
  assert sentiment.yelp_polarity_reviews(row) == expected
  assert row['text'] == raw
