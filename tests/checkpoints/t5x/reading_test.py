"""T5X's checkpoints are read: sizes, parameters, logits, and what is broken."""

import logging
import os
import pathlib
import shutil

from flan_jax import errors
from flan_jax import partitioning
from flan_jax.checkpoints import formats
from flan_jax.checkpoints import native
from flan_jax.checkpoints.t5x import index
from flan_jax.checkpoints.t5x import reading
from flan_jax.checkpoints.t5x import slots
from flan_jax.checkpoints.t5x import writing
from flan_jax.models import config as config_lib
from flan_jax.models import interface
import jax
import ml_dtypes
import numpy as np
import pytest
import tensorstore

_LEGACY = ('ckpt_t5x', 'encdec_adafactor_step5.npz', 5)
_ORBAX = ('ckpt_orbax', 'orbax_params_step100.npz', 100)


def _put(
    folder: pathlib.Path, name: str, value: np.ndarray, **metadata
) -> None:
  """Writes an array as T5X does, with its tensorstore."""
  place = os.fspath(folder / name.replace('/', '.'))
  tensorstore.open(
      {
          'driver': 'zarr',
          'dtype': value.dtype.name,
          'kvstore': {'driver': 'file', 'path': f'{place}/'},
          'metadata': {'compressor': {'id': 'gzip'}, **metadata},
      },
      create=True,
      shape=value.shape,
  ).result().write(value).result()


def _scanned(
    flat: dict[str, np.ndarray], heads: int, axis: int
) -> dict[str, np.ndarray]:
  """Returns parameters as T5X's `scalable_t5` has them.

  It is written for these tests from that module's names and shapes: layers
  along one axis, heads and their width apart.
  """
  stacks: dict[str, list[np.ndarray]] = {}
  rest = {}
  for name in sorted(flat):
    side, _, tail = name.partition('/layers_')
    if not tail:
      rest[name] = flat[name]
      continue
    value = flat[name]
    if 'attention/out/' in name:
      value = value.reshape(heads, -1, value.shape[-1])
    elif 'attention/' in name and name.endswith('/kernel'):
      value = value.reshape(value.shape[0], heads, -1)
    stack = f'{side}/{side}/{tail.partition("/")[2]}'
    stacks.setdefault(stack, []).append(value)
  return rest | {
      name: np.stack(values, axis=min(axis, values[0].ndim))
      for name, values in stacks.items()
  }


@pytest.mark.parametrize(('folder', 'expected', 'step'), [_LEGACY, _ORBAX])
def test_parameters_are_those_that_t5x_wrote(golden, folder, expected, step):
  source = formats.open_source(golden / folder)
  arrays = np.load(golden / expected)
  assert source.format == 't5x'
  assert source.step == step
  assert set(source.shapes) == set(arrays)
  for name, array in arrays.items():
    assert source.shapes[name] == (array.shape, array.dtype)
    np.testing.assert_array_equal(source.read(name), array)
  part = source.read('decoder/layers_1/mlp/wo/kernel', np.s_[3:9, 1:2])
  np.testing.assert_array_equal(
      part, arrays['decoder/layers_1/mlp/wo/kernel'][3:9, 1:2]
  )


def test_sizes_follow_from_shapes(golden):
  assert formats.open_source(
      golden / 'ckpt_orbax' / 'checkpoint_100'
  ).config == config_lib.EncoderDecoderConfig(
      vocab_size=384, emb_dim=128, num_heads=4, head_dim=32, mlp_dim=256,
      num_encoder_layers=2, num_decoder_layers=2,
  )  # fmt: skip


def test_logits_are_t5xs(golden):
  source = formats.open_source(golden / 'ckpt_orbax')
  expected = np.load(golden / 'orbax_forward_step100.npz')
  batch = {key: expected[key] for key in expected.files if 'tokens' in key}
  model = interface.create(source.config)
  mesh = partitioning.make_mesh(devices=jax.devices()[:1])
  with partitioning.use(mesh), jax.default_matmul_precision('highest'):
    params = native.load_params(golden / 'ckpt_orbax', model, mesh)
    logits = model.logits(params, batch)
  np.testing.assert_allclose(logits, expected['logits'], atol=1e-4, rtol=1e-4)


def _write_plain(folder, flat, **rest) -> pathlib.Path:
  """Writes parameters in Orbax's form of before its database."""
  state = folder / 'checkpoint_7' / 'state'
  for name, value in flat.items():
    _put(state, f'target/{name}', value)
  for name, value in rest.items():
    _put(state, name.replace('__', '/'), value)
  (state / '_METADATA').write_text('{}')
  return folder


