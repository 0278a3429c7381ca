"""Twenty steps of AdamW on the same batches as under PyTorch."""

from flan_jax import partitioning
from flan_jax.checkpoints import formats
from flan_jax.checkpoints import native
from flan_jax.models import interface
from flan_jax.training import optimizers
from flan_jax.training import schedules
from flan_jax.training import state as state_lib
from flan_jax.training import step as step_lib
import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers

_STEPS = 20
_RATE = 3e-3
_DECAY = 0.1


def _batches():
  """Yields rows that are padded, of inputs and of targets."""
  rng = np.random.default_rng(0)
  for _ in range(_STEPS):
    inputs = rng.integers(2, 91, (5, 11)).astype(np.int32)
    # What is to be learned: the inputs, the other way round.
    targets = inputs[:, ::-1][:, :7].copy()
    inputs[0, 8:] = targets[0, 5:] = targets[3, 2:] = 0
    yield inputs, targets


def test_losses_are_those_of_pytorch(tmp_path, perturb):
  torch.manual_seed(0)
  reference = transformers.T5ForConditionalGeneration(
      transformers.T5Config(
          vocab_size=91,
          d_model=22,
          d_kv=5,
          d_ff=35,
          num_layers=2,
          num_decoder_layers=1,
          num_heads=3,
          dropout_rate=0.0,
          decoder_start_token_id=0,
          feed_forward_proj='gated-gelu',
          tie_word_embeddings=False,
      )
  )
  reference.lm_head.weight = torch.nn.Parameter(
      torch.empty_like(reference.shared.weight)
  )
  perturb(reference, scale=0.2).save_pretrained(tmp_path)
  model = interface.create(formats.open_source(tmp_path).config)
  mesh = partitioning.make_mesh(
      partitioning.MeshConfig(data=1), jax.devices()[:1]
  )
  params = native.load_params(tmp_path, model, mesh)

  theirs = []
  torch_optimizer = torch.optim.AdamW(
      reference.parameters(), lr=_RATE, weight_decay=_DECAY
  )
  for inputs, targets in _batches():
    labels = torch.tensor(np.where(targets == 0, -100, targets)).long()
    loss = reference(
        input_ids=torch.tensor(inputs),
        attention_mask=torch.tensor(inputs != 0),
        labels=labels,
    ).loss
    torch_optimizer.zero_grad()
    loss.backward()
    torch_optimizer.step()
    theirs.append(loss.item())

  schedule = schedules.Constant(value=_RATE)
  # PyTorch's decays all there is.
  optimizer = optimizers.AdamW(
      weight_decay=_DECAY, weight_decay_except='nothing'
  ).create(schedule, model.stacked())
  train_step = jax.jit(
      lambda state, batch: step_lib.train_step(
          state,
          batch,
          model=model,
          optimizer=optimizer,
          learning_rate=schedule,
          config=step_lib.StepConfig(
              seed=0,
              z_loss=0.0,
              loss_normalizing_factor='NUM_REAL_TARGET_TOKENS',
          ),
      )
  )
  state = state_lib.TrainState(
      jnp.zeros((), jnp.int32), params, optimizer.init(params)
  )
  ours = []
  for inputs, targets in _batches():
    batch = {
        'encoder_input_tokens': inputs,
        'decoder_input_tokens': np.pad(targets, ((0, 0), (1, 0)))[:, :-1],
        'decoder_target_tokens': targets,
        'decoder_loss_weights': (targets != 0).astype(np.int32),
    }
    state, metrics = train_step(state, batch)
    ours.append(float(metrics.loss / metrics.weight))
  np.testing.assert_allclose(ours, theirs, atol=1e-3)
  assert theirs[-1] < theirs[0] - 0.1, 'nothing was learned'
