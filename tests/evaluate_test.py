"""`flan-jax eval` on a tiny run, with datasets in the user's own folder."""

import json
import shutil

from flan_jax import cli
from flan_jax import partitioning
from flan_jax import vocabularies
from flan_jax.checkpoints import native
from flan_jax.checkpoints import runs
from flan_jax.data import examples as examples_lib
from flan_jax.inference import predictor as predictor_lib
from flan_jax.models import config
from flan_jax.models import interface
import jax
import pytest

_LENGTHS = {'inputs': 40, 'targets': 12}
_MOOD = """
version: 1
cluster: sentiment
source: {jsonl: mood.jsonl}
splits: {train: "train[:6]", test: "train[6:]"}
fields: {text: text, label: label}
choices: {label: label, names: ["bad", "good"]}
metrics: [accuracy]
templates:
- {name: plain, inputs: "{text}? {options}", targets: "{answer}"}
- {name: other, inputs: "Mood of {text}:", targets: "{answer}", held_out: true}
"""
_COPY = """
version: 1
cluster: copying
source: {jsonl: mood.jsonl}
splits: {train: "train[:6]", test: "train[6:]"}
fields: {text: text}
metrics: [exact_match]
templates:
- {name: say, inputs: "Say {text}", targets: "{text}"}
"""
_NO_TEST = _COPY.replace(', test: "train[6:]"', '')
_FEW = """
version: 1
members: [mood, no_test, copy]
held_out: [copy]
"""


@pytest.fixture(scope='module')
def declared(tmp_path_factory):
  folder = tmp_path_factory.mktemp('declared')
  for name, text in (
      ('mood', _MOOD),
      ('copy', _COPY),
      ('no_test', _NO_TEST),
      ('few', _FEW),
  ):
    (folder / f'{name}.yaml').write_text(text)
  rows = [{'text': f'text {i}', 'label': int(i % 3 == 0)} for i in range(16)]
  lines = ''.join(json.dumps(row) + '\n' for row in rows)
  (folder / 'mood.jsonl').write_text(lines)
  return folder


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """A MODEL_DIR with an untuned and a (very roughly) tuned checkpoint."""
  directory = tmp_path_factory.mktemp('run')
  vocabulary = vocabularies.ByteVocabulary()
  sizes = config.EncoderDecoderConfig(
      vocab_size=vocabulary.padded_size,
      emb_dim=8,
      num_heads=2,
      num_encoder_layers=1,
      num_decoder_layers=1,
      head_dim=4,
      mlp_dim=8,
  )
  model = interface.create(sizes)
  runs.write(
      directory,
      sizes,
      vocabulary,
      'bytes',
      {'lengths': _LENGTHS, 'mixture': 'few', 'seed': 0},
  )
  checkpointer = native.Checkpointer(directory, keep=1)
  mesh = partitioning.make_mesh()
  abstract = native.abstract_params(model, mesh)
  for step in (0, 5):
    params = jax.jit(
        lambda key: jax.tree.map(lambda x: 3 * x, model.init(key)),
        out_shardings=jax.tree.map(lambda leaf: leaf.sharding, abstract),
    )(jax.random.key(step))
    checkpointer.save(step, params, {'unused': params}, {}, block=True)
  checkpointer.close()
  return directory


@pytest.fixture
def evaluate(run, declared, tmp_path, cache, capsys):
  """Runs the command; returns exit code, stdout, stderr and the folder."""

  def call(*flags, checkpoint=run):
    code = cli.main([
        'eval',
        f'--checkpoint={checkpoint}',
        f'--output={tmp_path / "out"}',
        f'--mixtures={declared}',
        f'--cache_dir={cache}',
        '--gin.BATCH_SIZE=8',
        *flags,
    ])
    printed = capsys.readouterr()
    return code, printed.out, printed.err, tmp_path / 'out'

  return call


def _lines(folder):
  with (folder / 'predictions.jsonl').open() as file:
    return [json.loads(line) for line in file]


