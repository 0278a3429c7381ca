"""`flan-jax eval` on a tiny run, with datasets in the user's own folder."""

import json
import shutil

from flan_jax import cli
from flan_jax import partitioning
from flan_jax import vocabularies
from flan_jax.checkpoints import native
from flan_jax.checkpoints import runs
from flan_jax.data import examples as examples_lib
from flan_jax.evaluation import protocol
from flan_jax.inference import predictor as predictor_lib
from flan_jax.models import config
from flan_jax.models import interface
import jax
import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

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
_FEELINGS = (
    _MOOD.replace('splits: {', 'splits: {validation: "train[:4]", ')
    .replace('"train[:6]", test', '"train[4:6]", test')
    .replace(
        ', held_out: true}',
        '}\n- {name: third, inputs: "{text}", targets: "{answer}"}',
    )
)
_TWO = _COPY + '- {name: write, inputs: "Write {text}", targets: "{text}"}\n'
# The rows that would choose are not here.
_LOST = """
version: 1
cluster: copying
source: {jsonl: "."}
splits: {train: mood.jsonl, validation: lost.jsonl, test: mood.jsonl}
fields: {text: text}
metrics: [exact_match]
templates:
- {name: say, inputs: "Say {text}", targets: "{text}"}
- {name: write, inputs: "Write {text}", targets: "{text}"}
"""
# The rows that would choose are those that are evaluated, under another name.
_SHARED = _TWO.replace(
    'splits: {train: "train[:6]", test: "train[6:]"}',
    'splits: {train: "train[:6]", validation: "train[6:]", test: validation}',
)
_SEVERAL = """
version: 1
members: [feelings, copy]
"""
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
      ('feelings', _FEELINGS),
      ('two_templates', _TWO),
      ('lost', _LOST),
      ('shared', _SHARED),
      ('hardly', 'version: 1\nmembers: [lost, shared]\n'),
      ('several', _SEVERAL),
      ('only_copy', _SEVERAL.replace('feelings, ', '')),
  ):
    (folder / f'{name}.yaml').write_text(text)
  rows = [{'text': f'text {i}', 'label': int(i % 3 == 0)} for i in range(16)]
  lines = ''.join(json.dumps(row) + '\n' for row in rows)
  (folder / 'mood.jsonl').write_text(lines)
  return folder


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """A MODEL_DIR with an untuned and a (very roughly) tuned checkpoint."""
  return _make_run(tmp_path_factory.mktemp('run'), 'few', 8)


@pytest.fixture(scope='module')
def larger_run(tmp_path_factory):
  """Another one, of a larger model that was trained on less."""
  return _make_run(tmp_path_factory.mktemp('larger'), 'only_copy', 16)


