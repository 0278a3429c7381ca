"""Decoder-only models write and score as `transformers` does."""

import dataclasses

from flan_jax import partitioning
from flan_jax.inference import generating
from flan_jax.inference import ranker
from flan_jax.inference import running
from flan_jax.inference import settings
from flan_jax.models import interface
import jax
import numpy as np
import pytest
import torch

_EOS = 1  # Theirs is 0.
_LENGTHS = {'inputs': 12, 'targets': 64}
_INPUTS = [[5, 17, 101, 3, 44, 1], [9, 1], [33, 8, 70, 71, 72, 2, 6, 90, 4, 1]]
_SOME = pytest.mark.parametrize(
    'decoder_pair', ['gpt2', 'llama3', 'gemma2', 'gemma3'], indirect=True
)


class _Ids:
  """What decoding asks a vocabulary; all of the model's ids are its own."""

  pad_id = 0
  eos_id = _EOS
  size = 102


@pytest.fixture(scope='module')
def runner():
  mesh = partitioning.make_mesh(
      partitioning.MeshConfig(data=1), jax.devices()[:1]
  )
  return running.Runner(mesh, batch_size=4)


def _log_p(theirs, ids):
  """Returns their log p [length, V] after each of a row's tokens."""
  with torch.no_grad():
    logits = theirs(input_ids=torch.tensor(ids)[None] - 1).logits[0]
  return torch.log_softmax(logits, -1).numpy()


@_SOME
def test_greedy_writes_the_64_tokens_of_transformers(
    decoder_pair, decoder_loaded, runner
):
  theirs, _ = decoder_pair
  model, params = decoder_loaded
  generator = generating.Generator(
      model, _Ids(), runner=runner, lengths=_LENGTHS
  )
  found = generator.generate(params, _INPUTS, settings.Decoding(), ['', '', ''])
  begin = model.config.begin_id
  lengths = []
  for ids, own in zip(_INPUTS, found, strict=True):
    asked = torch.tensor([[begin, *ids]]) - 1
    with torch.no_grad():
      expected = theirs.generate(
          asked,
          attention_mask=torch.ones_like(asked),
          max_new_tokens=64,
          do_sample=False,
          eos_token_id=_EOS - 1,
          pad_token_id=_EOS - 1,
      )[0, asked.shape[1] :]
    assert own.tokens == (expected + 1).tolist()
    lengths.append(len(own.tokens))
  assert max(lengths) == 64


@_SOME
def test_options_score_as_in_transformers(decoder_pair, decoder_loaded, runner):
  theirs, _ = decoder_pair
  model, params = decoder_loaded
  options = [
      [[8, 1], [8, 40, 7, 1], [101, 3, 1]],
      [[5, 6, 7, 8, 9, 10, 11, 1], [2, 1]],
      [[1], [60, 1], [60, 61, 1]],
  ]
  found = ranker.Ranker(
      model, _Ids(), runner=runner, lengths=_LENGTHS
  ).log_likelihoods(params, _INPUTS, options)
  for ids, own, scores in zip(_INPUTS, options, found, strict=True):
    for option, score in zip(own, scores, strict=True):
      row = [model.config.begin_id, *ids, *option]
      log_p = _log_p(theirs, row[:-1])[len(ids) :]
      expected = log_p[np.arange(len(option)), np.array(option) - 1].sum()
      np.testing.assert_allclose(score, expected, atol=1e-3, rtol=1e-5)


@pytest.mark.parametrize('decoder_pair', ['gpt2', 'gemma3'], indirect=True)
def test_reading_in_parts_is_reading_at_once(decoder_pair, decoder_loaded):
  del decoder_pair
  model, params = decoder_loaded
  tokens = np.random.default_rng(0).integers(1, 102, (3, 17)).astype(np.int32)
  tokens[1, 4:] = tokens[2, 11:] = 0
  parts = interface.create(dataclasses.replace(model.config, prefill_chunk=5))
  expected = jax.jit(model.encode)(params, tokens)
  found = jax.jit(parts.encode)(params, tokens)
  np.testing.assert_allclose(found.logits_BxV, expected.logits_BxV, atol=1e-4)
  seen = np.asarray(expected.mask_BxS)[None, :, None, None]
  for one, other in zip(found[:2], expected[:2], strict=True):
    assert one.shape[2] == model.config.kv_heads
    np.testing.assert_allclose(one * seen, other * seen, atol=1e-4)


@pytest.mark.parametrize('decoder_pair', ['gemma3'], indirect=True)
def test_beams_have_the_likelihoods_of_transformers(
    decoder_pair, decoder_loaded, runner
):
  """What beams found has the likelihood that its tokens have alone."""
  theirs, _ = decoder_pair
  model, params = decoder_loaded
  generator = generating.Generator(
      model, _Ids(), runner=runner, lengths=_LENGTHS
  )
  how = settings.Decoding(method='beam', num_beams=3, max_length=7, alpha=0.0)
  found = generator.generate(params, _INPUTS, how, ['', '', ''])
  for ids, own in zip(_INPUTS, found, strict=True):
    assert own.others
    for answer in (own, *own.others):
      row = [model.config.begin_id, *ids, *answer.tokens]
      log_p = _log_p(theirs, row[:-1])[len(ids) :]
      each = log_p[np.arange(len(answer.tokens)), np.array(answer.tokens) - 1]
      np.testing.assert_allclose(answer.score, each.sum(), atol=1e-3)
