"""What is written is what T5X writes, byte by byte."""

import functools

from flan_jax import errors
from flan_jax.checkpoints.t5x import index
from flan_jax.checkpoints.t5x import reading
from flan_jax.checkpoints.t5x import slots
from flan_jax.checkpoints.t5x import writing
from flan_jax.models import config as config_lib
from hypothesis import given
from hypothesis import strategies as st
import msgpack
import numpy as np
import pytest


def _files(folder):
  return {
      path.relative_to(folder).as_posix(): path.read_bytes()
      for path in folder.rglob('*')
      if path.is_file()
  }


def _moments(source):
  found = slots.Slots(source)
  return {
      name: functools.partial(found.read, name)
      for param in source.shapes
      for name in (
          f'moments/{kind}/{param}' for kind in ('v', 'v_row', 'v_col')
      )
  }


def test_a_checkpoint_of_t5x_is_written_again(golden, tmp_path):
  folder = golden / 'ckpt_t5x' / 'checkpoint_5'
  source = reading.Checkpoint(folder)
  written = writing.write(tmp_path, source, _moments(source))
  assert written == tmp_path / 'checkpoint_5'
  theirs, ours = _files(folder), _files(written)
  # msgpack keeps the order of a dict, which says nothing.
  assert msgpack.unpackb(ours.pop(index.FILE)) == msgpack.unpackb(
      theirs.pop(index.FILE)
  )
  assert ours == theirs


def test_factored_moments_come_back(golden, tmp_path):
  source = reading.Checkpoint(golden / 'ckpt_orbax')
  written = reading.Checkpoint(
      writing.write(tmp_path, source, _moments(source))
  )
  assert written.config == source.config
  assert written.step == 100
  assert set(written.slots) == set(source.slots)
  shapes = set()
  for name, array in source.slots.items():
    np.testing.assert_array_equal(written.slots[name].read(), array.read())
    shapes.add(array.shape)
  assert {(384,), (128,), (1,)} <= shapes


def test_parameters_alone(golden, tmp_path):
  source = reading.Checkpoint(golden / 'ckpt_t5x')
  written = reading.Checkpoint(writing.write(tmp_path, source, None))
  assert not written.slots
  assert written.step == 5
  for name in source.shapes:
    np.testing.assert_array_equal(written.read(name), source.read(name))


def test_the_model_file_says_what_shapes_cannot(golden, tmp_path):
  source = reading.Checkpoint(golden / 'ckpt_t5x')
  writing.write(tmp_path, source, None, extra_ids=7)
  text = (tmp_path / 'model.gin').read_text()
  assert 'SentencePieceVocabulary.extra_ids = 7' in text
  assert not {'dtype', 'mlp_activations'} & set(
      reading.Checkpoint(tmp_path).assumed
  )


def test_other_positions_are_refused():
  config = config_lib.EncoderDecoderConfig(
      vocab_size=128, emb_dim=8, num_heads=2, head_dim=4, mlp_dim=8,
      num_encoder_layers=1, num_decoder_layers=1,
      relative_attention_num_buckets=16,
  )  # fmt: skip
  with pytest.raises(errors.UserError, match='num_buckets is 16'):
    writing.check(config)


@given(st.lists(st.integers(1, 40_000), min_size=1, max_size=3))
def test_parts_are_equal_and_small(shape):
  parts = writing.chunks(shape, 4)
  assert all(size % part == 0 for size, part in zip(shape, parts, strict=True))
  assert np.prod(parts, dtype=np.int64) * 4 <= 64 << 20
