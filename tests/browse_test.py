"""`flan-jax tasks`, `show`, `prepare`, `check` and `vocabulary`."""

import json
import subprocess
import sys

from flan_jax import cli
from flan_jax import vocabularies
import pytest

_MOOD = """\
version: 1
cluster: sentiment
description: Says how a text sounds.
source: {jsonl: mood.jsonl}
splits: {train: "train[:12]", test: "train[12:]"}
fields: {text: text, label: label}
choices: {label: label, names: ["bad", "good"]}
metrics: [accuracy]
templates:
- {name: plain, inputs: "{text}? {options}", targets: "{answer}"}
- {name: other, inputs: "Mood of {text}:", targets: "{answer}", held_out: true}
"""
_FEW = 'version: 1\nmembers: [mood, copy]\nheld_out: [copy]\n'


@pytest.fixture
def folder(tmp_path):
  """The user's own declarations."""
  found = tmp_path / 'own'
  found.mkdir()
  (found / 'mood.yaml').write_text(_MOOD)
  (found / 'copy.yaml').write_text(
      _MOOD.replace('{name: plain,', '{name: short,')
  )
  (found / 'few.yaml').write_text(_FEW)
  _write_rows(found)
  return found


def _write_rows(folder, count=16, text='täxt {}'):
  rows = [{'text': text.format(i), 'label': i % 2} for i in range(count)]
  lines = ''.join(json.dumps(row) + '\n' for row in rows)
  (folder / 'mood.jsonl').write_text(lines)


@pytest.fixture
def run(folder, cache, capsys):
  """Runs a command; returns its exit code, stdout and stderr."""

  def call(command, *args):
    code = cli.main([command, *args, f'--mixtures={folder}'])
    printed = capsys.readouterr()
    return code, printed.out, printed.err

  return call


def test_tasks_lists_what_there_is(run):
  code, out, _ = run('tasks')
  assert code == 0
  lines = out.splitlines()
  place = lines.index('own / sentiment')
  assert lines[place + 2].split() == (
      'mood jsonl templates: 2 (1 held out) accuracy here'.split()
  )
  assert 'mixture few: 1 task' in lines
  assert '  held out: copy' in lines
  assert 'mixture mini:' in out and 'template_<name or number>' in out
  assert max(map(len, lines)) <= 100


@pytest.mark.parametrize(
    ('pattern', 'names'),
    [
        ('moo', {'mood'}),
        ('own', {'mood', 'copy'}),
        ('mini_cap*', {'mini_capitals'}),
        ('few', set()),
    ],
)
def test_tasks_by_pattern(run, pattern, names):
  _, out, _ = run('tasks', pattern, '--json')
  found = json.loads(out)
  assert {row['name'] for row in found['datasets']} == names
  assert [row['name'] for row in found['mixtures']] == (
      ['few'] if pattern == 'few' else []
  )


def test_tasks_as_json_says_all(run, folder):
  _, out, _ = run('tasks', 'mood', '--json')
  (row,) = json.loads(out)['datasets']
  assert row['description'] == 'Says how a text sounds.'
  assert row['source'] == {'kind': 'jsonl', 'where': 'mood.jsonl'}
  assert row['templates'][1] == {
      'name': 'other',
      'inverted': False,
      'held_out': True,
  }
  assert row['state'] == 'here' and row['path'] == str(folder / 'mood.yaml')


def test_tasks_sums_up_series_and_leave_outs(run):
  _, out, _ = run('tasks')
  lines = out.splitlines()
  assert (
      'mixtures flan2021_clusters_{n}, n = 1, 2, 3, 4, 5, 6, 7: 11 to 38 task'
      in out
  )
  assert 'flan2021_clusters_3:' not in out
  (line,) = [line for line in lines if 'flan2021_no_<' in line]
  assert '82 names, such as flan2021_no_aeslc' in line
  _, out, _ = run('tasks', 'flan2021_no_squad_v1', '--json')
  (row,) = json.loads(out)['mixtures']
  assert row['held_out'] == ['squad_v1', 'squad_v2']
  assert (len(row['members']), row['leave_outs']) == (67, [])


def test_tasks_counts_the_names_there_are(run, folder):
  for name in ('copy.yaml', 'few.yaml'):
    (folder / name).unlink()
  _, before, _ = run('tasks', '--json')
  (folder / 'mood.yaml').unlink()
  (folder / 'other.yaml').write_text('version: 1\nmembers: [rte]\n')
  _, after, _ = run('tasks', '--json')
  before, after = (json.loads(text)['names'] for text in (before, after))
  # All or none of its templates, the name alone, two by number, the first one;
  # each as it is, ranked or generated; options shown, hidden or random. What
  # has no template is ranked as well: its targets are the answer.
  assert before['tasks'] - after['tasks'] == 6 * 3 * 3
  assert after['mixtures'] - before['mixtures'] == 1


