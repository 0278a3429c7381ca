"""Rows of inputs and targets as one sequence, for decoder-only models."""

from flan_jax.data import packing
import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

LIMITS = {'inputs': 16, 'targets': 8}
LENGTH = 24
FEATURES = {
    'decoder_input_tokens',
    'decoder_target_tokens',
    'decoder_segment_ids',
    'decoder_positions',
    'decoder_loss_weights',
    'decoder_causal_attention',
}
TOKENS = st.integers(3, 99)
EXAMPLES = st.lists(
    st.tuples(
        st.lists(TOKENS, max_size=20) | st.just([5] * 15),
        st.lists(TOKENS, max_size=10),
    ),
    max_size=40,
)


def _ragged(sequences) -> packing.Ragged:
  ids = [i for sequence in sequences for i in sequence]
  return packing.Ragged(
      np.array(ids, np.int32), np.array([len(s) for s in sequences], np.int64)
  )


def _pack(examples, **kwargs) -> packing.Batch:
  wide = packing.pack(
      _ragged([inputs for inputs, _ in examples]),
      _ragged([targets for _, targets in examples]),
      LIMITS,
      form=packing.ONE_SIDE,
      **kwargs,
  )
  return packing.features(wide, LIMITS, packing.ONE_SIDE)


def _extract(batch) -> list[tuple[list[int], list[int]]]:
  """Reads the examples out of rows, one token at a time, checking all."""
  assert set(batch) == FEATURES
  examples = []
  for row in range(len(batch['decoder_input_tokens'])):
    of = {name: array[row].tolist() for name, array in batch.items()}
    found: list[tuple[list[int], list[int]]] = []
    read = 0
    for place, segment in enumerate(of['decoder_segment_ids']):
      if not segment:
        # Padding comes last, and is all zero.
        assert not any(any(values[place:]) for values in of.values())
        break
      if segment > len(found):
        assert segment == len(found) + 1
        found.append(([], []))
        read = 0
      inputs, targets = found[-1]
      assert of['decoder_positions'][place] == len(inputs) + len(targets)
      assert of['decoder_input_tokens'][place] == read
      # The model reads the start and all inputs in both directions: the token
      # read here belongs to them as long as no target has been read.
      assert of['decoder_causal_attention'][place] == (not targets)
      read = of['decoder_target_tokens'][place]
      (targets if of['decoder_loss_weights'][place] else inputs).append(read)
    assert found, f'row {row} is empty'
    examples += found
  return examples


def _expected(examples):
  return [
      (inputs[:15] + [1], targets[:7] + [1]) for inputs, targets in examples
  ]


@hypothesis.given(EXAMPLES)
@hypothesis.settings(deadline=None)
def test_the_same_examples_come_out(examples):
  batch = _pack(examples)
  for array in batch.values():
    assert array.dtype == np.int32
    assert array.shape[1:] == (LENGTH,)
  assert sorted(_extract(batch)) == sorted(_expected(examples))


@hypothesis.given(EXAMPLES)
@hypothesis.settings(deadline=None, max_examples=30)
def test_apart_every_example_has_its_row(examples):
  batch = _pack(examples, together=False)
  assert _extract(batch) == _expected(examples)
  assert set(np.unique(batch['decoder_segment_ids'])) <= {0, 1}


def test_inputs_may_take_the_room_that_targets_leave():
  # Each example has 12 tokens, most of them inputs: two fill a row, though
  # their inputs together are more than one example's may be.
  batch = _pack([([5] * 9, [6])] * 6)
  assert len(batch['decoder_segment_ids']) == 3
  assert (batch['decoder_segment_ids'] > 0).all()


def test_fill_of_prompt_sized_examples():
  generator = np.random.default_rng(0)
  limits = {'inputs': 1024, 'targets': 256}
  sizes = np.clip(generator.lognormal(4.6, 0.6, 1024), 10, 1023).astype(int)
  wide = packing.pack(
      _ragged([[7] * size for size in sizes]),
      _ragged([[7, 7]] * 1024),
      limits,
      form=packing.ONE_SIDE,
  )
  batch = packing.features(wide, limits, packing.ONE_SIDE)
  assert (batch['decoder_segment_ids'] > 0).mean() > 0.97


