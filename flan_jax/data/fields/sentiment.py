"""Sentiment: opinions and what they think of their subject."""

from collections.abc import Mapping
import html
import re
from typing import Any

_LINE_BREAK = re.compile(r'<br\s*/?>', re.IGNORECASE)
# Sentiment140 counts from 0 to 4, and uses 0, 2 and 4 of it.
_NEUTRAL = 2
# Yelp's quotes: doubled for the CSV file, some with JSON's backslash before.
_ESCAPED_QUOTE = re.compile(r'\\?""|\\"')


def imdb_reviews(row: Mapping[str, Any]) -> dict[str, Any]:
  """IMDB (Maas et al., 2011): `text` with real line breaks, and `label`."""
  return {
      'text': _LINE_BREAK.sub('\n', row['text']),
      'label': row['label'],
  }


def sentiment140(row: Mapping[str, Any]) -> dict[str, Any]:
  """Sentiment140 (Go et al., 2009): a tweet.

  Returns:
    `text`, without HTML's escapes (`&amp;`, `&lt;3`) and spaces at its ends;
    `label`, 0 (negative) or 1 (positive), from the polarity of 0 to 4.
  """
  return {
      'text': html.unescape(row['text']).strip(),
      'label': int(row['polarity'] > _NEUTRAL),
  }


def sentiment140_takes_sides(row: Mapping[str, Any]) -> bool:
  """Whether a tweet of Sentiment140 is not neutral: for `keep`.

  The test split has neutral tweets, the train split has none.
  """
  return row['polarity'] != _NEUTRAL


def sst2(row: Mapping[str, Any]) -> dict[str, Any]:
  """SST-2 (Socher et al., 2013): `sentence` and `label`.

  In GLUE's files nearly every sentence of the train split ends in a space.
  """
  return {'sentence': row['sentence'].strip(), 'label': row['label']}


def yelp_polarity_reviews(row: Mapping[str, Any]) -> dict[str, Any]:
  r"""Yelp polarity (Zhang et al., 2015): `text` and `label`.

  The source cuts the lines of a CSV file and leaves their escapes in: a line
  break is a backslash and an n, a quote is two quotes or has a backslash.
  """
  text = row['text'].replace('\\n', '\n')
  return {
      'text': _ESCAPED_QUOTE.sub('"', text).strip(),
      'label': row['label'],
  }
