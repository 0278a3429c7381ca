"""`flan-jax infer` from the command line to the files."""

import dataclasses
import json
import random
import shutil
import subprocess
import sys

from flan_jax import cli
from flan_jax import vocabularies
from flan_jax.checkpoints import native
from flan_jax.checkpoints import runs
from flan_jax.inference import output
from flan_jax.inference import writer
from flan_jax.models import config
from flan_jax.models import interface
import jax
import jax.numpy as jnp
import pytest

_COLOURS = """\
version: 1
cluster: misc
source: {jsonl: rows}
splits: {train: train.jsonl, test: test.jsonl}
fields: {thing: thing, colour: colour}
choices: {label: colour, names: [red, green]}
metrics: [accuracy]
templates:
- name: ask
  inputs: |-
    Which colour has {thing}?

    {options}
  targets: "{answer}"
- name: sentence
  inputs: What does one say of {thing}?
  targets: It is {answer}.
- name: write_one
  inverted: true
  inputs: Name a {colour} thing.
  targets: "{thing}"
"""

_SHORT = '{"inputs": 16, "targets": 8}'
_PLURALS = """\
version: 1
cluster: misc
source: {jsonl: plurals.jsonl}
splits: {train: plurals.jsonl}
fields: {one: one, many: many}
metrics: [exact_match]
templates:
- name: ask
  inputs: The plural of {one} is
  targets: "{many}"
"""


def _lines(path, rows):
  path.parent.mkdir(exist_ok=True)
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))


@pytest.fixture(scope='module')
def mixtures(tmp_path_factory):
  """A folder of declarations: a task with options, one without, a mixture."""
  folder = tmp_path_factory.mktemp('declared')
  (folder / 'colours.yaml').write_text(_COLOURS)
  (folder / 'plurals.yaml').write_text(_PLURALS)
  (folder / 'both.yaml').write_text('version: 1\nmembers: [colours, plurals]\n')
  things = [
      {'thing': f'thing {i}', 'colour': ('red', 'green')[i % 3 == 0]}
      for i in range(7)
  ]
  _lines(folder / 'rows' / 'train.jsonl', things)
  _lines(folder / 'rows' / 'test.jsonl', things[::-1])
  _lines(folder / 'plurals.jsonl', [{'one': w, 'many': w + 's'} for w in 'ab'])
  return folder


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """A MODEL_DIR with an untrained model of bytes."""
  folder = tmp_path_factory.mktemp('runs') / 'tiny'
  folder.mkdir()
  model_config = config.EncoderDecoderConfig(
      vocab_size=384,
      emb_dim=8,
      num_heads=2,
      num_encoder_layers=1,
      num_decoder_layers=1,
      head_dim=4,
      mlp_dim=16,
  )
  runs.write(
      folder,
      model_config,
      vocabularies.ByteVocabulary(),
      'bytes',
      {'lengths': {'inputs': 64, 'targets': 8}, 'mixture': 'colours'},
  )
  model = interface.create(model_config)
  checkpointer = native.Checkpointer(folder, keep=2)
  params = jax.jit(model.init)(jax.random.key(0))
  for step in (0, 5):
    checkpointer.save(step, params, {'count': jnp.zeros(())}, {}, block=True)
  checkpointer.close()
  return folder


@pytest.fixture(scope='module')
def cache_dir(tmp_path_factory):
  """One for all tests here: what is compiled once serves the others."""
  return tmp_path_factory.mktemp('cache')


@pytest.fixture
def infer(run, mixtures, cache_dir, tmp_path, capsys):
  """Runs the command; returns its exit code, output and errors."""

  def call(name, *more, checkpoint=run):
    what = [] if name is None else [f'--mixture={name}']
    code = cli.main([
        'infer',
        f'--checkpoint={checkpoint}',
        *what,
        f'--output={tmp_path / "out"}',
        f'--mixtures={mixtures}',
        f'--cache_dir={cache_dir}',
        '--batch_size=8',
        *more,
    ])
    said = capsys.readouterr()
    return code, said.out, said.err

  return call


def _read(tmp_path, task):
  return writer.read(tmp_path / 'out' / f'{task.replace(":", ".")}.jsonl')


