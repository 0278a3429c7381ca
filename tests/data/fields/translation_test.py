"""Fields of translation pairs."""

from flan_jax.data import catalogue
from flan_jax.data.fields import common
from flan_jax.data.fields import translation
import pytest

_PAIR = {'english': 'Good "day" & more.', 'translation': 'Dobrý den.'}


@pytest.mark.parametrize(
    'row',
    [
        {
            'cs': ' Dobrý\u00a0den.\n',
            'en': 'Good &quot;day&quot;\t &amp; more.',
        },
        {
            'en': 'Good "day" &\u200b more.',
            'cs': 'Dobrý\u00ad den.',
            'line': '7',
        },
        {'translation': {'cs': 'Dobrý den.', 'en': 'Good "day" & more.'}},
    ],
)
def test_pair_finds_and_cleans_both_texts(row):
  assert translation.pair(row) == _PAIR
  assert translation.has_both(row)


@pytest.mark.parametrize(
    'row',
    [{'en': 'a'}, {'de': 'a', 'cs': 'b'}, {'en': 'a', 'de': 'b', 'fr': ''}],
)
def test_pair_needs_english_and_one_other_language(row):
  with pytest.raises(ValueError, match="under 'en' and one"):
    translation.pair(row)


def test_a_pair_with_an_empty_side_is_turned_down():
  assert not translation.has_both({'en': 'a', 'ru': ' \u200b\n'})
  assert not translation.has_both({'translation': {'en': '', 'ru': 'a'}})


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('a\r\n\x0b b\u3000c\x85', 'a b c'),
        ('/?a=1&copy=2', '/?a=1&copy=2'),
        ('&lt;b&gt; &#39;x&#x27; &unknown;', "<b> 'x' &unknown;"),
        ('so\xadft \ufeffmark\x07', 'soft mark'),
        # A joiner that changes how Persian is read.
        ('می\u200cروم', 'می\u200cروم'),
        ('', ''),
    ],
)
def test_one_line(text, expected):
  assert common.one_line(text) == expected


def test_pairs_of_wmt_2016_share_one_list_and_name_their_language():
  known = catalogue.Catalogue()
  languages = {}
  for pair in ('deen', 'tren', 'csen', 'fien', 'roen', 'ruen'):
    dataset = known.dataset(f'wmt16_translate_{pair}')
    languages[pair] = dataset.constants['language']
    assert dataset.templates == known.dataset('wmt16_translate_deen').templates
    assert pair[:2] in dataset.sample and 'en' in dataset.sample
    assert f'/{pair[:2]}-en:' in dataset.source.where
    assert languages[pair] in dataset.description
  assert languages == {
      'deen': 'German',
      'tren': 'Turkish',
      'csen': 'Czech',
      'fien': 'Finnish',
      'roen': 'Romanian',
      'ruen': 'Russian',
  }
