"""Sentences, judged by a thesaurus and a grammar of the test's own."""

import re

from flan_jax.data.generators import sentences

_THESAURUS = 'big large|clever smart|rich wealthy|strange odd'
_MEANING = {
    word: group for group in _THESAURUS.split('|') for word in group.split()
}


def test_paraphrases_by_the_meanings_of_their_words():
  for row in sentences.paraphrases('train', 1):
    first, second = (
        [_MEANING.get(w, w) for w in re.findall(r'\w+', row[key])]
        for key in ('first', 'second')
    )
    assert row['first'] != row['second']
    changed = sum(a != b for a, b in zip(first, second, strict=True))
    assert changed == (0 if row['label'] == 'yes' else 1), row


_PLURAL_NOUN = re.compile(r'(bird|boy|cat|dog|girl|horse|teacher)(s?)')
_SINGULAR = 'eats falls hides sings swims wakes'.split()
_PLURAL = 'eat fall hide sing swim wake'.split()
_PARTICIPLES = 'eaten fallen hidden sung swum woken'.split()


def _grammatical(sentence: str) -> bool:
  """Whether determiner, subject, verb and auxiliary go together."""
  words = sentence.rstrip('.').lower().split()
  nouns = [bool(m[2]) for w in words if (m := _PLURAL_NOUN.fullmatch(w))]
  plural = nouns[0] or (len(nouns) == 2 and 'and' in words)
  if words[0] in ('this', 'these') and (words[0] == 'these') != nouns[0]:
    return False
  for auxiliary, is_plural in (('has', 0), ('have', 1), ('is', 0), ('are', 1)):
    if auxiliary in words:
      if plural != is_plural:
        return False
      following = words[words.index(auxiliary) + 1]
      return auxiliary in ('is', 'are') or following in _PARTICIPLES
  verbs = [w for w in words if w in _SINGULAR + _PLURAL + _PARTICIPLES]
  assert len(verbs) == 1, sentence
  return verbs[0] in (_PLURAL if plural else _SINGULAR)


def test_acceptability_by_a_grammar_of_agreement():
  rows = list(sentences.acceptability('train', 1))
  for row in rows:
    assert _grammatical(row['sentence']) == (row['label'] == 'correct'), row
  assert [r['label'] for r in rows].count('correct') == len(rows) / 2


def test_questions_by_how_they_begin():
  begins = {
      'person': r'(Who|Which \w+|What was the name) ',
      'place': r'(Where|In which (city|country)) ',
      'time': r'(When|In which year|On which day) ',
      'number': r'(How many|How much|What was the number) ',
  }
  rows = list(sentences.questions('train', 1))
  for row in rows:
    fitting = [k for k, v in begins.items() if re.match(v, row['question'])]
    assert fitting == [row['label']], row
  assert {[r['label'] for r in rows].count(k) for k in begins} == {
      len(rows) / 4
  }
