"""Fields of the summarization datasets, on rows as they are."""

import json

from flan_jax.data import catalogue
from flan_jax.data import sample_rows
from flan_jax.data import tasks
from flan_jax.data.fields import common
from flan_jax.data.fields import summarization
import pytest

_TEXT = 'The (old) bridge opened -- at last -- on 3 May 2011. It cost a lot.'


def test_aeslc_keeps_lines_and_paragraphs():
  row = {
      'email_body': '\n Hi,\n  all  of you.\n\t\n\n\nA &amp; B\r\nBye\n',
      'subject_line': ' Lunch\n',
  }
  assert summarization.aeslc(row) == {
      'body': 'Hi,\nall of you.\n\nA & B\nBye',
      'subject': 'Lunch',
  }
  assert common.has_texts(row)
  assert not common.has_texts({**row, 'subject_line': '\n'})


@pytest.mark.parametrize(
    'head',
    [
        '',
        '(CNN) -- ',
        '(CNN)',
        '(CNN)  -- ',
        '(CNN Student News) -- ',
        '(CNN) — ',
        'LONDON, England (Reuters) -- ',
        'WASHINGTON (CNN) -- ',
        'Washington (CNN)',
        'ST. LOUIS, Missouri (CNN) -- ',
        'ABOARD THE USS CARL VINSON (CNN) -- ',
        'Isle of Wight, England (CNN) -- ',
        'Port-au-Prince, Haiti (CNN) -- ',
        '(EW.com) -- ',
        "Editor's note: Jo Bell writes on roads. (CNN) -- ",
        (
            'By . Jo Bell . PUBLISHED: . 14:11 EST, 25 October 2013 . | .'
            ' UPDATED: . 15:36 EST, 25 October 2013 . '
        ),
        (
            'By. Jo Bell. PUBLISHED:. 14:11 EST, 25 October 2013. |. UPDATED:.'
            ' 15:36 EST, 25 October 2013. '
        ),
        (
            'By . Jo Bell, Roads Editor . and Ann Lee . PUBLISHED: . 03:22 EST,'
            ' 4 March 2013 . '
        ),
        'By. Jo Bell. Last updated at 10:07 AM on 9th January 2012. ',
        'By . Jo Bell . ',
        'By. Jo Bell for Mailonline. ',
        'By . Jo Bell . and Ann Lee . ',
        'Last updated at 10:07 AM on 9th January 2012 . ',
    ],
)
def test_articles_begin_with_their_first_sentence(head):
  row = {'article': head + _TEXT, 'highlights': 'A.\nB.'}
  assert summarization.cnn_dailymail(row)['article'] == _TEXT


@pytest.mark.parametrize(
    'article',
    [
        'By the river (the old one) stands a mill. It was updated in 1999.',
        'She said (CNN) -- twice -- that it was so.',
        'By. A. Bell wrote this.',
        'By Jo Bell. A story.',
        'Smith (54) -- a baker -- was found.',
        '(CNN)',
    ],
)
def test_articles_keep_what_is_no_head(article):
  row = {'article': article, 'highlights': 'A.'}
  assert summarization.cnn_dailymail(row)['article'] == article


def test_highlights_are_lines():
  row = {'article': 'a', 'highlights': ' One.\n\n Two  parts. '}
  found = summarization.cnn_dailymail(row)
  assert found['highlights'] == 'One.\nTwo parts.'


def test_gigaword():
  row = {
      'document': "he said `` yes '' -lrb- twice -rrb- .",
      'summary': 'yes , says he',
  }
  assert summarization.gigaword(row) == {
      'sentence': 'he said " yes " ( twice ) .',
      'headline': 'yes , says he',
  }
  assert summarization.keep_gigaword(row)
  for key in row:
    for word in ('UNK', '<unk>', '#,### more', '##'):
      changed = {**row, key: f'{row[key]} {word}'}
      assert not summarization.keep_gigaword(changed)
    assert not summarization.keep_gigaword({**row, key: ' '})


def test_multi_news():
  row = {
      'document': ' First.\n\n \nMore  of it. ||||| Second. ||||| ',
      'summary': '– It – happened.',
  }
  assert summarization.multi_news(row) == {
      'articles': 'Article 1:\nFirst.\nMore of it.\n\nArticle 2:\nSecond.',
      'summary': 'It – happened.',
  }
  one = summarization.multi_news({**row, 'document': 'Only one.'})
  assert one['articles'] == 'Only one.'
  assert summarization.keep_multi_news(row)
  assert not summarization.keep_multi_news({**row, 'document': ' |||||'})
  assert not summarization.keep_multi_news({**row, 'summary': '– '})


