"""Sentences by hand, and against NLTK's Punkt given our abbreviations."""

from flan_jax.evaluation.metrics import sentences
from hypothesis import given
from hypothesis import strategies as st
from nltk.tokenize import punkt
import pytest

# '|' is where a sentence ends and another starts.
_CASES = """
One. | Two! | "Three?" | Four 3.5 e.g
Dr. Smith met Mrs. Jones at 5 p.m. on Monday. | They spoke.
He moved to the U.S. in 1999. | Then he left.
It ended at 5 p.m. | The crowd went home.
The firm, Acme Inc. of Ohio, lost. | It closed.
He works for Acme Inc. | She does not.
"Is it true?" | "Yes." | He nodded.
J. K. Rowling wrote it. | J. R. R. Tolkien did not.
See Fig. 3 and No. 5, e.g. the last. | No. | That is all.
Wait... what? | He waited... | Then left.
(He left.) | She stayed.
It cost $3.50. | Cheap!
Visit www.a.com. | Now.
He has a Ph.D. in law. | Smith et al. (2004) agree.
What?! | No...
She was born in Jan. 1990 and died in Dec. 2000.
He said 'no.' | Then he left.
The U.N. Security Council met. | It voted.
Prices rose 3.5 percent in Feb. from Jan. levels. | Good.
a b . | c d .
this is one. | this is two.
Plants need the sun. | Birds do not.
He got off in Main St. | The bus went on to St. Mary's.
Nothing ends here
""".strip().splitlines()

# Where Punkt splits and a reader would not, or the other way round.
_UNLIKE_PUNKT = [
    '“Stop!” he said. | “Why?” | She ran.',
    '1. First item. | 2. Second item.',
    'It was plan B. | The end.',
]


def _parted(case: str) -> tuple[str, list[str]]:
  return case.replace(' | ', ' '), case.split(' | ')


@pytest.mark.parametrize('case', [*_CASES, *_UNLIKE_PUNKT])
def test_by_hand(case):
  passage, expected = _parted(case)
  assert sentences.split(passage) == expected


@pytest.mark.parametrize('case', _CASES)
def test_punkt_with_these_abbreviations_agrees(case):
  parameters = punkt.PunktParameters()
  parameters.abbrev_types = set(
      'dr mrs p.m u.s inc j k r e.g fig al jan feb dec u.n st ph.d'.split()
  )
  if 'No. 5' in case:
    parameters.abbrev_types.add('no')
  parameters.sent_starters = set('the she then it that they'.split())
  passage, expected = _parted(case)
  found = punkt.PunktSentenceTokenizer(parameters).tokenize(passage)
  assert found == expected


def test_lines_are_sentences():
  assert sentences.split(' kept\nas is \n\n\tand. So\r\non') == [
      'kept',
      'as is',
      'and.',
      'So',
      'on',
  ]
  assert sentences.split(' \n ') == []


@given(st.text(alphabet='aAbU.!?"\') 1\n…', max_size=40))
def test_nothing_is_lost(passage):
  found = sentences.split(passage)
  assert ''.join(' '.join(found).split()) == ''.join(passage.split())
  # Splitting again changes nothing, and every sentence holds something.
  assert all(each.strip() == each != '' for each in found)


@given(st.text(alphabet='ab .', max_size=40))
def test_everything_t5_split_at_is_an_end(passage):
  words = passage.split()
  found = sentences.split(' '.join(words))
  ends = sum(
      word == '.' and 0 < place < len(words) - 1
      for place, word in enumerate(words)
  )
  assert len(found) >= ends
