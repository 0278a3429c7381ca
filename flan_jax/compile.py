"""Compiles a run's training step for a TPU slice that is not there.

    flan-jax compile --gin_file=gin/pods/xl.gin --topology=v5e:16x16

The step is the one that `flan-jax train` compiles; neither data nor checkpoints
are read or written. docs/scaling.md explains the numbers.
"""

import argparse
import json
import math
import sys
from typing import Any

from flan_jax import errors
from flan_jax import partitioning
from flan_jax import train
from flan_jax.data import catalogue as catalogue_lib
from flan_jax.data import mixtures
from flan_jax.data import packing
from flan_jax.topologies import chips
from flan_jax.topologies import compiler
from flan_jax.topologies import cost as cost_lib
from flan_jax.topologies import report as report_lib
from flan_jax.training import settings as settings_lib

# A run must have one; nothing is written there.
_NO_MODEL_DIR = "MODEL_DIR='unused'"


def main(args: argparse.Namespace) -> int:
  """Compiles, and prints what the step needs; returns the exit code.

  Raises:
    UserError: The topology is unknown, the configuration is wrong, the compiler
      is not installed, or the step does not fit.
  """
  if not args.gin_file:
    raise errors.UserError(
        '--gin_file: is needed, such as --gin_file=gin/pods/base.gin'
    )
  if not args.topology:
    raise errors.UserError('--topology: is needed, such as v5e:4x4 or v5e-16')
  slice_ = chips.find(args.topology)
  effort = _effort(args.effort)
  settings = train.load(
      args.gin_file, [_NO_MODEL_DIR, *args.gin_bindings], args.gin_search_paths
  ).settings
  members = len(_mixture(settings, args.mixtures).members)
  compiler.prepare()
  report = compile_step(settings, slice_, effort, members)
  if args.json:
    print(json.dumps(report.as_json(), indent=2))
  else:
    print(report.as_text())
  return 0


def _effort(text: str | None) -> float:
  try:
    effort = float(text or 0)
  except ValueError:
    effort = math.nan
  if not -1 <= effort <= 1:
    raise errors.UserError(f'--effort: must be from -1 to 1, not {text!r}')
  return effort


def _mixture(
    settings: settings_lib.Train, paths: list[str]
) -> mixtures.Mixture:
  """Looks up the mixture, whose declaration is read but not its rows."""
  catalogue = catalogue_lib.Catalogue(paths)
  name = settings.mixture_or_task_name
  return mixtures.as_mixture(mixtures.resolve(catalogue, name))


def compile_step(
    settings: settings_lib.Train,
    slice_: chips.Slice,
    effort: float = 0.0,
    members: int = 0,
) -> report_lib.Report:
  """Compiles the training step of a run for a slice.

  Args:
    settings: The run.
    slice_: The chips.
    effort: See `compiler.build`.
    members: The number of the mixture's members; their losses are summed up
      apart.

  Raises:
    UserError: The mesh does not fit the slice, or the step its memory.
  """
  from flan_jax.models import flops
  from flan_jax.models import interface
  from flan_jax.training import trainer as trainer_lib

  mesh = partitioning.make_mesh(settings.mesh, compiler.devices(slice_))
  model = interface.create(settings.training_model)
  trainer = trainer_lib.Trainer(settings, model, mesh, members=members)
  lowered = trainer.lowered_step()
  _say(
      f'compiling for {slice_.size} x {slice_.chip.name}; this takes minutes'
      ' (--effort=-1: less than half of them)'
  )
  try:
    built = compiler.build(lowered, effort)
  except compiler.DoesNotFit as error:
    raise errors.UserError(_does_not_fit(error, settings, mesh)) from error
  lengths = settings.task_feature_lengths
  form = packing.FORMS[settings.model.row_format]
  tokens = {
      side: settings.batch_size * length
      for side, length in form.positions(lengths).items()
  }
  return report_lib.Report(
      slice=slice_,
      mesh=dict(mesh.shape),
      parameters=interface.count_parameters(model),
      rows=settings.batch_size,
      lengths=dict(lengths),
      model_flops=flops.training(settings.model, lengths)
      .less(trainer.split.share)
      .total(tokens),
      compile_seconds=built.seconds,
      effort=effort,
      memory=_memory(built.compiled),
      cost=cost_lib.count(
          built.compiled.as_text(),
          slice_.size,
          cost_lib.Rates(
              flops=slice_.chip.flops, bandwidth=slice_.chip.hbm_bandwidth
          ),
      ),
  )


def _memory(compiled: Any) -> dict[str, int]:
  """Returns bytes a chip by kind."""
  stats = compiled.memory_analysis()
  memory = {
      'arguments': stats.argument_size_in_bytes,
      'outputs': stats.output_size_in_bytes,
      'shared': stats.alias_size_in_bytes,
      'temporaries': stats.temp_size_in_bytes,
      'program': stats.generated_code_size_in_bytes,
  }
  memory['peak'] = sum(memory.values()) - 2 * memory['shared']
  return memory


def _does_not_fit(
    error: compiler.DoesNotFit, settings: settings_lib.Train, mesh: Any
) -> str:
  """Says by how much, and which settings help."""
  needed, there = error.needed / 2**30, error.available / 2**30
  model, rows = settings.model, settings.batch_size
  help_: list[str] = []
  if mesh.shape['fsdp'] * mesh.shape['tensor'] == 1 < mesh.size:
    help_.append("include 'gin/meshes/fsdp.gin' (MESH)")
  kind = type(model).__name__
  if model.dtype == 'float32':
    help_.append(f"{kind}.dtype = 'bfloat16'")
  if model.remat != 'full':
    help_.append(f"{kind}.remat = 'full'")
  divisor = partitioning.batch_divisor(mesh)
  parts = 2 * settings.num_microbatches
  if rows % (parts * divisor) == 0:
    help_.append(f'NUM_MICROBATCHES = {parts}')
  if rows >= 2 * divisor:
    help_.append(f'BATCH_SIZE = {rows // 2 // divisor * divisor}')
  if not help_:
    help_.append('more chips')
  return (
      f'compile: does not fit: a chip needs {needed:.2f} GiB and has'
      f' {there:.2f}, so {needed - there:.2f} too much; what helps:'
      f' {", ".join(help_)}'
  )


def _say(text: str) -> None:
  print(text, file=sys.stderr, flush=True)
