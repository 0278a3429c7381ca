"""A folder of Hugging Face's from the command line: used, tuned, given back."""

import json

from flan_jax import cli
from flan_jax.checkpoints import formats
from flan_jax.checkpoints import native
from flan_jax.inference import writer
import jax
import numpy as np
import pytest
import torch
import transformers


@pytest.fixture(scope='module')
def folder(tmp_path_factory, perturb, root):
  """A T5 1.1 with the embedded vocabulary, and with a setting of its own."""
  folder = tmp_path_factory.mktemp('pretrained')
  model = transformers.T5ForConditionalGeneration(
      transformers.T5Config(
          vocab_size=1256,
          d_model=16,
          d_kv=8,
          d_ff=24,
          num_layers=1,
          num_heads=2,
          decoder_start_token_id=0,
          feed_forward_proj='gated-gelu',
          tie_word_embeddings=False,
          n_positions=77,
      )
  )
  model.lm_head.weight = torch.nn.Parameter(
      torch.empty_like(model.shared.weight)
  )
  perturb(model, scale=0.1).save_pretrained(folder)
  vocabulary = root / 'mixtures' / 'mini' / 'mini.model'
  (folder / 'spiece.model').write_bytes(vocabulary.read_bytes())
  (folder / 'tokenizer_config.json').write_text('{"tokenizer_class": "T5Tok"}')
  return folder


def test_a_mesh_has_the_same_parameters(folder):
  """Eight devices: each slice of a tensor is read for itself."""
  whole = native.load_model(
      folder, jax.make_mesh((1, 1, 1), ('data', 'fsdp', 'tensor'))
  )
  assert len(jax.devices()) == 8 and whole.vocabulary.size == 1250
  mesh = jax.make_mesh((1, 4, 2), ('data', 'fsdp', 'tensor'))
  spread = native.load_model(folder, mesh)
  for one, many in zip(
      jax.tree.leaves(whole.params), jax.tree.leaves(spread.params), strict=True
  ):
    assert one.dtype == np.float32
    np.testing.assert_array_equal(one, many)
  table = spread.params['token_embedder']['embedding']
  assert table.sharding.shard_shape(table.shape) == (628, 4)


def test_no_more_is_read_than_devices_hold(folder):
  """Of each parameter every number once, whatever holds copies of it."""

  class Counting:
    """A source that counts what it reads."""

    def __init__(self):
      self._source = formats.open_source(folder)
      self.read_numbers = {}

    def __getattr__(self, name):
      return getattr(self._source, name)

    def read(self, name, index=None):
      found = self._source.read(name, index)
      count = self.read_numbers.get(name, 0)
      self.read_numbers[name] = count + found.size
      return found

  from flan_jax.checkpoints import sharded
  from flan_jax.models import interface

  source = Counting()
  model = interface.create(source.config)
  mesh = jax.make_mesh((2, 2, 2), ('data', 'fsdp', 'tensor'))
  sharded.load(source, model, native.abstract_params(model, mesh))
  assert source.read_numbers == {
      name: int(np.prod(shape)) for name, (shape, _) in source.shapes.items()
  }


def test_it_is_used_tuned_and_given_back(folder, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  lines = [{'inputs': 'Is 3 more than 2?', 'row_id': 'a'}]
  (tmp_path / 'in.jsonl').write_text(
      ''.join(json.dumps(line) + '\n' for line in lines)
  )
  common = [f'--cache_dir={tmp_path / "cache"}']
  assert not cli.main(
      ['infer', f'--checkpoint={folder}', '--input=in.jsonl', '--output=out']
      + ["--gin.TASK_FEATURE_LENGTHS={'inputs': 16, 'targets': 4}", *common]
  )
  assert len(list(writer.lines(tmp_path / 'out' / 'in.jsonl'))) == 1
  parts = (
      'runs/train',
      'models/checkpoint',
      'optimizers/adafactor',
      'meshes/data',
  )
  assert not cli.main(
      ['train', *(f'--gin_file=gin/{part}.gin' for part in parts)]
      + [f'--gin.INITIAL_CHECKPOINT_PATH="{folder}"', '--gin.MODEL_DIR="tuned"']
      + [f'--gin.VOCABULARY="{folder}"', '--gin.TRAIN_STEPS=1']
      + ["--gin.TASK_FEATURE_LENGTHS={'inputs': 48, 'targets': 16}"]
      + ['--gin.MIXTURE_OR_TASK_NAME="mini_capitals"', '--gin.BATCH_SIZE=8']
      + ['--gin.EVAL_PERIOD=0', *common]
  )
  assert not cli.main(['convert', 'tuned', 'back'])
  back = tmp_path / 'back'
  facts = json.loads((back / 'config.json').read_text())
  assert facts['n_positions'] == 77, 'what we do not know is kept'
  assert facts['architectures'] == ['T5ForConditionalGeneration']
  for name in ('spiece.model', 'tokenizer_config.json'):
    assert (back / name).read_bytes() == (folder / name).read_bytes()
  tuned = transformers.T5ForConditionalGeneration.from_pretrained(back)
  before = transformers.T5ForConditionalGeneration.from_pretrained(folder)
  change = (tuned.lm_head.weight - before.lm_head.weight).abs().max()
  assert 0 < change < 0.1
  # The untuned one is what it was.
  assert not cli.main(['convert', 'tuned', 'first', '--step=0'])
  assert (tmp_path / 'first').is_dir()
  first = formats.open_source('first')
  for name, tensor in formats.open_source(folder).shapes.items():
    assert first.shapes[name] == tensor
    np.testing.assert_array_equal(
        first.read(name), formats.open_source(folder).read(name)
    )
