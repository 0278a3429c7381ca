"""The report: one file, safe with any text, and right in a real browser."""

import functools
import html.parser
import http.server
import json
import pathlib
import re
import shutil
import subprocess
import threading

from flan_jax.evaluation import protocol
from flan_jax.evaluation import results as results_lib
import pytest

_CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser')
_FLAGS = (
    '--headless --no-sandbox --disable-gpu --disable-quic --no-first-run'
    ' --disable-background-networking --disable-component-update --disable-sync'
    ' --enable-logging=stderr --virtual-time-budget=8000'
).split()

# The page in a frame of a phone's width: a window cannot be that narrow. What
# is measured is written into the outer page, where --dump-dom shows it.
_FRAME = """<!doctype html><title>frame</title><link rel="icon" href="data:,">
<iframe id="frame" src="/report.html#HASH" width="WIDTH" height="900"></iframe>
<script>
document.getElementById('frame').onload = () => {
  const page = document.getElementById('frame').contentDocument;
  const all = (selector) => [...page.querySelectorAll(selector)];
  const seen = (element) => element.getClientRects().length > 0;
  const cards = () => all('#cards li').length;
  const found = {
    width: page.documentElement.clientWidth,
    scrolled: page.documentElement.scrollWidth,
    wide: all('body *').filter((e) => seen(e) &&
      e.getBoundingClientRect().right > page.documentElement.clientWidth + 1 &&
      !e.closest('.skip, pre, .table > *')).map(
        (e) => e.tagName + '.' + e.className),
    dots: all('svg circle.dot').length,
    lines: all('svg line.span').filter((e) => !e.closest('[id^=templates]'))
      .length,
    models: all('#model option').map((e) => e.value),
    canChoose: seen(page.getElementById('model')),
    outside: all('.table').filter((e) =>
      e.getBoundingClientRect().right >
        page.documentElement.clientWidth).length,
    rects: all('svg rect').filter((e) => e.getBBox().width > 0).length,
    cards: cards(),
    right: all('#cards li.right').length,
    count: page.getElementById('count').textContent,
    folded: all('tr.template').filter((e) => !seen(e)).length,
    images: all('#cards img, #cards b, #cards script').length,
    text: all('#cards').map((e) => e.textContent).join(''),
  };
  page.querySelector('[data-verdict="wrong"]').click();
  found.afterWrong = {cards: cards(), right: all('#cards li.right').length};
  page.querySelector('[data-verdict="gained"]').click();
  found.gained = all('#cards .card').map((card) => [
    card.classList.contains('right'),
    card.querySelectorAll('dd')[2].textContent.includes('✗')]);
  found.hash = document.getElementById('frame').contentWindow.location.hash;
  if (found.canChoose) {
    const model = page.getElementById('model');
    model.value = found.models.at(-1);
    model.dispatchEvent(new Event('change'));
    page.querySelector('[data-verdict="right"]').click();
    found.ofLast = {cards: cards(), right: all('#cards li.right').length,
      count: page.getElementById('count').textContent};
  }
  page.querySelector('[data-verdict="all"]').click();
  page.getElementById('more').click();
  found.afterMore = {cards: cards(), right: all('#cards li.right').length};
  page.getElementById('unfold').click();
  found.unfolded = all('tr.template').filter(seen).length;
  found.labels = all('button, select, input').filter((e) => !(
    e.textContent.trim() || e.labels?.length)).length;
  const mark = document.createElement('pre');
  mark.id = 'found';
  mark.textContent = JSON.stringify(found);
  document.body.append(mark);
};
</script>
"""


def _write(found, folder) -> pathlib.Path:
  lines = protocol.lines(found.work, found.answers)
  return results_lib.write(folder, found.results, lines)


@pytest.fixture
def report(evaluated, tmp_path) -> pathlib.Path:
  return _write(evaluated, tmp_path / 'eval')


class _Server:
  """Serves a folder and the frame; notes what is asked for."""

  def __init__(self, folder: pathlib.Path):
    self.asked: list[str] = []
    server = self

    class Handler(http.server.SimpleHTTPRequestHandler):

      def log_message(self, format, *args):
        pass

      def do_GET(self):
        server.asked.append(self.path)
        match = re.fullmatch(r'/frame-(\d+)-(.*)', self.path)
        if not match:
          return super().do_GET()
        page = _FRAME.replace('WIDTH', match[1]).replace('HASH', match[2])
        self.send_response(200)
        self.send_header('Content-Type', 'text/html; charset=utf-8')
        self.end_headers()
        self.wfile.write(page.encode())

    handler = functools.partial(Handler, directory=str(folder))
    self._http = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
    self._thread = threading.Thread(target=self._http.serve_forever)

  def __enter__(self):
    self._thread.start()
    return self

  def __exit__(self, *args):
    self._http.shutdown()
    self._thread.join()
    self._http.server_close()

  def address(self, path: str) -> str:
    return f'http://127.0.0.1:{self._http.server_port}/{path}'