def test_a_dataset_is_ranked_where_its_template_has_options(infer, tmp_path):
  code, out, _ = infer('colours')
  assert code == 0
  lines = _read(tmp_path, 'colours')
  assert [line['index'] for line in lines] == list(range(7))
  assert {line['template'] for line in lines} <= {
      'ask',
      'sentence',
      'write_one',
  }
  for line in lines:
    ranked = line['template'] != 'write_one'
    assert (line['options'] is not None) == ranked
    assert (line['option_scores'] is not None) == ranked
    if ranked:
      best = max(range(2), key=lambda i: line['option_scores'][i])
      assert line['prediction'] == line['options'][best]
      assert line['score'] == line['option_scores'][best]
      assert line['targets'] == line['options'][line['answer_index']]
  assert 'colours' in out and str(tmp_path / 'out' / 'colours.jsonl') in out
  assert out.count('prediction:') == 3


def test_the_whole_target_is_what_is_ranked(infer, tmp_path):
  assert infer('colours:template_sentence')[0] == 0
  for line in _read(tmp_path, 'colours:template_sentence'):
    assert line['options'] == ['It is red.', 'It is green.']
    assert line['prediction'] in line['options']


def test_generate_in_the_name_generates(infer, tmp_path):
  assert infer('colours:template_ask:generate')[0] == 0
  for line in _read(tmp_path, 'colours:template_ask:generate'):
    assert line['option_scores'] is None
    assert line['options'] == ['red', 'green']


def test_a_mixture_gives_a_file_for_each_task(infer, tmp_path):
  code, out, _ = infer('both', '--split=train', '--max_examples=2')
  assert code == 0
  assert len(_read(tmp_path, 'colours')) == 2
  plurals = _read(tmp_path, 'plurals')
  assert [line['targets'] for line in plurals] == ['as', 'bs']
  assert all(line['option_scores'] is None for line in plurals)
  assert out.count('prediction:') == 3


def test_tasks_without_the_split_are_left_out(infer, tmp_path):
  code, out, _ = infer('both', '--max_examples=1')
  assert code == 0
  assert "left out, for want of a split 'test': plurals" in out
  assert not (tmp_path / 'out' / 'plurals.jsonl').exists()
  code, _, err = infer('plurals')
  assert code == 2
  assert "SPLIT: plurals has no split 'test'. It has train" in err


def test_a_finished_file_is_not_predicted_again(infer, tmp_path):
  assert infer('colours', '--max_examples=2')[0] == 0
  path = tmp_path / 'out' / 'colours.jsonl'
  before = path.stat().st_mtime_ns
  code, out, _ = infer('colours', '--max_examples=2')
  assert code == 0
  assert f'{path} is finished; --overwrite' in out
  assert path.stat().st_mtime_ns == before
  code, _, err = infer('colours', '--max_examples=3')
  assert code == 2
  assert 'max_examples: was predicted with 2, not 3' in err
  assert infer('colours', '--max_examples=3', '--overwrite')[0] == 0
  assert len(_read(tmp_path, 'colours')) == 3


def test_a_step_of_the_run_can_be_named(infer, run, tmp_path):
  assert (
      infer('colours', '--max_examples=1', checkpoint=run / 'checkpoint_0')[0]
      == 0
  )
  settings = json.loads((tmp_path / 'out' / output.SETTINGS).read_text())
  assert settings['colours.jsonl']['checkpoint'].endswith('checkpoint_0')


