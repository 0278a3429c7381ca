"""Packed rows give each example the logits that it has alone."""

from flan_jax.data import packing
from flan_jax.models import config as model_config
from flan_jax.models import interface
import jax
import numpy as np

_LIMITS = {'inputs': 48, 'targets': 24}


def _ragged(generator, count, most):
  lengths = generator.integers(1, most, count)
  ids = generator.integers(3, 64, lengths.sum())
  return packing.Ragged(ids.astype(np.int32), lengths)


def test_no_example_attends_to_another():
  """Encoder, decoder and cross-attention: any leak would change logits."""
  generator = np.random.default_rng(0)
  inputs = _ragged(generator, 17, 20)
  targets = _ragged(generator, 17, 9)
  together, apart = (
      packing.features(
          packing.pack(inputs, targets, _LIMITS, together=pack), _LIMITS
      )
      for pack in (True, False)
  )
  assert len(together['encoder_segment_ids']) < 8
  model = interface.create(
      model_config.EncoderDecoderConfig(
          vocab_size=64,
          emb_dim=16,
          num_heads=2,
          num_encoder_layers=2,
          num_decoder_layers=2,
          head_dim=8,
          mlp_dim=24,
      )
  )
  params = model.init(jax.random.key(0))
  logits = jax.jit(model.logits)
  packed, alone = logits(params, together), logits(params, apart)
  found = 0
  for row, segments in enumerate(together['decoder_segment_ids']):
    for segment in range(1, segments.max() + 1):
      within = segments == segment
      tokens = together['decoder_target_tokens'][row][within]
      encoder = together['encoder_segment_ids'][row] == segment
      question = together['encoder_input_tokens'][row][encoder]
      (example,) = (
          i
          for i in range(17)
          if np.array_equal(
              apart['decoder_target_tokens'][i][: len(tokens)], tokens
          )
          and np.array_equal(
              apart['encoder_input_tokens'][i][: len(question)], question
          )
      )
      np.testing.assert_allclose(
          packed[row][within], alone[example][: len(tokens)], atol=2e-5
      )
      found += 1
  assert found == 17
