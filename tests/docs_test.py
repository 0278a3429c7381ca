"""Every command of the README and the docs is run, shortened where it is long.

The commands are read out of the pages themselves, in their order; DIR and
TASKS stand for the real data beside the checkout.
"""

import ast
import json
import os
import pathlib
import re
import shlex
import statistics
import subprocess
import sys

from flan_jax import cli
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGES = ['README.md', 'CONTRIBUTING.md'] + sorted(
    str(path.relative_to(ROOT))
    for folder in ('benchmarks', 'docs')
    for path in ROOT.glob(f'{folder}/**/*.md')
)
# What is added to a command so that it ends soon, by its name.
SHORTER = {
    'train': (
        ['--gin.TRAIN_STEPS=2', '--gin.BATCH_SIZE=2']
        + ['--gin.EVAL_PERIOD=0', '--gin.EncoderDecoderConfig.emb_dim=16']
        + ['--gin.EncoderDecoderConfig.mlp_dim=16']
        + ['--gin.EncoderDecoderConfig.num_encoder_layers=1']
        + ['--gin.EncoderDecoderConfig.num_decoder_layers=1']
    ),
    'infer': ['--max_examples=2'],
    # Choosing templates asks as many rows again; evaluate_test.py does it.
    'eval': ['--max_examples=1', '--gin.BEST_TEMPLATE=False'],
    'vocabulary': ['--max_examples=2000'],
}
# A vocabulary learned from so few examples has fewer pieces.
_PIECES = re.compile(r'--size=\d+')


def _blocks(text: str, language: str) -> list[str]:
  return re.findall(rf'^```{language}\n(.*?)^```', text, re.M | re.S)


def _commands(text: str) -> list[list[str]]:
  """Returns the flan-jax commands of a page's shell blocks."""
  commands = []
  for block in _blocks(text, 'sh'):
    for line in block.replace('\\\n', ' ').splitlines():
      words = shlex.split(line, comments=True)
      if words and words[0] == 'flan-jax':
        commands.append(words[1:])
  return commands


def _page(root: pathlib.Path, name: str) -> str:
  return (root / name).read_text()


@pytest.mark.parametrize('page', PAGES)
def test_flags_and_files_exist(root, page, monkeypatch):
  monkeypatch.chdir(root)
  for command in _commands(_page(root, page)):
    args = cli.parse(command)
    for name in getattr(args, 'gin_file', []):
      assert (root / name).is_file(), name


@pytest.mark.parametrize('page', PAGES)
def test_links_lead_somewhere(root, page):
  links = re.findall(r'\]\(([^)#]+)\)', _page(root, page))
  for link in links:
    if not link.startswith('http'):
      assert (root / page).parent.joinpath(link).exists(), link


def test_readme_is_short(root):
  assert len(_page(root, 'README.md').splitlines()) < 200


@pytest.fixture(scope='module')
def place(tmp_path_factory):
  """A reader's folder, and the commands that were run there, once each."""
  return tmp_path_factory.mktemp('reader'), []


@pytest.fixture(scope='module', autouse=True)
def cache(tmp_path_factory):
  """All pages share rows and compiled programs: many commands are alike."""
  folder = tmp_path_factory.mktemp('cache')
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('FLAN_JAX_CACHE', str(folder))
    yield


def _run(command: list[str], folder: pathlib.Path) -> str:
  done = subprocess.run(
      [sys.executable, '-m', 'flan_jax', *command],
      cwd=folder,
      env={
          **os.environ,
          'PYTHONPATH': str(pathlib.Path(cli.__file__).parents[1]),
          'XLA_FLAGS': '',  # One device, as most readers have.
      },
      capture_output=True,
      text=True,
  )
  assert done.returncode == 0, f'flan-jax {command}\n{done.stderr}'
  return done.stdout


def _shortened(command: list[str], shared: pathlib.Path) -> list[str]:
  folders = {
      'DIR': str(shared / 'tfds'),
      'TASKS': str(shared / 'data' / 'sni' / 'tasks'),
  }
  words = [
      re.sub(r'=(DIR|TASKS)$', lambda found: f'={folders[found[1]]}', word)
      for word in command
  ]
  words = [_PIECES.sub('--size=1500', word) for word in words]
  return words + SHORTER.get(command[0], [])


