"""What holds for the encoder-decoder whatever its parameters."""

import dataclasses
import math

from flan_jax import errors
from flan_jax.models import interface
from flan_jax.models import losses
import jax
import jax.numpy as jnp
import numpy as np
import pytest


def _alone(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Returns each segment of a packed batch as an unpacked row of its own."""
  names = [name for name in batch if name.endswith(('tokens', 'weights'))]
  alone: dict[str, list[np.ndarray]] = {name: [] for name in names}
  for row, ids in enumerate(batch['decoder_segment_ids']):
    for segment in range(1, ids.max() + 1):
      for name in names:
        place = batch[f'{name.split("_")[0]}_segment_ids'][row] == segment
        tokens = np.zeros_like(batch[name][row])
        tokens[: place.sum()] = batch[name][row][place]
        alone[name].append(tokens)
  return {name: np.stack(rows) for name, rows in alone.items()}


def test_packed_loss_is_the_sum_of_the_losses_alone(model, params, packed):
  loss = jax.jit(model.loss)
  alone = _alone(packed)
  assert len(alone['encoder_input_tokens']) > len(
      packed['encoder_input_tokens']
  )

  whole, parts = loss(params, packed), loss(params, alone)

  assert whole.weight == packed['decoder_loss_weights'].sum()
  for field in ('loss', 'z_loss', 'weight', 'correct'):
    found, expected = getattr(whole, field), getattr(parts, field)
    np.testing.assert_allclose(found, expected, rtol=1e-5, err_msg=field)


def test_a_token_depends_on_its_own_past_alone(model, params, packed):
  """By gradients of the logits with respect to the embedded tokens."""
  batch = {name: jnp.asarray(rows[1:3]) for name, rows in packed.items()}
  length = batch['decoder_input_tokens'].shape[1]
  # Every place gets a token of its own, so that gradients tell places apart.
  rows = jnp.arange(batch['decoder_input_tokens'].size)
  size = params['token_embedder']['embedding'].shape[1]
  vectors = jax.random.normal(jax.random.key(3), (rows.size, size))
  wide = interface.create(
      dataclasses.replace(model.config, vocab_size=128 + rows.size)
  )
  flat = model.unstack(params)
  extra = jnp.zeros((size, rows.size))
  flat['decoder/logits_dense/kernel'] = jnp.concatenate(
      [flat['decoder/logits_dense/kernel'], extra], axis=1
  )
  batch['decoder_input_tokens'] = 128 + rows.reshape(2, length)

  def logits_of(vectors, place):
    flat['token_embedder/embedding'] = jnp.concatenate(
        [params['token_embedder']['embedding'], vectors]
    )
    logits = wide.logits(wide.stack(flat), batch)
    return jnp.sum(logits[:, place, :128] ** 2)

  gradient = jax.jit(jax.grad(logits_of))
  ids = np.asarray(batch['decoder_segment_ids'])
  for place in (0, 4, 9):
    reached = np.abs(gradient(vectors, place)).max(axis=1).reshape(2, length)
    for row in range(2):
      own = (ids[row] == ids[row, place]) & (np.arange(length) <= place)
      np.testing.assert_array_equal(reached[row] > 0, own)


def test_inputs_of_other_segments_do_not_reach_a_token(model, params, packed):
  batch = {name: rows[1:2].copy() for name, rows in packed.items()}
  logits = jax.jit(model.logits)
  before = logits(params, batch)

  other = batch['encoder_segment_ids'] == 2
  # Another array: jax may still be reading the first one.
  tokens = np.where(other, 7, batch['encoder_input_tokens'])
  after = logits(params, {**batch, 'encoder_input_tokens': tokens})

  first = batch['decoder_segment_ids'] == 1
  second = batch['decoder_segment_ids'] == 2
  np.testing.assert_array_equal(before[first], after[first])
  assert (np.abs(before - after).max(axis=-1)[second] > 1e-3).all()


def test_decode_steps_equal_teacher_forced_logits(model, params, packed):
  batch = {
      'encoder_input_tokens': packed['encoder_input_tokens'],
      'decoder_input_tokens': packed['decoder_input_tokens'],
      'decoder_target_tokens': np.ones_like(packed['decoder_input_tokens']),
  }
  expected = jax.jit(model.logits)(params, batch)
  step = jax.jit(model.decode_step)

  context = jax.jit(model.encode)(params, batch['encoder_input_tokens'])
  steps = model.steps(params, context)
  rows, length = batch['decoder_input_tokens'].shape
  # Room to spare changes nothing.
  cache = model.init_cache(rows, length + 3)
  for place in range(length):
    logits, cache = step(
        steps, cache, batch['decoder_input_tokens'][:, place : place + 1]
    )
    np.testing.assert_allclose(logits[:, 0], expected[:, place], atol=1e-5)
  assert cache.position == length


def test_decoding_in_a_loop_with_more_layers_than_are_unrolled(config):
  deep = interface.create(dataclasses.replace(config, num_decoder_layers=5))
  params = jax.jit(deep.init)(jax.random.key(4))
  tokens = jax.random.randint(jax.random.key(5), (2, 6), 2, 128)

  @jax.jit
  def both(params):
    def step(cache, token):
      logits, cache = deep.decode_step(steps, cache, token[:, None])
      return cache, logits[:, 0]

    steps = deep.steps(params, deep.encode(params, tokens[:, ::-1]))
    cache, logits = jax.lax.scan(step, deep.init_cache(2, 6), tokens.T)
    batch = {
        'encoder_input_tokens': tokens[:, ::-1],
        'decoder_input_tokens': tokens,
        'decoder_target_tokens': tokens,
    }
    return cache, logits.transpose(1, 0, 2), deep.logits(params, batch)

  cache, logits, expected = both(params)
  np.testing.assert_allclose(logits, expected, atol=1e-5)
  assert [x.shape for x in cache.key] == [(2, 4, 8, 6)] * 5


def test_options_in_one_row_score_as_each_alone(model, params):
  rng = np.random.default_rng(2)
  inputs = rng.integers(2, 128, (2, 9)).astype(np.int32)
  inputs[1, 6:] = 0
  options = [[(5, 9, 1), (7, 1), (5, 9, 33, 8, 1)], [(4, 1), (6, 6, 6, 1)]]
  batch = {
      f'decoder_{name}': np.zeros((2, 12), np.int32)
      for name in ('input_tokens', 'target_tokens', 'segment_ids', 'positions')
  }
  places = []
  for row, choices in enumerate(options):
    start = 0
    for segment, option in enumerate(choices, start=1):
      place = slice(start, start + len(option))
      batch['decoder_input_tokens'][row, place] = (0, *option[:-1])
      batch['decoder_target_tokens'][row, place] = option
      batch['decoder_segment_ids'][row, place] = segment
      batch['decoder_positions'][row, place] = np.arange(len(option))
      places.append((row, place))
      start = place.stop
  context = jax.jit(model.encode)(params, inputs)

  scores = np.asarray(jax.jit(model.score)(params, context, batch))

  assert scores.shape == (2, 12)
  np.testing.assert_array_equal(scores[batch['decoder_segment_ids'] == 0], 0)
  # Each alone: a row of its own, through `logits`.
  alone = {
      f'decoder_{name}': np.zeros((len(places), 5), np.int32)
      for name in ('input_tokens', 'target_tokens')
  }
  for name, rows in alone.items():
    for i, (row, place) in enumerate(places):
      rows[i, : place.stop - place.start] = batch[name][row, place]
  alone['encoder_input_tokens'] = inputs[[row for row, _ in places]]
  targets = alone['decoder_target_tokens']
  expected = np.take_along_axis(
      jax.nn.log_softmax(jax.jit(model.logits)(params, alone)),
      targets[..., None],
      axis=-1,
  )[..., 0]
  for i, (row, place) in enumerate(places):
    length = place.stop - place.start
    np.testing.assert_allclose(
        scores[row, place], expected[i, :length], atol=1e-5
    )


def test_dropout_is_seeded_and_off_without_a_key(config, params, packed):
  model = interface.create(dataclasses.replace(config, dropout_rate=0.5))
  loss = jax.jit(lambda key: model.loss(params, packed, dropout_rng=key).loss)
  first, again, other = (loss(jax.random.key(seed)) for seed in (0, 0, 1))

  assert first == again
  assert abs(first - other) > 1
  # Without a key the program is that of a model without dropout.
  still = interface.create(config)
  programs = [
      jax.jit(m.loss).lower(params, packed).as_text() for m in (model, still)
  ]
  assert programs[0] == programs[1]


def test_layers_draw_different_dropout(config):
  """With equal parameters in all layers, equal masks would show."""
  model = interface.create(
      dataclasses.replace(
          config, dropout_rate=0.5, num_encoder_layers=5, num_decoder_layers=1
      )
  )
  params = jax.jit(model.init)(jax.random.key(0))
  params['encoder']['layers'] = jax.tree.map(
      lambda x: jnp.broadcast_to(x[:1], x.shape), params['encoder']['layers']
  )
  tokens = jnp.ones((1, 8), jnp.int32)
  batch = {
      'encoder_input_tokens': tokens,
      'decoder_input_tokens': tokens,
      'decoder_target_tokens': tokens,
  }

  gradient = jax.jit(
      jax.grad(
          lambda p: model.loss(p, batch, dropout_rng=jax.random.key(1)).loss
      )
  )(params)

  # A dropped entry of the feed-forward block, the same along the length, has
  # no gradient in its row of wo.
  kernel = gradient['encoder']['layers']['mlp']['wo']['kernel']
  dropped = np.abs(kernel).max(axis=2) == 0
  assert 0.3 < dropped.mean() < 0.7
  assert len({row.tobytes() for row in dropped}) == 5


def test_remat_needs_less_memory(config, packed):
  memory, products = {}, {}
  for remat in ('none', 'minimal', 'full'):
    model = interface.create(
        dataclasses.replace(
            config, num_encoder_layers=6, num_decoder_layers=6, remat=remat
        )
    )
    gradient = jax.jit(jax.grad(lambda p, m=model: m.loss(p, packed).loss))
    traced = gradient.trace(model.abstract_params())
    analysis = traced.lower().compile().memory_analysis()
    memory[remat] = analysis.temp_size_in_bytes
    products[remat] = _products_with_kernels(traced.jaxpr.jaxpr)
  assert memory['full'] < memory['minimal'] < memory['none']
  assert memory['full'] < memory['none'] / 2
  # Products with kernels are computed again by 'full' alone: one in four.
  assert products['minimal'] == products['none']
  assert 1.2 < products['full'] / products['none'] < 4 / 3


def _products_with_kernels(jaxpr):
  """Returns the multiplications of products without batch dimensions."""
  total = 0
  for equation in jaxpr.eqns:
    if equation.primitive.name == 'dot_general':
      (summed, _), (batched, _) = equation.params['dimension_numbers']
      if not batched:
        left = equation.invars[0].aval.shape
        total += math.prod(left[axis] for axis in summed) * math.prod(
            equation.outvars[0].aval.shape
        )
    times = equation.params.get('length', 1)
    for inner in jax.tree.leaves(list(equation.params.values())):
      inner = getattr(inner, 'jaxpr', inner)
      if hasattr(inner, 'eqns'):
        total += times * _products_with_kernels(inner)
  return total


def test_loops_over_layers_do_not_show(config, packed):
  """Parameters, their names, the loss and its gradient: all the same."""
  deep = dataclasses.replace(config, num_encoder_layers=5, num_decoder_layers=3)
  start = interface.create(deep)
  params = jax.jit(start.init)(jax.random.key(1))
  names = {n: leaf.shape for n, leaf in start.unstack(params).items()}
  found = []
  for unroll in (1, 2, 5):
    model = interface.create(dataclasses.replace(deep, unroll_layers=unroll))
    again = jax.jit(model.init)(jax.random.key(1))
    flat = model.unstack(again)
    assert {n: leaf.shape for n, leaf in flat.items()} == names
    jax.tree.map(np.testing.assert_array_equal, again, params)
    found.append(
        jax.jit(jax.value_and_grad(lambda p, m=model: m.loss(p, packed).loss))(
            params
        )
    )
  for other in found[1:]:
    for one, two in zip(*map(jax.tree.leaves, (found[0], other)), strict=True):
      np.testing.assert_allclose(one, two, atol=1e-5 * np.abs(one).max())


def test_logits_by_the_embedding(config, packed):
  model = interface.create(
      dataclasses.replace(config, logits_via_embedding=True)
  )
  params = jax.jit(model.init)(jax.random.key(0))
  assert 'logits_dense' not in params['decoder']
  logits = jax.jit(model.logits)(params, packed)
  # The table's entries have variance 1 and the norm's output has too, so their
  # product over the root of the width has.
  assert 0.5 < np.std(logits) < 2


def test_initial_parameters_have_t5xs_distributions(model):
  wide = interface.create(
      dataclasses.replace(
          model.config, emb_dim=256, head_dim=64, mlp_dim=512, vocab_size=1024
      )
  )
  params = jax.jit(wide.init)(jax.random.key(0))
  layer = params['decoder']['layers']
  deviations = {
      'embedding': (params['token_embedder']['embedding'], 1.0),
      # Fan-in 256, and for queries a further 1 / sqrt(head_dim).
      'query': (layer['self_attention']['query']['kernel'], 1 / 16 / 8),
      'key': (layer['self_attention']['key']['kernel'], 1 / 16),
      'out': (layer['self_attention']['out']['kernel'], 1 / 16),
      'wi_0': (layer['mlp']['wi_0']['kernel'], 1 / 16),
      'wo': (layer['mlp']['wo']['kernel'], 512**-0.5),
      'logits': (params['decoder']['logits_dense']['kernel'], 1 / 16),
  }
  for name, (array, expected) in deviations.items():
    assert abs(np.std(array) / expected - 1) < 0.05, name
    assert abs(np.mean(array)) < 0.05 * expected, name
  assert np.all(layer['pre_mlp_layer_norm']['scale'] == 1)
  bias = params['decoder']['relpos_bias']['rel_embedding']
  # Uniform up to sqrt(3 / mean of 4 and 32).
  assert 0.35 < np.abs(bias).max() < (3 / 18) ** 0.5
  # Layers and kernels differ.
  assert (
      np.std(
          layer['mlp']['wi_0']['kernel'][0] - layer['mlp']['wi_0']['kernel'][1]
      )
      > 0.05
  )


def test_a_config_of_no_known_family_is_refused():
  with pytest.raises(errors.UserError, match='MODEL: must be .* not dict'):
    interface.create({'emb_dim': 8})


def test_weights_default_to_what_is_not_padding(model, params, packed):
  batch = dict(packed)
  del batch['decoder_loss_weights']
  sums = jax.jit(model.loss)(params, batch)
  assert isinstance(sums, losses.LossSums)
  assert sums.weight == (packed['decoder_target_tokens'] > 0).sum()