def test_the_whole_evaluation(evaluate, run):
  code, out, err, folder = evaluate()
  assert code == 0
  results = json.loads((folder / 'results.json').read_text())
  assert results['mixtures'] == ['few', 'few:held_out']
  assert [(t['task'], t['group']) for t in results['tasks']] == [
      ('mood:template_plain', 'seen'),
      ('mood:template_other', 'held_out_template'),
      ('copy:template_say', 'held_out_dataset'),
  ]
  assert {t['examples'] for t in results['tasks']} == {10}
  tuned = results['systems']['tuned']
  assert (tuned['checkpoint'], tuned['step']) == (str(run), 5)
  assert tuned['mixture'] == 'few' and tuned['untuned'] == 'untuned'
  assert tuned['training_clusters'] == ['copying', 'sentiment']
  assert results['systems']['untuned']['step'] == 0
  lines = _lines(folder)
  assert len(lines) == 30

  # Each model's answers are those of the predictor, asked directly.
  for system, step in (('tuned', 5), ('untuned', 0)):
    loaded = native.load_model(run / f'checkpoint_{step}')
    predictor = predictor_lib.Predictor(
        loaded.model,
        loaded.params,
        loaded.vocabulary,
        mesh=partitioning.make_mesh(),
        lengths=loaded.lengths,
        batch_size=8,
    )
    asked = [
        examples_lib.Example(
            task=line['task'],
            template=line['template'],
            row_id=line['row_id'],
            inputs=line['inputs'],
            targets=line['targets'],
            options=line['options'] and tuple(line['options']),
            answer_index=line['answer_index'],
        )
        for line in lines
    ]
    said = predictor.predict(asked)
    assert [line['answers'][system]['text'] for line in lines] == [
        each.text for each in said
    ]
    assert [line['answers'][system]['score'] for line in lines] == (
        pytest.approx([each.score for each in said], abs=1e-4)
    )

  # Accuracy and majority, from the rows: labels are 1 at multiples of three,
  # and of the six training rows two.
  (plain,) = [t for t in results['tasks'] if t['template'] == 'plain']
  right = [int(i % 3 == 0) for i in range(6, 16)]
  assert plain['scores']['majority']['accuracy'] == 10 * right.count(0)
  chosen = [
      line['answers']['tuned']['option_index']
      for line in lines
      if line['template'] == 'plain'
  ]
  hits = sum(a == b for a, b in zip(chosen, right, strict=True))
  assert plain['scores']['tuned']['accuracy'] == pytest.approx(10 * hits)

  assert 'no_test' in err and "split 'test'" in err
  shown = out.splitlines()
  assert max(map(len, shown)) <= 100
  assert shown[-1] == f'report:  {folder / "report.html"}'
  assert out.count('  inputs:') == 3
  assert '<svg' in (folder / 'report.html').read_text()


def test_what_is_asked_for(evaluate, run):
  code, out, err, folder = evaluate(
      '--mixture=mood:no_options',
      '--max_examples=4',
      '--gin.TEMPLATES=held_out',
      '--gin.UNTUNED_CHECKPOINT_PATH=none',
      checkpoint=run / 'checkpoint_0',
  )
  assert code == 0, err
  results = json.loads((folder / 'results.json').read_text())
  (task,) = results['tasks']
  assert task['task'] == 'mood:template_other:no_options'
  assert task['examples'] == 4
  assert list(task['scores']) == ['tuned', 'majority', 'random']
  assert results['systems']['tuned']['step'] == 0
  assert 'untuned' not in out


def test_a_dataset_that_training_never_saw(evaluate):
  code, _, err, folder = evaluate('--mixture=copy', '--max_examples=2')
  assert code == 0, err
  results = json.loads((folder / 'results.json').read_text())
  assert {t['group'] for t in results['tasks']} == {'held_out_dataset'}


def test_the_untuned_model_has_none_beside_it(evaluate, run):
  code, _, err, folder = evaluate(
      '--mixture=mood', '--max_examples=1', checkpoint=run / 'checkpoint_0'
  )
  assert code == 0
  assert 'is the untuned model itself' in err
  results = json.loads((folder / 'results.json').read_text())
  assert list(results['systems']) == ['tuned', 'majority', 'random']


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        (
            ['--mixture=moods'],
            "unknown task or mixture 'moods'. Did you mean m",
        ),
        (['--split=dev'], "SPLIT: mood has no split 'dev'. It has test, trai"),
        (['--gin.TEMPLATES=held'], "'held'. Did you mean held_out"),
        (['--gin.MAX_EXAMPLES=0'], 'MAX_EXAMPLES: must be a whole number'),
        (['--gin.UNTUNED_CHECKPOINT_PATH=/no'], 'no: there is no such run'),
    ],
)
def test_mistakes_are_one_line(evaluate, flags, message):
  code, out, err, folder = evaluate(*flags)
  assert code == 2 and out == ''
  assert message in err and err.count('\n') == 1
  assert not folder.exists()


def test_checkpoints_that_exist_are_named(evaluate, run):
  code, _, err, _ = evaluate(checkpoint=run / 'checkpoint_7')
  assert code == 2
  assert 'has checkpoint_0, checkpoint_5' in err


def test_a_run_whose_mixture_is_not_declared_here(run, tmp_path, capsys):
  other = tmp_path / 'run'
  shutil.copytree(run, other)
  code = cli.main(['eval', f'--checkpoint={other}', f'--output={tmp_path}/o'])
  assert code == 2
  err = capsys.readouterr().err
  assert "'few'" in err and '--mixtures' in err
