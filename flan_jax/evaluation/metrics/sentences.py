"""Splits English text into sentences, without a model to download.

ROUGE-Lsum needs sentences, and the usual splitter, NLTK's Punkt, gets its
abbreviations from a file that it downloads. Here they are a list; the rest is
Punkt's (Kiss and Strunk 2006): a full stop ends a sentence, whatever follows,
unless it belongs to an abbreviation, and a full stop that does both is told by
the word after it.
"""

import re

# What may end a sentence, what may close around it, and whitespace.
_STOP = re.compile(r'([.!?\u2026]+)(["\'\u201d\u2019\u00bb)\]}]*)[ \t]+')
_OPENING = '"\'\u201c\u2018\u00ab([{'

# A name, a number or the rest of a phrase always follows these.
_NEVER_LAST = frozenset("""
adm brig capt cf cmdr col comdr cpl dr e.g fr ft gen gov hon i.e lt maj messrs
mlle mme mr mrs ms mt mx pres prof pvt rep repr rev rt sen sens sgt supt v
viz vs
""".split())
# These are abbreviations before a number, else words.
_BEFORE_NUMBERS = frozenset("""
art ca ch chap eq fig figs no nos nr op p pp pt sec sect v vol vols
""".split())
# These may end a sentence: they do before a word that often starts one.
_MAYBE_LAST = frozenset("""
a.d a.m al approx assn assoc ave b.a b.c b.s blvd bros co corp d.c dept dist ed
eds est etc inc jr ltd m.a m.p.h min misc p.m p.s ph.d plc rd rte sq sr st tel
u.k u.n u.s u.s.a univ
""".split())
# So do these, but only with a capital: in lower case most are words.
_CALENDAR = frozenset("""
Jan Feb Mar Apr Jun Jul Aug Sep Sept Oct Nov Dec
Mon Tue Tues Wed Thu Thur Thurs Fri Sat Sun
""".split())
_STARTERS = frozenset("""
a after again all also although among an and another any anyone are as at
because before both but by can did do does during each even every everyone few
finally first for from had has have having he her here his how however i if in
instead is it its last later many meanwhile more most my nearly no nobody none
nor not nothing now of on once one only or other others our over perhaps please
several she since so some still such than that the their then there these they
this those though thus to today together too two under unlike until was we were
what when where whether which while who whose why with within without would yes
yesterday yet you your
""".split())

_INITIALS = re.compile(r'(?:[^\W\d_]\.)*[^\W\d_]')
_NUMBER = re.compile(r'\d+')


def split(passage: str) -> list[str]:
  """Returns the sentences of a passage, without the whitespace around them.

  A line break always ends one, and so does ' . ' on its own, which is how
  tokenised text is written (and all that T5 split at).
  """
  return [
      sentence
      for line in passage.splitlines()
      for sentence in _split_line(line.strip())
  ]


def _split_line(line: str) -> list[str]:
  found = []
  start = 0
  for match in _STOP.finditer(line):
    if match.end() == len(line):
      break  # Nothing is left to be another sentence.
    before = line[start : match.start()]
    if _ends(before, match[1], match[2], line[match.end() :]):
      found.append(line[start : match.end(2)])
      start = match.end()
  if start < len(line):
    found.append(line[start:])
  return found


def _ends(before: str, stop: str, closing: str, after: str) -> bool:
  """Whether a stop after `before` (this sentence so far) ends the sentence."""
  opened = after.lstrip(_OPENING)
  goes_on = opened[:1].islower()
  if closing.strip(')]}') and goes_on:
    return False  # "Stop!" he said.
  if stop != '.':
    # An ellipsis may stand in a sentence; ! and ? end it.
    return '!' in stop or '?' in stop or not goes_on
  words = before.split()
  if before[-1:].isspace() or not words:
    return True
  last = words[-1].lstrip(_OPENING)
  if len(words) == 1 and _NUMBER.fullmatch(last):
    return False  # The number of an entry in a list.
  return not _continues(last, opened)


def _continues(last: str, after: str) -> bool:
  """Whether a word with a full stop is an abbreviation within a sentence."""
  word = last.lower()
  if word in _BEFORE_NUMBERS and after[:1].isdigit():
    return True
  if word in _NEVER_LAST:
    return True
  # 'I' is a word more often than an initial: 'as tall as I. She left.'
  initials = _INITIALS.fullmatch(last) and (last.isupper() or '.' in last)
  if not (word in _MAYBE_LAST or last in _CALENDAR or initials):
    return False
  next_word = re.match(r'[^\W\d_]+', after)
  return not (
      next_word
      and next_word[0][0].isupper()
      and next_word[0].lower() in _STARTERS
  )
