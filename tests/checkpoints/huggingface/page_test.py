"""The commands of docs/checkpoints.md run, in their order."""

import json
import re
import shlex
import shutil

from flan_jax import cli
import transformers

_SHORTER = {
    'ask': ["--gin.TASK_FEATURE_LENGTHS={'inputs': 16, 'targets': 4}"],
    'train': (
        ['--gin.TRAIN_STEPS=1', '--gin.MIXTURE_OR_TASK_NAME=mini_capitals']
        + ["--gin.TASK_FEATURE_LENGTHS={'inputs': 48, 'targets': 16}"]
        + ['--gin.BATCH_SIZE=8', '--gin.EVAL_PERIOD=0']
    ),
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
  for folder in ('exported', 'again', 'half'):
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder)
    assert model.config.d_model == 16
    kept = tmp_path / folder / 'spiece.model'
    assert kept.read_bytes() == (pretrained / 'spiece.model').read_bytes()
  facts = json.loads((tmp_path / 'half' / 'config.json').read_text())
  assert facts['dtype'] == 'bfloat16'
