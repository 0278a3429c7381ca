"""Two hosts predict what one host does: the same examples, all predictions."""

import json
import os
import socket
import subprocess
import sys

import numpy as np

_SCRIPT = """
import json, sys
import jax
address, count, index = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
if count > 1:
  jax.config.update('jax_cpu_collectives_implementation', 'gloo')
  jax.distributed.initialize(address, count, index)
from flan_jax import partitioning
from flan_jax import vocabularies
from flan_jax.data import examples
from flan_jax.inference import predictor
from flan_jax.inference import settings
from flan_jax.models import config
from flan_jax.models import interface
model = interface.create(config.EncoderDecoderConfig(
    vocab_size=384, emb_dim=16, num_heads=2, num_encoder_layers=1,
    num_decoder_layers=1, head_dim=8, mlp_dim=32))
mesh = partitioning.make_mesh()
shardings = partitioning.shardings(mesh, model.logical_axes())
with partitioning.use(mesh):
  params = jax.jit(model.init, out_shardings=shardings)(jax.random.key(0))
made = predictor.Predictor(
    model, params, vocabularies.ByteVocabulary(), mesh=mesh,
    lengths={'inputs': 16, 'targets': 6}, batch_size=3)
found = made.predict([
    examples.Example(
        task='t', template='', row_id=str(i), inputs=f'input {i}', targets='',
        options=('yes', 'no', 'maybe')[: i] or None)
    for i in range(4) for _ in range(2)])
some = [f'input {i}' for i in range(5)]
for method in ('sample', 'beam'):
  found += made.generate(some, decoding=settings.Decoding(method=method))
print('FOUND', json.dumps([
    (said.text, said.option_scores or [said.score]) for said in found]))
"""


def _run(count, devices):
  """Runs the script on `count` hosts; returns what each of them found."""
  with socket.socket() as free:
    free.bind(('localhost', 0))
    address = f'localhost:{free.getsockname()[1]}'
  env = os.environ | {
      'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices}'
  }
  hosts = [
      subprocess.Popen(
          [sys.executable, '-c', _SCRIPT, address, str(count), str(index)],
          stdout=subprocess.PIPE,
          env=env,
          text=True,
      )
      for index in range(count)
  ]
  found = []
  for host in hosts:
    out, _ = host.communicate(timeout=300)
    assert host.returncode == 0
    (line,) = (x for x in out.splitlines() if x.startswith('FOUND '))
    found.append(json.loads(line.removeprefix('FOUND ')))
  return found


def test_two_hosts_predict_as_one():
  (alone,) = _run(1, 1)
  first, second = _run(2, 2)
  assert first == second
  assert [text for text, _ in first] == [text for text, _ in alone]
  for (_, scores), (_, expected) in zip(first, alone, strict=True):
    np.testing.assert_allclose(scores, expected, rtol=1e-4)