def _make_run(directory, mixture, emb_dim):
  vocabulary = vocabularies.ByteVocabulary()
  sizes = config.EncoderDecoderConfig(
      vocab_size=vocabulary.padded_size,
      emb_dim=emb_dim,
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
      {'lengths': _LENGTHS, 'mixture': mixture, 'seed': 0},
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
  code, _, err, folder = evaluate(
      '--mixture=copy',
      '--max_examples=2',
      '--gin.Decoding.method=beam',
      '--gin.Decoding.num_beams=2',
  )
  assert code == 0, err
  results = json.loads((folder / 'results.json').read_text())
  assert {t['group'] for t in results['tasks']} == {'held_out_dataset'}
  assert results['decoding']['method'] == 'beam'
  page = (folder / 'report.html').read_text()
  assert 'token by token (beam, num_beams 2, alpha 0.6)' in page


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


def _refit(lines, tasks):
  """Scores of tasks by system, from a predictions file, by scikit-learn."""
  by_task = {}
  for line in lines:
    by_task.setdefault(line['task'], []).append(line)
  found = {}
  for task in tasks:
    mine = by_task.get(task['task'], [])
    for system in mine[0]['answers'] if mine else ():
      said = [line['answers'][system] for line in mine]
      if task['how'] == 'rank':
        right = [line['answer_index'] for line in mine]
        chosen = [answer['option_index'] for answer in said]
        score = sklearn_metrics.accuracy_score(right, chosen)
        if system == 'random':
          score = np.mean([1 / len(line['options']) for line in mine])
      else:
        score = np.mean([
            answer['text'].split() == line['targets'].split()
            for answer, line in zip(said, mine, strict=True)
        ])
      found[task['task'], system] = 100 * score
  return found


def _recomputed(results, lines, validation):
  """The table's figures from the files, by other means: numpy, scikit-learn."""
  main = [task for task in results['tasks'] if not task['setting']]
  scores = _refit(lines, results['tasks'])
  judged = _refit(validation, main)
  models = [n for n, s in results['systems'].items() if 'checkpoint' in s]
  rows = {}
  for task in results['tasks']:
    key = task['setting'], task['group'], task['dataset']
    rows.setdefault(key, []).append(task['task'])
  means = {
      (*key, system): np.mean([scores[name, system] for name in names])
      for key, names in rows.items()
      for system in results['systems']
  }
  stds = {
      (*key, system): np.std([scores[n, system] for n in names], ddof=1)
      for key, names in rows.items()
      for system in results['systems']
      if len(names) > 1
  }
  best = {}
  for (setting, *key), names in rows.items():
    for system in models if not setting else ():
      if len(names) == 1:
        best[(*key, system)] = scores[names[0], system]
      elif all((name, system) in judged for name in names):
        chosen = names[np.argmax([judged[name, system] for name in names])]
        best[(*key, system)] = scores[chosen, system]
  return means, stds, best


def test_several_checkpoints_in_one_table(evaluate, run, larger_run):
  """And the table can be made again from the files, without this package."""
  code, out, err, folder = evaluate(
      f'--checkpoint=second={larger_run}',
      '--mixture=several',
      '--gin.SHOTS=(0, 1)',
      '--gin.BASELINES=no_template',
      checkpoint=f'first={run}',
  )
  assert code == 0, err
  results = json.loads((folder / 'results.json').read_text())
  lines = _lines(folder)
  with (folder / results['best_template']['predictions']).open() as file:
    validation = [json.loads(line) for line in file]
  assert list(results['systems']) == [
      'first',
      'second',
      'first untuned',
      'second untuned',
      'majority',
      'random',
  ]
  assert results['systems']['second']['training_clusters'] == ['copying']
  first, second = (results['systems'][n] for n in ('first', 'second'))
  # Counted, since these runs do not say it.
  assert second['parameters'] > first['parameters'] > 1000
  # What any of them trained on is not held out.
  groups = {task['dataset']: task['group'] for task in results['tasks']}
  assert groups['feelings'] == 'held_out_dataset' and groups['copy'] == 'seen'

  means, stds, best = _recomputed(results, lines, validation)
  for setting in ('', *results['settings']):
    part = results['settings'][setting] if setting else results
    for row in part['datasets']:
      for system, found in row['scores'].items():
        key = setting, row['group'], row['dataset'], system
        assert found['mean'] == pytest.approx(means.pop(key))
        assert found['std'] == pytest.approx(stds.pop(key, None))
        low, high = found['interval']
        assert low <= found['mean'] <= high
  assert not means and not stds
  shown = {}
  for row in results['datasets']:
    for system, found in row['best'].items():
      key = row['group'], row['dataset'], system
      assert found['score'] == pytest.approx(best.pop(key))
      assert found['template'] in ('plain', 'other', 'say', 'third')
    shown[row['dataset']] = row['scores']
  assert not best
  assert results['settings'].keys() == {'1_shot', 'no_template'}

  # What is printed are these figures.
  table = out.split('Sample predictions')[0]
  for name, scores in shown.items():
    (line,) = [
        line
        for line in table.splitlines()
        if line.startswith((f'{name} ', f'{name},'))
    ]
    printed = [float(cell) for cell in line.split()[-4:]]
    systems = ('first', 'second', 'majority', 'random')
    expected = [scores[system]['mean'] for system in systems]
    assert printed == pytest.approx(expected, abs=0.0501)
  assert 'zero-shot' in table and '1-shot' in table and 'no template' in table


_QUICK = ('--mixture=several', '--max_examples=4', '--gin.BEST_TEMPLATE=False')


def test_a_killed_evaluation_goes_on(evaluate, monkeypatch):
  monkeypatch.setattr(protocol, '_BLOCK', 4)
  plain = predictor_lib.Predictor.rank
  calls = []

  def stops(self, examples, *args, **kwargs):
    calls.append(len(examples))
    # In the second of two models; what is left is shorter than what is done.
    if len(calls) == 6:
      raise KeyboardInterrupt
    return plain(self, examples, *args, **kwargs)

  monkeypatch.setattr(predictor_lib.Predictor, 'rank', stops)
  code, _, _, folder = evaluate(*_QUICK)
  assert code == 130 and (folder / 'unfinished').is_dir()
  assert not (folder / 'results.json').exists()
  code, _, err, _ = evaluate(*_QUICK)
  assert code == 0 and not (folder / 'unfinished').exists()
  # One model was done: four rows under three templates, and of another dataset.
  asked = sum(calls[:5]) + 4
  assert (
      f'{asked} answers were there from an evaluation that was stopped' in err
  )
  names = 'results.json', 'predictions.jsonl'
  went_on = [(folder / name).read_bytes() for name in names]
  # As if it had never been stopped, in every digit.
  code, _, err, _ = evaluate(*_QUICK)
  assert code == 0 and 'stopped' not in err
  assert went_on == [(folder / name).read_bytes() for name in names]


def test_answers_of_another_checkpoint_are_not_reused(
    evaluate, run, monkeypatch
):
  plain = predictor_lib.Predictor.generate

  def stops(self, examples, *args, **kwargs):
    raise KeyboardInterrupt

  monkeypatch.setattr(predictor_lib.Predictor, 'generate', stops)
  code, _, _, folder = evaluate(*_QUICK)
  assert code == 130 and list((folder / 'unfinished').iterdir())
  monkeypatch.setattr(predictor_lib.Predictor, 'generate', plain)
  code, _, err, _ = evaluate(*_QUICK, checkpoint=run / 'checkpoint_0')
  assert code == 0 and 'stopped' not in err


def test_a_dataset_without_validation_rows_has_no_best_template(evaluate):
  code, _, err, folder = evaluate('--mixture=mood', '--max_examples=1')
  assert code == 0
  results = json.loads((folder / 'results.json').read_text())
  # One template in each group: these are the best ones anyhow.
  assert [row['best']['tuned']['score'] for row in results['datasets']] == [
      row['scores']['tuned']['mean'] for row in results['datasets']
  ]
  assert not (folder / 'validation.jsonl').exists()
  code, out, err, folder = evaluate(
      '--mixture=two_templates', '--max_examples=1'
  )
  assert code == 0
  assert 'no best template, for want of validation rows apart: two_te' in err
  results = json.loads((folder / 'results.json').read_text())
  assert results['best_template']['without'] == ['two_templates']
  assert results['datasets'][0]['best'] == {} and ' best ' not in out
  code, _, err, _ = evaluate('--mixture=hardly', '--max_examples=1')
  assert code == 0
  assert 'for want of validation rows apart: lost, shared\n' in err
  code, out, err, folder = evaluate(
      '--mixture=two_templates',
      '--max_examples=1',
      '--gin.BEST_TEMPLATE=False',
  )
  assert code == 0 and 'no best template' not in err
  results = json.loads((folder / 'results.json').read_text())
  assert results['best_template'] is None