def test_decoder_only_and_tied(golden, tmp_path):
  flat = dict(np.load(golden / 'deconly_params_init.npz'))
  source = formats.open_source(_write_plain(tmp_path, flat))
  assert source.step == 7
  assert source.config == config_lib.DecoderConfig(
      vocab_size=128, emb_dim=32, num_heads=4, head_dim=8, mlp_dim=64,
      num_layers=2, logits_via_embedding=True,
  )  # fmt: skip
  for name, value in flat.items():
    np.testing.assert_array_equal(source.read(name), value)


def test_relu_has_one_kernel_in(golden, tmp_path):
  flat = dict(np.load(golden / 'encdec_params_init.npz'))
  flat = {
      name.replace('/wi_0/', '/wi/'): value
      for name, value in flat.items()
      if '/wi_1/' not in name
  }
  source = formats.open_source(_write_plain(tmp_path, flat))
  assert source.config.mlp_activations == ('relu',)
  assert 'mlp_activations' in source.assumed


def test_a_table_a_layer(golden, tmp_path):
  flat = dict(np.load(golden / 'encdec_params_init.npz'))
  for side in ('encoder', 'decoder'):
    table = flat.pop(f'{side}/relpos_bias/rel_embedding')
    for layer in range(2):
      name = f'{side}/layers_{layer}/relpos_bias/rel_embedding'
      flat[name] = table + layer
  stacked = _scanned(flat, heads=4, axis=1)
  source = formats.open_source(_write_plain(tmp_path, stacked))
  assert source.config.relative_attention_per_layer
  model = interface.create(source.config)
  wanted = model.unstack(model.abstract_params())
  assert {n: leaf.shape for n, leaf in wanted.items()} == {
      name: shape for name, (shape, _) in source.shapes.items()
  }
  with pytest.raises(errors.UserError, match='relative_attention_per_layer'):
    writing.check(source.config)


