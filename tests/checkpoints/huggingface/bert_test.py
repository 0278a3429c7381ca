"""BERT beside `transformers`, at odd sizes."""

import json
import logging

from flan_jax import errors
from flan_jax import partitioning
from flan_jax.checkpoints import formats
from flan_jax.checkpoints import native
from flan_jax.checkpoints.huggingface import writing
from flan_jax.models import interface
import jax
import numpy as np
import pytest
from safetensors import numpy as safetensors
import torch
import transformers

_SIZES = {
    'vocab_size': 101,
    'hidden_size': 21,
    'num_attention_heads': 3,
    'intermediate_size': 37,
    'num_hidden_layers': 3,
    'max_position_embeddings': 19,
}
_CASES = {
    'masked': ('BertForMaskedLM', {}),
    'one_layer': (
        'BertForMaskedLM',
        {
            'num_hidden_layers': 1,
            'num_attention_heads': 7,
            'hidden_act': 'gelu_new',
            'type_vocab_size': 3,
            'layer_norm_eps': 1e-3,
        },
    ),
    'pre_training': ('BertForPreTraining', {'hidden_act': 'relu'}),
}


@pytest.fixture(scope='module', params=_CASES)
def pair(request, tmp_path_factory, perturb):
  """A model of `transformers`, and the folder that it is saved in."""
  kind, facts = _CASES[request.param]
  torch.manual_seed(0)
  config = transformers.BertConfig(**_SIZES | facts)
  folder = tmp_path_factory.mktemp(request.param)
  model = perturb(getattr(transformers, kind)(config))
  for norm in model.modules():  # Their names do not say that they are norms.
    if isinstance(norm, torch.nn.LayerNorm):
      norm.weight.data += 0.5
  model.save_pretrained(folder)
  return model, folder


@pytest.fixture(scope='module')
def loaded(pair):
  """The same model of ours, with its parameters."""
  model = interface.create(formats.open_source(pair[1]).config)
  mesh = partitioning.make_mesh(
      partitioning.MeshConfig(data=1), jax.devices()[:1]
  )
  return model, native.load_params(pair[1], model, mesh)


def test_hidden_states_and_logits_are_those_of_transformers(pair, loaded):
  theirs, _ = pair
  model, params = loaded
  rng = np.random.default_rng(0)
  lengths = np.array([19, 11, 1])
  there = np.arange(19) < lengths[:, None]
  own = rng.integers(0, 101, (3, 19))  # 0 is a token, where it is no padding.
  own[0, 3] = 0
  types = rng.integers(0, theirs.config.type_vocab_size, (3, 19))
  with torch.no_grad():
    said = theirs(
        input_ids=torch.tensor(own * there),
        token_type_ids=torch.tensor(types),
        attention_mask=torch.tensor(there.astype(int)),
        output_hidden_states=True,
    )
  batch = {
      'encoder_input_tokens': ((own + 1) * there).astype(np.int32),
      'encoder_token_types': types.astype(np.int32),
  }
  hidden = jax.jit(model.hidden_states)(params, batch)
  expected = said.hidden_states[-1].numpy()
  assert np.abs(expected).max() > 1
  np.testing.assert_allclose(hidden[there], expected[there], atol=1e-4)

  logits = np.asarray(jax.jit(model.logits)(params, batch))
  given = said.logits if 'logits' in said else said.prediction_logits
  expected = given.numpy()
  assert np.abs(expected).max() > 1
  np.testing.assert_allclose(
      logits[there][:, 1:102], expected[there], atol=1e-4
  )
  np.testing.assert_array_equal(logits[..., 0], -1e9)
  np.testing.assert_array_equal(logits[..., 102:], -1e9)

  place = np.array([7, 4, 0], np.int32)
  target = np.array([5, 100, 101], np.int32)
  found = jax.jit(model.log_probability)(params, batch, place, target)
  expected = torch.log_softmax(given, -1)[range(3), place, target - 1]
  np.testing.assert_allclose(found, expected, atol=1e-4)


def test_what_is_written_is_what_was_read(pair, tmp_path, caplog):
  theirs, folder = pair
  writing.write(tmp_path, formats.open_source(folder), None)
  with caplog.at_level(logging.WARNING):
    again, info = transformers.BertForMaskedLM.from_pretrained(
        tmp_path, output_loading_info=True
    )
  assert not any(info.values()) and not caplog.records
  before = theirs.state_dict()
  for name, tensor in again.state_dict().items():
    assert torch.equal(tensor, before[name]), name
  config = formats.open_source(folder).config
  assert formats.open_source(tmp_path).config == config


