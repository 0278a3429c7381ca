"""Vocabularies: against SentencePiece and SeqIO, and text given back whole."""

import json
import pathlib
import pickle

from flan_jax import errors
from flan_jax import vocabularies
import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

WORDS = (
    'the capital of France is Paris and seven plus 15 makes 22 . Does this'
    ' text say that {premise} is true? Options: - yes - no Translate "good'
    ' morning" into German : guten Morgen; a cat sat on the mat'
).split()


def corpus(count: int = 400) -> list[str]:
  generator = np.random.default_rng(7)
  texts = []
  for _ in range(count):
    words = generator.choice(WORDS, size=generator.integers(3, 25))
    texts.append(' '.join(words))
    texts.append('\n\n'.join(generator.choice(WORDS, size=3)))
  return texts


@pytest.fixture(scope='module')
def model(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  path = tmp_path_factory.mktemp('vocabulary') / 'test.model'
  vocabularies.train_sentencepiece(corpus(), 340, path, seed=1)
  return path


@pytest.fixture(scope='module')
def vocabulary(
    model: pathlib.Path,
) -> vocabularies.SentencePieceVocabulary:
  return vocabularies.SentencePieceVocabulary(model)


def t5_like_model(path: pathlib.Path) -> pathlib.Path:
  """A model as T5's is: normalised, no byte fallback, spaces collapsed."""
  import sentencepiece

  with path.open('wb') as file:
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()),
        model_writer=file,
        vocab_size=75,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
  return path


def test_t5s_id_layout(vocabulary):
  assert vocabulary.size == 340 + 100
  assert vocabulary.padded_size == 512
  assert (vocabulary.pad_id, vocabulary.eos_id, vocabulary.unk_id) == (0, 1, 2)
  assert vocabulary.encode('say <extra_id_0>')[-1] == vocabulary.size - 1
  assert vocabulary.encode('say <extra_id_99>')[-1] == vocabulary.size - 100


SAMPLES = [
    '',
    ' ',
    'the capital of France',
    '  two  spaces, a\ttab\n\nand {braces} ',
    'Zürich 東京 \U0001f600',
    'fill <extra_id_0> and <extra_id_17> in',
    '</s> <pad> <unk> <0x41>',
]
# A model of T5's takes the names of its tokens for the tokens themselves, as
# transformers does (vocabularies_t5_test.py), and SentencePiece does not.
_NAMES = ('</s>', '<extra_id_')


def _plain(lossless: bool) -> list[str]:
  return [s for s in SAMPLES if lossless or not any(n in s for n in _NAMES)]


@pytest.mark.parametrize('lossless', [True, False])
def test_ids_are_those_of_sentencepiece(lossless, model, tmp_path):
  import sentencepiece

  path = model if lossless else t5_like_model(tmp_path / 't5.model')
  ours = vocabularies.SentencePieceVocabulary(path, extra_ids=0)
  theirs = sentencepiece.SentencePieceProcessor(model_file=str(path))
  texts = _plain(lossless) + corpus(50)
  assert ours.encode_batch(texts) == [theirs.encode(text) for text in texts]
  for text in texts:
    assert ours.encode(text) == theirs.encode(text)
    assert ours.round_trip(text) == theirs.decode(theirs.encode(text))


@pytest.mark.parametrize('lossless', [True, False])
def test_ids_are_those_of_seqio(lossless, model, tmp_path):
  seqio = pytest.importorskip('seqio')
  path = model if lossless else t5_like_model(tmp_path / 't5.model')
  ours = vocabularies.SentencePieceVocabulary(path, extra_ids=100)
  theirs = seqio.SentencePieceVocabulary(str(path), extra_ids=100)
  assert ours.size == theirs.vocab_size
  for text in _plain(lossless) + corpus(20):
    assert ours.encode(text) == theirs.encode(text)
    assert ours.decode(theirs.encode(text)) == theirs.decode(ours.encode(text))


def test_bytes_are_those_of_seqio():
  seqio = pytest.importorskip('seqio')
  ours, theirs = vocabularies.ByteVocabulary(), seqio.ByteVocabulary()
  assert ours.size == theirs.vocab_size == 259
  for text in SAMPLES:
    assert ours.encode(text) == list(theirs.encode(text))
    assert ours.round_trip(text) == text
  ids = [0, 75, 2, 3 + 0xC3, 300, 76, 1, 77]
  assert ours.decode(ids) == theirs.decode(ids)


def test_flat_is_the_batch_end_to_end(vocabulary):
  for some in (vocabulary, vocabularies.ByteVocabulary()):
    batch = some.encode_batch(SAMPLES)
    flat, lengths = some.encode_flat(SAMPLES)
    assert flat.dtype == np.int32
    assert lengths.tolist() == [len(ids) for ids in batch]
    assert flat.tolist() == [i for ids in batch for i in ids]
    nothing, none = some.encode_flat([])
    assert nothing.shape == none.shape == (0,)


