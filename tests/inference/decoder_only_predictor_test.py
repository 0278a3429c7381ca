"""The predictor with a decoder-only model, against rows without a cache."""

import dataclasses

from flan_jax import errors
from flan_jax import partitioning
from flan_jax import vocabularies
from flan_jax.data import examples as examples_lib
from flan_jax.inference import predictor as predictor_lib
from flan_jax.models import config
from flan_jax.models import interface
import jax
import numpy as np
import pytest

_LENGTHS = {'inputs': 48, 'targets': 12}
_ROW = 64
_VOCABULARY = vocabularies.ByteVocabulary()


@pytest.fixture(scope='module', params=[False, True], ids=['causal', 'prefix'])
def model(request):
  return interface.create(
      config.DecoderConfig(
          vocab_size=_VOCABULARY.padded_size,
          emb_dim=16,
          num_heads=2,
          num_layers=2,
          head_dim=8,
          mlp_dim=32,
          prefix_lm=request.param,
      )
  )


@pytest.fixture(scope='module')
def params(model):
  init = jax.jit(model.init)(jax.random.key(0))
  # Sharper than at initialisation, so that options differ.
  return jax.tree.map(lambda x: 3.0 * x if x.ndim > 1 else x, init)


def _predictor(model, params, batch_size=4, mesh=None):
  return predictor_lib.Predictor(
      model,
      params,
      _VOCABULARY,
      mesh=mesh or partitioning.make_mesh(devices=jax.devices()[:1]),
      lengths=_LENGTHS,
      batch_size=batch_size,
  )


@pytest.fixture(scope='module')
def predictor(model, params):
  return _predictor(model, params)


@pytest.fixture(scope='module')
def log_probs(model, params):
  """Returns a function: inputs' and targets' ids to log p [targets, V]."""
  logits = jax.jit(model.logits)

  def run(inputs: list[int], targets: list[int]) -> np.ndarray:
    ids = inputs + targets
    batch = {
        f'decoder_{name}': np.zeros((1, _ROW), np.int32)
        for name in ('input_tokens', 'target_tokens', 'causal_attention')
    }
    batch['decoder_input_tokens'][0, 1 : len(ids)] = ids[:-1]
    batch['decoder_target_tokens'][0, : len(ids)] = ids
    batch['decoder_causal_attention'][0, : len(inputs) + 1] = 1
    found = np.asarray(logits(params, batch), np.float64)[0]
    found = found[len(inputs) : len(ids)]
    return found - np.log(np.exp(found).sum(-1, keepdims=True))

  return run


def _example(number, options=None):
  return examples_lib.Example(
      task='task',
      template='template',
      row_id=f'test:{number}',
      inputs=f'Question {number}: ' + 'x' * (number * 13 % 30),
      targets=options[0] if options else 'answer',
      options=options,
      answer_index=0 if options else None,
  )


def _ids(text: str) -> list[int]:
  return [*_VOCABULARY.encode(text), _VOCABULARY.eos_id]


def test_rank_equals_scoring_every_pair_alone(predictor, log_probs):
  examples = [
      _example(1, ('yes', 'no')),
      _example(2, ('a', 'b', 'a longer')),
      # More than one row of options.
      _example(3, tuple(f'option {i:03}' for i in range(9))),
      _example(4, ('only',)),
  ]
  for example, found in zip(examples, predictor.rank(examples), strict=True):
    inputs = _ids(example.inputs)
    expected = []
    for option in example.options:
      ids = _ids(option)
      each = log_probs(inputs, ids)
      expected.append(each[np.arange(len(ids)), ids].sum())
    np.testing.assert_allclose(
        found.option_scores, expected, rtol=1e-4, atol=1e-3
    )
    assert found.option_index == int(np.argmax(expected))


def test_generation_equals_reading_the_whole_row_at_each_step(
    predictor, log_probs
):
  examples = [_example(i) for i in (1, 2, 5, 8, 12)]
  found = predictor.generate(examples)
  for example, prediction in zip(examples, found, strict=True):
    inputs, written, score = _ids(example.inputs), [], 0.0
    while len(written) < _LENGTHS['targets'] and 1 not in written:
      # What stands last is not read.
      last = log_probs(inputs, [*written, 3])[-1]
      written.append(int(np.argmax(last[: _VOCABULARY.size])))
      score += last[written[-1]]
    assert prediction.text == _VOCABULARY.decode(written)
    np.testing.assert_allclose(prediction.score, score, rtol=1e-3, atol=1e-3)
  assert len({prediction.text for prediction in found}) > 1


def test_eight_devices_predict_as_one(model, params, predictor):
  mesh = partitioning.make_mesh(
      partitioning.MeshConfig(data=2, fsdp=2, tensor=2)
  )
  sharded = jax.device_put(
      params, partitioning.shardings(mesh, model.logical_axes())
  )
  many = _predictor(model, sharded, mesh=mesh)
  examples = [_example(1), _example(2, ('yes', 'no')), _example(3)]
  for a, b in zip(
      predictor.predict(examples), many.predict(examples), strict=True
  ):
    assert a.text == b.text
    np.testing.assert_allclose(a.score, b.score, rtol=1e-3)


def test_lengths_beyond_learned_positions_are_refused(model, params):
  learned = dataclasses.replace(
      model.config, positions='learned', max_positions=59
  )
  with pytest.raises(errors.UserError, match='59 learned positions.* 60 tok'):
    _predictor(interface.create(learned), params)