@pytest.mark.parametrize('axis', [0, 1])
def test_scanned_layers_are_layers(golden, tmp_path, axis):
  flat = dict(np.load(golden / 'encdec_params_init.npz'))
  stacked = _scanned(flat, heads=4, axis=axis)
  assert stacked['encoder/encoder/attention/out/kernel'].ndim == 4
  source = formats.open_source(_write_plain(tmp_path, stacked))
  assert source.config.num_decoder_layers == 2
  assert set(source.shapes) == set(flat)
  for name, value in flat.items():
    assert source.shapes[name][0] == value.shape
    np.testing.assert_array_equal(source.read(name), value)
    cut = tuple(slice(size // 3, size - 1) for size in value.shape)
    np.testing.assert_array_equal(source.read(name, cut), value[cut])


def test_config_gin_says_what_shapes_cannot(legacy):
  (legacy.parent / 'config.gin').write_text(
      'from __gin__ import dynamic_registration\n'
      'import __main__ as train_script\n'
      'from t5x.examples.t5 import network\n'
      "ACTIVATIONS = ('swish', 'linear')\n"
      "DTYPE = 'bfloat16'\n"
      'network.T5Config.mlp_activations = %ACTIVATIONS\n'
      'network.T5Config:\n'
      '    dtype = %DTYPE\n'
      'seqio.SentencePieceVocabulary.sentencepiece_model_file = '
      "'gs://a/b.model'\n"
      'train_script.train.model = @models.EncoderDecoderModel()\n'
  )
  source = reading.Checkpoint(legacy)
  assert source.config.mlp_activations == ('silu', 'linear')
  assert source.config.dtype == 'bfloat16'
  assert source.vocabulary == 'gs://a/b.model'
  assert set(source.assumed) == {
      'relative_attention_max_distance',
      'prefix_lm',
  }


def test_what_is_assumed_is_said_once(legacy, caplog):
  with caplog.at_level(logging.WARNING):
    formats.open_source(legacy)
    formats.open_source(legacy.parent)
  (record,) = caplog.records
  assert 'taken for a T5 1.1' in record.getMessage()


def test_bfloat16_of_old_versions(golden, tmp_path):
  flat = dict(np.load(golden / 'encdec_params_init.npz'))
  name = 'encoder/layers_0/mlp/wo/kernel'
  short = flat[name].astype(ml_dtypes.bfloat16)
  source = formats.open_source(
      _write_plain(tmp_path, {**flat, name: short.view(np.uint16)})
  )
  assert source.shapes[name][1] == ml_dtypes.bfloat16
  np.testing.assert_array_equal(source.read(name), short)


@pytest.mark.parametrize(
    ('break_it', 'message'),
    [
        (
            lambda c: shutil.rmtree(c / 'target.token_embedder.embedding'),
            'target.token_embedder.embedding are missing',
        ),
        (
            lambda c: (c / 'target.encoder.encoder_norm.scale' / '0').unlink(),
            'parts of target.encoder.encoder_norm.scale are missing',
        ),
        (
            lambda c: (c / 'checkpoint').write_bytes(
                (c / 'checkpoint').read_bytes()[:500]
            ),
            'no index of T5X, or is cut short',
        ),
        (
            lambda c: (c / 'checkpoint').write_text(
                'model_checkpoint_path: "model.ckpt-1"\n'
            ),
            "TensorFlow's checkpoint",
        ),
        (
            lambda c: (c / 'checkpoint').write_bytes(
                index.pack({'target/a': np.ones(3)})
            ),
            'no token_embedder/embedding',
        ),
    ],
)
def test_what_is_broken_is_said_in_a_line(legacy, break_it, message):
  break_it(legacy)
  with pytest.raises(errors.UserError, match=message) as caught:
    formats.open_source(legacy)
  assert '\n' not in str(caught.value)
  assert str(legacy) in str(caught.value)


def test_a_part_that_is_cut_short(legacy):
  part = legacy / 'target.token_embedder.embedding' / '0.0'
  part.write_bytes(part.read_bytes()[:100])
  source = formats.open_source(legacy)
  with pytest.raises(errors.UserError, match='embedding/: cannot be read'):
    source.read('token_embedder/embedding')


def test_slots_of_a_scan_are_those_of_layers(golden, tmp_path):
  flat = dict(np.load(golden / 'encdec_params_init.npz'))
  # T5X's means of squares, along 'embed' and along the other axis, and ours
  # along the longer side and the shorter one; of known values.
  squares = {name: value**2 for name, value in flat.items()}
  theirs = {}
  for name, value in _scanned(squares, heads=4, axis=1).items():
    path = f'state/param_states/{name}'
    stack = name.startswith(('encoder/encoder/', 'decoder/decoder/'))
    if stack and value.ndim > 2 and 'relpos' not in name:
      embed = value.ndim - 1 if '/out/' in name or '/wo/' in name else 0
      others = tuple(
          axis for axis in range(value.ndim) if axis not in (1, embed)
      )
      theirs[f'{path}/v_row'] = value.mean(others)
      theirs[f'{path}/v_col'] = value.mean(embed)
      theirs[f'{path}/v'] = np.zeros(1, np.float32)
    else:
      theirs[f'{path}/v'] = value
      theirs[f'{path}/v_row'] = theirs[f'{path}/v_col'] = np.zeros(
          1, np.float32
      )
  checkpoint = reading.Checkpoint(
      _write_plain(
          tmp_path,
          _scanned(flat, heads=4, axis=1),
          **{name.replace('/', '__'): value for name, value in theirs.items()},
      )
  )
  found = slots.Slots(checkpoint)
  wanted = {}
  for name, value in squares.items():
    if value.ndim == 2 and 'layers_' in name:
      longer = 0 if value.shape[0] > value.shape[1] else 1
      wanted[f'moments/v_row/{name}'] = value.mean(longer)
      wanted[f'moments/v_col/{name}'] = value.mean(1 - longer)
      wanted[f'moments/v/{name}'] = np.zeros(1, np.float32)
    else:
      wanted[f'moments/v/{name}'] = value
  assert found.unfit(wanted) is None
  for name, value in wanted.items():
    np.testing.assert_allclose(found.read(name), value, rtol=1e-5)
  wanted['moments/v/token_embedder/embedding'] = np.zeros((4, 4))
  assert 'token_embedder' in found.unfit(wanted)
  assert 'OPTIMIZER keeps mu' in found.unfit({'moments/mu/x': np.zeros(1)})


def test_other_kernels_make_another_checkpoint(legacy):
  before = reading.Checkpoint(legacy).identity()
  assert reading.Checkpoint(legacy).identity() == before
  name = 'target.encoder.layers_{}.mlp.wi_0.kernel'
  first, second = (legacy / name.format(layer) / '0.0' for layer in (0, 1))
  first.write_bytes(second.read_bytes())
  assert reading.Checkpoint(legacy).identity() != before
