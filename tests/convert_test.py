"""`flan-jax convert`: what it refuses, and that it leaves nothing half done."""

import json
import shutil
import subprocess
import sys

from flan_jax import cli
from flan_jax.checkpoints import formats
from flan_jax.checkpoints import native
import numpy as np
import pytest
from safetensors import numpy as safetensors

_CONFIG = {
    'architectures': ['T5ForConditionalGeneration'],
    'd_model': 12,
    'd_kv': 3,
    'd_ff': 7,
    'num_layers': 1,
    'num_heads': 2,
    'vocab_size': 300,
    'feed_forward_proj': 'relu',
    'is_encoder_decoder': True,
}
_LINEAR = {'q': (6, 12), 'k': (6, 12), 'v': (6, 12), 'o': (12, 6)}
_MLP = {'wi': (7, 12), 'wo': (12, 7)}


def _shapes():
  """Returns the tensors of T5 1.0, in one layer, written down by hand."""
  found = {'shared.weight': (300, 12)}
  for side, kinds in (
      ('encoder', ('SelfAttention', 'DenseReluDense')),
      ('decoder', ('SelfAttention', 'EncDecAttention', 'DenseReluDense')),
  ):
    block = f'{side}.block.0.layer'
    for place, kind in enumerate(kinds):
      for name, shape in (_MLP if kind == kinds[-1] else _LINEAR).items():
        found[f'{block}.{place}.{kind}.{name}.weight'] = shape
      found[f'{block}.{place}.layer_norm.weight'] = (12,)
    table = f'{block}.0.SelfAttention.relative_attention_bias.weight'
    found[table] = (32, 2)
    found[f'{side}.final_layer_norm.weight'] = (12,)
  return found


@pytest.fixture
def tensors():
  rng = np.random.default_rng(0)
  return {
      name: rng.standard_normal(shape, np.float32)
      for name, shape in _shapes().items()
  }


@pytest.fixture
def folder(tmp_path, tensors):
  """A Hugging Face folder."""
  path = tmp_path / 'source'
  path.mkdir()
  (path / 'config.json').write_text(json.dumps(_CONFIG))
  safetensors.save_file(tensors, path / 'model.safetensors')
  return path


@pytest.fixture
def convert(tmp_path, capsys):
  """Returns a function that converts, and returns how it fails."""

  def run(source, *flags, target='target'):
    target = tmp_path / target
    before = target.exists()
    code = cli.main(
        ['convert', str(source), str(target), '--vocabulary=bytes', *flags]
    )
    said = capsys.readouterr().err
    assert (code == 0) == target.exists() or before
    assert not list(tmp_path.glob('.*')), 'something was left behind'
    if code == 0:
      return None
    assert code == 2
    assert said.startswith('flan-jax: error: ')
    return said

  return run


def _change(folder, **facts):
  (folder / 'config.json').write_text(json.dumps(_CONFIG | facts))


def test_what_is_converted_is_read_by_orbax(folder, tensors, convert, tmp_path):
  assert convert(folder) is None
  loaded = native.load_model(tmp_path / 'target')
  flat = loaded.model.unstack(loaded.params)
  np.testing.assert_array_equal(
      flat['token_embedder/embedding'], tensors['shared.weight']
  )
  np.testing.assert_array_equal(
      flat['decoder/layers_0/mlp/wi/kernel'],
      tensors['decoder.block.0.layer.2.DenseReluDense.wi.weight'].T,
  )
  assert loaded.vocabulary.size == 259 and loaded.step == 0


def test_nothing_goes_on_in_what_was_converted(
    folder, convert, tmp_path, capsys
):
  """There is no optimizer's state, and no data position."""
  assert convert(folder) is None
  parts = ('runs/train', 'models/checkpoint', 'optimizers/adafactor')
  target = tmp_path / 'target'
  command = ['train', *(f'--gin_file=gin/{part}.gin' for part in parts)]
  command += ['--gin_file=gin/meshes/data.gin', '--resume_with_changes']
  command += [f'--gin.INITIAL_CHECKPOINT_PATH={target}', '--gin.TRAIN_STEPS=1']
  command += ['--gin.VOCABULARY=bytes', f'--gin.MODEL_DIR={target}']
  assert cli.main([*command, '--gin.MIXTURE_OR_TASK_NAME=mini_capitals']) == 2
  assert 'holds a checkpoint that was converted' in capsys.readouterr().err
  assert (target / 'checkpoint_0').is_dir()


