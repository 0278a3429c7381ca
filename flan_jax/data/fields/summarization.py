"""Summarization: a text and its gist, from a headline to a paragraph."""

from collections.abc import Mapping
import html
import re
from typing import Any

from flan_jax.data.fields import common

# What stands before the first sentence of an article. The Daily Mail's pages
# begin with the byline and two dates, 'By. Jo Bell. PUBLISHED:. 14:11 EST, 25
# October 2013. |. UPDATED:. 15:36 EST, 25 October 2013.'; the space before the
# stops came and went with the versions of the dataset.
_STAMP = (
    r'(?:PUBLISHED|UPDATED|CREATED|Last updated)\b.{0,60}?\b(?:19|20)\d\d\b'
)
_STAMPED_BYLINE = re.compile(
    rf'(?:By\b.{{0,250}}?\s|[^.]{{1,60}}\.\s+)?{_STAMP}'
    rf'(?:[\s.|]+{_STAMP})*[\s.|]*',
    re.DOTALL,
)
_BYLINE = re.compile(
    r'By\s?\.\s+[^.]{2,60}\.\s+(?:(?:and|for)\b[^.]{0,60}\.\s+)*'
)
# CNN's begin with a place and an agency, 'LONDON, England (Reuters) -- '; some
# with a note on the author before that.
_PLACE = (
    r"(?:(?:[A-Z][\w.'’/-]*|of|the|and|de|al|near|aboard|on|in|off|outside),?"
    r'\s+){0,8}'
)
_CNN = r'\(CNN[^()]{0,30}\)\s*(?:--|—|–)?\s*'
_DATELINE = re.compile(
    rf"(?:Editor['’]s note:.{{0,800}}?{_CNN}"
    rf'|{_PLACE}(?:{_CNN}|\([A-Z][^()]{{1,40}}\)\s*(?:--|—|–)\s*))',
    re.DOTALL,
)
_TAG = re.compile(r'</?[A-Za-z][^<>]*>')
_BLANK_LINES = re.compile(r'[^\S\n]*\n\s*')
_MANY_BREAKS = re.compile(r'\n{3,}')
_SPACES = re.compile(r'[^\S\n]+')
# Gigaword and the Penn Treebank write brackets and quotes so.
_TREEBANK = {
    '-lrb-': '(',
    '-rrb-': ')',
    '-lsb-': '[',
    '-rsb-': ']',
    '-lcb-': '{',
    '-rcb-': '}',
    '``': '"',
    "''": '"',
}
_UNKNOWN = re.compile(r'UNK|<unk>|#')
_ATTACHMENT = re.compile(r'<(?:file_(\w+)|(\w+)_file)>')
# Entities that lost their '&' to a space.
_BARE_ENTITY = re.compile(r' ?(#\d+|quot|amp|lt|gt|nbsp);')
# The most reviews or arguments of one summary, as in FLAN.
_MOST_OPINIONS = 10


def aeslc(row: Mapping[str, Any]) -> dict[str, Any]:
  """AESLC (Zhang and Tetreault, 2019): an e-mail.

  Returns:
    `body`, with its lines and paragraphs (the released FLAN makes one line of
    it; here the greeting, lists and signature stay where they were written);
    `subject`, in one line.
  """
  return {
      'body': _paragraphs(row['email_body']),
      'subject': common.one_line(row['subject_line']),
  }


def cnn_dailymail(row: Mapping[str, Any]) -> dict[str, Any]:
  """CNN/Daily Mail (See et al., 2017): an article and its bullet points.

  Returns:
    `article`, without byline, dates, place and agency at its head, which no
    summary tells; `highlights`, one a line.
  """
  article = common.one_line(row['article'])
  text = article
  for pattern in (_STAMPED_BYLINE, _BYLINE, _DATELINE):
    match = pattern.match(text)
    if match:
      text = text[match.end() :]
  return {
      'article': text or article,
      'highlights': _lines(row['highlights']),
  }


def gigaword(row: Mapping[str, Any]) -> dict[str, Any]:
  """Gigaword (Rush et al., 2015): `sentence` and `headline`.

  Both are in lower case with spaces around punctuation, as they were
  published; only the treebank's codes for brackets and quotes are undone.
  """
  return {
      'sentence': _without_treebank_codes(row['document']),
      'headline': _without_treebank_codes(row['summary']),
  }


def keep_gigaword(row: Mapping[str, Any]) -> bool:
  """Whether no word was replaced by UNK and no digit by '#'."""
  texts = (row['document'], row['summary'])
  return all(t.strip() and not _UNKNOWN.search(t) for t in texts)


def multi_news(row: Mapping[str, Any]) -> dict[str, Any]:
  """Multi-News (Fabbri et al., 2019): several articles, one summary.

  Returns:
    `articles`, each under a heading ('Article 1:') unless there is but one;
    `summary`, without the dash that stands for its dateline.
  """
  texts = [_lines(part) for part in row['document'].split('|||||')]
  texts = [text for text in texts if text]
  if len(texts) > 1:
    texts = [f'Article {n}:\n{text}' for n, text in enumerate(texts, 1)]
  summary = common.one_line(row['summary'])
  return {
      'articles': '\n\n'.join(texts),
      'summary': summary.lstrip('–—- '),
  }


