"""A model and batches small enough that compiling is most of the time."""

from collections.abc import Callable

from flan_jax import partitioning
from flan_jax.models import config as model_config
from flan_jax.models import interface
import jax
import numpy as np
import pytest

VOCABULARY = 48
ROWS, INPUTS, TARGETS = 8, 12, 6


@pytest.fixture(scope='session')
def tiny_model() -> Callable[..., interface.Model]:
  """Makes a model of one layer each; keywords change its configuration."""

  def make(**changes) -> interface.Model:
    sizes = dict(
        vocab_size=VOCABULARY,
        emb_dim=16,
        num_heads=2,
        num_encoder_layers=1,
        num_decoder_layers=1,
        head_dim=8,
        mlp_dim=32,
    )
    return interface.create(
        model_config.EncoderDecoderConfig(**{**sizes, **changes})
    )

  return make


@pytest.fixture(scope='session')
def batch() -> dict[str, np.ndarray]:
  """Random rows, two examples packed in each, with padding at the end."""
  rng = np.random.default_rng(0)

  def tokens(length: int) -> np.ndarray:
    ids = rng.integers(2, VOCABULARY, (ROWS, length), np.int32)
    ids[:, -2:] = 0
    return ids

  def segments(ids: np.ndarray) -> np.ndarray:
    half = np.arange(ids.shape[1]) >= ids.shape[1] // 2
    return np.where(ids > 0, 1 + half, 0).astype(np.int32)

  def positions(ids: np.ndarray) -> np.ndarray:
    place = np.arange(ids.shape[1], dtype=np.int32)
    half = ids.shape[1] // 2
    return np.where(place >= half, place - half, place) * (ids > 0)

  inputs, targets = tokens(INPUTS), tokens(TARGETS)
  weights = (targets > 0).astype(np.int32)
  weights[0] = 0  # A row of inputs alone.
  return {
      'encoder_input_tokens': inputs,
      'encoder_segment_ids': segments(inputs),
      'encoder_positions': positions(inputs),
      'decoder_input_tokens': np.roll(targets, 1, axis=1),
      'decoder_target_tokens': targets,
      'decoder_segment_ids': segments(targets),
      'decoder_positions': positions(targets),
      'decoder_loss_weights': weights,
  }


@pytest.fixture(scope='session')
def mesh_of() -> Callable[..., jax.sharding.Mesh]:
  """Makes a mesh of the first devices, as many as its axes want."""

  def make(data: int = 1, fsdp: int = 1, tensor: int = 1):
    count = data * fsdp * tensor
    if len(jax.devices()) < count:
      pytest.skip(f'{count} devices are not here')
    return partitioning.make_mesh(
        partitioning.MeshConfig(data=data, fsdp=fsdp, tensor=tensor),
        jax.devices()[:count],
    )

  return make
