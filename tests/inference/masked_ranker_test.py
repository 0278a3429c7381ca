"""Ranking by pseudo-likelihood, beside a loop over masks in PyTorch."""

import json

from flan_jax import cli
from flan_jax import errors
from flan_jax import partitioning
from flan_jax.checkpoints import runs
from flan_jax.data import examples as examples_lib
from flan_jax.inference import predictor as predictor_lib
from flan_jax.inference import writer
import jax
import numpy as np
import pytest
import torch
import transformers

_WORDS = (
    'is snow cold warm yes no it very not ? , . # options - good bad text of'
    ' mood the a ##s ##er ##ly 0 1 2 3 4 5 6 7 8 9 ##0 ##1 ##2 ##3 ##4 ##5'
)
_LENGTHS = {'inputs': 24, 'targets': 8}
_INPUTS = [
    'Is snow cold?',
    'The mood of text 12: very very warmer, coldly not the snows.',
    '',
    'unheard of words',
]
_OPTIONS = [
    ['yes', 'no'],
    ['good', 'very bad', 'not very bad, it is', 'good'],
    ['yes, it is', 'no'],
    ['4', '12', 'the snow is not the snow is not the snow'],
]
_MOOD = """\
version: 1
cluster: sentiment
source: {jsonl: mood.jsonl}
splits: {train: "train[:6]", test: "train[6:]"}
fields: {text: text, label: label}
choices: {label: label, names: ["bad", "very good"]}
metrics: [accuracy]
templates:
- {name: plain, inputs: "Mood of {text}? {options}", targets: "{answer}"}
"""
_SAY = """\
version: 1
cluster: copying
source: {jsonl: mood.jsonl}
splits: {train: "train[:6]", test: "train[6:]"}
fields: {text: text}
metrics: [exact_match]
templates:
- {name: say, inputs: "Say {text}", targets: "{text}"}
"""