def test_bytes_are_a_vocabulary_without_a_file(folder, tmp_path):
  (folder / 'tokenizer_config.json').write_text(
      '{"tokenizer_class": "ByT5Tokenizer"}'
  )
  target = tmp_path / 'run'
  assert cli.main(['convert', str(folder), str(target)]) == 0
  assert native.load_model(target).vocabulary.describe()['kind'] == 'bytes'


def test_no_tokenizer_of_another_vocabulary_is_carried(
    folder, convert, tmp_path
):
  (folder / 'tokenizer_config.json').write_text(
      '{"tokenizer_class": "ByT5Tokenizer", "mine": true}'
  )
  (folder / 'tokenizer.model').write_bytes(b'none that fits')
  assert cli.main(['convert', str(folder), str(tmp_path / 'a')]) == 2
  # The one that is named takes its place, and has files of its own.
  assert convert(folder, '--to=huggingface') is None
  names = {path.name for path in (tmp_path / 'target').iterdir()}
  assert 'tokenizer.model' not in names
  text = (tmp_path / 'target' / 'tokenizer_config.json').read_text()
  assert 'ByT5Tokenizer' in text and 'mine' not in text


def test_a_target_that_exists(folder, convert, tmp_path):
  (tmp_path / 'target').mkdir()
  (tmp_path / 'target' / 'mine').write_text('')
  assert 'exists' in convert(folder)
  assert [p.name for p in (tmp_path / 'target').iterdir()] == ['mine']


@pytest.mark.parametrize('to', formats.ALL)
def test_a_full_disk_is_one_line_and_leaves_nothing(folder, tmp_path, to):
  # The largest file allowed stands for a full disk: it needs no rights.
  command = ['convert', str(folder), str(tmp_path / 'target'), f'--to={to}']
  command += ['--vocabulary=bytes']
  code = (
      'import resource, signal, sys\n'
      'from flan_jax import cli\n'
      'signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n'
      'resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))\n'
      f'sys.exit(cli.main({command!r}))\n'
  )
  done = subprocess.run(
      [sys.executable, '-c', code], capture_output=True, text=True
  )
  last = done.stderr.splitlines()[-1]
  assert done.returncode == 2, done.stderr
  assert last.startswith('flan-jax: error: ') and 'cannot be written' in last
  assert 'File too large' in last
  assert [path.name for path in tmp_path.iterdir()] == ['source']


def test_no_checkpoint(convert, tmp_path):
  assert 'there is no such run' in convert(tmp_path / 'nowhere')
  (tmp_path / 'empty').mkdir()
  assert 'holds no checkpoint' in convert(tmp_path / 'empty')


def test_several_checkpoints(folder, convert, tmp_path):
  assert f'{folder}: name one' in convert(tmp_path)
  shutil.copytree(folder, tmp_path / 'other')
  said = convert(tmp_path)
  assert 'other' in said and 'source' in said
  (folder / 'run.json').write_text('{}')
  assert 'several checkpoints, in the formats huggingface, native' in convert(
      folder
  )
  assert convert(folder, '--from=huggingface') is None


def test_a_pickle_is_refused_with_what_makes_safetensors(folder, convert):
  (folder / 'model.safetensors').unlink()
  (folder / 'pytorch_model.bin').write_bytes(b'\x80')
  said = convert(folder)
  assert 'pickle' in said
  assert (
      f"transformers.AutoModelForSeq2SeqLM.from_pretrained('{folder}')"
      f".save_pretrained('{folder}_safetensors')"
  ) in said


def test_half_a_download(folder, tensors, convert):
  whole = (folder / 'model.safetensors').read_bytes()
  (folder / 'model.safetensors').write_bytes(whole[:-5])
  assert f'{len(whole) - 5:,} of {len(whole):,} bytes' in convert(folder)
  (folder / 'model.safetensors').write_bytes(
      b'version https://git-lfs.github.com/spec/v1\noid sha256:0\n'
  )
  assert 'git lfs pull' in convert(folder)
  (folder / 'model.safetensors').unlink()
  assert 'model.safetensors is missing' in convert(folder)
  names = list(tensors)
  parts = [names[0::3], names[1::3], names[2::3]]
  files = [f'model-0000{i}-of-00003.safetensors' for i in (1, 2, 3)]
  places = {}
  for file, part in zip(files, parts, strict=True):
    safetensors.save_file({n: tensors[n] for n in part}, folder / file)
    places |= dict.fromkeys(part, file)
  index = folder / 'model.safetensors.index.json'
  assert f'{index.name} is missing' in convert(folder)
  index.write_text(json.dumps({'weight_map': places}))
  assert formats.open_source(folder).shapes
  (folder / files[1]).unlink()
  assert f'of 3 shards {files[1]} is missing' in convert(folder)
  (folder / files[2]).unlink()
  assert f'{files[1]}, {files[2]} are missing' in convert(folder)


