"""Struct-to-text: records and triples put into words."""

from collections.abc import Mapping
import re
from typing import Any

# DART marks what a table cell has for a subject with such words; other
# brackets, as in '[♀3 ]', belong to the data.
_MARKER = re.compile(r'\[[A-Z_]+\]')


def dart(row: Mapping[str, Any]) -> dict[str, Any]:
  """DART (Nan et al., 2021): triples to sentences.

  Returns:
    `triples`, all of them in one line; `triple_lines`, one a line; `target`,
    the first reference; `references`, all of them. Markers that stand for the
    table itself ([TABLECONTEXT], [TITLE]) are left out of both forms, and an
    underscore in a relation's name is a space.
  """
  triples = [_triple(triple) for triple in row['tripleset']]
  references = [text for text in row['references'] if text.strip()]
  return {
      'triples': '; '.join(triples),
      'triple_lines': '\n'.join(triples),
      'target': row['target'] or references[0],
      'references': references or [row['target']],
  }


def _triple(triple: list[str]) -> str:
  subject, relation, *rest = [_MARKER.sub('', part).strip() for part in triple]
  parts = [subject, relation.replace('_', ' '), *rest]
  return ', '.join(part for part in parts if part)
