"""Packing: what goes in comes out, whole, apart, and in little room."""

from flan_jax.data import fitting
from flan_jax.data import packing
import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

LIMITS = {'inputs': 16, 'targets': 8}


def ragged(sequences) -> packing.Ragged:
  ids = [i for sequence in sequences for i in sequence]
  return packing.Ragged(
      np.array(ids, np.int32), np.array([len(s) for s in sequences], np.int64)
  )


def pack(inputs, targets, limits, **kwargs) -> packing.Batch:
  return packing.features(
      packing.pack(inputs, targets, limits, **kwargs), limits
  )


def extract(batch) -> list[tuple[list[int], list[int]]]:
  """Reads the examples out of rows, one token at a time, checking all."""
  examples = []
  rows = len(batch['encoder_input_tokens'])
  for row in range(rows):
    found: dict[int, tuple[list[int], list[int]]] = {}
    for side, token_name in enumerate(
        ['encoder_input_tokens', 'decoder_target_tokens']
    ):
      prefix = token_name.split('_')[0]
      tokens = batch[token_name][row].tolist()
      segments = batch[f'{prefix}_segment_ids'][row].tolist()
      positions = batch[f'{prefix}_positions'][row].tolist()
      previous = 0
      for place, (token, segment) in enumerate(
          zip(tokens, segments, strict=True)
      ):
        if segment == 0:
          # Padding comes last, and is all zero.
          assert not any(segments[place:])
          assert not any(tokens[place:])
          assert not any(positions[place:])
          break
        example = found.setdefault(segment, ([], []))
        assert positions[place] == len(example[side])
        if segment != previous:
          assert positions[place] == 0
          assert segment > previous
        previous = segment
        example[side].append(token)
    # The decoder reads 0, then all targets but the last, in each segment.
    reads = [
        token
        for segment in sorted(found)
        if found[segment][1]
        for token in [0, *found[segment][1][:-1]]
    ]
    count = len(reads)
    assert batch['decoder_input_tokens'][row, :count].tolist() == reads
    assert not batch['decoder_input_tokens'][row, count:].any()
    weights = batch['decoder_loss_weights'][row]
    assert weights[:count].tolist() == [1] * count and not weights[count:].any()
    assert found, f'row {row} is empty'
    assert sorted(found) == list(range(1, len(found) + 1))
    examples += found.values()
  return examples


TOKENS = st.integers(3, 99)
EXAMPLES = st.lists(
    st.tuples(
        st.lists(TOKENS, max_size=20) | st.just([5] * 15),
        st.lists(TOKENS, max_size=10),
    ),
    max_size=40,
)


def expected(examples):
  return [
      (
          inputs[: LIMITS['inputs'] - 1] + [1],
          targets[: LIMITS['targets'] - 1] + [1],
      )
      for inputs, targets in examples
  ]


@hypothesis.given(EXAMPLES)
@hypothesis.settings(deadline=None)
def test_the_same_examples_come_out(examples):
  batch = pack(
      ragged([inputs for inputs, _ in examples]),
      ragged([targets for _, targets in examples]),
      LIMITS,
  )
  assert tuple(batch) == packing.FEATURES
  for name, array in batch.items():
    assert array.dtype == np.int32
    length = LIMITS['inputs' if name.startswith('encoder') else 'targets']
    assert array.shape[1:] == (length,)
  assert sorted(extract(batch)) == sorted(expected(examples))


@hypothesis.given(
    st.lists(st.tuples(st.integers(1, 16), st.integers(1, 8)), min_size=1)
)
@hypothesis.settings(deadline=None)
def test_rows_are_no_more_than_first_fit_needs(lengths):
  inputs, targets = np.array(lengths).T
  rows = fitting.assign(inputs, targets, LIMITS)
  count = len(np.unique(rows))
  assert count == rows.max() + 1
  assert np.bincount(rows, weights=inputs).max() <= LIMITS['inputs']
  assert np.bincount(rows, weights=targets).max() <= LIMITS['targets']
  # Whatever fits somewhere opens no row, so any two rows together are more
  # than one on some side.
  assert count <= 2 * (inputs.sum() / 16 + targets.sum() / 8) + 1


