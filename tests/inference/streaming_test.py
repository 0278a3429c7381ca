"""Pieces of a text make up the text, however its tokens cut it."""

from flan_jax import vocabularies
from flan_jax.inference import streaming
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import pytest

_BYTES = vocabularies.ByteVocabulary()


@pytest.fixture(scope='module')
def mini(root):
  """A SentencePiece model whose rare characters are spelled in bytes."""
  return vocabularies.load(root / 'mixtures' / 'mini' / 'mini.model')


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=30))
def test_bytes(text):
  ids = [*_BYTES.encode(text), 1]
  assert ''.join(streaming.pieces(_BYTES, ids)) == _BYTES.decode(ids)


@settings(max_examples=300, deadline=None)
@given(
    ids=st.lists(
        st.one_of(st.integers(0, 400), st.integers(0, 5000)), max_size=24
    )
)
def test_any_tokens_of_a_sentencepiece_model(mini, ids):
  whole = mini.decode(ids)
  assert ''.join(streaming.pieces(mini, ids)) == whole


def test_words_come_as_soon_as_they_are_known(mini):
  text = 'The film was good, said 東京 ☃ twice.'
  ids = mini.encode(text)
  found = list(streaming.pieces(mini, [*ids, 1]))
  assert ''.join(found) == mini.round_trip(text)
  assert len(found) > 5
  # No piece shows half a character.
  assert not any('\ufffd' in piece for piece in found)
  assert any(piece.endswith('東') for piece in found)


def test_nothing_is_given_for_an_end(mini):
  assert not list(streaming.pieces(mini, [1]))
  assert not list(streaming.pieces(mini, []))