def test_tasks_goes_on_past_a_mistake(run, folder):
  (folder / 'broken.yaml').write_text('version: 1\ncolour: red\n')
  code, out, _ = run('tasks')
  assert code == 0
  assert f'broken: {folder / "broken.yaml"}:2: colour: unknown key' in out
  assert 'mood' in out


def test_tasks_that_nothing_fits(run):
  code, _, err = run('tasks', 'moood')
  assert code == 2 and "nothing fits 'moood'. Did you mean mood" in err


@pytest.mark.parametrize('command', [['tasks'], ['tasks', '--json']])
def test_tasks_imports_nothing_slow(command):
  code = (
      'import sys; from flan_jax import cli;'
      f'cli.main({command!r});'
      'slow = ("jax", "tensorflow", "grain", "flax", "seqio");'
      'print([m for m in slow if m in sys.modules])'
  )
  out = subprocess.run(
      [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert out.stdout.splitlines()[-1] == '[]'


def test_show_prints_examples_as_they_are(run):
  code, out, err = run('show', 'mood', '-n', '2', '--vocabulary=bytes')
  assert code == 0, err
  blocks = out.split('=\n')[1:]
  assert len(blocks) == 2
  assert '1 of 2  mood  plain  train:' in out
  text = out.split('tokens\n')[1].split('\n---')[0]
  assert text.startswith('täxt ') and text.endswith('- bad\n- good')
  # Bytes: one token each, and one for the end.
  assert f'--- inputs, {len(text.encode()) + 1} tokens' in out
  assert "--- options: 'bad' | 'good'" in out
  assert 'tokenizer' not in out


def test_show_as_json_lines_is_the_same_each_time(run):
  args = ('mood:template_other:no_options', '-n', '4', '--vocabulary=bytes')
  _, first, _ = run('show', *args, '--json')
  _, again, _ = run('show', *args, '--json')
  _, other, _ = run('show', *args, '--json', '--seed=9')
  assert first == again != other
  rows = [json.loads(line) for line in first.splitlines()]
  assert len(rows) == 4
  for row in rows:
    assert row['template'] == 'other'
    assert row['options'][row['answer_index']] == row['targets']
    assert row['inputs_tokens'] == len(row['inputs'].encode()) + 1
    assert row['inputs_read_back'] is None


def test_show_says_what_the_tokenizer_loses(run, tmp_path):
  vocabulary = tmp_path / 'small.model'
  _lossy_model(vocabulary)
  code, out, _ = run(
      'show', 'mood:template_plain', '-n', '1', f'--vocabulary={vocabulary}'
  )
  assert code == 0
  assert 'as the tokenizer gives them back: from character 2, ' in out
  _, out, _ = run(
      'show', 'mood', '-n', '1', f'--vocabulary={vocabulary}', '--json'
  )
  row = json.loads(out)
  back = vocabularies.load(str(vocabulary)).round_trip(row['inputs'])
  assert row['inputs_read_back'] == back != row['inputs']


def _lossy_model(path):
  """A model as T5's: it has no line breaks and no letters it never saw."""
  import io

  import sentencepiece

  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=iter(['text options bad good mood of 0123456789'] * 9),
      model_writer=model,
      vocab_size=45,
      model_type='unigram',
      hard_vocab_limit=False,
      pad_id=0,
      eos_id=1,
      unk_id=2,
      bos_id=-1,
      minloglevel=2,
  )
  path.write_bytes(model.getvalue())


def test_show_of_a_mixture_and_of_its_held_out(run):
  _, out, _ = run(
      'show', 'few:held_out', '-n', '2', '--json', '--vocabulary=bytes'
  )
  assert {json.loads(line)['task'] for line in out.splitlines()} == {'copy'}


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['mod'], "unknown task or mixture 'mod'. Did you mean mood"),
        (['mood:template_9'], 'there is no number 9'),
        (['mood', '--split=dev'], "mood: has no split 'dev'"),
        (['mood', '-n', '0'], '-n: must be at least 1'),
        (['mood', '--vocabulary=no.model'], 'no.model: cannot read'),
    ],
)
def test_show_mistakes(run, args, message):
  if not any(arg.startswith('--vocabulary') for arg in args):
    args = [*args, '--vocabulary=bytes']
  code, out, err = run('show', *args)
  assert code == 2 and out == '' and message in err


