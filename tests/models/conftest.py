"""T5X's numbers, and models of their sizes."""

from flan_jax.models import config as config_lib
from flan_jax.models import interface
import jax
import numpy as np
import pytest


@pytest.fixture(autouse=True)
def _precise(precise):
  """All tests of models compare with numbers that were made so."""


@pytest.fixture(scope='session')
def config() -> config_lib.EncoderDecoderConfig:
  """The sizes of the golden encoder-decoder."""
  return config_lib.EncoderDecoderConfig(
      vocab_size=128,
      emb_dim=32,
      num_heads=4,
      head_dim=8,
      mlp_dim=64,
      num_encoder_layers=2,
      num_decoder_layers=2,
  )


@pytest.fixture(scope='session')
def decoder_config() -> config_lib.DecoderConfig:
  """The sizes of the golden decoder-only model."""
  return config_lib.DecoderConfig(
      vocab_size=128,
      emb_dim=32,
      num_heads=4,
      head_dim=8,
      mlp_dim=64,
      num_layers=2,
      logits_via_embedding=True,
  )


@pytest.fixture(scope='session')
def model(config: config_lib.EncoderDecoderConfig) -> interface.Model:
  """The golden encoder-decoder."""
  return interface.create(config)


@pytest.fixture(scope='session')
def params(model: interface.Model) -> interface.Params:
  """Our own parameters for it, with norm scales that are not all one."""
  flat = model.unstack(jax.jit(model.init)(jax.random.key(0)))
  rng = np.random.default_rng(0)
  for name, leaf in flat.items():
    if name.endswith('scale'):
      flat[name] = leaf + 0.1 * rng.normal(size=leaf.shape).astype(np.float32)
  return model.stack(flat)


@pytest.fixture(scope='session')
def packed() -> dict[str, np.ndarray]:
  """Eight packed rows of random tokens: segments of uneven lengths, padding."""
  return pack_rows(np.random.default_rng(1), rows=8, vocab_size=128)


def pack_rows(
    rng: np.random.Generator, rows: int, vocab_size: int
) -> dict[str, np.ndarray]:
  """Returns a packed batch [rows, 24] and [rows, 20], as the pipeline's."""
  names = ('encoder_input_tokens', 'decoder_target_tokens')
  batch = {}
  for name, length in zip(names, (24, 20), strict=True):
    side = name.split('_')[0]
    for feature in (name, f'{side}_segment_ids', f'{side}_positions'):
      batch[feature] = np.zeros((rows, length), np.int32)
  batch['decoder_input_tokens'] = np.zeros((rows, 20), np.int32)
  for row in range(rows):
    starts = [0, 0]
    for segment in range(1, 2 + row % 3):
      for i, name in enumerate(names):
        side = name.split('_')[0]
        length = int(rng.integers(3, 7))
        place = slice(starts[i], starts[i] + length)
        tokens = rng.integers(2, vocab_size, length)
        tokens[-1] = 1
        batch[name][row, place] = tokens
        batch[f'{side}_segment_ids'][row, place] = segment
        batch[f'{side}_positions'][row, place] = np.arange(length)
        if side == 'decoder':
          batch['decoder_input_tokens'][row, place] = [0, *tokens[:-1]]
        starts[i] += length
  batch['decoder_loss_weights'] = (batch['decoder_segment_ids'] > 0).astype(
      np.int32
  )
  return batch