def test_members_and_small_integers():
  examples = [([5] * n, [6]) for n in (3, 4, 5, 6)]
  members = np.array([0, 2, 0, 1])
  dtype = packing.smallest_dtype(300, LIMITS, packing.ONE_SIDE)
  assert dtype == np.uint16
  wide_limits = {'inputs': 40_000, 'targets': 40_000}
  assert packing.smallest_dtype(300, wide_limits) == np.uint16
  assert packing.smallest_dtype(300, wide_limits, packing.ONE_SIDE) == np.int32
  wide = packing.pack(
      _ragged([inputs for inputs, _ in examples]),
      _ragged([targets for _, targets in examples]),
      LIMITS,
      members=members,
      dtype=dtype,
      form=packing.ONE_SIDE,
  )
  found = packing.member_ids(wide, LIMITS, packing.ONE_SIDE)
  assert found.shape == (
      len(wide),
      packing.most_segments(LIMITS, packing.ONE_SIDE),
  )
  batch = packing.features(wide, LIMITS, packing.ONE_SIDE)
  seen = {}
  for row, ids in enumerate(found):
    segments = batch['decoder_segment_ids'][row]
    assert (ids > 0).sum() == segments.max()
    for segment in range(1, segments.max() + 1):
      seen[int((segments == segment).sum())] = int(ids[segment - 1]) - 1
  # An example of n tokens of inputs takes n + 3 places.
  assert seen == {6: 0, 7: 2, 8: 0, 9: 1}
  most = packing.pack(
      _ragged([[]] * 12),
      _ragged([[]] * 12),
      LIMITS,
      form=packing.ONE_SIDE,
      members=np.zeros(12, np.int64),
  )
  assert (packing.member_ids(most, LIMITS, packing.ONE_SIDE) == 1).all()


def test_empty_rows_are_padding():
  batch = packing.empty(3, LIMITS, form=packing.ONE_SIDE)
  assert set(batch) == FEATURES
  assert packing.count_rows(batch) == 3
  assert all(rows.shape == (3, LENGTH) for rows in batch.values())
  assert not any(array.any() for array in batch.values())


@pytest.mark.parametrize('pack', [True, False])
def test_agrees_with_seqio(pack):
  """The features of the same examples, with the same ones in each row.

  Which those are is SeqIO's choice here; ours packs tighter.
  """
  seqio = pytest.importorskip('seqio')
  import tensorflow as tf

  examples = [
      ([5, 6, 7, 8], [9, 10]),
      ([11] * 15, [12] * 7),
      ([13], [14, 15, 16]),
      ([17, 18, 19], [20]),
      ([21] * 20, [22] * 3),
  ]
  cut = [
      {
          'inputs': inputs[: LIMITS['inputs'] - 1] + [1],
          'targets': targets[: LIMITS['targets'] - 1] + [1],
      }
      for inputs, targets in examples
  ]
  data = tf.data.Dataset.from_generator(
      lambda: iter(cut),
      output_signature={
          name: tf.TensorSpec([None], tf.int32) for name in LIMITS
      },
  )
  converter = seqio.DecoderFeatureConverter(pack=pack)
  theirs = list(converter(data, LIMITS).as_numpy_iterator())
  if pack:
    rows = np.array([_row_of(inputs[0], theirs) for inputs, _ in examples])
    wide = packing.lay_out(
        _ragged([each['inputs'] for each in cut]),
        _ragged([each['targets'] for each in cut]),
        rows,
        LIMITS,
        form=packing.ONE_SIDE,
    )
    ours = packing.features(wide, LIMITS, packing.ONE_SIDE)
    assert len(theirs) < len(examples)
  else:
    ours = _pack(examples, together=False)
  assert len(ours['decoder_input_tokens']) == len(theirs)
  names = FEATURES if pack else set(theirs[0])
  assert set(theirs[0]) == names
  for row, features in enumerate(theirs):
    for name in names:
      expected = features[name]
      if name == 'decoder_input_tokens':
        # Apart, SeqIO reads the last end as well, and predicts padding.
        expected = expected * (features['decoder_target_tokens'] > 0)
      np.testing.assert_array_equal(
          ours[name][row], expected, err_msg=f'{name} of row {row}'
      )


def _row_of(token: int, rows) -> int:
  """Returns the row in which a token stands."""
  (row,) = (
      i
      for i, features in enumerate(rows)
      if token in features['decoder_target_tokens']
  )
  return row
