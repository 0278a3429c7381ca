"""T5 and its relatives beside `transformers`, at odd sizes."""

from flan_jax import partitioning
from flan_jax.checkpoints import formats
from flan_jax.checkpoints import native
from flan_jax.models import interface
import jax
import numpy as np
import pytest
import torch
import transformers

_SIZES = {
    'vocab_size': 101,
    'd_model': 21,
    'd_kv': 5,
    'd_ff': 37,
    'num_layers': 1,
    'num_decoder_layers': 3,
    'num_heads': 3,
    'decoder_start_token_id': 0,
}
_CASES = {
    't5_1_0': {},
    't5_1_1': {
        'feed_forward_proj': 'gated-gelu',
        'tie_word_embeddings': False,
        'layer_norm_epsilon': 0.01,
    },
}


@pytest.fixture(scope='module', params=_CASES)
def pair(request, tmp_path_factory, perturb):
  """A model of `transformers`, and the folder that it is saved in."""
  facts = _CASES[request.param]
  model = transformers.T5ForConditionalGeneration(
      transformers.T5Config(**_SIZES, **facts)
  )
  if facts.get('tie_word_embeddings') is False:
    table = model.shared.weight
    model.lm_head.weight = torch.nn.Parameter(torch.empty_like(table))
  folder = tmp_path_factory.mktemp(request.param)
  perturb(model).save_pretrained(folder)
  return model, folder


@pytest.fixture(scope='module')
def loaded(pair):
  """The same model of ours, with its parameters."""
  model = interface.create(formats.open_source(pair[1]).config)
  mesh = partitioning.make_mesh(
      partitioning.MeshConfig(data=1), jax.devices()[:1]
  )
  return model, native.load_params(pair[1], model, mesh)


@pytest.fixture(scope='module')
def batch():
  """Rows of odd lengths, two of them padded."""
  rng = np.random.default_rng(0)
  inputs = rng.integers(2, 101, (3, 13)).astype(np.int32)
  inputs[0, 7:] = inputs[2, 12:] = 0
  targets = rng.integers(2, 101, (3, 9)).astype(np.int32)
  return {
      'encoder_input_tokens': inputs,
      'decoder_input_tokens': np.pad(targets, ((0, 0), (1, 0)))[:, :-1],
      'decoder_target_tokens': targets,
  }


def test_logits_are_those_of_transformers(pair, loaded, batch):
  inputs = torch.tensor(batch['encoder_input_tokens'])
  with torch.no_grad():
    expected = pair[0](
        input_ids=inputs,
        attention_mask=inputs != 0,
        decoder_input_ids=torch.tensor(batch['decoder_input_tokens']),
    ).logits.numpy()
  model, params = loaded
  found = jax.jit(model.logits)(params, batch)
  assert np.abs(expected).max() > 1
  np.testing.assert_allclose(found, expected, atol=1e-4)
