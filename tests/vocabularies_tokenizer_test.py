"""Vocabularies with ids of other models beside the libraries' own."""

import io
import json
import pickle

from flan_jax import errors
from flan_jax import vocabularies
from flan_jax.data import packing
import hypothesis
from hypothesis import strategies
import numpy as np
import pytest
import sentencepiece
import tokenizers
import transformers

_TEXTS = [
    'Is it true that 3 + 4 = 7?\n\nOPTIONS:\n- yes\n- no',
    'Größe: {x}\t"quoted"  two spaces \U0001f600 日本語',
    "can't, won't; it's.",
] * 5


def make_tokenizer(folder, added=('<|endoftext|>', '<|im_end|>')) -> None:
  """Writes a byte-level tokenizer.json, as GPT-2's."""
  made = tokenizers.Tokenizer(tokenizers.models.BPE())
  made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
      add_prefix_space=False
  )
  made.decoder = tokenizers.decoders.ByteLevel()
  trainer = tokenizers.trainers.BpeTrainer(
      vocab_size=300,
      initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
      special_tokens=list(added),
      show_progress=False,
  )
  made.train_from_iterator(_TEXTS, trainer)
  # Both are to be switched off.
  made.enable_truncation(4)
  made.enable_padding(length=7)
  made.save(str(folder / 'tokenizer.json'))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A folder with a tokenizer.json."""
  found = tmp_path_factory.mktemp('tokenizer')
  make_tokenizer(found)
  facts = {'eos_token': '<|im_end|>', 'tokenizer_class': 'TokenizersBackend'}
  (found / 'tokenizer_config.json').write_text(json.dumps(facts))
  return found


@pytest.fixture(scope='module')
def vocabulary(folder):
  return vocabularies.load(folder)


@pytest.fixture(scope='module')
def theirs(folder):
  found = transformers.PreTrainedTokenizerFast(
      tokenizer_file=str(folder / 'tokenizer.json')
  )
  return found


@hypothesis.given(strategies.lists(strategies.text(max_size=30), max_size=4))
@hypothesis.settings(max_examples=200, deadline=None)
def test_ids_are_those_of_transformers_plus_1(vocabulary, theirs, texts):
  texts = [*texts, ' a <|im_end|> b<|endoftext|>', '']
  found = vocabulary.encode_batch(texts)
  for text, ids in zip(texts, found, strict=True):
    own = theirs(text, add_special_tokens=False)['input_ids']
    assert [i - 1 for i in ids] == own
    assert all(0 < i < vocabulary.size for i in ids)
    if '<|' not in text:
      assert vocabulary.decode(ids) == text == vocabulary.round_trip(text)


def test_what_a_tokenizer_says_of_itself(vocabulary, folder, tmp_path):
  assert vocabulary.pad_id == 0
  assert vocabulary.eos_id == 2  # Their 1.
  assert vocabulary.size == 301
  assert vocabulary.padded_size == 384
  ids = [*vocabulary.encode('yes'), vocabulary.eos_id, 9, 0, 0]
  assert vocabulary.decode(ids) == 'yes'
  assert vocabulary.decode(np.array([0, *ids, 9999])) == 'yes'
  assert vocabulary.encode('\ud800x') == vocabulary.encode('\ufffdx')
  flat, lengths = vocabulary.encode_flat(['yes', 'no no'])
  assert flat.tolist() == [*ids[: lengths[0]], *vocabulary.encode('no no')]
  again = pickle.loads(pickle.dumps(vocabulary))
  assert again.describe() == vocabulary.describe()
  assert vocabulary.describe()['eos_id'] == 2
  # Another end is another vocabulary.
  make_tokenizer(tmp_path)
  (tmp_path / 'config.json').write_text('{"eos_token_id": [0, 1]}')
  other = vocabularies.load(tmp_path / 'tokenizer.json')
  assert other.eos_id == 1
  assert other.describe()['sha256'] != vocabulary.describe()['sha256']


def test_berts_word_pieces_are_those_of_transformers(tmp_path):
  words = ['snow', 'is', 'cold', '##er', '?', ',', 'un', '##known', 'e']
  special = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]']
  known = {word: i for i, word in enumerate([*special, *words])}
  theirs = transformers.BertTokenizer(vocab=known)
  theirs.save_pretrained(tmp_path)
  for lines in (None, {'do_lower_case': True}):
    if lines is not None:  # As the first folders have it.
      (tmp_path / 'tokenizer_config.json').write_text(json.dumps(lines))
    found = vocabularies.load(tmp_path)
    for text in ('Snow is colder, UNKNOWN?', 'é [MASK] snowy', ''):
      own = theirs(text, add_special_tokens=False)['input_ids']
      assert [i - 1 for i in found.encode(text)] == own
    assert found.decode([*found.encode('Snow is colder?'), 4, 9]) == (
        'snow is colder?'
    )
    assert found.eos_id == found.special_id('sep_token') == 4
    assert found.special_id('cls_token') == 3
    assert found.special_id('mask_token') == 5
  make_tokenizer(tmp_path)
  (tmp_path / 'tokenizer_config.json').write_text('{"eos_token": "<|im_end|>"}')
  other = vocabularies.load(tmp_path)
  assert other.special_id('mask_token') is None


def test_tokens_without_a_vector_are_left_out(tmp_path):
  make_tokenizer(tmp_path)
  file = tmp_path / 'tokenizer.json'
  more = tokenizers.Tokenizer.from_file(str(file))
  more.add_special_tokens(['<image>'])
  more.save(str(file))
  facts = {'vocab_size': 300, 'eos_token_id': 0}
  (tmp_path / 'config.json').write_text(json.dumps(facts))
  vocabulary = vocabularies.load(tmp_path)
  assert vocabulary.size == 301
  assert vocabulary.encode('a<image>b') == vocabulary.encode_batch(['a', 'b'])[
      0
  ] + vocabulary.encode('b')


def test_what_is_missing_is_said(tmp_path):
  with pytest.raises(errors.UserError, match='has none of spiece.model'):
    vocabularies.load(tmp_path)
  make_tokenizer(tmp_path)
  with pytest.raises(errors.UserError, match='nothing says which token ends'):
    vocabularies.load(tmp_path)
  (tmp_path / 'tokenizer.json').write_text('{}')
  with pytest.raises(errors.UserError, match='is no tokenizer'):
    vocabularies.load(tmp_path)


@pytest.fixture(scope='module', params=['llama2', 'gemma'])
def pieces(request, tmp_path_factory):
  """A SentencePiece model with ids as one of the brands has them."""
  ids = {
      'llama2': {'pad_id': -1, 'unk_id': 0, 'bos_id': 1, 'eos_id': 2},
      'gemma': {'pad_id': 0, 'eos_id': 1, 'bos_id': 2, 'unk_id': 3},
  }[request.param]
  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=iter(_TEXTS),
      model_writer=model,
      model_type='bpe',
      vocab_size=380,
      byte_fallback=True,
      normalization_rule_name='identity',
      remove_extra_whitespaces=False,
      minloglevel=2,
      **ids,
  )
  path = tmp_path_factory.mktemp('pieces') / 'tokenizer.model'
  path.write_bytes(model.getvalue())
  return path


def test_pieces_of_other_layouts_are_1_higher(pieces):
  vocabulary = vocabularies.load(pieces.parent)
  own = sentencepiece.SentencePieceProcessor(model_proto=pieces.read_bytes())
  for text in (*_TEXTS[:3], '', 'ßßß unseen'):
    ids = vocabulary.encode(text)
    assert [i - 1 for i in ids] == own.encode(text)
    assert vocabulary.decode([*ids, vocabulary.eos_id, 7]) == text
  assert vocabulary.eos_id == own.eos_id() + 1
  assert vocabulary.size == 381
  assert pickle.loads(pickle.dumps(vocabulary)).encode('a') == (
      vocabulary.encode('a')
  )
  renamed = pieces.parent / 'other.model'
  renamed.write_bytes(pieces.read_bytes())
  with pytest.raises(errors.UserError, match='as T5 has them'):
    vocabularies.load(renamed)


def test_rows_end_in_the_vocabularys_end():
  side = packing.Ragged(np.array([5, 6, 7], np.int32), np.array([2, 1]))
  wide = packing.pack(
      side,
      side,
      {'inputs': 4, 'targets': 4},
      form=packing.ONE_SIDE,
      together=False,
      eos_id=9,
  )
  limits = {'inputs': 4, 'targets': 4}
  batch = packing.features(wide, limits, packing.ONE_SIDE)
  assert batch['decoder_target_tokens'].tolist() == [
      [5, 6, 9, 5, 6, 9, 0, 0],
      [7, 9, 7, 9, 0, 0, 0, 0],
  ]