def test_newsroom():
  row = {
      'text': 'One &amp; two.\n\nThree.',
      'title': ' A <i>title</i> ',
      'summary': 'It&#39;s\nshort.',
      'density': 1.0,
  }
  assert summarization.newsroom(row) == {
      'article': 'One & two.\nThree.',
      'title': 'A title',
      'summary': "It's short.",
  }
  assert summarization.keep_newsroom(row)
  assert not summarization.keep_newsroom({**row, 'title': None})
  assert not summarization.keep_newsroom({**row, 'summary': ''})


def test_rotten_tomatoes():
  values = ['', *(f'Review  {n} &amp; more.' for n in range(12))]
  row = {
      '_movie_name': 'The_Old_Mill',
      '_movie_id': 'the_old_mill',
      '_critic_consensus': '<em>The Old Mill</em> grinds slowly.',
      '_critics': {'key': [str(n) for n in range(13)], 'value': values},
  }
  found = summarization.rotten_tomatoes(row)
  lines = found['reviews'].split('\n')
  assert lines[0] == '1. Review 0 & more.'
  assert lines[-1] == '10. Review 9 & more.'
  assert found['movie'] == 'The Old Mill'
  assert found['consensus'] == 'The Old Mill grinds slowly.'
  assert summarization.keep_rotten_tomatoes(row)
  nothing = {'_critics': {'key': ['1'], 'value': [' ']}}
  assert not summarization.keep_rotten_tomatoes({**row, **nothing})


def test_idebate():
  row = {
      '_debate_name': 'This_House_would_wait',
      '_claim_id': '1',
      '_claim': 'Waiting helps',
      '_argument_sentences': {'key': ['0', '1'], 'value': ['One.', 'Two.']},
  }
  assert summarization.idebate(row) == {
      'debate': 'This House would wait',
      'arguments': '1. One.\n2. Two.',
      'claim': 'Waiting helps',
  }
  assert summarization.keep_idebate(row)
  assert not summarization.keep_idebate({**row, '_claim': ''})


def test_samsum():
  row = {
      'dialogue': (
          'Al: hi <3\r\n\r\nBo: <file_photo>\r\nAl: <file_other> :>\r\n'
      ),
      'summary': 'Bo sends  Al a photo.',
      'id': '1',
  }
  assert summarization.samsum(row) == {
      'dialogue': 'Al: hi <3\nBo: [photo]\nAl: [file] :>',
      'summary': 'Bo sends Al a photo.',
  }


def test_wiki_lingua():
  row = {'source': ' Take  a pot . Fill it , too.', 'target': 'Fill a pot .'}
  assert summarization.wiki_lingua(row) == {
      'article': 'Take a pot. Fill it, too.',
      'summary': 'Fill a pot.',
  }


@pytest.mark.parametrize(
    ('raw', 'expected'),
    [
        ('worries\\about the economy', 'worries about the economy'),
        ('a \\$55.8bn gap', 'a $55.8bn gap'),
        ('past  #36;46\\a barrel', 'past $46 a barrel'),
        ('Bush #39;s plan', "Bush's plan"),
        ("''turned the corner. quot; He", '"turned the corner." He'),
        ('AT amp;T', 'AT&T'),
        ('&lt;A HREF="x/y.z"&gt;DELL.O&lt;/A&gt; rose', 'DELL.O rose'),
        ('DELL.O lt;/A gt;', 'DELL.O'),
        ('\\(c) 2004;', '(c) 2004;'),
    ],
)
def test_ag_news_remains_of_pages(raw, expected):
  row = {'title': raw, 'description': 'x', 'label': 2}
  found = summarization.ag_news(row)
  assert found == {'title': expected, 'description': 'x', 'label': 2}


def test_ag_news_real_rows(shared):
  folder = shared / 'data' / 't0_rendered'
  path = folder / 'ag_news_classify_question_first.jsonl'
  for line in path.read_text(encoding='utf-8').splitlines():
    prompt = json.loads(line)['prompt']
    raw = prompt.split('\n', 1)[1]
    row = {'title': 'x', 'description': raw, 'label': 0}
    found = summarization.ag_news(row)['description']
    for remains in ('\\', '#36;', '#39;', 'quot;', '  ', '\n'):
      assert remains not in found
    assert len(found) > 0.9 * len(raw.strip())


_NAMES = (
    'aeslc',
    'ag_news_subset',
    'cnn_dailymail',
    'gigaword',
    'multi_news',
    'newsroom',
    'opinion_abstracts_idebate',
    'opinion_abstracts_rotten_tomatoes',
    'samsum',
    'wiki_lingua_english_en',
    'xsum',
)


@pytest.mark.parametrize('name', _NAMES)
def test_the_made_up_row_fits_every_template(name):
  dataset = catalogue.Catalogue().dataset(name)
  rendered = sample_rows.examples(tasks.create(dataset))
  assert len({example.inputs for example in rendered}) == 10
  for example in rendered:
    assert example.targets.strip()
    assert '  ' not in example.inputs + example.targets
    assert '<' not in example.inputs.replace('<3', '')