def test_first_files_have_other_names_and_more(pair, tmp_path):
  _, folder = pair
  tensors = safetensors.load_file(folder / 'model.safetensors')
  renamed = {}
  for name, tensor in tensors.items():
    for old, new in (('weight', 'gamma'), ('bias', 'beta')):
      name = name.replace(f'LayerNorm.{old}', f'LayerNorm.{new}')
    renamed[name] = tensor
  renamed |= {
      'cls.predictions.decoder.weight': np.zeros((101, 21), np.float32),
      'cls.seq_relationship.bias': np.zeros(2, np.float32),
      'bert.pooler.dense.weight': np.zeros((21, 21), np.float32),
  }
  safetensors.save_file(renamed, tmp_path / 'model.safetensors')
  config = (folder / 'config.json').read_text()
  (tmp_path / 'config.json').write_text(config)
  old, new = map(formats.open_source, (tmp_path, folder))
  assert old.shapes == new.shapes
  for name in new.shapes:
    np.testing.assert_array_equal(old.read(name), new.read(name))


def test_a_head_that_scores_is_that_of_transformers(tmp_path, perturb, caplog):
  torch.manual_seed(0)
  theirs = transformers.BertForMultipleChoice(transformers.BertConfig(**_SIZES))
  perturb(theirs).save_pretrained(tmp_path / 'theirs')
  source = formats.open_source(tmp_path / 'theirs')
  model = interface.create(source.config)
  mesh = partitioning.make_mesh(devices=jax.devices()[:1])
  params = native.load_params(tmp_path / 'theirs', model, mesh)
  rng = np.random.default_rng(0)
  there = np.arange(19) < np.array([19, 11, 1, 7])[:, None]
  own = rng.integers(0, 101, there.shape)
  types = rng.integers(0, 2, there.shape)
  with torch.no_grad():
    expected = theirs(
        input_ids=torch.tensor(own * there)[None],
        token_type_ids=torch.tensor(types)[None],
        attention_mask=torch.tensor(there.astype(int))[None],
    ).logits[0]
  batch = {
      'encoder_input_tokens': ((own + 1) * there).astype(np.int32),
      'encoder_token_types': types.astype(np.int32),
  }
  found = jax.jit(model.row_scores)(params, batch)
  assert expected.std() > 0.1
  np.testing.assert_allclose(found, expected, atol=1e-4)
  with pytest.raises(errors.UserError, match="head: is 'score', and 'masked'"):
    model.logits(params, batch)

  (tmp_path / 'ours').mkdir()
  writing.write(tmp_path / 'ours', source, None)
  with caplog.at_level(logging.WARNING):
    again, info = transformers.BertForMultipleChoice.from_pretrained(
        tmp_path / 'ours', output_loading_info=True
    )
  assert not any(info.values()) and not caplog.records
  for name, tensor in again.state_dict().items():
    assert torch.equal(tensor, theirs.state_dict()[name]), name


@pytest.mark.parametrize(
    'facts, words',
    [
        ({'architectures': ['BertModel']}, 'BertModel is not supported'),
        ({'is_decoder': True}, 'is_decoder: True'),
        (
            {'position_embedding_type': 'relative_key'},
            "position_embedding_type: 'relative_key'",
        ),
        ({'tie_word_embeddings': False}, 'tie_word_embeddings: False'),
        ({'num_attention_heads': 4}, 'num_attention_heads: 4'),
        ({'hidden_act': 'tanh'}, "hidden_act: 'tanh'"),
    ],
)
def test_what_is_not_supported_is_named(facts, words, tmp_path):
  (tmp_path / 'model.safetensors').write_bytes(b'\2' + 7 * b'\0' + b'{}')
  facts = {'architectures': ['BertForMaskedLM'], **_SIZES, **facts}
  (tmp_path / 'config.json').write_text(json.dumps(facts))
  with pytest.raises(errors.UserError, match=words):
    formats.open_source(tmp_path)


def test_pickles_are_turned_by_their_class(tmp_path):
  (tmp_path / 'pytorch_model.bin').write_bytes(b'')
  facts = {'architectures': ['BertForMultipleChoice']}
  (tmp_path / 'config.json').write_text(json.dumps(facts))
  command = 'transformers.BertForMultipleChoice.from_pretrained'
  with pytest.raises(errors.UserError, match=command):
    formats.open_source(tmp_path)


def test_what_an_encoder_cannot_do_is_said(pair):
  model = interface.create(formats.open_source(pair[1]).config)
  tokens = np.ones((1, 20), np.int32)
  calls = {
      'max_positions: the model has 19': lambda: jax.eval_shape(
          model.logits,
          model.abstract_params(),
          {'encoder_input_tokens': tokens},
      ),
      'cannot write; it ranks': lambda: model.init_cache(1, 4),
      'cannot read inputs apart': lambda: model.encode(None, tokens),
      'cannot be trained': lambda: model.loss(None, {}),
      'cannot score options from': lambda: model.score(None, None, {}),
  }
  for words, call in calls.items():
    with pytest.raises(errors.UserError, match=words):
      call()
