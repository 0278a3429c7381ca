"""Runs side by side: right numbers, one safe file, right in a real browser."""

import html
import json
import pathlib
import re
import shutil
import subprocess

from flan_jax import cli
from flan_jax.training.comparison import chart
from flan_jax.training.comparison import page
from flan_jax.training.comparison import runs
import pytest

_CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser')
_FLAGS = (
    '--headless --no-sandbox --disable-gpu --disable-quic --no-first-run'
    ' --disable-background-networking --disable-component-update --disable-sync'
    ' --enable-logging=stderr --virtual-time-budget=8000'
).split()
# Goes to the end of the page, and tells the page around it what it sees.
_PROBE = """<script>
const all = (selector) => [...document.querySelectorAll(selector)];
const seen = (element) => element.getClientRects().length > 0;
const root = document.documentElement;
const found = {
  width: root.clientWidth,
  scrolled: root.scrollWidth,
  wide: all('body *').filter((e) => seen(e) && !e.closest('.table, svg') &&
    e.getBoundingClientRect().right > root.clientWidth + 1).length,
  figures: all('figure').length,
  lines: all('polyline').filter(seen).length,
  bold: all('b, img').length,
};
const figure = document.getElementById('chart-0');
const box = figure.querySelector('svg').getBoundingClientRect();
const point = (share) => {
  figure.querySelector('svg').dispatchEvent(new PointerEvent('pointermove',
    { clientX: box.left + share * box.width, clientY: box.top + 9 }));
  return figure.querySelector('output').textContent;
};
found.start = point(0);
found.end = point(1);
document.querySelector('[data-run="1"]').click();
found.linesWithout = all('polyline').filter(seen).length;
found.endWithout = point(1);
parent.postMessage(JSON.stringify(found), '*');
</script>"""
_FRAME = """<!doctype html><title>frame</title>
<iframe src="probed.html" width="WIDTH" height="900"></iframe><script>
onmessage = (event) => {
  const mark = document.createElement('pre');
  mark.id = 'found';
  mark.textContent = event.data;
  document.body.append(mark);
};
</script>"""


def _record(step: int, loss: float | None, **changes) -> dict:
  return {
      'step': step,
      'loss': loss,
      'z_loss': 0.01,
      'accuracy': 0.5,
      'learning_rate': 1e-3,
      'gradient_norm': 1.0 + step,
      'tokens': 1000,
      'target_tokens': 100 * step,
      'seconds': 0.5,
      'tokens_per_second': 2000.0 + step,
      'data_wait': 0.0,
      **changes,
  }


def _write(folder: pathlib.Path, records, rate=0.1, **facts) -> pathlib.Path:
  folder.mkdir(parents=True)
  settings = {'SCHEDULE.value': rate, 'BATCH_SIZE': 8, 'Z_LOSS': None}
  run = {'settings': settings, 'parameters': 5, 'train_steps': 9, **facts}
  (folder / 'run.json').write_text(json.dumps(run))
  (folder / 'metrics.jsonl').write_text(
      ''.join(json.dumps(record) + '\n' for record in records)
  )
  return folder


@pytest.fixture
def pair(tmp_path):
  """A run of six steps, and a longer one with a name to be careful with."""
  period = {'steps': 2, 'loss/cluster/nli': 2.5, 'loss/cluster/qa': 1.5}
  short = [_record(step, 8.0 / step) for step in range(1, 7)]
  short[3]['period'] = period
  short[4] |= {'eval/loss': 3.0, 'eval/accuracy': 0.25}
  long = [_record(step, 4.0, gradient_norm=None) for step in range(1, 601)]
  long[599]['period'] = {**period, 'steps': 600, 'mfu': 0.41}
  other = tmp_path / 'b<script><b>&'
  _write(tmp_path / 'one', short)
  _write(other, long, rate=0.2, train_steps=600)
  with open(other / 'metrics.jsonl', 'a') as file:
    file.write('{"step": 601, "lo')  # It is still going on.
  return [tmp_path / 'one', other]