def _browse(report, tmp_path, width, fragment):
  """Opens the report; returns what the frame found, and what was asked for."""
  if _CHROMIUM is None:
    pytest.skip('chromium is not installed: the report is not seen')
  with _Server(report.parent) as server:
    done = subprocess.run(
        [
            _CHROMIUM,
            *_FLAGS,
            f'--user-data-dir={tmp_path / "browser"}',
            f'--window-size={max(width, 500) + 20},1000',
            '--dump-dom',
            server.address(f'frame-{width}-{fragment}'),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
  console = [line for line in done.stderr.splitlines() if 'CONSOLE' in line]
  assert not console
  found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
  assert found, done.stdout[-2000:] + done.stderr[-2000:]
  asked = [path for path in server.asked if not path.startswith('/frame')]
  return json.loads(html.unescape(found[1])), asked


@pytest.mark.parametrize('width', [390, 1100])
def test_in_a_browser(report, evaluated, tmp_path, width):
  found, asked = _browse(report, tmp_path, width, '')
  assert asked == ['/report.html'], 'the page asks for something else'
  assert found['width'] in range(width - 20, width + 1)
  assert found['scrolled'] <= found['width'] and not found['wide']
  # Three bars for each cluster of each group, but for those of no length.
  bars = [
      score
      for row in evaluated.results['clusters']
      for system, score in row['scores'].items()
      if system != 'random'
  ]
  assert found['rects'] == sum(score > 0 for score in bars)
  assert found['cards'] == 10
  # A row a template, and one a dataset for the best of several.
  several = sum(row['templates'] > 1 for row in evaluated.results['datasets'])
  rows = len(evaluated.results['tasks']) + several
  assert several and found['folded'] == found['unfolded'] == rows
  assert found['afterWrong']['cards'] > 0
  assert found['afterWrong']['right'] == 0
  assert found['gained'] and all(a and b for a, b in found['gained'])
  assert found['hash'] == '#verdict=gained'
  assert found['afterMore']['cards'] == 20
  assert found['afterMore']['right'] > 0
  assert found['labels'] == 0
  # One dot a template and system, where a dataset has several of a group.
  assert found['dots'] == 2 * sum(
      row['templates']
      for row in evaluated.results['datasets']
      if row['templates'] > 1
  )
  assert not found['canChoose'] and not found['outside']
  # What models and rows say stays text.
  assert found['images'] == 0
  assert '<b>bold</b> & "quoted" </script>' in found['text']


@pytest.mark.parametrize('width', [390, 1100])
def test_several_models_in_a_browser(evaluated_several, tmp_path, width):
  results = evaluated_several.results
  report = _write(evaluated_several, tmp_path / 'eval')
  found, asked = _browse(report, tmp_path, width, '')
  assert asked == ['/report.html']
  assert found['scrolled'] <= found['width'] and not found['wide']
  assert not found['outside'] and not found['images']
  # Each model and its untuned one; guesses are in the tables.
  models = [name for name in results['systems'] if name not in _GUESSES]
  assert len(models) == 4
  assert found['rects'] == sum(
      row['scores'][name] > 0 for row in results['clusters'] for name in models
  )
  # By clusters and by size, for each group a line of two points.
  groups = len(results['headline'])
  assert groups == 3
  templates = sum(
      row['templates'] for row in results['datasets'] if row['templates'] > 1
  )
  # Models of two sizes share no line over clusters, nor the other way round.
  assert found['dots'] == 4 * templates + 2 * 2 * groups
  assert found['canChoose'] and found['models'] == ['small', 'large <b>one</b>']
  # Judged by the last model, whose answers are another's.
  shown = json.loads(_read(report).data)['samples']
  right = [line['answers']['large <b>one</b>']['right'] for line in shown]
  other = [line['answers']['small']['right'] for line in shown]
  assert right.count(True) != other.count(True)
  assert found['ofLast']['right'] == found['ofLast']['cards'] > 0
  assert f'of {right.count(True)} predictions' in found['ofLast']['count']
  assert all(not line['setting'] for line in shown)


_GUESSES = ('majority', 'random')


def test_models_of_one_size_share_a_line(evaluated_several, tmp_path):
  results = evaluated_several.results
  for name in ('small', 'large <b>one</b>'):
    results['systems'][name] = {
        **results['systems'][name],
        'parameters': 5_000_000,
    }
  page_text = _write(evaluated_several, tmp_path / 'eval').read_text()
  # Over clusters there is something to see, over sizes there is not.
  assert 'id="clusters-figure-seen"' in page_text
  assert 'id="size-figure-seen"' not in page_text
  figure = page_text.split('id="clusters-figure-seen"')[1].split('</figure>')[0]
  assert figure.count('class="span') == 1 and figure.count('<circle') == 2
  means = results['headline']['seen']['all']['scores']
  for name in ('small', 'large <b>one</b>'):
    assert f'>{means[name]:.1f}</text>' in figure


def test_settings_and_papers_have_tables(evaluated_several, tmp_path):
  results = evaluated_several.results
  text = _write(evaluated_several, tmp_path / 'eval').read_text()
  settings = text.split('id="settings-title"')[1].split('</section>')[0]
  for setting, title in (('', 'zero-shot'), ('2_shot', '2-shot')):
    found = results['settings'][setting] if setting else results
    mean = found['headline']['seen']['all']['scores']['small']
    row = settings.split(f'>{title}<')[-1].split('</tr>')[0]
    assert f'>{mean:.1f}<' in row
  assert 'no template' in settings and 'dataset name only' not in settings
  papers = text.split('id="published-title"')[1].split('</section>')[0]
  assert 'Large &amp; Co, arXiv 1, Table 2, quoted by somebody' in papers
  assert 'they were not measured here' in papers
  assert '61.5' in papers
  (row,) = results['published']
  # 9 of 10 row numbers, so all six rows; and for the small model as well.
  assert row['group'] == 'held_out_dataset'
  assert row['ours']['large <b>one</b>'] == {'mean': 100.0, 'best': 100.0}


def test_nothing_is_said_of_what_there_is_not(report):
  text = report.read_text()
  for name in ('settings-title', 'published-title', 'scaling-title'):
    assert name not in text


def test_a_view_can_be_shared(report, tmp_path):
  found, _ = _browse(
      report, tmp_path, 800, 'verdict=wrong&dataset=mood&text=9%20%3Cb'
  )
  assert found['cards'] > 0 and found['right'] == 0
  assert re.findall(r'row (\d+)', found['text'])
  assert all(n.endswith('9') for n in re.findall(r'row (\d+)', found['text']))
  assert 'Again:' not in found['text'] and 'Which?' not in found['text']


def test_a_view_that_makes_no_sense_is_ignored(report, tmp_path):
  found, _ = _browse(report, tmp_path, 800, 'verdict=toString&dataset=gone')
  assert found['cards'] == 10


_EMPTY = ('line', 'rect', 'circle')


class _Reader(html.parser.HTMLParser):
  """Collects tags, ids, addresses and the data of a page."""

  def __init__(self):
    super().__init__()
    self.tags, self.ids, self.addresses, self.data = [], [], [], ''
    self._open: list[str] = []
    self._in_data = False

  def handle_starttag(self, tag, attributes):
    given = dict(attributes)
    self.tags.append(tag)
    self.ids += [given['id']] if 'id' in given else []
    self.addresses += [given[k] for k in ('src', 'href') if k in given]
    self._in_data = given.get('id') == 'data'
    if tag not in ('meta', 'link', 'input', 'wbr', *_EMPTY):
      self._open.append(tag)

  def handle_endtag(self, tag):
    if tag in _EMPTY:
      return
    assert self._open.pop() == tag

  def handle_data(self, data):
    if self._in_data:
      self.data += data


def _read(report) -> _Reader:
  reader = _Reader()
  reader.feed(report.read_text(encoding='utf-8'))
  reader.close()
  return reader


def test_several_models_are_well_formed(evaluated_several, tmp_path):
  report = _write(evaluated_several, tmp_path / 'eval')
  reader = _read(report)
  assert len(reader.ids) == len(set(reader.ids))
  text = report.read_text(encoding='utf-8')
  assert '<b>one' not in text and not re.search(r'https?://', text)


def test_the_page_is_well_formed_and_asks_for_nothing(report, evaluated):
  text = report.read_text(encoding='utf-8')
  reader = _read(report)
  # By cluster three, and one by template: only echo has two in a group.
  assert reader.tags.count('svg') == 4
  assert len(reader.ids) == len(set(reader.ids))
  assert set(reader.addresses) == {'data:,', '#samples'}
  assert not re.search(r'https?://|@import|url\(', text)
  assert '[[' not in re.sub(r'<script.*', '', text, flags=re.DOTALL)
  shown = json.loads(reader.data)
  inputs = {line['inputs'] for line in shown['samples']}
  assert any('</script>' in line for line in inputs)
  assert 'runs/&lt;small&gt;' in text and 'runs/<small>' not in text


def test_a_mark_in_a_text_is_not_filled_in(evaluated):
  from flan_jax.evaluation.report import page

  results = {**evaluated.results, 'mixtures': ['[[script]]']}
  assert '<h1>[[script]]</h1>' in page.render(results, [])


def _relative_luminance(color: str) -> float:
  channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
  linear = [
      c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
      for c in channels
  ]
  return sum(
      w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True)
  )


def test_colors_have_contrast(root):
  """WCAG 2.1: 4.5 to 1 for text, 3 to 1 for bars, in both schemes."""
  style = (root / 'flan_jax/evaluation/report/style.css').read_text()
  schemes = [
      dict(re.findall(r'--([a-z-]+): (#[0-9a-f]{6});', block))
      for block in re.findall(r':root \{(.*?)\}', style, re.DOTALL)
  ]
  assert len(schemes) == 2
  texts = ('ink', 'soft', 'good', 'bad', 'tuned')
  for scheme in schemes:
    for back in ('page', 'card'):
      for front in scheme.keys() - {'page', 'card', 'line', 'wash'}:
        light, dark = sorted(
            (_relative_luminance(scheme[name]) for name in (front, back)),
            reverse=True,
        )
        ratio = (light + 0.05) / (dark + 0.05)
        least = 4.5 if front in texts else 3.0
        assert ratio >= least, (front, back, ratio)
