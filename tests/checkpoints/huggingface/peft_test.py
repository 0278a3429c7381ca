"""Adapters beside `peft`: the same numbers in training, and read there."""

import dataclasses
import json
import shutil
import warnings

from flan_jax import cli
from flan_jax import errors
from flan_jax import partitioning
from flan_jax.checkpoints import bases
from flan_jax.checkpoints import formats
from flan_jax.checkpoints import native
from flan_jax.checkpoints import places
from flan_jax.checkpoints.huggingface import peft as peft_lib
from flan_jax.models import adapters
from flan_jax.models import config as model_config
from flan_jax.models import interface
from flan_jax.models import naming
import jax
import numpy as np
import optax
import peft
import pytest
import torch
import transformers

_SIZES = {
    'vocab_size': 384,
    'd_model': 21,
    'd_kv': 5,
    'd_ff': 37,
    'num_layers': 1,
    'num_decoder_layers': 2,
    'num_heads': 3,
    'dropout_rate': 0.0,
    'decoder_start_token_id': 0,
    'feed_forward_proj': 'gated-gelu',
    'tie_word_embeddings': False,
}
_OURS = ('query', 'value', 'wi_0', 'wo')
_THEIRS = ('q', 'v', 'wi_0', 'wo')
_RANK, _ALPHA = 3, 12


@pytest.fixture(scope='module')
def folder(tmp_path_factory, perturb):
  """A T5 1.1 of `transformers`, saved."""
  model = transformers.T5ForConditionalGeneration(
      transformers.T5Config(**_SIZES)
  )
  model.lm_head.weight = torch.nn.Parameter(
      torch.empty_like(model.shared.weight)
  )
  path = tmp_path_factory.mktemp('t5')
  # Gentle, so that float32 is precise to 1e-5 throughout.
  perturb(model, scale=0.1).save_pretrained(path)
  return path


@pytest.fixture(scope='module')
def theirs(folder):
  """The same with adapters of `peft`, none of them 0."""
  torch.manual_seed(0)
  model = transformers.T5ForConditionalGeneration.from_pretrained(folder)
  adapted = peft.get_peft_model(
      model,
      peft.LoraConfig(
          task_type='SEQ_2_SEQ_LM',
          r=_RANK,
          lora_alpha=_ALPHA,
          lora_dropout=0.0,
          target_modules=list(_THEIRS),
          init_lora_weights=False,
      ),
  )
  for name, parameter in adapted.named_parameters():
    if 'lora_' in name:
      parameter.data *= 0.5
  return adapted


@pytest.fixture(scope='module')
def mesh():
  return partitioning.make_mesh(
      partitioning.MeshConfig(data=1), jax.devices()[:1]
  )


@pytest.fixture(scope='module')
def plain(folder, mesh):
  """Our model without adapters, and its parameters."""
  model = interface.create(formats.open_source(folder).config)
  return model, native.load_params(folder, model, mesh)


@pytest.fixture(scope='module')
def model(plain):
  """Our model with adapters."""
  lora = model_config.Lora(rank=_RANK, alpha=_ALPHA, targets=_OURS)
  return interface.create(dataclasses.replace(plain[0].config, lora=lora))


def _theirs_of(name: str) -> str:
  """Returns what `peft` calls an adapter of ours, by hand."""
  side, layer, block, module, letter = name.split('/')
  places_ = {
      'attention': (0, 'SelfAttention'),
      'self_attention': (0, 'SelfAttention'),
      'encoder_decoder_attention': (1, 'EncDecAttention'),
      'mlp': (1 if side == 'encoder' else 2, 'DenseReluDense'),
  }
  place, theirs = places_[block]
  short = {'query': 'q', 'value': 'v'}.get(module, module)
  return (
      f'base_model.model.{side}.block.{layer.split("_")[1]}.layer.{place}'
      f'.{theirs}.{short}.lora_{letter[-1].upper()}.default.weight'
  )


def _adapters(model, arrays) -> dict[str, np.ndarray]:
  """Returns tensors of `peft` as one tree of our adapters, stacked."""
  split = adapters.Split(model)
  flat = {
      name: np.asarray(arrays[_theirs_of(name)].detach().numpy().T)
      for name in model.unstack(split.trained)
  }
  return naming.stack(flat, split.trained)


@pytest.fixture(scope='module')
def batch():
  rng = np.random.default_rng(0)
  inputs = rng.integers(2, 384, (3, 13)).astype(np.int32)
  inputs[0, 7:] = inputs[2, 12:] = 0
  targets = rng.integers(2, 384, (3, 9)).astype(np.int32)
  return {
      'encoder_input_tokens': inputs,
      'decoder_input_tokens': np.pad(targets, ((0, 0), (1, 0)))[:, :-1],
      'decoder_target_tokens': targets,
  }