@hypothesis.given(EXAMPLES)
@hypothesis.settings(deadline=None, max_examples=30)
def test_apart_every_example_has_its_row(examples):
  batch = pack(
      ragged([inputs for inputs, _ in examples]),
      ragged([targets for _, targets in examples]),
      LIMITS,
      together=False,
  )
  assert extract(batch) == expected(examples)
  assert set(np.unique(batch['encoder_segment_ids'])) <= {0, 1}


@hypothesis.given(
    st.lists(st.tuples(st.integers(0, 16), st.integers(1, 8)), min_size=1)
)
@hypothesis.settings(deadline=None)
def test_inputs_of_no_tokens_are_laid_out_too(lengths):
  inputs = ragged([[7] * count for count, _ in lengths])
  targets = ragged([[9] * count for _, count in lengths])
  rows = fitting.assign(inputs.lengths, targets.lengths, LIMITS)
  batch = packing.features(
      packing.lay_out(inputs, targets, rows, LIMITS), LIMITS
  )
  found = [(len(one), len(other)) for one, other in extract(batch)]
  assert sorted(found) == sorted(lengths)


def test_an_example_that_fills_a_row_stands_alone():
  inputs = ragged([[5] * 3, [6] * 15, [7] * 11])
  targets = ragged([[5], [6], [7]])
  batch = pack(inputs, targets, LIMITS)
  # 4 and 12 tokens fill one row to the last place, 16 the other.
  assert (batch['encoder_segment_ids'] > 0).all()
  assert sorted(batch['encoder_segment_ids'].max(axis=1).tolist()) == [1, 2]


def test_the_scarcer_side_decides():
  # Long targets, short inputs: rows are filled by targets.
  inputs = ragged([[5]] * 7)
  targets = ragged([[6] * count for count in (7, 4, 2, 3, 3, 5, 1)])
  batch = pack(inputs, targets, LIMITS)
  assert len(batch['decoder_segment_ids']) == 4  # 32 tokens in rows of 8.
  assert (batch['decoder_segment_ids'] > 0).all()


def test_fill_of_prompt_sized_examples():
  generator = np.random.default_rng(0)
  limits = {'inputs': 1024, 'targets': 256}
  lengths = np.clip(generator.lognormal(4.6, 0.6, 1024), 10, 1023).astype(int)
  rows = fitting.assign(lengths, np.full(1024, 3), limits)
  filled = np.bincount(rows, weights=lengths)
  assert filled.max() <= 1024
  assert lengths.sum() / (len(filled) * 1024) > 0.97


def test_long_targets_are_spread_over_the_rows():
  # A tenth of the examples have short inputs and targets of a third of a row:
  # three together would close a row whose inputs are all but empty.
  inputs = np.where(np.arange(1000) % 10 == 0, 20, 100)
  targets = np.where(np.arange(1000) % 10 == 0, 80, 3)
  rows = fitting.assign(inputs, targets, {'inputs': 1024, 'targets': 256})
  needed = inputs.sum() / 1024
  assert needed < rows.max() + 1 < 1.04 * needed + 1


def test_too_long_an_example_is_refused():
  with pytest.raises(ValueError, match='longer than a row'):
    fitting.assign(np.array([17]), np.array([1]), LIMITS)
  with pytest.raises(ValueError, match='longer than a row'):
    fitting.assign(np.array([1]), np.array([9]), LIMITS)


