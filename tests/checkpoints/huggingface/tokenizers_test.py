"""What is written as a tokenizer gives the same ids in `transformers`."""

from flan_jax import vocabularies
from flan_jax.checkpoints.huggingface import tokenizers
import hypothesis
from hypothesis import strategies as st
import pytest
import transformers

_PARTS = ['Hello', ' world', '\n', '\t', '{a}', '  ', 'née', 'Ж', '42', ' The']
_PARTS += ['Argentina', '. ', '!\n\n', '🙂', '\u00a0', 'e\u0301', '<s>', '</s>']
_PARTS += ['<extra_id_0>', ' <extra_id_99>', '<0x', '\r\n']


@pytest.fixture(scope='module')
def pair(root, tmp_path_factory):
  """The embedded vocabulary, and the tokenizer of what is written of it."""
  folder = tmp_path_factory.mktemp('tokenizer')
  spec = str(root / 'mixtures' / 'mini' / 'mini.model')
  tokenizers.write(folder, spec)
  tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
  return vocabularies.load(spec), tokenizer


@hypothesis.settings(max_examples=300, deadline=None)
@hypothesis.given(st.lists(st.sampled_from(_PARTS) | st.text(max_size=5)))
def test_ids_and_texts_are_ours(pair, parts):
  vocabulary, tokenizer = pair
  # U+2581 is a space there; ends and the like are written, not meant.
  text = ''.join(parts).replace('\u2581', '')
  for special in ('<pad>', '</s>', '<unk>'):
    text = text.replace(special, '')
  ids = tokenizer(text).input_ids
  assert ids == [*vocabulary.encode(text), 1]
  assert tokenizer.decode(ids, skip_special_tokens=True) == vocabulary.decode(
      ids
  )


def test_it_knows_its_ends(pair):
  _, tokenizer = pair
  assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (0, 1)
  assert len(tokenizer) == 1250