@pytest.mark.parametrize(
    'name, more, message',
    [
        ('colors', (), "unknown task or mixture 'colors'. Did you mean"),
        ('plurals:rank', (), 'no choices to rank'),
        ('colours', ('--split=tset',), "no split 'tset'. Did you mean test?"),
        ('colours', ('--batch_size=0',), 'BATCH_SIZE: must be a whole number'),
        ('colours', ('--gin.Infer.normalisation=max',), 'normalisation: must'),
        ('colours', ('--gin.TASK_FEATURE_LENGTHS={}',), 'TASK_FEATURE_LENGTHS'),
        ('colours', ('--block_size=0',), 'BLOCK_SIZE: must be a whole number'),
        ('colours', ('--gin.LONG_INPUTS=x',), 'LONG_INPUTS: must be "cut" or'),
        ('colours', ('--gin.DECODING=3',), 'DECODING: must be @Decoding()'),
        ('colours', ('--top_p=2',), 'Decoding.top_p: must be'),
        ('colours', ('--top_k=2', '--num_beams=2'), '--num_beams: is for beam'),
        ('colours', ('--input=a.txt',), 'MIXTURE_OR_TASK_NAME: one of it'),
        (None, (), 'MIXTURE_OR_TASK_NAME: one of it (--mixture) and INPUT'),
        (None, ('--input=nowhere.txt',), 'nowhere.txt: No such file'),
        ('colours', ('--shard=1',), '--shard: needs --num_shards beside it'),
        ('colours', ('--num_shards=2',), '--num_shards: needs --shard beside'),
        (
            'colours',
            ('--num_shards=2', '--shard=2'),
            '--shard: must be 0 to 1 of 2 shards, not 2',
        ),
        (
            'colours',
            ('--gin.LONG_INPUTS=refuse', '--gin.TASK_FEATURE_LENGTHS=_SHORT'),
            'colours test.jsonl:0: inputs: have ',
        ),
    ],
)
def test_mistakes_are_one_line(infer, tmp_path, name, more, message):
  more = [flag.replace('_SHORT', _SHORT) for flag in more]
  code, _, err = infer(name, *more)
  assert code == 2
  assert message in err
  assert err.count('\n') == 1
  assert not (tmp_path / 'out').exists()


def test_a_checkpoint_that_is_not_there(infer, run):
  code, _, err = infer('colours', checkpoint=run / 'checkpoint_3')
  assert code == 2
  assert 'checkpoint_0, checkpoint_5' in err


def test_a_file_of_prompts(infer, tmp_path):
  prompts = tmp_path / 'prompts.jsonl'
  rows = [
      {'inputs': 'Red or green?', 'options': ['red', 'green'], 'id': 'a'},
      {'inputs': 'Say something.', 'targets': 'something'},
      {'inputs': 'cut ' * 60},
      {'inputs': 'A?', 'options': ['b', 'a'], 'targets': 'a', 'level': 3},
  ]
  _lines(prompts, rows)
  code, out, _ = infer(None, f'--input={prompts}')
  assert code == 0
  assert 'prompts.jsonl: fields that are not used: level' in out
  assert 'prompts: 1 of 4 inputs were too long and lost their end' in out
  assert 'line:3 first' in out
  lines = _read(tmp_path, 'prompts')
  assert [line['inputs'] for line in lines] == [row['inputs'] for row in rows]
  assert [line['row_id'] for line in lines] == [
      'a',
      'line:2',
      'line:3',
      'line:4',
  ]
  assert [line['options'] for line in lines] == [
      ['red', 'green'],
      None,
      None,
      ['b', 'a'],
  ]
  for line in lines:
    assert (line['option_scores'] is None) == (line['options'] is None)
    assert line['prediction'] in (line['options'] or [line['prediction']])
  # A byte is a token, and the end is one too.
  assert [line['cut_tokens'] for line in lines] == [0, 0, 240 + 1 - 64, 0]
  assert [line['answer_index'] for line in lines] == [None, None, None, 1]
  assert [line['targets'] for line in lines] == ['', 'something', '', 'a']
  # Another file of that name is another one, wherever the first has gone.
  prompts.rename(tmp_path / 'elsewhere')
  (tmp_path / 'new').mkdir()
  (tmp_path / 'elsewhere').rename(tmp_path / 'new' / 'prompts.jsonl')
  code, out, _ = infer(None, f'--input={tmp_path / "new" / "prompts.jsonl"}')
  assert code == 0 and 'is finished' in out
  _lines(prompts, rows[1:])
  code, _, err = infer(None, f'--input={prompts}')
  assert code == 2 and 'prompts.jsonl: examples: was predicted with' in err


def test_a_file_of_text(infer, tmp_path):
  prompts = tmp_path / 'lines.txt'
  prompts.write_text('One?\nTwo?\nThree?\n')
  assert infer(None, f'--input={prompts}', '--max_examples=2')[0] == 0
  lines = _read(tmp_path, 'lines')
  assert [line['inputs'] for line in lines] == ['One?', 'Two?']