@hypothesis.given(st.lists(st.integers(1, 20), min_size=1, max_size=30))
@hypothesis.settings(deadline=None, max_examples=30)
def test_small_integers_and_another_order_hold_the_same(lengths):
  inputs = ragged([[9] * length for length in lengths])
  targets = ragged([[7] * (length % 5) for length in lengths])
  dtype = packing.smallest_dtype(32128, LIMITS)
  assert dtype == np.uint16
  assert packing.smallest_dtype(70_000, LIMITS) == np.int32
  assert packing.smallest_dtype(300, {'inputs': 70_000}) == np.int32
  plain = packing.pack(inputs, targets, LIMITS)
  turned = packing.pack(
      inputs,
      targets,
      LIMITS,
      dtype=dtype,
      order=lambda count: np.arange(count)[::-1],
  )
  assert plain.dtype == np.int32 and turned.dtype == np.uint16
  assert plain.shape == (len(plain), packing.width(LIMITS))
  np.testing.assert_array_equal(turned, plain[::-1])


@hypothesis.given(
    st.lists(st.tuples(st.integers(0, 15), st.integers(0, 7)), max_size=30),
    st.booleans(),
)
@hypothesis.settings(deadline=None)
def test_each_segment_says_whose_example_it_is(lengths, together):
  # The tokens of an example are its member's number.
  members = np.arange(len(lengths)) * 7 % 5
  numbers = (members + 10).tolist()
  sides = [
      ragged(
          [[n] * pair[side] for n, pair in zip(numbers, lengths, strict=True)]
      )
      for side in (0, 1)
  ]
  options = dict(
      together=together, order=lambda n: np.arange(n)[::-1], dtype=np.uint16
  )
  wide = packing.pack(*sides, LIMITS, members=members, **options)
  ids = packing.member_ids(wide, LIMITS)
  assert ids.shape == (len(wide), 8) and packing.most_segments(LIMITS) == 8
  without = packing.pack(*sides, LIMITS, **options)
  assert not packing.member_ids(without, LIMITS).size
  np.testing.assert_array_equal(wide[:, : without.shape[1]], without)
  batch = packing.features(wide, LIMITS)
  for row, found in enumerate(ids):
    count = int(batch['encoder_segment_ids'][row].max())
    assert found[:count].all() and not found[count:].any()
    for name in ('encoder_input_tokens', 'decoder_target_tokens'):
      segments = batch[f'{name.split("_")[0]}_segment_ids'][row]
      for segment in range(1, count + 1):
        tokens = batch[name][row][segments == segment]
        assert set(tokens.tolist()) <= {1, int(found[segment - 1]) + 9}


def test_empty_rows_are_padding():
  batch = packing.empty(3, LIMITS)
  assert tuple(batch) == packing.FEATURES
  assert batch['encoder_positions'].shape == (3, 16)
  assert batch['decoder_loss_weights'].shape == (3, 8)
  assert not any(array.any() for array in batch.values())
  more = packing.empty(3, LIMITS, members=True)
  assert tuple(more) == (*packing.FEATURES, packing.MEMBER_IDS)
  assert more[packing.MEMBER_IDS].shape == (3, 8)


def test_agrees_with_seqio_on_one_row():
  """The features of unpacked examples are those of SeqIO's converter."""
  seqio = pytest.importorskip('seqio')
  import tensorflow as tf

  converter = seqio.EncDecFeatureConverter(pack=True)
  data = tf.data.Dataset.from_generator(
      lambda: iter([
          {'inputs': [5, 6, 1], 'targets': [7, 1]},
          {'inputs': [8, 1], 'targets': [9, 10, 1]},
      ]),
      output_signature={
          name: tf.TensorSpec([None], tf.int32) for name in LIMITS
      },
  )
  theirs = next(iter(converter(data, LIMITS).as_numpy_iterator()))
  rows = np.array([0, 0])
  ours = packing.features(
      packing.lay_out(
          ragged([[5, 6, 1], [8, 1]]),
          ragged([[7, 1], [9, 10, 1]]),
          rows,
          LIMITS,
      ),
      LIMITS,
  )
  assert set(theirs) == set(ours)
  for name, array in theirs.items():
    np.testing.assert_array_equal(ours[name][0], array, err_msg=name)