def keep_multi_news(row: Mapping[str, Any]) -> bool:
  """Whether there is an article, and more of a summary than its dash."""
  return all(multi_news(row).values())


def newsroom(row: Mapping[str, Any]) -> dict[str, Any]:
  """Newsroom (Grusky et al., 2018): `article`, `title` and `summary`."""
  return {
      'article': _lines(html.unescape(row['text'])),
      'title': _plain(row['title']),
      'summary': _plain(row['summary']),
  }


def keep_newsroom(row: Mapping[str, Any]) -> bool:
  """Whether the row has an article, a title and a summary."""
  return all((row[key] or '').strip() for key in ('text', 'title', 'summary'))


def rotten_tomatoes(row: Mapping[str, Any]) -> dict[str, Any]:
  """Rotten Tomatoes (Wang and Ling, 2016): reviews and what they agree on.

  Returns:
    `movie`, its name (in the rows with underscores for spaces); `reviews`, the
    first ten, numbered, one a line; `consensus`.
  """
  return {
      'movie': _plain(row['_movie_name'].replace('_', ' ')),
      'reviews': _numbered(row['_critics']),
      'consensus': _plain(row['_critic_consensus']),
  }


def keep_rotten_tomatoes(row: Mapping[str, Any]) -> bool:
  """Whether the film has a name, a review and a consensus."""
  return all(rotten_tomatoes(row).values())


def idebate(row: Mapping[str, Any]) -> dict[str, Any]:
  """iDebate (Wang and Ling, 2016): arguments and the claim that they back.

  Returns:
    `debate`, its name (in the rows with underscores for spaces); `arguments`,
    the first ten sentences, numbered, one a line; `claim`.
  """
  return {
      'debate': _plain(row['_debate_name'].replace('_', ' ')),
      'arguments': _numbered(row['_argument_sentences']),
      'claim': _plain(row['_claim']),
  }


def keep_idebate(row: Mapping[str, Any]) -> bool:
  """Whether the debate has a name, an argument and a claim."""
  return all(idebate(row).values())


def samsum(row: Mapping[str, Any]) -> dict[str, Any]:
  """SAMSum (Gliwa et al., 2019): `dialogue`, a message a line, and `summary`.

  What somebody attached, '<file_photo>' in the rows, is '[photo]': summaries
  speak of it.
  """
  return {
      'dialogue': _lines(_ATTACHMENT.sub(_attachment, row['dialogue'])),
      'summary': common.one_line(row['summary']),
  }


def wiki_lingua(row: Mapping[str, Any]) -> dict[str, Any]:
  """WikiLingua (Ladhak et al., 2020) in GEM: `article` and `summary`."""
  return {
      'article': common.tidy(row['source']),
      'summary': common.tidy(row['target']),
  }


def ag_news(row: Mapping[str, Any]) -> dict[str, Any]:
  """AG News (Zhang et al., 2015): `title`, `description` and `label`.

  The rows carry the remains of web pages: backslashes for line ends, entities
  whose ampersand is gone (' #39;s'), tags.
  """
  return {
      'title': _ag_news_text(row['title']),
      'description': _ag_news_text(row['description']),
      'label': row['label'],
  }


def _lines(text: str) -> str:
  """The text without empty lines and stray spaces."""
  return _SPACES.sub(' ', _BLANK_LINES.sub('\n', text.strip()))


def _paragraphs(text: str) -> str:
  """The text line by line, with at most one empty line between two others."""
  lines = '\n'.join(map(common.one_line, text.splitlines()))
  return _MANY_BREAKS.sub('\n\n', lines).strip()


def _plain(text: str) -> str:
  """The text in one line, without tags and entities."""
  return common.one_line(_TAG.sub('', html.unescape(text)))


def _numbered(opinions: Mapping[str, list[str]]) -> str:
  """The first opinions that are no empty text, a numbered line each."""
  texts = [text for text in map(_plain, opinions['value']) if text]
  return '\n'.join(
      f'{n}. {text}' for n, text in enumerate(texts[:_MOST_OPINIONS], 1)
  )


def _without_treebank_codes(text: str) -> str:
  return ' '.join(_TREEBANK.get(word, word) for word in text.split())


def _attachment(match: re.Match[str]) -> str:
  kind = match[1] or match[2]
  return '[file]' if kind == 'other' else f'[{kind}]'


def _ag_news_text(text: str) -> str:
  text = html.unescape(text).replace('\\', ' ')
  text = _BARE_ENTITY.sub(lambda match: html.unescape(f'&{match[1]};'), text)
  return common.tidy(_TAG.sub('', text).replace("''", '"'))
