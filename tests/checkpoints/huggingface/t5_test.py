"""T5 and its relatives beside `transformers`, at odd sizes."""

import json
import logging

from flan_jax import cli
from flan_jax import partitioning
from flan_jax.checkpoints import formats
from flan_jax.checkpoints import native
from flan_jax.models import interface
import jax
import numpy as np
import pytest
from safetensors import numpy as safetensors
import torch
import transformers

_SIZES = {
    'vocab_size': 301,
    'd_model': 21,
    'd_kv': 5,
    'd_ff': 37,
    'num_layers': 1,
    'num_decoder_layers': 3,
    'num_heads': 3,
    'decoder_start_token_id': 0,
}
_UNTIED = {'tie_word_embeddings': False}
_KINDS = {
    't5': (transformers.T5Config, transformers.T5ForConditionalGeneration),
    'mt5': (transformers.MT5Config, transformers.MT5ForConditionalGeneration),
    'umt5': (
        transformers.UMT5Config,
        transformers.UMT5ForConditionalGeneration,
    ),
}
# Kind, whether logits have a kernel of their own, and what config.json says.
_CASES = {
    't5_1_0': ('t5', False, {}),
    't5_1_1': (
        't5',
        True,
        {'feed_forward_proj': 'gated-gelu', 'layer_norm_epsilon': 0.01}
        | _UNTIED,
    ),
    't5_tied_unscaled': ('t5', False, {'feed_forward_proj': 'silu'} | _UNTIED),
    'mt5': ('mt5', True, _UNTIED | {'relative_attention_num_buckets': 8}),
    'mt5_tied': ('mt5', False, {'relative_attention_max_distance': 20}),
    'umt5': ('umt5', True, {'feed_forward_proj': 'gated-silu'}),
    'umt5_tied': ('umt5', False, {}),
}


@pytest.fixture(scope='module', params=_CASES)
def pair(request, tmp_path_factory, perturb):
  """A model of `transformers`, and the folder that it is saved in."""
  kind, has_head, facts = _CASES[request.param]
  make_config, make = _KINDS[kind]
  model = make(make_config(**_SIZES, **facts))
  if has_head:
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
  inputs = rng.integers(2, 301, (3, 13)).astype(np.int32)
  inputs[0, 7:] = inputs[2, 12:] = 0
  targets = rng.integers(2, 301, (3, 9)).astype(np.int32)
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
  assert np.abs(expected).max() > 0.3
  np.testing.assert_allclose(found, expected, atol=1e-4)


def test_greedy_answers_and_scores_are_those_of_transformers(
    pair, loaded, batch
):
  reference, folder = pair
  if folder.name.startswith('mt5') or 'tied' in folder.name:
    pytest.skip('their layers are those of the others')
  model, params = loaded
  steps = 64
  tokens = batch['encoder_input_tokens']
  inputs = torch.tensor(tokens)
  # No end: 64 tokens are 64 tokens.
  reference.generation_config.eos_token_id = None
  expected = reference.generate(
      inputs,
      attention_mask=inputs != 0,
      max_new_tokens=steps,
      do_sample=False,
      use_cache=False,
  ).numpy()

  @jax.jit
  def greedy(params):
    """Returns the likeliest tokens, and what ranking says of them."""
    context = model.encode(params, tokens)
    reads = model.steps(params, context)
    logits, cache = model.start(reads, model.init_cache(len(tokens), steps))

    def step(carry, _):
      logits, cache = carry
      token = logits[:, 0].argmax(axis=-1).astype(np.int32)
      return model.decode_step(reads, cache, token[:, None]), token

    _, answers = jax.lax.scan(step, (logits, cache), length=steps)
    answers = answers.T
    score = model.score(
        params,
        context,
        {
            'decoder_input_tokens': jax.numpy.pad(
                answers[:, :-1], ((0, 0), (1, 0))
            ),
            'decoder_target_tokens': answers,
            'decoder_segment_ids': jax.numpy.ones_like(answers),
        },
    )
    return answers, score

  answers, scores = greedy(params)
  np.testing.assert_array_equal(answers, expected[:, 1:])
  assert len(np.unique(answers)) > 2
  with torch.no_grad():
    logits = reference(
        input_ids=inputs,
        attention_mask=inputs != 0,
        decoder_input_ids=torch.tensor(expected[:, :-1]),
    ).logits
  whole = torch.log_softmax(logits, dim=-1).numpy()
  wanted = np.take_along_axis(whole, expected[:, 1:, None], axis=2)[..., 0]
  np.testing.assert_allclose(scores, wanted, atol=1e-4)


def _bits(folder):
  """Returns all tensors of a folder as bytes, by name."""
  return {
      name: (tensor.dtype, tensor.shape, tensor.tobytes())
      for path in folder.glob('*.safetensors')
      for name, tensor in safetensors.load_file(path).items()
  }


def _warnings(make, folder):
  """Loads a folder with `transformers`; returns what it warns of."""
  said = []
  handler = logging.Handler(logging.WARNING)
  handler.emit = lambda record: said.append(record.getMessage())
  logger = logging.getLogger('transformers')
  logger.addHandler(handler)
  try:
    _, info = make.from_pretrained(folder, output_loading_info=True)
  finally:
    logger.removeHandler(handler)
  assert not any(info.values()), info
  return said


def test_a_round_trip_changes_nothing(pair, tmp_path):
  reference, folder = pair
  run, back = tmp_path / 'run', tmp_path / 'back'
  assert not cli.main(['convert', str(folder), str(run), '--vocabulary=bytes'])
  assert not cli.main(['convert', str(run), str(back)])
  assert _bits(back) == _bits(folder)
  before, after = (
      json.loads((each / 'config.json').read_text()) for each in (folder, back)
  )
  changed = {key for key in after if after[key] != before.get(key)}
  # What version 5 of `transformers` says whatever the tensors are.
  assert changed <= {'tie_word_embeddings'}
  assert before.keys() <= after.keys()
  assert formats.open_source(back).config == formats.open_source(folder).config
  # Of untied logits version 5 warns, in its own folders too: it ties T5's.
  kind = type(reference)
  said = _warnings(kind, back)
  assert said == _warnings(kind, folder)
  tied = formats.open_source(back).config.logits_via_embedding
  assert len(said) == (0 if tied else 1)
  assert not any('tie_word_embeddings' not in line for line in said)
