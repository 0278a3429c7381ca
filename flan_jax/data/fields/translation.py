"""Translation: a text in English and in another language."""

from collections.abc import Mapping
from typing import Any

from flan_jax.data.fields import common

_ENGLISH = 'en'


def pair(row: Mapping[str, Any]) -> dict[str, Any]:
  """A pair of WMT or ParaCrawl: `english` and `translation`.

  A row has a text under each of two language codes, one of them 'en', side by
  side (TFDS, tables) or within 'translation' (Parquet files of the Hugging Face
  Hub). Crawled and SGML texts come with HTML's escapes, odd spaces and
  characters that do not show; both texts are one clean line.
  """
  texts = _texts(row)
  others = [code for code in texts if code != _ENGLISH]
  if _ENGLISH not in texts or len(others) != 1:
    raise ValueError(
        "a pair has a text under 'en' and one under another language's code,"
        f' but the row has {", ".join(map(repr, texts)) or "none"}'
    )
  return {
      'english': common.one_line(texts[_ENGLISH]),
      'translation': common.one_line(texts[others[0]]),
  }


def has_both(row: Mapping[str, Any]) -> bool:
  """Whether neither text is empty once it is clean: for `keep`."""
  return all(common.one_line(text) for text in _texts(row).values())


def _texts(row: Mapping[str, Any]) -> dict[str, str]:
  """The texts by language code; other columns have longer names."""
  columns = row.get('translation', row)
  return {
      code: text
      for code, text in columns.items()
      if len(code) == 2 and isinstance(text, str)
  }
