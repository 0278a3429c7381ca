"""Decoder-only models beside `transformers`, at odd sizes."""

import dataclasses
import json
import shutil

from flan_jax import errors
from flan_jax.checkpoints import formats
from flan_jax.checkpoints.huggingface import architectures
from flan_jax.checkpoints.huggingface import mapping
import jax
import numpy as np
import pytest
from safetensors import numpy as safetensors
import torch


def _logits(theirs, ids):
  """Returns their logits after each of a row's tokens, its begin first."""
  with torch.no_grad():
    found = theirs(input_ids=torch.tensor(ids)[None] - 1).logits
  return found[0].numpy()


def test_logits_are_those_of_transformers(decoder_pair, decoder_loaded):
  theirs, _ = decoder_pair
  model, params = decoder_loaded
  begin = model.config.begin_id
  rng = np.random.default_rng(0)
  # Two examples in one row: ids are theirs and 1, and theirs begin at 0.
  sides = [rng.integers(1, 102, n) for n in (14, 9)]
  batch = {
      'decoder_input_tokens': np.concatenate([[0, *s[:-1]] for s in sides]),
      'decoder_target_tokens': np.concatenate(sides),
      'decoder_segment_ids': np.repeat([1, 2], [14, 9]),
      'decoder_positions': np.concatenate([np.arange(14), np.arange(9)]),
  }
  batch = {k: v[None].astype(np.int32) for k, v in batch.items()}
  found = np.asarray(jax.jit(model.logits)(params, batch))[0]
  expected = [_logits(theirs, [begin, *s[:-1]]) for s in sides]
  expected = np.concatenate(expected)
  assert np.abs(expected).max() > 1
  np.testing.assert_allclose(found[:, 1:102], expected, atol=1e-4)
  np.testing.assert_array_equal(found[:, 0], -1e9)
  np.testing.assert_array_equal(found[:, 102:], -1e9)

  loss = jax.jit(model.loss, static_argnames='z_loss')(
      params, batch, z_loss=0.0
  )
  log_p = torch.log_softmax(torch.tensor(expected), -1).numpy()
  wanted = -log_p[np.arange(23), np.concatenate(sides) - 1].sum()
  np.testing.assert_allclose(loss.loss, wanted, rtol=1e-5)


def test_what_is_written_reads_as_the_same_model(decoder_pair):
  source = formats.open_source(decoder_pair[1])
  fitting = [
      name for name, own in architectures.ALL.items() if own.fits(source.config)
  ]
  assert type(decoder_pair[0]).__name__ in fitting
  architecture = architectures.ALL[type(decoder_pair[0]).__name__]
  again = architecture.config(architecture.to_json(source.config), {})
  assert again == dataclasses.replace(
      source.config, dropout_rate=again.dropout_rate
  )


def test_parts_of_a_table_are_those_of_the_whole():
  tensor = np.arange(15.0).reshape(5, 3)
  for transpose in (False, True):
    entry = mapping.Entry('ours', 'theirs', transpose, rows=(1, 5, 8))
    whole = np.zeros((8, 3))
    whole[1:6] = tensor
    whole = whole.T if transpose else whole
    assert entry.shape((5, 3)) == whole.shape
    np.testing.assert_array_equal(entry.taken(tensor), whole)
    np.testing.assert_array_equal(entry.back(whole), tensor)
    for begin in range(8):
      for end in range(begin, 9):
        index = (slice(begin, end), slice(1, 3))
        index = index[::-1] if transpose else index
        np.testing.assert_array_equal(entry.taken(tensor, index), whole[index])


@pytest.mark.parametrize(
    'facts, words',
    [
        ({'architectures': ['Qwen3MoeForCausalLM']}, 'Qwen3MoeForCausalLM'),
        (
            {'architectures': ['Gemma3ForConditionalGeneration']},
            'Gemma3ForConditionalGeneration',
        ),
        ({'rope_scaling': {'rope_type': 'yarn'}}, "rope_type: 'yarn'"),
        ({'hidden_act': 'tanh'}, "hidden_act: 'tanh'"),
        ({'quantization_config': {}}, 'quantization_config'),
        ({'bos_token_id': None, 'eos_token_id': None}, 'bos_token_id: is'),
        ({'bos_token_id': 101}, 'begin_id: 102 is none of its 102'),
        ({'num_key_value_heads': 3}, 'num_kv_heads: must divide'),
    ],
)
def test_what_is_not_supported_is_named(facts, words, tmp_path, decoder_cases):
  (tmp_path / 'model.safetensors').write_bytes(b'\2' + 7 * b'\0' + b'{}')
  facts = {
      'architectures': ['LlamaForCausalLM'],
      **decoder_cases['llama2'][1],
      **facts,
  }
  (tmp_path / 'config.json').write_text(json.dumps(facts))
  with pytest.raises(errors.UserError, match=words):
    formats.open_source(tmp_path)


def test_pickles_of_decoders_are_turned_by_their_class(tmp_path):
  (tmp_path / 'pytorch_model.bin').write_bytes(b'')
  facts = {'architectures': ['LlamaForCausalLM']}
  (tmp_path / 'config.json').write_text(json.dumps(facts))
  with pytest.raises(errors.UserError, match='AutoModelForCausalLM'):
    formats.open_source(tmp_path)


@pytest.mark.parametrize('decoder_pair', ['gpt2'], indirect=True)
def test_the_first_files_of_gpt2_are_read(decoder_pair, tmp_path):
  """They have no prefix, and the causal mask in each layer."""
  _, folder = decoder_pair
  tensors = safetensors.load_file(str(folder / 'model.safetensors'))
  older = {name.removeprefix('transformer.'): x for name, x in tensors.items()}
  assert set(older).isdisjoint(tensors)
  for layer in range(2):
    older[f'h.{layer}.attn.bias'] = np.tri(90, dtype=np.float32)[None, None]
  safetensors.save_file(older, str(tmp_path / 'model.safetensors'))
  for name in ('config.json', 'tokenizer.json', 'tokenizer_config.json'):
    shutil.copy(folder / name, tmp_path)
  found, expected = map(formats.open_source, (tmp_path, folder))
  assert set(found.shapes) == set(expected.shapes)
  for name in expected.shapes:
    np.testing.assert_array_equal(found.read(name), expected.read(name))