def test_a_broken_line_stops_before_anything_is_written(infer, tmp_path):
  prompts = tmp_path / 'prompts.jsonl'
  prompts.write_text('{"inputs": "Good?"}\n{"inputs": ""}\n')
  code, _, err = infer(None, f'--input={prompts}')
  assert code == 2
  assert f'{prompts}:2: inputs: is empty' in err
  assert err.count('\n') == 1
  assert not (tmp_path / 'out').exists()


def test_predictions_are_not_written_over_the_prompts(infer, tmp_path):
  (tmp_path / 'out').mkdir()
  prompts = tmp_path / 'out' / 'prompts.jsonl'
  _lines(prompts, [{'inputs': 'Mine?'}])
  before = prompts.read_bytes()
  code, _, err = infer(None, f'--input={prompts}', '--overwrite')
  assert code == 2
  assert 'would be written over INPUT_FILE' in err
  assert prompts.read_bytes() == before


def _break_off(path, lines):
  """Leaves a file as a kill does: whole lines, and the beginning of one."""
  text = path.read_text()
  kept = ''.join(text.splitlines(keepends=True)[:lines])
  path.with_name(path.name + '.part').write_text(kept + text[len(kept) :][:9])
  path.unlink()


def test_a_broken_off_task_goes_on(infer, tmp_path):
  assert infer('colours', '--block_size=2')[0] == 0
  path = tmp_path / 'out' / 'colours.jsonl'
  whole = path.read_bytes()
  _break_off(path, 5)
  code, out, err = infer('colours', '--block_size=2')
  assert code == 0
  assert 'colours: going on after 4 of 7 examples' in err
  assert '3 examples in' in err and 'compilations' in err
  assert path.read_bytes() == whole
  _break_off(path, 5)
  code, _, err = infer('colours', '--block_size=2', '--split=train')
  assert code == 2
  assert "split: was predicted with 'test', not 'train'" in err
  assert not path.exists()


@pytest.mark.parametrize('method', ['sum', 'pmi'])
def test_blocks_do_not_depend_on_what_was_before(infer, tmp_path, method):
  # Of many lengths, so that padding would differ by what was met before.
  rng = random.Random(1)
  rows = []
  for _ in range(64):
    row = {'inputs': 'x' * rng.choice((1, 2, 3, 9, 20, 30, 40, 50, 60))}
    if rng.random() < 0.5:
      row['options'] = [
          c * rng.randint(1, 7) for c in 'abcd'[: rng.randint(2, 4)]
      ]
    rows.append(row)
  prompts = tmp_path / 'prompts.jsonl'
  _lines(prompts, rows)
  flags = [f'--input={prompts}', '--block_size=8', '--batch_size=2']
  flags.append(f'--gin.Infer.normalisation={method}')
  assert infer(None, *flags)[0] == 0
  path = tmp_path / 'out' / 'prompts.jsonl'
  whole = path.read_bytes()
  for kept in (9, 30, 55):
    _break_off(path, kept)
    assert infer(None, *flags)[0] == 0
    assert path.read_bytes() == whole
  for shard in range(3):
    shard_flags = ('--num_shards=3', f'--shard={shard}')
    assert infer(None, *flags, *shard_flags)[0] == 0
  shards = [
      tmp_path / 'out' / f'prompts-0000{i}-of-00003.jsonl' for i in range(3)
  ]
  assert b''.join(shard.read_bytes() for shard in shards) == whole


def test_how_answers_are_written_is_recorded(infer, tmp_path):
  flags = ('--max_examples=1', '--temperature=0.5', '--top_p=0.9', '--seed=4')
  assert infer('colours', *flags)[0] == 0
  recorded = json.loads((tmp_path / 'out' / output.SETTINGS).read_text())
  decoding = recorded['colours.jsonl']['decoding']
  assert decoding['method'] == 'sample'
  assert decoding['temperature'] == 0.5
  assert (decoding['top_p'], decoding['seed']) == (0.9, 4)
  code, _, err = infer('colours', *flags[:-1], '--gin.Decoding.seed=5')
  assert code == 2
  assert 'decoding: was predicted with' in err


def test_a_checkpoint_is_known_by_what_it_holds(infer, run, tmp_path):
  moved = tmp_path / 'moved'
  shutil.copytree(run, moved)
  assert infer('colours', '--max_examples=1')[0] == 0
  code, out, _ = infer('colours', '--max_examples=1', checkpoint=moved)
  assert code == 0 and 'is finished' in out
  # In the same place, the parameters of another step.
  shutil.rmtree(moved / 'checkpoint_5')
  shutil.copytree(run / 'checkpoint_0', moved / 'checkpoint_5')
  code, _, err = infer('colours', '--max_examples=1', checkpoint=moved)
  assert code == 2
  assert 'colours.jsonl: model: was predicted with' in err