# What an arbitrary text seldom holds, and what could go wrong.
AWKWARD = st.lists(
    st.sampled_from([
        '\u2581',
        '\ufdd0',
        '\ufdd1',
        ' ',
        '\n',
        '\r',
        '\t',
        '\0',
        '{',
        '}}',
        'the',
        '12',
        '<0xE2>',
        '<unk>',
        '</s>',
        ' <extra_id_5>',
        '\u2585',
        '\u2047',
        'e\u0301',
        '\u3000',
        '\ufeff',
        '\U0001f600',
    ])
).map(''.join)


@hypothesis.given(st.text() | AWKWARD)
@hypothesis.settings(
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
def test_a_trained_model_is_lossless(vocabulary, text):
  assert vocabulary.round_trip(text) == text
  assert vocabularies.ByteVocabulary().round_trip(text) == text


def test_every_noncharacter_at_once_still_encodes(vocabulary):
  text = ''.join(map(chr, range(0xFDD0, 0xFDF0)))
  assert vocabulary.round_trip(text) == text
  assert vocabulary.round_trip(text + '\u2581') == text + ' '


def test_half_a_surrogate_pair_is_replaced(vocabulary):
  for some in (vocabulary, vocabularies.ByteVocabulary()):
    assert some.round_trip('a\ud83db') == 'a\ufffdb'
    assert some.round_trip('\ud83d\ude00') == '\U0001f600'
    assert some.encode_batch(['ok', '\udc00'])[0] == some.encode('ok')


def test_decoding_stops_at_the_end_and_drops_padding(vocabulary):
  ids = vocabulary.encode('the cat')
  assert vocabulary.decode(ids + [1] + vocabulary.encode('mat')) == 'the cat'
  assert vocabulary.decode([0, *ids, 0, 0]) == 'the cat'
  assert vocabulary.decode(np.array(ids + [1, 0], np.int32)) == 'the cat'
  assert vocabulary.decode([]) == ''


def test_ids_of_the_padded_embedding_read_as_unknown(vocabulary):
  unknown = vocabulary.decode([2])
  assert vocabulary.decode([vocabulary.size]) == unknown
  assert vocabulary.decode([vocabulary.padded_size - 1]) == unknown
  assert unknown.strip()


def test_describe_and_pickle(vocabulary, model):
  import hashlib

  described = json.loads(json.dumps(vocabulary.describe()))
  digest = hashlib.sha256(model.read_bytes()).hexdigest()
  assert described['sha256'] == digest
  assert described['kind'] == 'sentencepiece'
  assert described['size'] == vocabulary.size
  copy = pickle.loads(pickle.dumps(vocabulary))
  assert copy.describe() == vocabulary.describe()
  assert copy.encode('the cat') == vocabulary.encode('the cat')


def test_training_repeats_and_the_seed_chooses(tmp_path):
  names = ['a', 'b', 'c']
  for name, seed in zip(names, [3, 3, 4], strict=True):
    vocabularies.train_sentencepiece(
        corpus(), 320, tmp_path / name, seed, max_texts=60
    )
  first, again, other = ((tmp_path / name).read_bytes() for name in names)
  assert first == again
  assert first != other
  assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_too_large_a_size_is_a_users_mistake(tmp_path):
  with pytest.raises(errors.UserError, match='cannot train 5000 .*<= ...'):
    vocabularies.train_sentencepiece(corpus(), 5000, tmp_path / 'x.model')
  with pytest.raises(errors.UserError, match='no text'):
    vocabularies.train_sentencepiece([], 400, tmp_path / 'x.model')
  assert not list(tmp_path.iterdir())


def test_loading_by_name(model, tmp_path):
  assert vocabularies.load('bytes').describe()['kind'] == 'bytes'
  assert vocabularies.load(str(model)).size == 440
  with pytest.raises(errors.UserError, match='nowhere.model: cannot read'):
    vocabularies.load(str(tmp_path / 'nowhere.model'))
  text = tmp_path / 'text.model'
  text.write_text('this is no model')
  with pytest.raises(errors.UserError, match='text.model: this is not'):
    vocabularies.load(str(text))


def test_other_special_ids_are_refused(tmp_path):
  import sentencepiece

  path = tmp_path / 'llama_like.model'
  with path.open('wb') as file:
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()),
        model_writer=file,
        vocab_size=75,
        minloglevel=2,
    )
  with pytest.raises(errors.UserError, match='pad, end and unknown'):
    vocabularies.load(str(path))
