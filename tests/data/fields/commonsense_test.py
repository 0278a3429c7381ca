"""Fields of the commonsense datasets, on rows as they are."""

import csv

from flan_jax.data import catalogue
from flan_jax.data import rows as rows_lib
from flan_jax.data.fields import commonsense
import numpy as np
import pytest


def test_copa():
  row = {
      'premise': 'The dog barked. ',
      'question': 'cause',
      'choice1': 'A bell rang.',
      'choice2': 'It slept.',
      'label': 0,
      'idx': 3,
  }
  expected = {
      'premise': 'The dog barked.',
      'premise_open': 'The dog barked',
      'question': 'cause',
      'connective': 'because',
      'choice1': 'A bell rang.',
      'choice2': 'It slept.',
      'label': 0,
  }
  assert commonsense.copa(row) == expected
  effect = commonsense.copa({**row, 'question': 'effect'})
  assert (effect['question'], effect['connective']) == ('effect', 'so')
  with pytest.raises(ValueError, match="'why'"):
    commonsense.copa({**row, 'question': 'why'})


def test_piqa():
  row = {'id': '', 'goal': 'dry\nshoes', 'sol1': ' a.', 'sol2': 'b', 'label': 1}
  assert commonsense.piqa(row) == {
      'goal': 'dry shoes',
      'solution1': 'a.',
      'solution2': 'b',
      'label': 1,
  }


@pytest.mark.parametrize(
    ('raw', 'expected'),
    [
        ('A man sits on a roof. he', 'A man sits on a roof. he'),
        (
            '[header] How to sew [title] Cut it out. [step] Take',
            'How to sew. Cut it out. Take',
        ),
        ('[title] Ask why? [step] Then go', 'Ask why? Then go'),
        # A title with nothing after it is a sentence of its own.
        ('Go on. [title] Cut the cloth [step]', 'Go on. Cut the cloth.'),
        ('Go on. [substeps] Use pins [title] Sew', 'Go on. Use pins. Sew'),
        ('Press [enter] twice', 'Press [enter] twice'),
        ('[step]', ''),
    ],
)
def test_hellaswag_markers_become_sentences(raw, expected):
  row = {
      'activity_label': 'Sewing',
      'context': raw,
      'endings': [raw, 'b', 'c', 'd'],
      'label': 3,
      'source_id': 'wikihow~1',
      'split_type': 'indomain',
  }
  assert commonsense.hellaswag(row) == {
      'activity': 'Sewing',
      'context': expected,
      'endings': [expected, 'b', 'c', 'd'],
      'label': 3,
  }


@pytest.mark.parametrize('label', [1, 2])
def test_story_cloze_counts_from_zero_from_either_source(label):
  expected = {
      'context': 'A. B. C. D.',
      'endings': ['E.', 'F.'],
      'label': label - 1,
  }
  row = {'context': 'A. B.  C. D.', 'endings': ['E.', 'F. '], 'label': label}
  assert commonsense.story_cloze(row) == expected
  cells = {
      'InputStoryid': '7',
      'InputSentence1': 'A.',
      'InputSentence2': 'B. ',
      'InputSentence3': 'C.',
      'InputSentence4': 'D.',
      'RandomFifthSentenceQuiz1': 'E.',
      'RandomFifthSentenceQuiz2': 'F.',
      'AnswerRightEnding': str(label),
  }
  assert commonsense.story_cloze_csv(cells) == expected


def test_story_cloze_from_the_files_of_its_authors(tmp_path):
  folder = tmp_path / 'data' / 'story_cloze'
  folder.mkdir(parents=True)
  for part, count in (('val', 250), ('test', 3)):
    path = folder / f'cloze_test_{part}__spring2016.csv'
    with open(path, 'w', newline='', encoding='utf-8') as file:
      writer = csv.writer(file)
      writer.writerow(
          ['InputStoryid']
          + [f'InputSentence{n}' for n in range(1, 5)]
          + [f'RandomFifthSentenceQuiz{n}' for n in (1, 2)]
          + ['AnswerRightEnding']
      )
      for i in range(count):
        writer.writerow([i, f'{part} {i}.', 'B, "b".', 'C.', 'D.', 'E', 'F', 2])
  settings = rows_lib.SourceSettings(
      tfds_data_dir=str(tmp_path / 'none'), data_dir=str(tmp_path / 'data')
  )
  store = rows_lib.RowStore(tmp_path / 'cache', settings)
  dataset = catalogue.Catalogue().dataset('story_cloze')
  firsts = {}
  for split in ('train', 'validation', 'test'):
    rows = store.open(dataset, split)
    first = rows.fields(np.arange(1))[0]
    firsts[split] = (len(rows), first['context'], first['label'])
  assert firsts == {
      'train': (50, 'val 0. B, "b". C. D.', 1),
      'validation': (200, 'val 50. B, "b". C. D.', 1),
      'test': (3, 'test 0. B, "b". C. D.', 1),
  }
