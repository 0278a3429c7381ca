"""Fields of the struct-to-text datasets, on rows as they are."""

import json

from flan_jax.data import catalogue
from flan_jax.data import sample_rows
from flan_jax.data import tasks
from flan_jax.data.fields import struct_to_text
import pytest


def test_common_gen():
  row = {
      'concepts': ['ski', 'mountain'],
      'target': ' a skier  skis down a mountain .',
      'references': [],
  }
  assert struct_to_text.common_gen(row) == {
      'concepts': 'ski, mountain',
      'concept_lines': 'ski\nmountain',
      'target': 'a skier skis down a mountain.',
      'references': ['a skier skis down a mountain.'],
  }
  assert struct_to_text.keep_common_gen(row)
  assert not struct_to_text.keep_common_gen({**row, 'concepts': []})


def test_dart_triples_in_parts():
  row = {
      'tripleset': [
          ['[TABLECONTEXT]', '[TITLE]', 'Cup'],
          ['[TABLECONTEXT]', 'TOP_CLUB', 'FC [♀3 ]'],
          ['A_b', 'eatType', 'pub'],
      ],
      'target': 'first',
      'references': ['first', ' ', 'second'],
  }
  assert struct_to_text.dart(row) == {
      'triples': 'Cup; TOP CLUB, FC [♀3 ]; A_b, eatType, pub',
      'triple_lines': 'Cup\nTOP CLUB, FC [♀3 ]\nA_b, eatType, pub',
      'target': 'first',
      'references': ['first', 'second'],
  }
  assert struct_to_text.dart({**row, 'references': []})['references'] == [
      'first'
  ]
  assert struct_to_text.dart({**row, 'target': ''})['target'] == 'first'


def test_dart_triples_as_one_text():
  row = {
      'tripleset': [
          '[TABLECONTEXT] [TITLE] Cup',
          '[TABLECONTEXT] TOP_CLUB FC [♀3 ]',
          'A_b NO._IN_SERIES 7',
      ],
      'target': 'first',
      'references': [],
  }
  assert struct_to_text.dart(row)['triple_lines'].split('\n') == [
      'Cup',
      'TOP CLUB FC [♀3 ]',
      'A_b NO. IN SERIES 7',
  ]


@pytest.mark.parametrize(
    ('change', 'kept'),
    [
        ({}, True),
        ({'tripleset': []}, False),
        ({'tripleset': ['[TABLECONTEXT] [TITLE]']}, False),
        ({'target': ' '}, False),
        ({'target': '', 'references': ['a']}, True),
    ],
)
def test_dart_keeps_rows_with_triples_and_text(change, kept):
  row = {'tripleset': ['A LEADER B'], 'target': 't', 'references': [], **change}
  assert struct_to_text.keep_dart(row) is kept


def test_e2e_nlg():
  row = {
      'meaning_representation': (
          'name[The Mill], priceRange[less than £20], customer rating[3 out of'
          ' 5], familyFriendly[no], near[Café Rouge, Bridge St]'
      ),
      'target': 'The Mill is cheap.',
      'references': ['The Mill is cheap.', 'Cheap: The Mill.'],
  }
  found = struct_to_text.e2e_nlg(row)
  assert found['attributes'] == (
      'name = The Mill, price range = less than £20, customer rating = 3 out'
      ' of 5, family friendly = no, near = Café Rouge, Bridge St'
  )
  assert found['attribute_lines'].split('\n')[1] == 'price range: less than £20'
  assert len(found['attribute_lines'].split('\n')) == 5
  assert found['references'] == ['The Mill is cheap.', 'Cheap: The Mill.']
  assert struct_to_text.keep_e2e_nlg(row)
  assert not struct_to_text.keep_e2e_nlg({**row, 'meaning_representation': ''})


def test_web_nlg():
  row = {
      'input': [
          'Aarhus_Airport | cityServed | "Aarhus, Denmark"',
          'Aarhus_Airport | runway_Name | "10L/28R"',
      ],
      'target': 'Aarhus Airport serves Aarhus , Denmark .',
      'references': [],
  }
  assert struct_to_text.web_nlg(row) == {
      'triples': (
          'Aarhus Airport | city served | Aarhus, Denmark; Aarhus Airport |'
          ' runway name | 10L/28R'
      ),
      'triple_lines': (
          'Aarhus Airport | city served | Aarhus, Denmark\n'
          'Aarhus Airport | runway name | 10L/28R'
      ),
      'target': 'Aarhus Airport serves Aarhus, Denmark.',
      'references': ['Aarhus Airport serves Aarhus, Denmark.'],
  }
  assert struct_to_text.keep_web_nlg(row)
  assert not struct_to_text.keep_web_nlg({**row, 'input': []})


@pytest.mark.parametrize(
    'name', ['common_gen', 'dart', 'e2e_nlg', 'web_nlg_en']
)
def test_the_made_up_row_fits_every_template(name):
  dataset = catalogue.Catalogue().dataset(name)
  rendered = sample_rows.examples(tasks.create(dataset))
  assert len({example.inputs for example in rendered}) == 10
  assert all(example.targets.strip() for example in rendered)
  for template in dataset.templates:
    assert (template.targets == '{target}') is not template.inverted


def test_dart_file_in_both_forms(shared):
  """TFDS joins a triple's parts: the words are the same ones either way."""
  path = shared / 'data' / 'dart' / 'dart-v1.1.1-full-dev.json'
  entries = json.loads(path.read_text(encoding='utf-8'))
  assert len(entries) > 2000
  for entry in entries:
    row = {
        'tripleset': entry['tripleset'],
        'target': '',
        'references': [note['text'] for note in entry['annotations']],
    }
    if not struct_to_text.keep_dart(row):
      assert not entry['tripleset'] or not any(row['references'])
      continue
    joined = [' '.join(triple) for triple in entry['tripleset']]
    parted = struct_to_text.dart(row)
    flat = struct_to_text.dart({**row, 'tripleset': joined})
    assert '[TITLE]' not in parted['triples'] + flat['triples']
    assert parted['target'] == flat['target'] == parted['references'][0]
    if '_' not in flat['triples']:
      words = parted['triple_lines'].replace(',', ' ').split()
      assert words == flat['triple_lines'].replace(',', ' ').split()


def test_common_gen_sentences(shared):
  """Real sentences: punctuation is in its place, nothing else is changed."""
  path = (
      shared / 'data' / 't0_rendered' / 'common_gen_sentence_to_concepts.jsonl'
  )
  for line in path.read_text(encoding='utf-8').splitlines():
    rendered = json.loads(line)
    sentence = rendered['prompt'].split('sentence: ')[1].split('; \n')[0]
    concepts = rendered['completion'].removesuffix('<|endoftext|>').strip()
    row = {
        'concepts': concepts.split(', '),
        'target': sentence,
        'references': [],
    }
    found = struct_to_text.common_gen(row)
    assert found['concepts'] == concepts
    assert found['target'].replace(' ', '') == sentence.replace(' ', '')
    assert ' .' not in found['target'] and '  ' not in found['target']
