"""Two hosts train what one does, and either goes on where the other stopped."""

import json
import os
import socket
import subprocess
import sys

from flan_jax.checkpoints import runs
from flan_jax.training import metrics
import numpy as np
import pytest

_SCRIPT = """
import sys
import jax
address, count, index, *arguments = sys.argv[1:]
if int(count) > 1:
  jax.config.update('jax_cpu_collectives_implementation', 'gloo')
  jax.distributed.initialize(address, int(count), int(index))
from flan_jax import cli
sys.exit(cli.main(['train', *arguments]))
"""
_DATASET = """\
version: 1
cluster: arithmetic
source: {jsonl: sums.jsonl}
splits: {train: "train[:-16]", validation: "train[-16:]", test: validation}
fields: {question: question, answer: answer}
metrics: [exact_match]
templates:
- {name: plain, inputs: "{question} =", targets: "{answer}"}
"""
_RUN = """\
include 'gin/runs/train.gin'
include 'gin/models/t5_1_1/t5_1_1.gin'
include 'gin/optimizers/adafactor.gin'
include 'gin/meshes/fsdp.gin'
MIXTURE_OR_TASK_NAME = 'sums'
TASK_FEATURE_LENGTHS = {'inputs': 16, 'targets': 8}
VOCABULARY = 'bytes'
BATCH_SIZE = 4
EVAL_PERIOD = 3
EVAL_STEPS = 2
CHECKPOINT_PERIOD = 0
DROPOUT_RATE = 0.1
EncoderDecoderConfig.vocab_size = 384
EncoderDecoderConfig.emb_dim = 16
EncoderDecoderConfig.head_dim = 8
EncoderDecoderConfig.mlp_dim = 32
EncoderDecoderConfig.num_decoder_layers = 1
EncoderDecoderConfig.num_encoder_layers = 1
EncoderDecoderConfig.num_heads = 2
"""


@pytest.fixture
def train(tmp_path):
  """Trains on some hosts, with four devices in all."""
  (tmp_path / 'sums.yaml').write_text(_DATASET)
  (tmp_path / 'sums.jsonl').write_text(
      ''.join(
          json.dumps({'question': f'{a}+{b}', 'answer': f'{a + b}'}) + '\n'
          for a in range(9)
          for b in range(9)
      )
  )
  (tmp_path / 'run.gin').write_text(_RUN)

  def run(name: str, hosts: int, steps: int) -> list[dict]:
    with socket.socket() as free:
      free.bind(('localhost', 0))
      address = f'localhost:{free.getsockname()[1]}'
    devices = f'--xla_force_host_platform_device_count={4 // hosts}'
    arguments = [
        f'--gin_file={tmp_path / "run.gin"}',
        f'--gin.MODEL_DIR={tmp_path / name}',
        f'--gin.TRAIN_STEPS={steps}',
        f'--mixtures={tmp_path / "sums.yaml"}',
        f'--cache_dir={tmp_path / "cache"}',
    ]
    processes = [
        subprocess.Popen(
            [sys.executable, '-c', _SCRIPT, address, str(hosts), str(index)]
            + arguments,
            stderr=subprocess.PIPE,
            env=os.environ | {'XLA_FLAGS': devices},
            text=True,
        )
        for index in range(hosts)
    ]
    errors = [process.communicate(timeout=300)[1] for process in processes]
    for process, error in zip(processes, errors, strict=True):
      assert process.returncode == 0, error
    return metrics.read(tmp_path / name / 'metrics.jsonl')

  return run


def test_two_hosts_train_as_one(train, tmp_path):
  alone = train('alone', hosts=1, steps=6)
  train('both', hosts=2, steps=3)
  assert runs.steps(tmp_path / 'both') == [0, 3]
  # Stopped on two hosts, gone on with one: same data, same arithmetic but for
  # the order of sums.
  both = train('both', hosts=1, steps=6)
  for found, wanted in zip(both, alone, strict=True):
    assert found['step'] == wanted['step']
    assert found['tokens'] == wanted['tokens']
    np.testing.assert_allclose(found['loss'], wanted['loss'], rtol=1e-3)
    assert ('eval/loss' in found) == (found['step'] % 3 == 0)
  np.testing.assert_allclose(
      both[2]['eval/loss'], alone[2]['eval/loss'], rtol=1e-3
  )
