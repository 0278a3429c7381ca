"""The predictor against scoring and decoding one example at a time."""

import dataclasses
import functools

from flan_jax import errors
from flan_jax import partitioning
from flan_jax import vocabularies
from flan_jax.data import examples as examples_lib
from flan_jax.inference import batching
from flan_jax.inference import predictor as predictor_lib
from flan_jax.inference import ranking
from flan_jax.models import config
from flan_jax.models import interface
import hypothesis
from hypothesis import strategies as st
import jax
import numpy as np
import pytest

_LENGTHS = {'inputs': 48, 'targets': 24}
_VOCABULARY = vocabularies.ByteVocabulary()


@pytest.fixture(scope='module')
def model():
  return interface.create(
      config.EncoderDecoderConfig(
          vocab_size=_VOCABULARY.padded_size,
          emb_dim=16,
          num_heads=2,
          num_encoder_layers=2,
          num_decoder_layers=2,
          head_dim=8,
          mlp_dim=32,
      )
  )


@pytest.fixture(scope='module')
def params(model):
  init = jax.jit(model.init)(jax.random.key(0))
  # Sharper than at initialisation, so that options differ.
  return jax.tree.map(lambda x: 4.0 * x if x.ndim > 1 else x, init)


@pytest.fixture(scope='module')
def predictor(model, params):
  return _predictor(model, params, most_shapes=4)  # Few, to compile less.


def _mesh(devices=None, **axes):
  return partitioning.make_mesh(partitioning.MeshConfig(**axes), devices)


def _predictor(model, params, batch_size: int | None = 4, mesh=None, **kwargs):
  return predictor_lib.Predictor(
      model,
      params,
      _VOCABULARY,
      mesh=mesh or _mesh(jax.devices()[:1]),
      lengths=_LENGTHS,
      batch_size=batch_size,
      **kwargs,
  )


def _example(number, options=None, inputs=None, **kwargs):
  return examples_lib.Example(
      task='task',
      template='template',
      row_id=f'test:{number}',
      inputs=inputs or f'Question {number}: ' + 'x' * (number * 13 % 30),
      targets=options[0] if options else 'answer',
      options=options,
      answer_index=0 if options else None,
      **kwargs,
  )


_RANKED = [
    _example(0, ('yes', 'no')),
    _example(1, ('entailment', 'neutral', 'contradiction', '')),
    # 12 options of up to 21 tokens: several rows of 64.
    _example(2, tuple(f'option {i} {"y" * (i % 13)}' for i in range(12))),
    _example(3, ('a', 'a', 'b')),
    _example(4, ('Zürich', 'Genève')),
    _example(5, ('this option is longer than the targets may be', 'short')),
    _example(6, ('yes', 'no'), inputs='cut ' * 60),
    _example(7, ('only one',)),
]


@functools.cache
def _logits_of(model):
  return jax.jit(model.logits)


def _pair_scores(model, params, pairs):
  """log p(target | inputs) of each pair, from a batch of that pair alone."""
  logits_of = _logits_of(model)  # Padded to one shape: one compilation.
  scores = []
  for inputs, target in pairs:
    read = _VOCABULARY.encode(inputs)[: _LENGTHS['inputs'] - 1] + [1]
    written = _VOCABULARY.encode(target)[: _LENGTHS['targets'] - 1] + [1]
    batch = {
        'encoder_input_tokens': batching.pad([read], 1, _LENGTHS['inputs']),
        'decoder_input_tokens': batching.pad(
            [[0, *written[:-1]]], 1, _LENGTHS['targets']
        ),
        'decoder_target_tokens': batching.pad(
            [written], 1, _LENGTHS['targets']
        ),
    }
    logits = np.asarray(logits_of(params, batch), np.float64)[0, : len(written)]
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    scores.append(log_probs[np.arange(len(written)), written].sum())
  return scores


def test_rank_equals_scoring_every_pair_alone(model, params, predictor):
  found = predictor.rank(_RANKED)
  assert len(found) == len(_RANKED)
  expected = iter(
      _pair_scores(
          model,
          params,
          [
              (example.inputs, option)
              for example in _RANKED
              for option in example.options
          ],
      )
  )
  for example, prediction in zip(_RANKED, found, strict=True):
    scores = [next(expected) for _ in example.options]
    np.testing.assert_allclose(
        prediction.option_scores, scores, rtol=1e-4, atol=1e-4
    )
    assert prediction.option_index == int(np.argmax(scores))
    assert prediction.text == example.options[prediction.option_index]
    assert prediction.score == max(prediction.option_scores)


