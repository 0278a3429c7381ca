"""Decoder-only models come back as they went, and train as they would there."""

import json
import warnings

from flan_jax import cli
from flan_jax import partitioning
from flan_jax import vocabularies
from flan_jax.checkpoints import formats
from flan_jax.checkpoints import native
from flan_jax.checkpoints import runs
from flan_jax.models import interface
from flan_jax.training import optimizers
from flan_jax.training import schedules
import jax
import numpy as np
import optax
import pytest
from safetensors import numpy as safetensors
import torch
import transformers


def _tensors(folder):
  return safetensors.load_file(str(folder / 'model.safetensors'))


def test_a_model_comes_back_bit_by_bit(decoder_pair, tmp_path, caplog):
  theirs, folder = decoder_pair
  ours, back = tmp_path / 'run', tmp_path / 'back'
  assert not cli.main(['convert', str(folder), str(ours)])
  assert not cli.main(['convert', str(ours), str(back)])
  before, after = _tensors(folder), _tensors(back)
  assert set(after) == set(before)
  for name, tensor in before.items():
    np.testing.assert_array_equal(after[name], tensor, strict=True)
  # The files of the tokenizer are in both.
  vocabulary = runs.read_vocabulary(ours)
  assert vocabulary.encode('w0 w7 w100') == [1, 8, 101]
  assert vocabulary.eos_id == 1
  assert vocabularies.load(back).describe() == vocabulary.describe()

  caplog.clear()
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    again, report = type(theirs).from_pretrained(
        back, output_loading_info=True, attn_implementation='eager'
    )
  assert not any(report.values())
  assert not caplog.records
  ids = torch.arange(12)[None] * 7
  with torch.no_grad():
    expected = theirs(input_ids=ids).logits
    assert torch.equal(again.eval()(input_ids=ids).logits, expected)


@pytest.mark.parametrize('decoder_pair', ['gemma3', 'llama3'], indirect=True)
def test_config_json_without_the_first_one_is_enough(decoder_pair, tmp_path):
  """A run that training wrote has nothing that was carried along."""
  theirs, folder = decoder_pair
  ours, back = tmp_path / 'run', tmp_path / 'back'
  assert not cli.main(['convert', str(folder), str(ours)])
  for carried in ours.glob('*/config.json'):
    carried.unlink()
  assert not cli.main(['convert', str(ours), str(back)])
  facts = json.loads((back / 'config.json').read_text())
  assert facts['architectures'] == [type(theirs).__name__]
  again = type(theirs).from_pretrained(back, attn_implementation='eager')
  ids = torch.arange(12)[None] * 7
  with torch.no_grad():
    expected = theirs(input_ids=ids).logits
    assert torch.equal(again.eval()(input_ids=ids).logits, expected)


@pytest.mark.parametrize('decoder_pair', ['llama3'], indirect=True)
def test_20_steps_of_adamw_lose_what_they_do_in_torch(decoder_pair, tmp_path):
  del tmp_path
  _, folder = decoder_pair
  theirs = transformers.LlamaForCausalLM.from_pretrained(
      folder, attn_implementation='eager'
  )
  model = interface.create(formats.open_source(folder).config)
  mesh = partitioning.make_mesh(
      partitioning.MeshConfig(data=1), jax.devices()[:1]
  )
  params = native.load_params(folder, model, mesh)
  rng = np.random.default_rng(0)
  # Each row has two examples; losses are those of the second halves.
  ids = rng.integers(1, 102, (20, 4, 16)).astype(np.int32)
  inputs = np.concatenate([np.zeros_like(ids[..., :1]), ids[..., :-1]], axis=-1)
  inputs[..., 8] = 0
  positions = np.broadcast_to(np.arange(16) % 8, ids.shape).astype(np.int32)
  batches = {
      'decoder_input_tokens': inputs,
      'decoder_target_tokens': ids,
      'decoder_segment_ids': (
          np.broadcast_to(1 + np.arange(16) // 8, ids.shape).astype(np.int32)
      ),
      'decoder_positions': positions,
      'decoder_loss_weights': (positions >= 4).astype(np.int32),
  }

  optimizer = optimizers.AdamW(weight_decay=0.1).create(
      schedules.Constant(value=3e-3), model.stacked()
  )

  @jax.jit
  def run(params):
    def step(carry, batch):
      params, state = carry

      def loss(params):
        sums = model.loss(params, batch, z_loss=0.0)
        return sums.loss / sums.weight

      value, gradient = jax.value_and_grad(loss)(params)
      updates, state = optimizer.update(gradient, state, params)
      return (optax.apply_updates(params, updates), state), value

    return jax.lax.scan(step, (params, optimizer.init(params)), batches)

  (after, _), found = run(params)

  decayed, others = [], []
  for parameter in theirs.parameters():
    (decayed if parameter.ndim > 1 else others).append(parameter)
  adamw = torch.optim.AdamW(
      [
          {'params': decayed, 'weight_decay': 0.1},
          {'params': others, 'weight_decay': 0.0},
      ],
      lr=3e-3,
  )
  begin = model.config.begin_id - 1
  expected = []
  for step in ids:
    own = torch.tensor(step.reshape(8, 8) - 1).long()
    read = torch.cat([torch.full((8, 1), begin), own[:, :-1]], dim=1)
    logits = theirs(input_ids=read).logits[:, 4:]
    loss = torch.nn.functional.cross_entropy(
        logits.reshape(-1, logits.shape[-1]), own[:, 4:].reshape(-1)
    )
    adamw.zero_grad()
    loss.backward()
    adamw.step()
    expected.append(loss.item())
  np.testing.assert_allclose(found, expected, atol=1e-3)
  assert abs(expected[0] - expected[-1]) > 0.1
  # Rows of the table that are no ids stay what they were.
  table = np.asarray(after['decoder']['token_embedder']['embedding'])
  assert not table[0].any() and not table[102:].any()
