"""The predictor against scoring and decoding one example at a time."""

import dataclasses

from flan_jax import partitioning
from flan_jax import vocabularies
from flan_jax.data import examples as examples_lib
from flan_jax.inference import batching
from flan_jax.inference import predictor as predictor_lib
from flan_jax.inference import ranking
from flan_jax.models import config
from flan_jax.models import interface
import jax
import jax.numpy as jnp
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
  return _predictor(model, params)


def _mesh(devices=None, **axes):
  return partitioning.make_mesh(partitioning.MeshConfig(**axes), devices)


def _predictor(model, params, batch_size=4, mesh=None, **kwargs):
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


def _pair_scores(model, params, pairs):
  """log p(target | inputs) of each pair, from a batch of that pair alone."""
  logits_of = jax.jit(model.logits)  # Padded to one shape: one compilation.
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
    context = jax.jit(golden.encode)(weights, jnp.asarray(inputs))
    score = jax.jit(golden.score)
    for row_length in (64, 16):  # One row, and several rows.
      width = ranking.width([len(ids) for ids in targets], row_length)
      packed = ranking.pack([targets] * 4, 4, row_length, width)
      log_probs = [
          np.asarray(score(weights, context, row)) for row in packed.rows
      ]
      scores = ranking.option_scores(packed, log_probs)
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
  assert many.batch_size == 4, 'the data axes divide the batch'
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


def test_ranking_without_options_is_a_mistake(predictor):
  with pytest.raises(ValueError, match='test:1 has no options'):
    predictor.rank([_RANKED[0], _example(1)])


def test_compilations_are_bounded(predictor):
  rungs = batching.ladder(_LENGTHS['inputs'])
  cut_before = predictor.cut_inputs
  predictor.generate([_example(i, inputs='x' * i) for i in range(48)])
  assert predictor.cut_inputs == cut_before
  predictor.generate([_example(0, inputs='x' * 48)])
  assert predictor.cut_inputs == cut_before + 1
  assert {shape for what, shape in predictor.shapes if what == 'generate'} == {
      (rung,) for rung in rungs
  }