def test_the_checkpoint_before_a_broken_one_is_used(infer, run, tmp_path):
  broken = tmp_path / 'broken'
  shutil.copytree(run, broken)
  for file in (broken / 'checkpoint_5' / 'params').rglob('*'):
    if file.is_file() and 'd' in file.parent.name:
      file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
  flags = ('--max_examples=3', '--block_size=2')
  code, _, err = infer('colours', *flags, checkpoint=broken)
  assert code == 0
  assert f'warning: {broken}/checkpoint_5 cannot be read (params: ' in err
  assert 'checkpoint_0 is used' in err
  recorded = json.loads((tmp_path / 'out' / output.SETTINGS).read_text())
  place = recorded['colours.jsonl']['checkpoint']
  assert place == str(broken / 'checkpoint_0')
  # The same again goes on, though the newest checkpoint is another one.
  path = tmp_path / 'out' / 'colours.jsonl'
  whole = path.read_bytes()
  _break_off(path, 2)
  code, _, err = infer('colours', *flags, checkpoint=broken)
  assert code == 0 and 'going on after 2 of 3' in err
  assert path.read_bytes() == whole
  flags = (*flags, '--overwrite')
  code, _, err = infer('colours', *flags, checkpoint=broken / 'checkpoint_5')
  assert code == 2 and err.count('\n') == 1
  assert 'checkpoint_5: cannot be read (params: ' in err
  assert path.read_bytes() == whole


def test_scores_that_are_no_numbers_are_counted_and_named(
    infer, run, tmp_path, monkeypatch
):
  load = native.load_model

  def diverged(*args, **kwargs):
    loaded = load(*args, **kwargs)
    nan = jax.tree.map(lambda leaf: leaf * jnp.nan, loaded.params)
    return dataclasses.replace(loaded, params=nan)

  monkeypatch.setattr(native, 'load_model', diverged)
  code, out, _ = infer('colours:template_sentence', '--max_examples=2')
  assert code == 0
  assert (
      'colours:template_sentence: 2 of 2 predictions have a score that is not a'
      ' number (null in the file), test.jsonl:0 first'
  ) in out
  for line in _read(tmp_path, 'colours:template_sentence'):
    assert line['score'] is None


def test_shards_write_their_shares(infer, tmp_path):
  flags = ('--split=train', '--block_size=2')
  assert infer('both', *flags)[0] == 0
  whole = {
      name: (tmp_path / 'out' / f'{name}.jsonl').read_bytes()
      for name in ('colours', 'plurals')
  }
  for shard in (1, 0):
    code, out, _ = infer('both', *flags, '--num_shards=2', f'--shard={shard}')
    assert code == 0
    assert f'colours-0000{shard}-of-00002.jsonl' in out
    assert cli.main(['infer', f'--join={tmp_path / "out"}']) == (
        2 if shard else 0
    )
  for name, text in whole.items():
    assert (tmp_path / 'out' / f'{name}.jsonl').read_bytes() == text
  assert not _read(tmp_path, 'plurals-00000-of-00002')


def test_libraries_speak_into_a_file(infer, tmp_path):
  assert infer('colours', '--max_examples=1')[0] == 0
  names = {path.name for path in (tmp_path / 'out').iterdir()}
  assert names - {'libraries.log'} == {'colours.jsonl', output.SETTINGS}


def test_tensorflow_is_not_imported(run, mixtures, cache_dir, tmp_path):
  code = f"""
import sys
from flan_jax import cli
code = cli.main(['infer', '--checkpoint={run}', '--mixture=colours',
                 '--output={tmp_path}', '--mixtures={mixtures}',
                 '--cache_dir={cache_dir}', '--batch_size=8',
                 '--max_examples=2'])
heavy = ('tensorflow', 'seqio', 'tensorflow_datasets', 'torch')
print(code, [name for name in heavy if name in sys.modules])
"""
  done = subprocess.run(
      [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert done.stdout.strip().endswith('0 []')