def test_the_table_on_the_terminal(pair, tmp_path, capsys):
  output = tmp_path / 'out' / 'page.html'
  arguments = ['compare', *map(str, pair), f'--output={output}']
  assert cli.main(arguments) == 0
  lines = capsys.readouterr().out.splitlines()
  assert lines[0].split() == ['run', 'steps', 'loss', 'eval/loss', 'tokens/s']
  # The last period's steps are 3 and 4, of 300 and 400 target tokens.
  loss = (8 / 3 * 300 + 8 / 4 * 400) / 700
  assert lines[1].split() == ['one', '6', f'{loss:.4g}', '3', '2,004']
  assert lines[2].split() == [pair[1].name, '600', '4', '-', '2,300']
  settings = [line.split() for line in lines[4:-2]]
  assert settings == [
      ['what', 'differs', 'one', pair[1].name],
      ['SCHEDULE.value', '0.1', '0.2'],
      ['TRAIN_STEPS', '9', '600'],
  ]
  assert lines[-1] == f'curves: {output}'
  assert list(output.parent.iterdir()) == [output]


def test_curves_are_means_of_tokens(pair):
  short, long = runs.load(pair)
  assert short.curves()['loss'] == [(n, 8.0 / n) for n in range(1, 7)]
  assert short.curves()['eval/loss'] == [(5, 3.0)]
  assert short.curves()['loss/cluster/qa'] == [(4, 1.5)]
  assert short.curves()['tokens_per_second'][0] == (1, 2000.0)
  curve = long.curves()['learning_rate']
  assert len(curve) == 200 and curve[-1] == (600, pytest.approx(1e-3))
  assert long.curves()['mfu'] == [(600, 0.41)]
  # Three steps a point, of 100, 200 and 300 tokens.
  uneven = runs.Run('x', pair[0], long.records, {}, {})
  for record in uneven.records:
    record['loss'] = float(record['step'])
  assert uneven.curves()['loss'][0] == (3, pytest.approx(1400 / 600))


def test_steps_without_an_update_count_for_nothing(tmp_path):
  records = [_record(n, 2.0) for n in range(1, 4)]
  records[1] |= {'loss': 50.0, 'accuracy': None, 'skipped': 1}
  records[2] |= {'period': {'steps': 2}}
  (run,) = runs.load([_write(tmp_path / 'run', records)])
  assert run.summary()['loss'] == 2.0
  assert run.curves()['loss'] == [(1, 2.0), (3, 2.0)]
  broken = _write(tmp_path / 'broken', [_record(1, None)])
  (run,) = runs.load([broken])
  assert 'loss' not in run.summary() and not run.curves()['loss']
  page.render([run])


def test_what_differs_is_what_all_runs_say(tmp_path):
  environments = [
      {'packages': {'jax': '1', 'seqio': '2'}, 'devices': 'cpu'},
      {'packages': {'jax': '2'}, 'devices': 'cpu'},
  ]
  made = []
  for number, start in enumerate(environments):
    facts = {'settings': {f'MIXTURE_OR_TASK_NAME.{number}': 'version 1'}}
    folder = _write(tmp_path / str(number) / 'run', [_record(1, 2.0)], **facts)
    (folder / 'environment.json').write_text(json.dumps({'starts': [start]}))
    made.append(folder)
  loaded = runs.load(made)
  assert [run.name for run in loaded] == ['0/run', '1/run']
  assert runs.differing(loaded) == {'packages.jax': ['1', '2']}


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['nowhere'], 'nowhere: there is no such run'),
        (['one', 'empty'], 'empty/metrics.jsonl: holds no step yet'),
        (['one', './one'], 'one: is named twice'),
        (
            ['one', '--output=one/run.json/x'],
            '--output: one/run.json/x: cannot',
        ),
    ],
)
def test_mistakes_are_one_line(
    pair, tmp_path, monkeypatch, capsys, arguments, message
):
  monkeypatch.chdir(tmp_path)
  _write(tmp_path / 'empty', [])
  assert cli.main(['compare', *arguments]) == 2
  error = capsys.readouterr().err
  assert message in error and error.count('\n') == 1


@pytest.fixture
def written(pair, tmp_path) -> pathlib.Path:
  output = tmp_path / 'out' / 'page.html'
  assert cli.main(['compare', *map(str, pair), f'--output={output}']) == 0
  return output