@pytest.mark.parametrize(
    'page',
    [
        'README.md',
        'docs/adapters.md',
        'docs/evaluation.md',
        'docs/flan2021.md',
        'docs/inference.md',
        'docs/runs.md',
        'docs/t5x.md',
    ],
)
def test_commands_run_in_their_order(root, shared, place, page):
  tmp_path, done = place
  ran = []
  for command in _commands(_page(root, page)):
    if any('tickets' in word for word in command):
      continue  # In a test of its own, with rows to read.
    if command not in done:
      _run(_shortened(command, shared), tmp_path)
      done.append(command)
    ran.append(command[0])
  wanted = {
      'docs/adapters.md': {'train', 'eval', 'convert'},
      'docs/evaluation.md': {'train', 'eval'},
      'docs/flan2021.md': {'check', 'prepare', 'show', 'mixture'},
      'docs/inference.md': {'train', 'infer'},
      'docs/t5x.md': {'train', 'convert'},
  }.get(page, {'train', 'infer', 'eval', 'vocabulary'})
  assert wanted <= set(ran)
  for block in _blocks(_page(root, page), 'python'):
    if page == 'docs/evaluation.md':
      _check_python(block, tmp_path)
    if page == 'docs/inference.md':
      printed = _python(block, tmp_path).splitlines()
      assert [line.split('?')[0] for line in printed[1:3]] == [
          'Is 7 larger than 3',
          'Is 2 larger than 9',
      ]
      assert len(ast.literal_eval(printed[3])) == 2
      assert 'compilations' in printed[4]


def _python(block: str, folder: pathlib.Path) -> str:
  """Runs a page's code; returns what it prints."""
  done = subprocess.run(
      [sys.executable, '-c', block],
      cwd=folder,
      env={**os.environ, 'XLA_FLAGS': ''},
      capture_output=True,
      text=True,
  )
  assert done.returncode == 0, done.stderr
  return done.stdout


def _check_python(block: str, folder: pathlib.Path) -> None:
  """Runs the page's code, whose figure is the one that the files have."""
  printed = _python(block, folder)
  results = json.loads(
      (folder / 'runs/mini/evaluation/results.json').read_text()
  )
  rows = results['datasets']
  # Right answers are what accuracy and exact match count.
  mean = statistics.mean(row['headline_scores']['tuned'] for row in rows)
  expected = f'{mean:.1f} over {len(rows)} datasets and groups'
  assert printed.strip() == expected


def test_commands_of_the_predictions_page(root, tmp_path):
  page = _page(root, 'docs/predictions.md')
  (prompts,) = _blocks(page, 'json')
  (tmp_path / 'prompts.jsonl').write_text(prompts)
  printed = [_run(_shortened(c, tmp_path), tmp_path) for c in _commands(page)]
  assert {c[0] for c in _commands(page)} == {'train', 'infer', 'ask'}
  assert [len(line.split()) for line in printed[-1].splitlines()] == [2, 2]
  runs = tmp_path / 'runs' / 'mini'
  whole = {
      p.name: p.read_bytes() for p in (runs / 'predictions').glob('*.jsonl')
  }
  assert whole
  for name, text in whole.items():
    assert (runs / 'shards' / name).read_bytes() == text
  (block,) = [b for b in _blocks(page, 'sh') if 'scripts/' in b]
  words = shlex.split(block.replace('\\\n', ' '))
  answers = tmp_path / 'answers' / 'prompts.jsonl'
  before = answers.read_bytes()
  answers.unlink()
  done = subprocess.run(
      [sys.executable, root / words[1], *words[2:]],
      cwd=tmp_path,
      env={**os.environ, 'XLA_FLAGS': ''},
      capture_output=True,
      text=True,
  )
  assert done.returncode == 0, done.stderr
  assert answers.read_bytes() == before


def test_the_dataset_of_the_readme_works(root, tmp_path):
  page = _page(root, 'README.md')
  (declaration,) = _blocks(page, 'yaml')
  (tmp_path / 'tickets.yaml').write_text(declaration)
  teams = ('billing', 'delivery', 'repairs')
  (tmp_path / 'tickets.jsonl').write_text(
      ''.join(
          f'{{"text": "Ticket {i}.", "team": "{teams[i % 3]}"}}\n'
          for i in range(500)
      )
  )
  commands = [c for c in _commands(page) if any('tickets' in w for w in c)]
  assert len(commands) >= 2
  printed = [_run(command, tmp_path) for command in commands]
  assert any('Which team should answer?' in text for text in printed)


def test_quickstart(root, tmp_path):
  """The script itself, with the environment made and ten steps of training."""
  environment = pathlib.Path(sys.prefix)
  if not (environment / 'bin' / 'flan-jax').exists():
    pytest.skip('flan-jax is not installed in the environment of the tests')
  done = subprocess.run(
      ['bash', root / 'scripts' / 'quickstart.sh', '--gin.TRAIN_STEPS=10'],
      env={
          **os.environ,
          'VENV': str(environment),
          'INSTALL': '0',
          'OUT': str(tmp_path / 'out'),
          'EXAMPLES': '2',
          'XLA_FLAGS': '',
      },
      capture_output=True,
      text=True,
  )
  assert done.returncode == 0, done.stderr
  assert (tmp_path / 'out' / 'evaluation' / 'report.html').is_file()
  predictions = list((tmp_path / 'out' / 'predictions').glob('*.jsonl'))
  assert len(predictions) == 2
  assert str(tmp_path / 'out' / 'evaluation' / 'report.html') in done.stdout
