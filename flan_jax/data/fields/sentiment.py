"""Sentiment: opinions and what they think of their subject."""

from collections.abc import Mapping
import re
from typing import Any

_LINE_BREAK = re.compile(r'<br\s*/?>', re.IGNORECASE)


def imdb_reviews(row: Mapping[str, Any]) -> dict[str, Any]:
  """IMDB (Maas et al., 2011): `text` with real line breaks, and `label`."""
  return {
      'text': _LINE_BREAK.sub('\n', row['text']),
      'label': row['label'],
  }