def test_the_page_asks_for_nothing_and_names_stay_text(written):
  text = written.read_text()
  assert not re.search(r'https?://|@import|url\(', text)
  assert '[[' not in re.sub(r'<script.*', '', text, flags=re.DOTALL)
  assert 'b&lt;script&gt;&lt;b&gt;&amp;' in text
  data = re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1]
  shown = json.loads(data)
  assert shown['names'] == ['one', 'b<script><b>&']
  assert shown['charts']['chart-0'][0][0] == [1, 8.0]
  ids = re.findall(r' id="([^"]+)"', text)
  assert len(ids) == len(set(ids))


@pytest.mark.parametrize('width', [390, 1100])
def test_in_a_browser(written, tmp_path, width):
  if _CHROMIUM is None:
    pytest.skip('chromium is not installed: the page is not seen')
  probed = written.read_text().replace('</body>', f'{_PROBE}</body>')
  (written.parent / 'probed.html').write_text(probed)
  frame = written.parent / 'frame.html'
  frame.write_text(_FRAME.replace('WIDTH', str(width)))
  done = subprocess.run(
      [
          _CHROMIUM,
          *_FLAGS,
          f'--user-data-dir={tmp_path / "browser"}',
          f'--window-size={max(width, 500) + 20},1000',
          '--dump-dom',
          frame.as_uri(),
      ],
      capture_output=True,
      text=True,
      timeout=120,
  )
  assert not [line for line in done.stderr.splitlines() if 'CONSOLE' in line]
  match = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
  assert match, done.stdout[-2000:] + done.stderr[-2000:]
  found = json.loads(html.unescape(match[1]))
  assert found['width'] in range(width - 20, width + 1)
  assert found['scrolled'] <= found['width'] and not found['wide']
  # Loss, accuracy, gradient norm, rate, speed of both; the norm of one is no
  # number; two evaluations, MFU, and two clusters of both.
  assert found['figures'] == 5 + 2 + 1 + 2
  assert found['lines'] == 2 * 5 - 1 + 2 + 1 + 2 * 2
  assert found['linesWithout'] == 5 + 2 + 2
  assert found['bold'] == 0
  assert found['start'] == 'step 0: one 8, b<script><b>& 4'
  assert found['end'] == 'step 600: one 1.333, b<script><b>& 4'
  assert found['endWithout'] == 'step 600: one 1.333'


@pytest.mark.parametrize(
    ('values', 'shown'),
    [
        ([1.0, 3.0], ['1', '2', '3']),
        ([0.01, 1.0], ['0.01', '0.05', '0.2', '1']),
        ([5.0, 5.0], ['5']),
        ([-1.0, 1.0], ['-1', '0', '1']),
        ([], ['0', '0.5', '1']),
    ],
)
def test_ticks_are_few_and_round(values, shown):
  svg = chart.lines({0: list(enumerate(values, 1))}, ['a'], 'id', 'title')
  ticks = re.findall(r'<text class="tick" x="0" y="[^"]+">([^<]+)', svg)
  assert ticks[0] == shown[0] and set(shown) <= set(ticks) and len(ticks) <= 7


def test_colors_have_contrast(root):
  """WCAG 2.1: 4.5 to 1 for text, 3 to 1 for curves, in both schemes."""
  folder = root / 'flan_jax' / 'training' / 'comparison'
  style = (folder / 'style.css').read_text()
  schemes = [
      dict(re.findall(r'--([a-z0-9]+): (#[0-9a-f]{6});', block))
      for block in re.findall(r':root \{(.*?)\}', style, re.DOTALL)
  ]
  assert len(schemes) == 2

  def luminance(color: str) -> float:
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in channels
    ]
    weights = (0.2126, 0.7152, 0.0722)
    return sum(w * c for w, c in zip(weights, linear, strict=True))

  for scheme in schemes:
    for back in ('page', 'card'):
      for front in ('ink', 'soft', 'accent', *(f'color{i}' for i in range(6))):
        pair = sorted(luminance(scheme[name]) for name in (front, back))
        ratio = (pair[1] + 0.05) / (pair[0] + 0.05)
        least = 3.0 if front.startswith('color') else 4.5
        assert ratio >= least, (front, back, ratio)
