"""From a Hugging Face folder to a tuned one, without a size written by hand."""

import json

from flan_jax import cli
from flan_jax import partitioning
from flan_jax.checkpoints import runs
from flan_jax.inference import predictor
from flan_jax.training import metrics
import jax
import numpy as np
import pytest
import torch
import transformers

_ROWS = [
    {'question': f'{a} + {b}', 'odd': (a + b) % 2}
    for a in range(8)
    for b in range(6)
]
_PARITY = """
version: 1
cluster: parity
source: {jsonl: rows.jsonl}
splits: {train: "train[:-6]", test: "train[-6:]"}
fields: {question: question, odd: odd}
choices: {label: odd, names: ["no", "yes, it is"]}
metrics: [accuracy]
templates:
- name: plain
  inputs: |-
    Is {question} odd?

    {options}
  targets: "{answer}"
"""
_LENGTHS = {'inputs': 48, 'targets': 16}
_RUN = """\
include 'gin/runs/train.gin'
include 'gin/models/checkpoint.gin'
include 'gin/optimizers/adamw.gin'
include 'gin/meshes/fsdp.gin'
MIXTURE_OR_TASK_NAME = 'parity'
TASK_FEATURE_LENGTHS = {'inputs': 48, 'targets': 16}
BATCH_SIZE = 8
TRAIN_STEPS = 4
EVAL_PERIOD = 0
CHECKPOINT_PERIOD = 2
LOG_PERIOD = 1
LEARNING_RATE = 0.01
"""


def _write_base(folder) -> None:
  """Writes a small Qwen 2 with a byte-level tokenizer."""
  import tokenizers

  made = tokenizers.Tokenizer(tokenizers.models.BPE())
  made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
      add_prefix_space=False
  )
  made.decoder = tokenizers.decoders.ByteLevel()
  trainer = tokenizers.trainers.BpeTrainer(
      vocab_size=270,
      initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
      special_tokens=['<|endoftext|>'],
      show_progress=False,
  )
  made.train_from_iterator(['Is 1 + 2 odd?\n\nyes, it is'] * 9, trainer)
  torch.manual_seed(0)
  config = transformers.Qwen2Config(
      vocab_size=280,
      hidden_size=16,
      intermediate_size=24,
      num_hidden_layers=2,
      num_attention_heads=4,
      num_key_value_heads=2,
      max_position_embeddings=128,
      bos_token_id=0,
      eos_token_id=0,
  )
  transformers.Qwen2ForCausalLM(config).save_pretrained(folder)
  made.save(str(folder / 'tokenizer.json'))
  facts = {'eos_token': '<|endoftext|>', 'tokenizer_class': 'TokenizersBackend'}
  (folder / 'tokenizer_config.json').write_text(json.dumps(facts))


@pytest.fixture(scope='module')
def project(tmp_path_factory, own_programs):
  """A folder with a dataset, a gin file, a model of theirs, and a run."""
  folder = tmp_path_factory.mktemp('project')
  (folder / 'parity.yaml').write_text(_PARITY)
  lines = ''.join(json.dumps(row) + '\n' for row in _ROWS)
  (folder / 'rows.jsonl').write_text(lines)
  (folder / 'run.gin').write_text(_RUN)
  _write_base(folder / 'base')
  base = folder / 'base'
  assert not _call(
      folder,
      'train',
      f'--gin_file={folder / "run.gin"}',
      f'--gin.MODEL_DIR={folder / "run"}',
      f'--gin.INITIAL_CHECKPOINT_PATH={base}',
      f'--gin.VOCABULARY={base}',
  )
  return folder


def _call(project, command, *flags):
  return cli.main([
      command,
      f'--mixtures={project}',
      f'--cache_dir={project / "cache"}',
      *flags,
  ])


def test_a_run_has_the_model_and_the_tokenizer_of_its_start(project):
  config = runs.read_model(project / 'run')
  assert (config.num_ids, config.num_kv_heads, config.begin_id) == (280, 2, 1)
  vocabulary = runs.read_vocabulary(project / 'run')
  assert vocabulary.round_trip('Is {x} odd?\n') == 'Is {x} odd?\n'
  records = metrics.read(project / 'run' / metrics.METRICS_FILE)
  assert records[-1]['loss'] < records[0]['loss'] < 1.1 * np.log(280)


def test_what_was_tuned_goes_back_and_ranks_the_same(project, tmp_path):
  """Our scores of options are those of `transformers` on what is exported."""
  back = tmp_path / 'back'
  assert not cli.main(['convert', str(project / 'run'), str(back)])
  for name in ('config.json', 'generation_config.json'):
    assert json.loads((back / name).read_text())['eos_token_id'] == 0
  theirs = transformers.AutoModelForCausalLM.from_pretrained(back)
  tokenizer = transformers.AutoTokenizer.from_pretrained(back)
  begin = end = tokenizer.convert_tokens_to_ids('<|endoftext|>')
  mesh = partitioning.make_mesh(devices=jax.devices()[:1])
  question, options = 'Is 3 + 4 odd?', ['no', 'yes, it is']
  for path in (project / 'run', back):
    ours = predictor.Predictor.from_checkpoint(
        path, lengths=_LENGTHS, mesh=mesh
    )
    found = ours.score([question] * 2, options)
    for option, score in zip(options, found, strict=True):
      asked = [begin, *tokenizer(question)['input_ids'], end]
      ids = [*tokenizer(option)['input_ids'], end]
      with torch.no_grad():
        logits = theirs(torch.tensor([asked + ids])).logits[0]
      log_p = torch.log_softmax(logits, -1)[len(asked) - 1 : -1]
      expected = log_p[np.arange(len(ids)), ids].sum().item()
      assert score == pytest.approx(expected, abs=1e-3)


def test_a_model_without_a_checkpoint_is_refused(project, capsys):
  flags = [
      f'--gin_file={project / "run.gin"}',
      f'--gin.MODEL_DIR={project / "other"}',
      f'--gin.VOCABULARY={project / "base"}',
  ]
  assert _call(project, 'train', *flags) == 2
  assert 'CheckpointModel.path: is needed' in capsys.readouterr().err
