"""Losses against their formulas, written out in float64."""

from flan_jax.models import losses
import jax
import jax.numpy as jnp
import numpy as np
import pytest


def _formula(logits, targets, z_loss, label_smoothing):
  """Returns loss and z-loss of one token: cross entropy less the entropy."""
  logits = np.asarray(logits, np.float64)
  size = logits.shape[-1]
  wanted = np.full(size, label_smoothing / (size - 1))
  wanted[targets] = 1 - label_smoothing
  log_z = np.log(np.exp(logits).sum())
  cross = -(wanted * (logits - log_z)).sum()
  entropy = -sum(p * np.log(p) for p in wanted if p > 0)
  return cross - entropy + z_loss * log_z**2, z_loss * log_z**2


@pytest.mark.parametrize('z_loss', [0.0, 1e-2])
@pytest.mark.parametrize('label_smoothing', [0.0, 0.1])
def test_token_losses_follow_the_formula(z_loss, label_smoothing):
  rng = np.random.default_rng(0)
  logits = rng.normal(scale=3, size=(2, 5, 17)).astype(np.float32)
  targets = rng.integers(0, 17, (2, 5)).astype(np.int32)

  loss, penalty = losses.token_losses(logits, targets, z_loss, label_smoothing)

  for place in np.ndindex(2, 5):
    expected = _formula(logits[place], targets[place], z_loss, label_smoothing)
    np.testing.assert_allclose(
        (loss[place], penalty[place]), expected, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize('z_loss', [0.0, 1e-2])
@pytest.mark.parametrize('label_smoothing', [0.0, 0.1])
def test_own_gradient_is_autodiffs(z_loss, label_smoothing):
  rng = np.random.default_rng(1)
  logits = rng.normal(scale=3, size=(2, 3, 11)).astype(np.float32)
  targets = rng.integers(0, 11, (2, 3)).astype(np.int32)
  weights = rng.random((2, 3)).astype(np.float32)

  def plain(logits):
    log_z = jax.nn.logsumexp(logits, axis=-1)
    wanted = jax.nn.one_hot(targets, 11) * (1 - label_smoothing)
    wanted += (1 - jax.nn.one_hot(targets, 11)) * label_smoothing / 10
    cross = -jnp.sum(wanted * jax.nn.log_softmax(logits), axis=-1)
    return jnp.sum((cross + z_loss * log_z**2) * weights)

  def ours(logits):
    return losses.loss_sums(
        logits,
        targets,
        weights,
        z_loss=z_loss,
        label_smoothing=label_smoothing,
    ).loss

  np.testing.assert_allclose(
      jax.grad(ours)(logits), jax.grad(plain)(logits), rtol=1e-5, atol=1e-6
  )


def test_smoothed_loss_is_0_at_best():
  wanted = np.full((1, 1, 5), 0.1 / 4, np.float32)
  wanted[..., 2] = 0.9
  loss, _ = losses.token_losses(
      jnp.log(wanted), jnp.full((1, 1), 2, jnp.int32), 0.0, 0.1
  )
  np.testing.assert_allclose(loss, 0, atol=1e-6)


def test_sums_weigh_tokens_and_count_the_first_of_equal_logits():
  logits = np.zeros((1, 4, 3), np.float32)
  logits[0, 1, 2] = 5
  logits[0, 2, 1] = 5
  targets = np.array([[0, 2, 0, 1]], np.int32)
  weights = np.array([[1, 2, 1, 0]], np.int32)

  sums = losses.loss_sums(
      logits, targets, weights, z_loss=0.0, label_smoothing=0.0
  )

  high = np.log(np.exp(5) + 2)
  expected = np.log(3) + 2 * (high - 5) + high
  np.testing.assert_allclose(sums.loss, expected, rtol=1e-6)
  assert sums.weight == 4
  # The first token (a tie that its target wins) and the second, twice.
  assert sums.correct == 3
  assert all(field.dtype == jnp.float32 for field in sums)


def test_log_probabilities():
  rng = np.random.default_rng(2)
  logits = rng.normal(size=(2, 3, 7)).astype(np.float32)
  targets = rng.integers(0, 7, (2, 3)).astype(np.int32)
  expected = np.take_along_axis(
      np.log(np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)),
      targets[..., None],
      axis=-1,
  )[..., 0]
  np.testing.assert_allclose(
      losses.log_probabilities(logits, targets), expected, rtol=1e-5
  )


@pytest.mark.parametrize('label_smoothing', [0.0, 0.1])
@pytest.mark.parametrize('chunks', [1, 3, 4])
def test_heads_give_the_losses_of_their_logits(chunks, label_smoothing):
  """In 1, 3 and, since 4 does not divide 6, 6 parts; gradients as well."""
  rng = np.random.default_rng(2)
  x = rng.normal(size=(2, 6, 5)).astype(np.float32)
  kernel = rng.normal(size=(5, 11)).astype(np.float32)
  targets = rng.integers(0, 11, (2, 6)).astype(np.int32)
  weights = rng.random((2, 6)).astype(np.float32)
  further = (targets, weights)
  how = {'z_loss': 1e-2, 'label_smoothing': label_smoothing}

  def whole(x, kernel):
    sums = losses.loss_sums(x @ kernel, *further, **how)
    return 3 * sums.loss, sums

  def parts(x, kernel):
    sums = losses.head_loss_sums(x, kernel, *further, chunks=chunks, **how)
    return 3 * sums.loss, sums

  with jax.default_matmul_precision('highest'):
    expected = jax.value_and_grad(whole, (0, 1), has_aux=True)(x, kernel)
    found = jax.value_and_grad(parts, (0, 1), has_aux=True)(x, kernel)
    _, alone = parts(x, kernel)

  for one, other in ((expected, found), (expected[0][1], alone)):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_parts_need_less_memory():
  x = jax.ShapeDtypeStruct((4, 64, 8), jnp.float32)
  kernel = jax.ShapeDtypeStruct((8, 4096), jnp.float32)
  ids = jax.ShapeDtypeStruct((4, 64), jnp.int32)
  memory = []
  for chunks in (1, 8):

    def loss(x, kernel, ids, chunks=chunks):
      return losses.head_loss_sums(
          x, kernel, ids, ids, z_loss=0, label_smoothing=0, chunks=chunks
      ).loss

    compiled = jax.jit(jax.grad(loss, (0, 1))).lower(x, kernel, ids).compile()
    memory.append(compiled.memory_analysis().temp_size_in_bytes)
  assert memory[1] < memory[0] / 4


def test_correct_is_the_first_of_the_highest():
  logits = np.array([[[1, 3, 3, 2], [1, 3, 3, 2], [0, 0, 0, 0], [9, 1, 2, 3]]])
  targets = np.array([[1, 2, 0, 3]], np.int32)
  each = [
      losses.loss_sums(
          logits.astype(np.float32),
          targets,
          np.eye(4, dtype=np.float32)[i][None],
          z_loss=0.0,
          label_smoothing=0.0,
      ).correct
      for i in range(4)
  ]
  assert [float(c) for c in each] == [1, 0, 1, 0]
