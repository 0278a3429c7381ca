"""`flan-jax compile`, with the real TPU compiler where it is installed."""

import importlib.util
import json
import os
import subprocess
import sys

from flan_jax import cli
from flan_jax import compile as compile_lib
from flan_jax import train
from flan_jax.topologies import compiler
import pytest

MINI = '--gin_file=gin/examples/mini.gin'
SMALL = (
    '--gin.EncoderDecoderConfig.num_encoder_layers=5',
    '--gin.EncoderDecoderConfig.num_decoder_layers=3',
    '--gin.BATCH_SIZE=16',
)


def _compile(root, *arguments):
  return _python(root, '-m', 'flan_jax', 'compile', MINI, *arguments)


def _python(root, *arguments):
  if importlib.util.find_spec('libtpu') is None:
    pytest.skip('libtpu, the TPU compiler, is not installed')
  # A process of its own: the others have eight virtual devices.
  environment = {k: v for k, v in os.environ.items() if k != 'XLA_FLAGS'}
  return subprocess.run(
      [sys.executable, *arguments],
      cwd=root,
      env=environment,
      capture_output=True,
      text=True,
      timeout=500,
  )


def test_the_step_is_compiled_for_a_slice_that_is_not_there(root, tmp_path):
  done = _compile(root, '--topology=v5e:2x2', '--effort=-1', '--json', *SMALL)
  assert done.returncode == 0, done.stderr
  report = json.loads(done.stdout)
  assert report['chips'] == 4
  assert report['mesh'] == {'data': 4, 'fsdp': 1, 'tensor': 1}
  # Without rematerialisation, and evenly shared, the chips do what the model
  # needs: each layer as often as there are layers.
  needed = report['model_flops_all_chips'] / 4
  assert needed <= report['flops'] * 1.01 <= needed * 1.1
  assert report['loops_counted_once'] == 0
  # Every parameter's gradient goes through an all-reduce once: 4 bytes each, of
  # which a chip sends 2 (n - 1) / n.
  gradient = 4 * report['parameters'] * 2 * 3 / 4
  sent = report['sent_bytes']['all-reduce']
  assert 0.95 * gradient <= sent <= 1.2 * gradient
  memory = report['memory']
  # Parameters and the optimizer's factors, and more than the parameters alone.
  assert memory['arguments'] >= 4 * report['parameters']
  assert memory['peak'] <= memory['hbm'] == 16 * 2**30
  assert report['seconds']['step'] >= max(
      report['seconds'][part] for part in ('compute', 'memory', 'network')
  )
  assert 0 < report['mfu'] <= 1


def test_what_does_not_fit_is_one_line(root):
  done = _compile(
      root, '--topology=v5e:1x1', '--effort=-1', '--gin.BATCH_SIZE=65536'
  )
  assert done.returncode == 2
  last = done.stderr.strip().splitlines()[-1]
  assert last.startswith('flan-jax: error: compile: does not fit: a chip needs')
  assert "EncoderDecoderConfig.dtype = 'bfloat16'" in last
  assert 'BATCH_SIZE = 32768' in last
  assert 'Traceback' not in done.stderr


# Prints the mesh of each file of gin/pods on its slice, and one mesh that is no
# product of its slice's axes.
MESHES = """
import pathlib
from flan_jax import partitioning, train
from flan_jax.topologies import chips, compiler
compiler.prepare()
for path in sorted(pathlib.Path('gin/pods').glob('*_*.gin')):
  slice_ = chips.find(path.stem.split('_', 1)[1].replace('_', '-'))
  settings = train.load([str(path)], ["MODEL_DIR='unused'"], []).settings
  devices = compiler.devices(slice_)
  print(path.stem, partitioning.make_mesh(settings.mesh, devices).size)
odd = partitioning.MeshConfig(data=4, fsdp=16)
print(partitioning.make_mesh(odd, compiler.devices(chips.find('v6e:8x8'))).size)
"""


def test_meshes_of_pods_can_be_laid_on_their_slices(root):
  done = _python(root, '-c', MESHES)
  assert done.returncode == 0, done.stderr
  lines = done.stdout.splitlines()
  assert len(lines) == 21 and lines[-1] == '64'
  assert 'xl_v5e_256 256' in lines and 'xxl_v4_8 4' in lines


@pytest.mark.parametrize(
    'words, needed, there',
    [
        ('Used 23.81G of 15.75G hbm. Exceeded by 8.06G', 23.81, 15.75),
        (
            (
                'the total memory required for HLO temporaries (210.01G)'
                ' exceeds available HBM (15.75G).'
            ),
            210.01,
            15.75,
        ),
    ],
)
def test_the_compilers_words_on_memory_are_read(words, needed, there):
  found = compiler.too_much(words)
  assert found == (int(needed * 2**30), int(there * 2**30))
  assert compiler.too_much('Used up all patience') is None


def test_help_with_memory_names_what_is_not_done_yet():
  class Mesh:
    shape = {'data': 16, 'fsdp': 1, 'tensor': 1}
    size = 16

  settings = train.load(
      ['gin/pods/base_v5e_16.gin'], ["MODEL_DIR='unused'"], []
  ).settings
  said = compile_lib._does_not_fit(
      compiler.DoesNotFit(20 * 2**30, 16 * 2**30), settings, Mesh()
  )
  assert 'needs 20.00 GiB and has 16.00, so 4.00 too much' in said
  assert 'NUM_MICROBATCHES = 2' in said and 'BATCH_SIZE = 256' in said
  assert 'fsdp' in said
  assert 'bfloat16' not in said and 'remat' not in said


@pytest.mark.parametrize(
    'arguments, said',
    [
        ([], '--gin_file: is needed'),
        ([MINI], '--topology: is needed'),
        ([MINI, '--topology=v5e:5x5'], 'is no slice of v5e; there are v5e:1x1'),
        ([MINI, '--topology=v4-8', '--effort=2'], '--effort: must be from -1'),
        (
            [MINI, '--topology=v4-8', '--gin.MIXTURE_OR_TASK_NAME=minni'],
            'minni',
        ),
    ],
)
def test_mistakes_are_one_line(arguments, said, capsys):
  assert cli.main(['compile', *arguments]) == 2
  error = capsys.readouterr().err
  assert said in error and len(error.splitlines()) == 1


def test_a_missing_compiler_is_named_with_what_to_run(monkeypatch, capsys):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  assert cli.main(['compile', MINI, '--topology=v4-8']) == 2
  assert 'pip install "flan_jax[tpu]"' in capsys.readouterr().err
