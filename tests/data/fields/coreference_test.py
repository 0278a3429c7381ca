"""Fields of the coreference datasets, on rows as they are."""

from flan_jax.data.fields import coreference
import hypothesis
from hypothesis import strategies as st
import pytest


@pytest.mark.parametrize(
    ('text', 'index', 'pronoun', 'expected'),
    [
        ('Jo saw it and it fell.', 4, 'it', 'Jo saw it and *it* fell.'),
        ('Jo saw it and it fell.', 2, 'it', 'Jo saw *it* and it fell.'),
        # Inside of other words there is no pronoun.
        ('It is with it.', 3, 'it', 'It is with *it*.'),
        ('He said, "he ran."', 2, 'he', 'He said, "*he* ran."'),
        ("Jo's dog? It's here.", 2, 'It', "Jo's dog? *It*'s here."),
        # The count is off by one.
        ('Jo saw  it there.', 3, 'it', 'Jo saw *it* there.'),
        # There is no such word: the counted one is marked.
        ('Before theyscold him.', 1, 'they', 'Before *theyscold* him.'),
        ('Short.', 40, 'it', '*Short.*'),
    ],
)
def test_wsc_marks_the_pronoun_that_is_meant(text, index, pronoun, expected):
  row = {
      'text': text,
      'span1_index': 0,
      'span1_text': 'Jo ',
      'span2_index': index,
      'span2_text': pronoun,
      'label': 1,
      'idx': 2,
  }
  assert coreference.wsc(row) == {
      'text': expected,
      'noun': 'Jo',
      'pronoun': pronoun,
      'label': 1,
  }


@hypothesis.given(
    st.lists(st.sampled_from(['it', 'sat', 'bit', '"it', 'it,']), min_size=1),
    st.integers(0, 30),
)
def test_wsc_marks_exactly_the_counted_word(words, index):
  index %= len(words)
  hypothesis.assume('it' in words[index] and words[index] != 'bit')
  row = {
      'text': ' '.join(words),
      'span1_text': 'x',
      'span2_index': index,
      'span2_text': 'it',
      'label': 0,
  }
  marked = list(words)
  marked[index] = marked[index].replace('it', '*it*')
  assert coreference.wsc(row)['text'] == ' '.join(marked)


def _wsc273(text, pronoun, options):
  start = text.index(f' {pronoun} ') + 1
  return {
      'text': text,
      'option1': options[0],
      'option1_normalized': options[0],
      'option2': options[1],
      'option2_normalized': options[1],
      'pronoun_start': start,
      'pronoun_end': start + len(pronoun),
      'pronoun_text': pronoun,
      'label': 1,
      'idx': 5,
  }


def test_wsc273():
  row = _wsc273('Bo met Al, and he left.', 'he', ['Bo', 'Al'])
  assert coreference.wsc273(row) == {
      'beginning': 'Bo met Al, and',
      'candidates': ['Bo left.', 'Al left.'],
      'text': 'Bo met Al, and *he* left.',
      'pronoun': 'he',
      'label': 1,
  }


def test_wsc273_genitives():
  row = _wsc273('Bo hid his hat.', 'his', ['Bo', 'James'])
  assert coreference.wsc273(row)['candidates'] == ["Bo's hat.", "James' hat."]
  row = _wsc273('Bo hid their hat.', 'their', ["Bo's", "the boys'"])
  assert coreference.wsc273(row)['candidates'] == [
      "Bo's hat.",
      "the boys' hat.",
  ]


@pytest.mark.parametrize(
    ('sentence', 'beginning', 'candidates'),
    [
        ('Jo asked Vi as _ knew.', 'Jo asked Vi as', ['Jo knew.', 'Vi knew.']),
        ("It was _'s idea.", 'It was', ["Jo's idea.", "Vi's idea."]),
        ('So it was _.', 'So it was', ['Jo.', 'Vi.']),
    ],
)
def test_winogrande(sentence, beginning, candidates):
  row = {'sentence': sentence, 'option1': 'Jo', 'option2': 'Vi ', 'label': 0}
  assert coreference.winogrande(row) == {
      'sentence': sentence.replace('_', '___'),
      'beginning': beginning,
      'candidates': candidates,
      'label': 0,
  }


def test_winogrande_needs_a_blank():
  row = {'sentence': 'None.', 'option1': 'Jo', 'option2': 'Vi', 'label': 0}
  with pytest.raises(ValueError, match='no blank'):
    coreference.winogrande(row)


def test_definite_pronoun_resolution_means_the_first():
  row = {
      'sentence': 'The bees stung the other men because they said they knew.',
      'pronoun': 'they',
      'candidates': ['The bees', 'the other men'],
      'label': 1,
  }
  assert coreference.definite_pronoun_resolution(row) == {
      **row,
      'marked_sentence': (
          'The bees stung the other men because *they* said they knew.'
      ),
  }