def _call(module, batch):
  inputs = torch.tensor(batch['encoder_input_tokens'])
  return module(
      input_ids=inputs,
      attention_mask=inputs != 0,
      decoder_input_ids=torch.tensor(batch['decoder_input_tokens']),
      labels=torch.tensor(batch['decoder_target_tokens']).long(),
  )


def test_logits_are_those_of_peft_apart_and_merged(
    plain, model, theirs, batch, precise
):
  with torch.no_grad():
    expected = _call(theirs.eval(), batch).logits.numpy()
  split = adapters.Split(model)
  own = _adapters(model, dict(theirs.named_parameters()))
  _, frozen = split.divide(plain[1])
  whole = split.join(own, frozen)
  before = jax.jit(plain[0].logits)(plain[1], batch)
  assert np.abs(before - expected).max() > 0.1
  found = jax.jit(model.logits)(whole, batch)
  np.testing.assert_allclose(found, expected, atol=1e-5)
  merged = adapters.merged(whole, model.config.lora)
  assert jax.tree.structure(merged) == jax.tree.structure(plain[1])
  found = jax.jit(plain[0].logits)(merged, batch)
  np.testing.assert_allclose(found, expected, atol=1e-5)


def test_gradients_and_five_steps_are_those_of_peft(
    plain, model, theirs, batch, precise
):
  """With AdamW on both sides; weight decay too."""
  split = adapters.Split(model)
  parameters = {
      name: parameter
      for name, parameter in theirs.named_parameters()
      if parameter.requires_grad
  }
  own = _adapters(model, parameters)
  assert len(parameters) == len(model.unstack(own))
  _, frozen = split.divide(plain[1])
  adamw = torch.optim.AdamW(parameters.values(), 1e-2, weight_decay=0.1)
  optimizer = optax.adamw(1e-2, weight_decay=0.1)

  def loss(own):
    sums = model.loss(split.join(own, frozen), batch, z_loss=0.0)
    return sums.loss / sums.weight

  value_and_grad = jax.jit(jax.value_and_grad(loss))
  state = optimizer.init(own)
  theirs.train()
  losses = []
  for step in range(5):
    adamw.zero_grad()
    expected = _call(theirs, batch).loss
    expected.backward()
    found, gradient = value_and_grad(own)
    assert float(found) == pytest.approx(expected.item(), abs=1e-5)
    if step == 0:
      slopes = {name: p.grad for name, p in parameters.items()}
      wanted = _adapters(model, slopes)
      jax.tree.map(
          lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
          gradient,
          wanted,
      )
      assert max(np.abs(g).max() for g in jax.tree.leaves(wanted)) > 1e-3
    losses.append(float(found))
    adamw.step()
    updates, state = optimizer.update(gradient, state, own)
    own = optax.apply_updates(own, updates)
  jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4),
      own,
      _adapters(model, parameters),
  )
  assert losses[-1] < 0.95 * losses[0]


LINES = """\
include 'gin/adapters/lora.gin'
TRAIN_STEPS = 2
CHECKPOINT_PERIOD = 2
LEARNING_RATE = 0.01
WARMUP_STEPS = 0
LORA_RANK = 3
LORA_ALPHA = 12
EncoderDecoderConfig.emb_dim = 21
EncoderDecoderConfig.head_dim = 5
EncoderDecoderConfig.mlp_dim = 37
EncoderDecoderConfig.num_heads = 3
EncoderDecoderConfig.num_decoder_layers = 2
"""


@pytest.fixture(scope='module')
def project(make_project):
  return make_project(LINES, optimizer='adamw')


@pytest.fixture(scope='module', params=['query,wo', 'self_attention/out'])
def run(request, project, folder):
  """A run of adapters on the folder of `transformers`."""
  targets = request.param.split(',')
  name = targets[0].replace('/', '_')
  flags = [f'--gin.LORA_TARGETS={targets!r}']
  flags += [f'--gin.INITIAL_CHECKPOINT_PATH={folder}']
  assert project.train(name, *flags) == 0
  return project / name


