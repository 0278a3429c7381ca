"""Struct-to-text: records, triples and lists of words put into sentences."""

from collections.abc import Mapping, Sequence
import re
from typing import Any

from flan_jax.data.fields import common

# DART marks what a table cell has for a subject with such words; other
# brackets, as in '[♀3 ]', belong to the data.
_MARKER = re.compile(r'\[[A-Z_]+\]')
# A relation's name in a triple that is a single text.
_CAPITALS = re.compile(r'\b[A-Z0-9.]+(?:_[A-Z0-9.]+)+\b')
_ATTRIBUTE = re.compile(r'([^,\[\]]+)\[([^\]]*)\]')
_HUMP = re.compile(r'(?<=[a-z0-9])(?=[A-Z])')


def common_gen(row: Mapping[str, Any]) -> dict[str, Any]:
  """CommonGen (Lin et al., 2020) in GEM: a sentence with all the given words.

  Returns:
    `concepts`, the words in one line; `concept_lines`, one a line; `target`,
    the first reference; `references`, all of them (a training row has one).
  """
  concepts = [common.one_line(concept) for concept in row['concepts']]
  return {
      'concepts': ', '.join(concepts),
      'concept_lines': '\n'.join(concepts),
      **_sentences(row),
  }


def keep_common_gen(row: Mapping[str, Any]) -> bool:
  """Whether the row has words and a sentence."""
  return bool(row['concepts']) and _has_sentence(row)


def dart(row: Mapping[str, Any]) -> dict[str, Any]:
  """DART (Nan et al., 2021) in GEM: triples to sentences.

  TFDS writes a triple as one text, its parts joined by spaces; where it is a
  list, as in DART's own files, commas stand between the parts.

  Returns:
    `triples`, all of them in one line; `triple_lines`, one a line; `target`,
    the first reference; `references`, all of them. Markers that stand for the
    table itself ([TABLECONTEXT], [TITLE]) are left out of both forms, and an
    underscore in a relation's name is a space.
  """
  triples = _dart_triples(row['tripleset'])
  return {
      'triples': '; '.join(triples),
      'triple_lines': '\n'.join(triples),
      **_sentences(row),
  }


def keep_dart(row: Mapping[str, Any]) -> bool:
  """Whether the row has both triples and a sentence."""
  return bool(_dart_triples(row['tripleset'])) and _has_sentence(row)


def e2e_nlg(row: Mapping[str, Any]) -> dict[str, Any]:
  """E2E NLG, cleaned (Dusek et al., 2019), in GEM: restaurants described.

  Returns:
    `attributes`, as 'name = The Mill, price range = cheap' (in the rows
    'name[The Mill], priceRange[cheap]'); `attribute_lines`, one a line as
    'name: The Mill'; `target` and `references` as for `common_gen`.
  """
  pairs = _ATTRIBUTE.findall(row['meaning_representation'])
  named = [(_words(name), common.one_line(value)) for name, value in pairs]
  return {
      'attributes': ', '.join(f'{name} = {value}' for name, value in named),
      'attribute_lines': '\n'.join(f'{name}: {value}' for name, value in named),
      **_sentences(row),
  }


def keep_e2e_nlg(row: Mapping[str, Any]) -> bool:
  """Whether the row describes something and has a sentence."""
  representation = row['meaning_representation']
  return bool(_ATTRIBUTE.search(representation)) and _has_sentence(row)


def web_nlg(row: Mapping[str, Any]) -> dict[str, Any]:
  """WebNLG (Gardent et al., 2017) in GEM: facts of DBpedia to sentences.

  In the rows a fact is one text, 'Old_Mill | openingYear | "1902"'.

  Returns:
    `triples`, all of them in one line with semicolons between them, and
    `triple_lines`, one a line; in both, a fact's parts stand between bars, as
    values hold commas ('Westport, Norland'). `target` and `references` as for
    `common_gen`.
  """
  triples = [' | '.join(_web_nlg_triple(text)) for text in row['input']]
  return {
      'triples': '; '.join(triples),
      'triple_lines': '\n'.join(triples),
      **_sentences(row),
  }


def keep_web_nlg(row: Mapping[str, Any]) -> bool:
  """Whether the row has facts and a sentence."""
  return bool(row['input']) and _has_sentence(row)


def _sentences(row: Mapping[str, Any]) -> dict[str, Any]:
  """GEM's `target`, and all `references`; a training row has none of these."""
  references = [common.tidy(text) for text in row['references']]
  references = [text for text in references if text]
  target = common.tidy(row['target']) or references[0]
  return {'target': target, 'references': references or [target]}


def _has_sentence(row: Mapping[str, Any]) -> bool:
  return any(text.strip() for text in (row['target'], *row['references']))


def _dart_triples(triples: Sequence[str | Sequence[str]]) -> list[str]:
  return [text for text in map(_dart_triple, triples) if text]


def _dart_triple(triple: str | Sequence[str]) -> str:
  if isinstance(triple, str):
    text = _MARKER.sub(' ', triple)
    text = _CAPITALS.sub(lambda match: match[0].replace('_', ' '), text)
    return common.one_line(text)
  subject, relation, *rest = [
      common.one_line(_MARKER.sub(' ', part)) for part in triple
  ]
  parts = [subject, relation.replace('_', ' '), *rest]
  return ', '.join(part for part in parts if part)


def _web_nlg_triple(text: str) -> list[str]:
  subject, relation, value = text.split('|', 2)
  return [_entity(subject), _words(relation), _entity(value)]


def _entity(text: str) -> str:
  return common.one_line(text.replace('_', ' ').strip().strip('"'))


def _words(name: str) -> str:
  """The words of a property's name: 'customerRating' is 'customer rating'."""
  parted = _HUMP.sub(' ', name.replace('_', ' '))
  return common.one_line(parted).lower()
