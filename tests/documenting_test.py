"""`flan-jax document`, and that the pages in docs/ are current."""

import pathlib
import re

from flan_jax import cli
from flan_jax import documenting
from flan_jax.data import catalogue
import pytest

_ROOT = pathlib.Path(__file__).parents[1]
_YAML = """\
version: 1
cluster: {cluster}
description: Tells whether a text | a line is glad.
source: {{tfds: "toy:1.0.0", download: 3 KiB}}
alternatives:
- source: {{csv: toy.csv, obtain: write it yourself}}
  note: fewer rows
splits: {{train: "train[:-5]", test: test}}
limits: {{train: 1000}}
fields: {{text: text}}
choices: {{label: label, names: ["no", "yes"]}}
metrics: [accuracy]
sample:
  text: "What a day! ``` they wrote."
  label: 1
templates:
- name: glad
  inputs: |-
    ````
    {{text}}
    Is that glad?
  targets: "{{answer}}"
"""


@pytest.fixture
def folder(tmp_path):
  mine = tmp_path / 'mine'
  mine.mkdir()
  for name, cluster in (('one', 'moods'), ('two', 'moods'), ('three', 'more')):
    (mine / f'{name}.yaml').write_text(_YAML.format(cluster=cluster))
  return mine


def _run(folder, *flags):
  out = folder.parent / 'docs'
  return cli.main(
      ['document', 'mine', f'--mixtures={folder}', f'--output={out}', *flags]
  )


def test_a_page_for_each_cluster(folder):
  assert _run(folder) == 0
  out = folder.parent / 'docs'
  assert sorted(p.name for p in out.iterdir()) == ['moods.md', 'more.md']
  text = (out / 'moods.md').read_text()
  assert text.count('\n## ') == 2
  assert '| [one](#one) | Tells whether a text \\| a line is glad. |' in text
  assert 'tfds `toy:1.0.0` (downloads 3 KiB)' in text
  assert 'csv `toy.csv` (obtain: write it yourself) (fewer rows)' in text
  assert 'train `train[:-5]` (at most 1,000), test `test`' in text
  assert '"no", "yes"' in text
  # The fence is longer than any in the text that it holds.
  assert re.search(r'`````text\n````\nWhat a day! ``` they .*\n.*\n`````', text)


def test_pages_that_are_not_current(folder, capsys):
  assert _run(folder) == 0
  assert _run(folder, '--check') == 0
  page = folder.parent / 'docs' / 'more.md'
  page.write_text(page.read_text() + 'x')
  assert _run(folder, '--check') == 2
  assert 'more.md: is not what the declarations say' in capsys.readouterr().out
  page.unlink()
  assert _run(folder, '--check') == 2
  assert not page.exists()


def test_no_such_collection(folder, capsys):
  code = cli.main(
      ['document', 'mini_', f'--mixtures={folder}', '--output=/nonexistent']
  )
  assert code == 2
  assert "no collection 'mini_'. Did you mean mini" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written(folder, capsys):
  (folder.parent / 'docs').write_text('a file')
  assert _run(folder) == 2
  assert 'cannot be written' in capsys.readouterr().err


def test_the_pages_of_flan2021_are_current():
  found = catalogue.Catalogue()
  datasets = [
      found.dataset(name) for name in found.select(collection='flan2021')
  ]
  folder = _ROOT / 'docs' / 'flan2021'
  made = documenting.pages(datasets)
  stale = [
      name
      for name, text in made.items()
      if not (folder / name).is_file() or (folder / name).read_text() != text
  ]
  assert stale == [], 'run flan-jax document flan2021 --output=docs/flan2021'