_TEXT = st.text('abc déf', max_size=20)


@hypothesis.settings(max_examples=10, deadline=None)
@hypothesis.given(
    st.lists(
        st.tuples(
            st.text('xyz ', max_size=60),
            st.lists(_TEXT, min_size=1, max_size=12),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_any_options_score_as_each_pair_alone(model, params, predictor, asked):
  """Any lengths and numbers of options, equal and empty ones too."""
  found = predictor.rank([
      _example(i, tuple(options), inputs=inputs or '-')
      for i, (inputs, options) in enumerate(asked)
  ])
  for (inputs, options), prediction in zip(asked, found, strict=True):
    expected = _pair_scores(
        model, params, [(inputs or '-', option) for option in options]
    )
    np.testing.assert_allclose(
        prediction.option_scores, expected, rtol=1e-4, atol=1e-3
    )
    assert prediction.text == options[prediction.option_index]
  # Options that need two rows, and four, may open one more each.
  assert len(predictor.shapes) <= 4 + 2


def test_rank_by_the_mean(model, params, predictor):
  example = _RANKED[1]
  (sums,) = predictor.rank([example])
  (means,) = _predictor(model, params, normalisation='mean').rank([example])
  lengths = [len(option.encode()) + 1 for option in example.options]
  np.testing.assert_allclose(
      means.option_scores, np.divide(sums.option_scores, lengths), rtol=1e-5
  )
  assert means.score == max(means.option_scores)


def test_golden_pair_scores(shared):
  """T5X's score_batch, all four targets packed in one row of options.

  Each input is scored with its own target (the golden number) while the other
  three targets stand beside it in the row.
  """
  folder = shared / 'golden' / 't5x'
  golden = interface.create(
      config.EncoderDecoderConfig(
          vocab_size=128,
          emb_dim=32,
          num_heads=4,
          num_encoder_layers=2,
          num_decoder_layers=2,
          head_dim=8,
          mlp_dim=64,
      )
  )
  with np.load(folder / 'encdec_params_init.npz') as arrays:
    weights = golden.stack(dict(arrays))
  with np.load(folder / 'encdec_batch_unpacked.npz') as batch:
    inputs = batch['encoder_input_tokens']
    targets = [
        row[weight > 0].tolist()
        for row, weight in zip(
            batch['decoder_target_tokens'],
            batch['decoder_loss_weights'],
            strict=True,
        )
    ]
  with np.load(folder / 'encdec_forward_unpacked.npz') as forward:
    expected = forward['score_batch']
  with jax.default_matmul_precision('highest'):
    score = jax.jit(
        functools.partial(ranking.log_probabilities, golden),
        static_argnames='row_length',
    )
    for row_length, length in ((64, 64), (16, 64)):
      packed = ranking.pack([targets] * 4, 4, row_length, length)
      log_probs = score(weights, inputs, packed.row, row_length=row_length)
      scores = ranking.option_scores(packed, np.asarray(log_probs))
      np.testing.assert_allclose(np.diag(np.stack(scores)), expected, rtol=1e-5)


def test_generation_is_in_order_and_the_same_in_any_batch(predictor):
  examples = [_example(i) for i in range(11)]
  together = predictor.generate(examples)
  for example, prediction in zip(examples, together, strict=True):
    (alone,) = predictor.generate([example])
    assert prediction.text == alone.text
    np.testing.assert_allclose(prediction.score, alone.score, rtol=1e-4)
    assert prediction.option_scores is None
    assert prediction.option_index is None
  assert len({prediction.text for prediction in together}) > 1


def test_eight_devices_predict_as_one(model, params, predictor):
  mesh = _mesh(data=2, fsdp=2, tensor=2)
  sharded = jax.device_put(
      params, partitioning.shardings(mesh, model.logical_axes())
  )
  many = _predictor(model, sharded, batch_size=3, mesh=mesh)
  examples = [_example(i, inputs='x' * (17 + i)) for i in range(5)]
  for a, b in zip(
      predictor.generate(examples), many.generate(examples), strict=True
  ):
    assert a.text == b.text
    np.testing.assert_allclose(a.score, b.score, rtol=1e-4)
  ranked = [_RANKED[0], _RANKED[4]]
  for a, b in zip(predictor.rank(ranked), many.rank(ranked), strict=True):
    np.testing.assert_allclose(a.option_scores, b.option_scores, rtol=1e-4)


def test_predict_ranks_what_has_options(predictor):
  inverted = dataclasses.replace(_RANKED[0], inverted=True)
  examples = [_example(1), _RANKED[1], inverted, _RANKED[3]]
  seen = []
  found = predictor.predict(examples, progress=seen.append)
  assert [p.option_index is not None for p in found] == [0, 1, 0, 1]
  assert sum(seen) == len(examples)
  generated = predictor.predict(examples, 'generate')
  assert all(p.option_scores is None for p in generated)
  assert [p.text for p in generated] == [
      p.text for p in predictor.generate(examples)
  ]
  assert predictor.predict([]) == []


def test_tokens_are_counted_without_padding(model, params):
  predictor = _predictor(model, params)
  assert (predictor.tokens.read, predictor.tokens.written) == (0, 0)
  ranked = [_example(0, ('yes', 'no')), _example(7, ('only one',))]
  predictor.rank(ranked)
  # Bytes, and an end for each text.
  inputs = [len(example.inputs) + 1 for example in ranked]
  assert predictor.tokens.read == sum(inputs) + 4 + 3 + 9
  assert predictor.tokens.written == 0
  (said,) = predictor.generate([_example(1)])
  assert predictor.tokens.read == sum(inputs) + 16 + len(_example(1).inputs) + 1
  assert 1 <= predictor.tokens.written <= _LENGTHS['targets']
  if predictor.tokens.written < _LENGTHS['targets']:
    assert predictor.tokens.written >= len(said.text.encode()) + 1


def test_rank_by_what_the_input_adds(model, params):
  """Equation 2 of arXiv 2104.08315, each pair on its own."""
  by_pmi = _predictor(
      model, params, normalisation='pmi', pmi_premise='The answer is'
  )
  examples = [_RANKED[0], _RANKED[1], _RANKED[2], _RANKED[4]]
  for example, found in zip(examples, by_pmi.rank(examples), strict=True):
    scores = _pair_scores(
        model, params, [(example.inputs, option) for option in example.options]
    )
    premise = _pair_scores(
        model, params, [('The answer is', option) for option in example.options]
    )
    np.testing.assert_allclose(
        found.option_scores, np.subtract(scores, premise), atol=1e-3
    )
    assert found.option_index == int(np.argmax(found.option_scores))
  # The premise is read once for an option, until there are other parameters.
  read = by_pmi.tokens.read
  by_pmi.rank([_RANKED[0]])
  again = by_pmi.tokens.read - read
  assert again == sum(len(t) + 1 for t in (_RANKED[0].inputs, 'yes', 'no'))
  before = by_pmi.rank([_RANKED[0]])[0].option_scores
  by_pmi.params = other = jax.tree.map(lambda x: 0.5 * x, params)
  after = by_pmi.rank([_RANKED[0]])[0].option_scores
  pairs = [(text, 'yes') for text in (_RANKED[0].inputs, 'The answer is')]
  score, premise = _pair_scores(model, other, pairs)
  np.testing.assert_allclose(after[0], score - premise, atol=1e-3)
  assert not np.allclose(after, before)


def test_scores_of_pairs(model, params, predictor):
  pairs = [
      ('Is snow cold?', 'yes'),
      ('Is fire cold?', 'yes'),
      ('Is snow cold?', 'no'),
      ('Is snow cold?', 'yes'),
  ]
  read = predictor.tokens.read
  inputs, targets = zip(*pairs, strict=True)
  found = predictor.score(inputs, targets)
  np.testing.assert_allclose(
      found, _pair_scores(model, params, pairs), rtol=1e-4, atol=1e-4
  )
  # Two inputs of 13 letters, and 'yes', 'no', 'yes', each with its end.
  assert predictor.tokens.read - read == 2 * 14 + 4 + 3 + 4
  with pytest.raises(errors.UserError, match='1 inputs and 2 targets'):
    predictor.score(['a'], ['b', 'c'])


def test_texts_are_answered_as_examples_are(predictor):
  examples = [_RANKED[0], _RANKED[4]]
  texts = [example.inputs for example in examples]
  assert predictor.rank(
      texts, [example.options for example in examples]
  ) == predictor.rank(examples)
  same = predictor.rank(texts, ['yes', 'no'])
  assert [len(each.option_scores) for each in same] == [2, 2]
  assert [each.text for each in predictor.generate(texts)] == [
      each.text for each in predictor.generate(examples)
  ]
  with pytest.raises(errors.UserError, match='list of texts'):
    predictor.generate('one text')
  with pytest.raises(errors.UserError, match='3 lists of options for 2'):
    predictor.rank(texts, [['a', 'b']] * 3)


@pytest.mark.parametrize(
    'options, message',
    [
        (['yes', 'no', 'yes'], r"inputs 1: option 3 \('yes'\).*option 1"),
        (['yes', ''], r"inputs 1: option 2 \(''\): has no tokens"),
        ([], 'inputs 1: has no options'),
        ('yes', 'options: must be a list'),
        (['yes', ['no']], 'options: must be a list'),
    ],
)
def test_options_that_a_user_can_mend_are_refused(predictor, options, message):
  with pytest.raises(errors.UserError, match=message):
    predictor.rank(['Is it so?'], options)


def test_odd_options_of_a_row_are_counted(model, params):
  own = _predictor(model, params)
  same, empty, long = own.rank([_RANKED[3], _RANKED[1], _RANKED[5]])
  assert same.option_scores[0] == same.option_scores[1]
  assert own.remarks.equal_options == 1
  assert own.remarks.empty_options == 1
  assert own.remarks.cut_options == 1
  assert same.option_index != 1
  assert len(empty.option_scores) == 4
  assert len(own.remarks.lines()) == 3
  assert long.cut_tokens == 0


def test_what_is_too_long_is_cut_or_refused(model, params, predictor):
  long = _RANKED[6]
  (found,) = predictor.rank([long])
  assert found.cut_tokens == len(long.inputs) + 1 - _LENGTHS['inputs']
  assert predictor.generate([long])[0].cut_tokens == found.cut_tokens
  strict = _predictor(model, params, too_long='refuse')
  with pytest.raises(errors.UserError, match='test:6: 241 tokens.*takes 48'):
    strict.rank([_RANKED[0], long])
  with pytest.raises(errors.UserError, match=r'test:5: option 1 \(.this'):
    strict.rank([_RANKED[5]])


def test_a_score_that_is_no_number_is_never_the_best(
    model, params, monkeypatch
):
  nan = jax.tree.map(lambda x: np.nan * x, params)
  own = _predictor(model, nan)
  (none,) = own.rank([_example(1, ('yes', 'no'))])
  assert none.option_scores == (None, None)
  assert (none.text, none.score, none.option_index) == ('', None, None)
  assert own.remarks.not_numbers == ['task test:1']

  monkeypatch.setattr(
      own._ranker,
      'log_likelihoods',
      lambda *_: [np.asarray([np.nan, -3.0, -2.0])],
  )
  (some,) = own.rank([_example(2, ('a', 'b', 'c'))])
  assert some.option_scores == (None, -3.0, -2.0)
  assert (some.text, some.score, some.option_index) == ('c', -2.0, 2)
  assert own.remarks.not_numbers == ['task test:1', 'task test:2']
  assert '2 examples' in own.remarks.unscored()
  assert own.remarks.unscored().endswith('task test:1, task test:2')
  assert own.remarks.lines() == []


def test_the_size_of_batches_is_given_once(model, params):
  with pytest.raises(errors.UserError, match='either it or batch_size'):
    _predictor(model, params, batch_tokens=500)
  with pytest.raises(errors.UserError, match='at least 72'):
    _predictor(model, params, batch_size=None, batch_tokens=71)
  own = _predictor(model, params, batch_size=None, batch_tokens=300)
  expected = _predictor(model, params).rank(_RANKED)
  for a, b in zip(own.rank(_RANKED), expected, strict=True):
    np.testing.assert_allclose(a.option_scores, b.option_scores, rtol=1e-4)


def test_ranking_without_options_is_a_mistake(predictor):
  with pytest.raises(errors.UserError, match='test:1: has no options'):
    predictor.rank([_RANKED[0], _example(1)])


def test_compilations_are_bounded_and_counted(model, params):
  own = _predictor(model, params, batch_size=1, most_shapes=2)
  for length in (3, 20, 47):
    own.generate([_example(0, inputs='x' * length)])
    own.rank([_example(0, ('a', 'b' * length), inputs='x' * length)])
  assert len(own.shapes) == 2
  compiled = own._generator._programs.whole._cache_size()
  compiled += own._ranker._compiled._cache_size()
  assert compiled == len(own.shapes)
  assert own.compilations().startswith('2 compilations, ')
  assert own.cut_inputs == 0
  own.generate([_example(0, inputs='x' * 48)])
  assert own.cut_inputs == 1