def test_an_architecture_that_is_not_supported(folder, convert):
  _change(folder, architectures=['OPTForCausalLM'])
  said = convert(folder)
  assert 'OPTForCausalLM is not supported' in said
  assert 'T5ForConditionalGeneration, MT5ForConditionalGeneration' in said
  _change(folder, feed_forward_proj='gated-gelu_fast')
  assert 'config.json: feed_forward_proj' in convert(folder)
  _change(folder, pad_token_id=7)
  assert 'pad_token_id: 7 is not supported; it must be 0' in convert(folder)


def test_a_tensor_of_another_shape(folder, convert):
  _change(folder, d_ff=8)
  said = convert(folder)
  assert (
      'decoder.block.0.layer.2.DenseReluDense.wi.weight'
      ' (decoder/layers_0/mlp/wi/kernel) is [12, 7] there and [12, 8] in the'
      ' model'
  ) in said
  assert len(said.splitlines()) == 5, 'all four are listed'


def test_missing_and_unexpected_tensors(folder, tensors, convert, tmp_path):
  del tensors['encoder.final_layer_norm.weight']
  del tensors['decoder.block.0.layer.1.EncDecAttention.q.weight']
  # What versions of `transformers` write besides is no surprise.
  tensors['decoder.embed_tokens.weight'] = tensors['shared.weight']
  tensors['encoder.block.1.layer_norm.weight'] = np.ones(12, np.float32)
  tensors['classifier.weight'] = np.ones((2, 2), np.float32)
  safetensors.save_file(tensors, folder / 'model.safetensors')
  said = convert(folder)
  for name in (
      'encoder.final_layer_norm.weight (encoder/encoder_norm/scale) is missing',
      (
          'decoder.block.0.layer.1.EncDecAttention.q.weight'
          ' (decoder/layers_0/encoder_decoder_attention/query/kernel) is'
          ' missing'
      ),
      'encoder.block.1.layer_norm.weight is not known',
      'classifier.weight is not known',
  ):
    assert name in said
  assert '--allow-missing' in said
  assert 'embed_tokens' not in said
  assert convert(folder, '--allow-missing') is None
  loaded = native.load_model(tmp_path / 'target')
  flat = loaded.model.unstack(loaded.params)
  np.testing.assert_array_equal(flat['encoder/encoder_norm/scale'], 1)
  query = flat['decoder/layers_0/encoder_decoder_attention/query/kernel']
  assert 0 < np.std(query) < 1
  np.testing.assert_array_equal(
      flat['decoder/layers_0/self_attention/query/kernel'],
      tensors['decoder.block.0.layer.0.SelfAttention.q.weight'].T,
  )


def test_a_vocabulary_larger_than_the_embedding(folder, root, convert):
  vocabulary = root / 'mixtures' / 'mini' / 'mini.model'
  said = convert(folder, f'--vocabulary={vocabulary}')
  assert f'{vocabulary}: the vocabulary has 1,250 ids' in said
  assert 'has 300 rows' in said
  shutil.copy(vocabulary, folder / 'spiece.model')
  assert f'{folder / "spiece.model"}: the vocabulary has' in convert(
      folder, '--vocabulary='
  )


def test_shards_and_dtypes(folder, tensors, tmp_path):
  from flan_jax.checkpoints.huggingface import writing
  import ml_dtypes

  (tmp_path / 'out').mkdir()
  source = formats.open_source(folder)
  half = np.dtype(ml_dtypes.bfloat16)
  writing.write(tmp_path / 'out', source, 'bytes', half, shard_bytes=2000)
  index = json.loads(
      (tmp_path / 'out' / 'model.safetensors.index.json').read_text()
  )
  names = sorted(p.name for p in (tmp_path / 'out').glob('*.safetensors'))
  assert names == sorted(set(index['weight_map'].values())) and len(names) > 2
  sizes = [(tmp_path / 'out' / name).stat().st_size for name in names]
  assert sorted(sizes)[-2] < 4000  # But for the table, and headers.
  facts = json.loads((tmp_path / 'out' / 'config.json').read_text())
  assert facts['dtype'] == 'bfloat16'
  again = formats.open_source(tmp_path / 'out')
  for name in source.shapes:
    np.testing.assert_array_equal(
        again.read(name), source.read(name).astype(half)
    )
