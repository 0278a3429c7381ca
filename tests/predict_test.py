"""`flan-jax infer` from the command line to the files."""

import json
import subprocess
import sys

from flan_jax import cli
from flan_jax import vocabularies
from flan_jax.checkpoints import native
from flan_jax.checkpoints import runs
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
    code = cli.main([
        'infer',
        f'--checkpoint={checkpoint}',
        f'--mixture={name}',
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
  settings = json.loads((tmp_path / 'out' / writer.SETTINGS).read_text())
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
    ],
)
def test_mistakes_are_one_line(infer, name, more, message):
  code, _, err = infer(name, *more)
  assert code == 2
  assert message in err
  assert err.count('\n') == 1


def test_a_checkpoint_that_is_not_there(infer, run):
  code, _, err = infer('colours', checkpoint=run / 'checkpoint_3')
  assert code == 2
  assert 'checkpoint_0, checkpoint_5' in err


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
