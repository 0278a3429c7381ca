"""The commands of docs/checkpoints.md run, in their order."""

import json
import re
import shlex
import shutil

from flan_jax import cli
import transformers

_LENGTHS = "--gin.TASK_FEATURE_LENGTHS={'inputs': %d, 'targets': %d}"
_SHORTER = {
    'ask': [_LENGTHS % (16, 4)],
    'infer': [_LENGTHS % (16, 4), '--max_examples=2'],
    'train': [
        _LENGTHS % (48, 16),
        '--gin.TRAIN_STEPS=1',
        '--gin.MIXTURE_OR_TASK_NAME=mini_capitals',
        '--gin.BATCH_SIZE=8',
        '--gin.EVAL_PERIOD=0',
    ],
}


def test_commands_run(root, pretrained, tmp_path, monkeypatch, cache):
  page = (root / 'docs' / 'checkpoints.md').read_text()
  blocks = re.findall(r'^```sh\n(.*?)^```', page, re.M | re.S)
  lines = ''.join(blocks).replace('\\\n', ' ').splitlines()
  shutil.copytree(pretrained, tmp_path / 'models' / 'flan-t5-small')
  monkeypatch.chdir(tmp_path)
  for line in lines:
    name, *words = shlex.split(line)
    assert name == 'flan-jax'
    assert cli.main(words + _SHORTER.get(words[0], [])) == 0, line
  load = transformers.AutoModelForSeq2SeqLM.from_pretrained
  before = load(pretrained).lm_head.weight
  changes = {}
  for folder in ('exported', 'again', 'half'):
    model = load(folder)
    assert type(model) is transformers.T5ForConditionalGeneration
    changes[folder] = (model.lm_head.weight - before).abs().max().item()
    kept = tmp_path / folder / 'spiece.model'
    assert kept.read_bytes() == (pretrained / 'spiece.model').read_bytes()
  assert 0 < changes['exported'] < 0.1, 'one step was made'
  assert changes['again'] == 0
  facts = json.loads((tmp_path / 'exported' / 'config.json').read_text())
  assert facts['n_positions'] == 77, 'what is not known here is kept'
  name = 'tokenizer_config.json'
  tokenizer = (tmp_path / 'exported' / name).read_bytes()
  assert tokenizer == (pretrained / name).read_bytes()
  facts = json.loads((tmp_path / 'half' / 'config.json').read_text())
  assert facts['dtype'] == 'bfloat16'