def _randomise(model) -> None:
  generator = torch.Generator().manual_seed(0)
  for parameter in model.parameters():
    random = torch.randn(parameter.shape, generator=generator)
    parameter.data += 0.3 * random


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A folder with a BERT and its tokenizer."""
  torch.set_num_threads(1)
  special = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]']
  words = {w: i for i, w in enumerate([*special, *_WORDS.split()])}
  found = tmp_path_factory.mktemp('bert')
  transformers.BertTokenizer(vocab=words).save_pretrained(found)
  config = transformers.BertConfig(
      vocab_size=len(words),
      hidden_size=18,
      num_attention_heads=2,
      intermediate_size=34,
      num_hidden_layers=2,
      max_position_embeddings=41,
  )
  model = transformers.BertForMaskedLM(config)
  _randomise(model)
  model.save_pretrained(found)
  return found


@pytest.fixture(scope='module')
def score(folder):
  """Returns a function: texts to log p of each masked token of the second."""
  tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
  model = transformers.BertForMaskedLM.from_pretrained(folder).eval()

  def run(inputs: str, option: str) -> list[float]:
    pair = tokenizer(inputs, option or '.', return_tensors='pt')
    if not option:  # Nothing would be taken for no second text.
      pair = {
          name: ids[:, [*range(ids.shape[1] - 2), -1]]
          for name, ids in pair.items()
      }
    own = pair['token_type_ids'][0].nonzero()[:, 0].tolist()
    assert pair['input_ids'][0, own[-1]] == tokenizer.sep_token_id
    found = []
    for place in own[:-1] or own:
      ids = pair['input_ids'].clone()
      ids[0, place] = tokenizer.mask_token_id
      with torch.no_grad():
        logits = model(**{**pair, 'input_ids': ids}).logits
      log_p = torch.log_softmax(logits[0, place], -1)
      found.append(float(log_p[pair['input_ids'][0, place]]))
    return found

  return run


def _predictor(folder, **more):
  more = {'batch_size': 8, 'lengths': _LENGTHS} | more
  mesh = more.pop('mesh', None) or partitioning.make_mesh(
      devices=jax.devices()[:1]
  )
  return predictor_lib.Predictor.from_checkpoint(folder, mesh=mesh, **more)


@pytest.fixture(scope='module')
def predictor(folder):
  return _predictor(folder)


def _examples():
  return [
      examples_lib.Example(
          task='task',
          template='template',
          row_id=f'test:{i}',
          inputs=text,
          targets=options[0],
          options=tuple(options),
          answer_index=0,
      )
      for i, (text, options) in enumerate(zip(_INPUTS, _OPTIONS, strict=True))
  ]


def test_scores_are_those_of_a_loop_over_masks(predictor, score):
  done = []
  found = predictor.rank(_examples(), progress=done.append)
  assert sum(done) == len(found) == 4
  for said, text, options in zip(found, _INPUTS, _OPTIONS, strict=True):
    read = [' '.join(option.split()[:7]) for option in options]
    expected = [sum(score(text, option)) for option in read]
    np.testing.assert_allclose(said.option_scores, expected, atol=1e-4)
    assert said.option_index == int(np.argmax(said.option_scores))
  assert found[1].option_scores[3] == found[1].option_scores[0]
  assert predictor.remarks.cut_options == 1
  assert predictor.remarks.equal_options == 1
  assert len(predictor.shapes) <= 3


def test_an_option_of_no_tokens_has_the_score_of_its_end(predictor, score):
  (found,) = predictor.score(['Is snow cold?'], [''])
  np.testing.assert_allclose(found, score('Is snow cold?', '')[0], atol=1e-4)


def test_means_are_over_masked_tokens(folder, score):
  found = _predictor(folder, normalisation='mean').rank(_examples()[:2])
  for said, text, options in zip(found, _INPUTS, _OPTIONS, strict=False):
    expected = [np.mean(score(text, option)) for option in options]
    np.testing.assert_allclose(said.option_scores, expected, atol=1e-4)


def test_pmi_is_less_what_the_premise_gives(folder, score):
  premise = 'It is'
  found = _predictor(folder, normalisation='pmi', pmi_premise=premise).rank(
      _examples()[:2]
  )
  for said, text, options in zip(found, _INPUTS, _OPTIONS, strict=False):
    expected = [sum(score(text, o)) - sum(score(premise, o)) for o in options]
    np.testing.assert_allclose(said.option_scores, expected, atol=1e-4)


def test_a_trained_head_scores_each_option_once(folder, tmp_path):
  config = transformers.BertConfig.from_pretrained(folder)
  model = transformers.BertForMultipleChoice(config).eval()
  _randomise(model)
  model.classifier.weight.data *= 10  # So that the options' scores differ.
  model.save_pretrained(tmp_path)
  tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
  tokenizer.save_pretrained(tmp_path)
  found = _predictor(tmp_path).rank(_examples()[:2])
  for said, text, options in zip(found, _INPUTS, _OPTIONS, strict=False):
    rows = tokenizer(
        [text] * len(options), options, padding=True, return_tensors='pt'
    )
    with torch.no_grad():
      own = model(**{name: ids[None] for name, ids in rows.items()}).logits[0]
    np.testing.assert_allclose(said.option_scores, own, atol=1e-4)
    assert own.std() > 0.01
    assert said.option_index == int(own.argmax())
  with pytest.raises(errors.UserError, match="must be 'sum' for a model with"):
    _predictor(tmp_path, normalisation='mean')


def test_a_mesh_changes_nothing(folder, predictor):
  mesh = partitioning.make_mesh(partitioning.MeshConfig(fsdp=2, tensor=2))
  shared = _predictor(folder, mesh=mesh, batch_size=None, batch_tokens=512)
  for one, other in zip(
      shared.rank(_examples()), predictor.rank(_examples()), strict=True
  ):
    np.testing.assert_allclose(
        one.option_scores, other.option_scores, atol=1e-4
    )


def test_it_writes_nothing(folder, predictor):
  for call in (
      lambda: predictor.generate(['Is snow cold?']),
      lambda: list(predictor.stream('Is snow cold?')),
      lambda: predictor.predict(_examples(), 'generate'),
      lambda: predictor.settle([(_examples(), 'generate', 1)]),
  ):
    with pytest.raises(errors.UserError, match='cannot write an answer'):
      call()


def test_rows_must_fit_the_positions(folder):
  with pytest.raises(errors.UserError, match='41 positions; make them 2 shor'):
    _predictor(folder, lengths={'inputs': 30, 'targets': 12})
  assert _predictor(folder, lengths=None).score(['Is'], ['snow']) is not None


@pytest.fixture(scope='module')
def project(tmp_path_factory):
  """A folder with two datasets, one of which has options."""
  found = tmp_path_factory.mktemp('project')
  (found / 'mood.yaml').write_text(_MOOD)
  (found / 'say.yaml').write_text(_SAY)
  (found / 'both.yaml').write_text('version: 1\nmembers: [mood, say]\n')
  rows = [{'text': f'text {i}', 'label': int(i % 3 == 0)} for i in range(16)]
  lines = ''.join(json.dumps(row) + '\n' for row in rows)
  (found / 'mood.jsonl').write_text(lines)
  return found


def _call(project, command, *flags):
  return cli.main([
      command,
      f'--mixtures={project}',
      f'--cache_dir={project / "cache"}',
      *flags,
  ])


def test_infer_and_eval_rank_with_it(
    folder, project, score, own_programs, capsys
):
  native = project / 'native'
  assert cli.main(['convert', str(folder), str(native)]) == 0
  assert runs.read(native)['lengths'] == {'inputs': 30, 'targets': 10}
  lines = {}
  for path in (folder, native):
    out = project / f'predictions_{path.name}'
    flags = [f'--checkpoint={path}', '--mixture=mood', f'--output={out}']
    assert _call(project, 'infer', *flags) == 0
    lines[path] = writer.read(out / 'mood.jsonl')
  assert len(lines[folder]) == 10
  for one, other in zip(lines[folder], lines[native], strict=True):
    assert one == other
    expected = [sum(score(one['inputs'], o)) for o in ('bad', 'very good')]
    np.testing.assert_allclose(one['option_scores'], expected, atol=1e-4)

  out = project / 'evaluation'
  flags = [f'--checkpoint={folder}', f'--output={out}']
  assert _call(project, 'eval', *flags, '--mixture=mood') == 0
  results = json.loads((out / 'results.json').read_text())
  right = np.mean([x['prediction'] == x['targets'] for x in lines[folder]])
  (task,) = results['tasks']
  assert task['how'] == 'rank'
  assert task['scores']['tuned']['accuracy'] == pytest.approx(100 * right)

  capsys.readouterr()
  for command in ('infer', 'eval'):
    flags = [f'--checkpoint={folder}', f'--output={project / "refused"}']
    assert _call(project, command, *flags, '--mixture=both') == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert 'an encoder-only model ranks options and cannot write' in said
  assert cli.main(['convert', str(folder), str(native) + '2', '--to=t5x']) == 2
  assert 'an encoder alone' in capsys.readouterr().err


def test_it_is_not_trained(folder, project, own_programs, capsys):
  flags = [
      '--gin_file=gin/runs/train.gin',
      '--gin_file=gin/models/checkpoint.gin',
      '--gin_file=gin/optimizers/adafactor.gin',
      '--gin_file=gin/meshes/data.gin',
      f"--gin.INITIAL_CHECKPOINT_PATH='{folder}'",
      f"--gin.MODEL_DIR='{project / 'run'}'",
      "--gin.MIXTURE_OR_TASK_NAME='mood'",
      "--gin.TASK_FEATURE_LENGTHS={'inputs': 24, 'targets': 8}",
      f"--gin.VOCABULARY='{folder}'",
      '--gin.BATCH_SIZE=8',
      '--gin.TRAIN_STEPS=2',
  ]
  assert _call(project, 'train', *flags) == 2
  assert 'an encoder-only model cannot be trained' in capsys.readouterr().err