def test_prepare_stores_rows_and_sums_up(run, cache):
  code, out, _ = run('prepare', 'few')
  assert code == 0
  lines = [line.split() for line in out.splitlines()]
  assert lines[0] == ['dataset', 'train', 'valid.', 'test', 'MB', 's']
  # What the mixture holds out is read as well.
  assert [line[:4] for line in lines[1:]] == [
      ['mood', '12', '-', '4'],
      ['copy', '12', '-', '4'],
  ]
  assert len(list(cache.rglob('*.arrow'))) == 4
  _, out, _ = run('tasks', 'mood', '--json')
  assert json.loads(out)['datasets'][0]['state'] == 'prepared'


def test_prepare_reads_again_when_told(run, cache):
  run('prepare', 'mood')
  files = {path: path.stat().st_mtime_ns for path in cache.rglob('*.arrow')}
  run('prepare', 'mood')
  assert {p: p.stat().st_mtime_ns for p in cache.rglob('*.arrow')} == files
  run('prepare', 'mood', '--force')
  after = {p: p.stat().st_mtime_ns for p in cache.rglob('*.arrow')}
  assert after.keys() == files.keys()
  assert all(after[path] > files[path] for path in files)


def test_prepare_goes_on_past_a_failure(run, folder):
  (folder / 'lost.yaml').write_text(_MOOD.replace('mood.jsonl', 'lost.jsonl'))
  code, out, err = run('prepare', 'lost', 'mood')
  assert code == 2
  assert 'mood' in out and "'lost.jsonl' is not there" in err


def test_check_finds_nothing_in_good_files(run):
  code, out, _ = run('check', 'few')
  assert code == 0, out
  lines = out.splitlines()
  assert lines[-1] == '2 datasets, 4 templates: nothing is wrong'
  assert lines[0].split()[:2] == ['mood', 'prepared']


def test_check_names_file_template_and_mistake(run, folder):
  (folder / 'mood.yaml').write_text(
      _MOOD.replace('Mood of {text}:', 'Mood of  {text} {answer}')
  )
  rows = (folder / 'mood.jsonl').read_text()
  (folder / 'mood.jsonl').write_text(rows.replace('"label": 0', '"label": 5'))
  code, out, _ = run('check', 'mood')
  assert code == 2
  place = f'{folder / "mood.yaml"}: other: inputs: '
  assert f'{place}two spaces in' in out
  assert f'{place}{{answer}}, which the targets ask for' in out
  assert 'label is 5, which is none of its 2 options' in out
  code, out, _ = run('check', 'mood', '--json')
  found = json.loads(out)
  assert code == 2 and len(found['findings']) >= 3
  assert found['datasets'][0]['rows_checked'] is True


def test_check_says_what_to_run_for_what_is_missing(run, folder):
  (folder / 'mood.jsonl').unlink()
  code, out, _ = run('check', 'mood', '--tfds_data_dir=/nowhere')
  assert code == 0
  assert 'mood  missing  ' in out and "'mood.jsonl' is not there" in out
  code, out, _ = run('check', 'rte', '--tfds_data_dir=/nowhere')
  assert code == 0 and '`flan-jax prepare rte --download' in out


def test_check_of_all_goes_on_past_mistakes(run, folder):
  (folder / 'broken.yaml').write_text('version: 1\ncolour: red\n')
  (folder / 'odd.yaml').write_text('version: 1\nmembers: [nobody]\n')
  code, out, _ = run('check')
  assert code == 2
  assert f'{folder / "broken.yaml"}:2: colour: unknown key' in out
  assert "unknown task or mixture 'nobody'" in out
  assert 'mini_capitals' in out and out.rstrip().endswith('2 findings')


def test_vocabulary_learns_from_a_mixture(run, tmp_path):
  output = tmp_path / 'new' / 'own.model'
  args = ('mood', 'mini_headlines', '--size=320', f'--output={output}')
  code, out, err = run('vocabulary', *args, '--max_examples=400')
  assert code == 0, err
  vocabulary = vocabularies.load(str(output))
  assert vocabulary.size == 320 + 100
  text = 'täxt 3?\n  OPTIONS:\n- bad {x}'
  assert vocabulary.round_trip(text) == text
  assert 'pieces: 320' in out and 'characters a token: ' in out
  first = output.read_bytes()
  run('vocabulary', *args, '--max_examples=400')
  assert output.read_bytes() == first
  code, _, err = run('vocabulary', 'mood', '--size=90000', f'--output={output}')
  assert code == 2 and 'cannot train 90000 pieces' in err
  assert output.read_bytes() == first