def test_what_is_trained_here_runs_in_peft(run, folder, batch, mesh, tmp_path):
  out = tmp_path / 'adapter'
  assert cli.main(['convert', str(run), str(out), '--to=peft']) == 0
  facts = json.loads((out / 'adapter_config.json').read_text())
  assert facts['base_model_name_or_path'] == str(folder)
  assert facts['target_modules'] in (
      ['q', 'wo'],
      # 'o' alone would be those of cross attention too.
      [f'decoder.block.{n}.layer.0.SelfAttention.o' for n in (0, 1)],
  )
  base = transformers.T5ForConditionalGeneration.from_pretrained(folder)
  with torch.no_grad():
    before = _call(base, batch).logits.numpy()
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    # What peft itself calls in transformers.
    warnings.filterwarnings('ignore', '`is_gradient_checkpointing` is')
    model = peft.PeftModel.from_pretrained(base, out).eval()
  # All tensors were used, and none of B is as it was made.
  status = model.get_model_status()
  assert status.num_adapter_layers * 2 == len(
      [n for n, _ in model.named_parameters() if 'lora_' in n]
  )
  loaded = native.load_model(run, mesh=mesh)
  found = jax.jit(loaded.model.logits)(loaded.params, batch)
  with torch.no_grad():
    expected = _call(model, batch).logits.numpy()
  assert np.abs(before - expected).max() > 1e-3
  np.testing.assert_allclose(found, expected, atol=2e-5)
  # Merged on export, by us and by peft.
  whole = tmp_path / 'whole'
  assert cli.main(['convert', str(run), str(whole), '--to=huggingface']) == 0
  written = transformers.T5ForConditionalGeneration.from_pretrained(whole)
  merged = dict(model.merge_and_unload().named_parameters())
  for name, parameter in written.named_parameters():
    torch.testing.assert_close(parameter, merged[name], rtol=0, atol=1e-6)
  with torch.no_grad():
    again = _call(written.eval(), batch).logits.numpy()
  np.testing.assert_allclose(again, found, atol=2e-5)
  # As a run of ours it needs no base any more.
  native_run = tmp_path / 'native'
  assert cli.main(['convert', str(run), str(native_run), '--to=native']) == 0
  assert 'adapter' not in places.locate(native_run).run
  same = native.load_model(native_run, mesh=mesh).params
  jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
      same,
      loaded.params,
  )


def test_only_adapters_are_written(run, folder, tmp_path):
  both = tmp_path / 'both'
  shutil.copytree(run, both)
  said = json.loads((both / 'run.json').read_text())
  said['adapter']['trained'] = ['.*/scale']
  (both / 'run.json').write_text(json.dumps(said))
  for path, message in (
      (folder, 'holds no adapters'),
      (both, 'other parameters beside'),
  ):
    with pytest.raises(errors.UserError, match=message) as error:
      peft_lib.write(places.locate(path), tmp_path / 'out')
    assert '\n' not in str(error.value)
    assert not (tmp_path / 'out').exists()


_DECODERS = {
    'gpt2': (
        transformers.GPT2LMHeadModel,
        transformers.GPT2Config(
            vocab_size=101,
            n_embd=24,
            n_layer=2,
            n_head=3,
            n_positions=32,
            bos_token_id=100,
            eos_token_id=0,
        ),
        # Query and value lie in one tensor, beside the keys.
        ('query', 'value', 'wo'),
    ),
    'llama': (
        transformers.LlamaForCausalLM,
        transformers.LlamaConfig(
            vocab_size=101,
            hidden_size=20,
            intermediate_size=28,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=6,
            bos_token_id=99,
            eos_token_id=0,
        ),
        ('query', 'value', 'wi_0'),
    ),
}


@pytest.mark.parametrize('name', _DECODERS)
def test_adapters_of_decoders_run_in_peft(name, perturb, mesh, tmp_path):
  kind, sizes, targets = _DECODERS[name]
  perturb(kind(sizes), scale=0.1).save_pretrained(tmp_path / 'base')
  config = formats.open_source(tmp_path / 'base').config
  lora = model_config.Lora(rank=2, alpha=6, targets=targets)
  model = interface.create(dataclasses.replace(config, lora=lora))
  split = adapters.Split(model)
  rng = np.random.default_rng(0)
  own = jax.tree.map(
      lambda x: 0.3 * rng.normal(size=x.shape).astype(np.float32),
      split.trained,
  )
  plain = native.load_params(tmp_path / 'base', interface.create(config), mesh)
  base = bases.Base.of(tmp_path / 'base')
  files = peft_lib.files(
      bases.Adapter(lora=lora, trained=None, base=base),
      config,
      model.unstack(own),
  )
  (tmp_path / 'out').mkdir()
  for file, content in files.items():
    (tmp_path / 'out' / file).write_bytes(content)
  theirs = kind.from_pretrained(tmp_path / 'base')
  # Ids are theirs and 1, and 0 is how a row begins.
  ids = rng.integers(1, 102, (2, 9)).astype(np.int32)
  read = np.pad(ids, ((0, 0), (1, 0)))[:, :-1]
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    warnings.filterwarnings('ignore', '`is_gradient_checkpointing` is')
    theirs = peft.PeftModel.from_pretrained(theirs, tmp_path / 'out').eval()
  with torch.no_grad():
    given = torch.tensor(np.where(read == 0, config.begin_id, read)).long()
    expected = theirs(input_ids=given - 1).logits.numpy()
  batch = {'decoder_input_tokens': read, 'decoder_target_tokens': ids}
  params = split.join(own, split.divide(plain)[1])
  found = jax.jit(model.logits)(params, batch)
  np.testing.assert_allclose(found[..., 1:102], expected, atol=1e-5)
