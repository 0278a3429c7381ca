"""Parts of texts: their ids end to end are those of the whole, or there are
none."""

import pathlib

from flan_jax import sentencepiece_models
from flan_jax import vocabularies
import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

_WORDS = (
    'the cat sat on a mat and seven plus 15 makes 22 : aa aaa mm bb'.split()
)
# Ties between ways to cut them, and what is special to the library.
_PIECES = st.sampled_from([
    *_WORDS,
    ' ',
    '  ',
    '\n',
    '\t',
    '{',
    '}',
    'é',
    'e\u0301',
    '\u3000',
    '\ufb01',
    'Z',
    '\U0001f600',
    '\u2581',
    ' <extra_id_3>',
    '<unk>',
    '\ud83d',
    '\ude00',
    '\0',
])
_TEXTS = st.lists(_PIECES, max_size=30).map(''.join)
_PARTS = st.lists(_TEXTS, min_size=1, max_size=6)


def _corpus() -> list[str]:
  generator = np.random.default_rng(3)
  texts = []
  for _ in range(500):
    words = generator.choice(_WORDS, size=generator.integers(2, 20))
    texts.append(' '.join(words))
    texts.append(''.join(generator.choice(list('abm'), size=12)))
    texts.append('\n'.join(words[:3]))
  return texts


@pytest.fixture(scope='module')
def models(tmp_path_factory) -> dict[str, pathlib.Path]:
  """Ours, and one that is like T5's: normalised, spaces collapsed."""
  import sentencepiece

  folder = tmp_path_factory.mktemp('models')
  ours, t5 = folder / 'ours.model', folder / 't5.model'
  vocabularies.train_sentencepiece(_corpus(), 330, ours)
  # With ties: a run of letters can be cut in several ways of one sum.
  with t5.open('wb') as file:
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_corpus()),
        model_writer=file,
        vocab_size=60,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
  return {'ours': ours, 't5': t5}


@pytest.fixture(scope='module')
def ours(models) -> vocabularies.SentencePieceVocabulary:
  return vocabularies.SentencePieceVocabulary(models['ours'])


def _joined(joiner, parts):
  arrays = [*joiner.first(parts[:1]), *joiner.after(parts[1:])]
  if any(array is None for array in arrays):
    return None
  return [i for array in arrays for i in array.tolist()]


@hypothesis.given(_PARTS, st.sampled_from(['\n\n', '\n', '\n### ', '{', '}\n']))
@hypothesis.settings(deadline=None, max_examples=300)
def test_parts_of_ours_are_the_whole(ours, parts, separator):
  joiner = ours.joiner(separator)
  found = _joined(joiner, parts)
  whole = separator.join(parts)
  if found is not None:
    assert found == ours.encode(whole)
    assert len(found) <= joiner.longest
  else:
    assert not parts[0] or '<extra_id_' in whole or '\u2581' in whole


@hypothesis.given(_PARTS, st.sampled_from(['\n\n', '', ' ', 'é', '\ud83d']))
@hypothesis.settings(deadline=None)
def test_parts_of_bytes_are_the_whole(parts, separator):
  vocabulary = vocabularies.ByteVocabulary()
  found = _joined(vocabulary.joiner(separator), parts)
  whole = separator.join(parts)
  if found is not None:
    assert found == vocabulary.encode(whole)
  else:
    with pytest.raises(UnicodeEncodeError):
      whole.encode(), [part.encode() for part in parts]


def test_ties_are_cut_alike_anywhere(ours):
  """Runs of one letter, far into a text: rounding would show there."""
  joiner = ours.joiner('\n')
  generator = np.random.default_rng(0)
  for before in (1, 30, 400):
    start = 'the cat sat on a mat and 15\n' * before
    texts = [
        ''.join(generator.choice(list('abm '), size=40)) for _ in range(100)
    ]
    ids = joiner.first([start])[0]
    for text, after in zip(texts, joiner.after(texts), strict=True):
      whole = ours.encode(f'{start}\n{text}')
      assert [*ids.tolist(), *after.tolist()] == whole


def test_separators_that_pieces_reach_over(ours):
  for separator in ('', ' ', 'a', ' \n', 'the', 'Z'):
    assert ours.joiner(separator) is None
  assert ours.joiner('\n') is not None
  assert ours.joiner('\n').longest > 5000


def test_other_models_are_not_joined(models):
  t5 = vocabularies.SentencePieceVocabulary(models['t5'])
  # Spaces are collapsed, so these are not what a line break looks like.
  assert t5.encode('a \n b') == t5.encode('a b')
  for separator in ('\n\n', '\n', ' ', ':'):
    assert t5.joiner(separator) is None
  mini = vocabularies.load('mixtures/mini/mini.model')
  facts = sentencepiece_models.read(mini.path.read_bytes())
  assert not facts.exact  # Made before scores were rounded.


def test_rounding_changes_scores_and_nothing_else(models, ours):
  import sentencepiece

  model = models['ours'].read_bytes()
  facts = sentencepiece_models.read(model)
  assert facts.exact
  assert {'\n', '\t', '{', '}'} <= facts.single
  assert sentencepiece_models.with_exact_scores(model) == model
  t5 = models['t5'].read_bytes()
  rounded = sentencepiece_models.with_exact_scores(t5)
  assert rounded != t5
  before, after = (
      sentencepiece.SentencePieceProcessor(model_proto=some)
      for some in (t5, rounded)
  )
  assert len(before) == len(after)
  for i in range(len(before)):
    assert before.id_to_piece(i) == after.id_to_piece(i)
    assert before.is_control(i) == after.is_control(i)
    assert abs(before.get_score(i) - after.get_score(i)) <= 1 / 64
  # It still changes texts, so its parts cannot be joined.
  assert not sentencepiece_models.read(rounded).exact


def test_long_symbols_of_a_user_cannot_be_rounded():
  model = sentencepiece_models.sentinels(1)
  with pytest.raises(ValueError, match='more than one character'):
    sentencepiece_models.with_exact_scores(model)
