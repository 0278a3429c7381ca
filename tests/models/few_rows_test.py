"""Reading inputs few rows at a time is reading them."""

from flan_jax import partitioning
from flan_jax.models import config
from flan_jax.models import few_rows
from flan_jax.models import interface
import jax
import numpy as np
import pytest

_SIZES = {'vocab_size': 32, 'emb_dim': 8, 'num_heads': 2, 'head_dim': 4}
_MODELS = {
    'encoder-decoder': config.EncoderDecoderConfig(
        **_SIZES, num_encoder_layers=2, num_decoder_layers=1, mlp_dim=8
    ),
    'decoder-only': config.DecoderConfig(**_SIZES, num_layers=2, mlp_dim=8),
}
_LENGTH = 6


@pytest.fixture(params=list(_MODELS))
def model(request) -> interface.Model:
  return interface.create(_MODELS[request.param])


def _read(model: interface.Model, params, tokens) -> tuple[list, str]:
  """Returns what is found, and the traced program."""
  encode = jax.jit(lambda params, tokens: model.encode(params, tokens))
  found = encode(params, tokens)
  return jax.tree.leaves(found), str(encode.trace(params, tokens).jaxpr)


@pytest.mark.parametrize('rows', [1, 2, 3])
def test_parts_of_a_batch_are_the_batch(model, rows, monkeypatch):
  """Seven rows, so that with two and three at a time one is left over."""
  params = model.init(jax.random.key(0))
  rng = np.random.default_rng(0)
  tokens = rng.integers(2, 32, (7, _LENGTH)).astype(np.int32)
  tokens[2, 3:] = tokens[6, 5:] = 0
  expected, whole = _read(model, params, tokens)
  length = _LENGTH + isinstance(model.config, config.DecoderConfig)
  monkeypatch.setattr(few_rows, '_LOGITS', rows * 2 * length**2)
  found, parts = _read(model, params, tokens)
  for one, other in zip(found, expected, strict=True):
    np.testing.assert_allclose(one, other, atol=1e-5)
  assert whole.count('scan[') == 1 < parts.count('scan[')


def test_a_mesh_of_several_devices_reads_all_rows_at_once(monkeypatch):
  """Rows that lie on different devices are not waited for one by one."""
  monkeypatch.setattr(few_rows, '_LOGITS', 1)
  model = interface.create(_MODELS['encoder-decoder'])
  params = model.init(jax.random.key(0))
  tokens = np.full((8, _LENGTH), 3, np.int32)
  with partitioning.use(partitioning.make_mesh()):
    assert jax.device_count() == 8
    _, program = _read(model, params, tokens)
  assert program.count('scan[') == 1
