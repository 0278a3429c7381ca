"""Writes zero-shot predictions: one JSON Lines file a task.

    flan-jax infer --checkpoint=runs/mini --mixture=rte:template_3 \\
        --output=runs/mini/predictions
    flan-jax infer --checkpoint=runs/mini --input=prompts.jsonl --output=answers

An example with options is answered by ranking them, unless its task's name says
`:generate`; for other examples an answer is written.
"""

import argparse
from collections.abc import Iterator, Sequence
import dataclasses
import itertools
from typing import Any

from flan_jax import compilation
from flan_jax import configuration
from flan_jax import errors
from flan_jax import host_flags
from flan_jax import hosts
from flan_jax import library_log
from flan_jax import partitioning
from flan_jax import paths
from flan_jax import prediction_jobs
from flan_jax import prediction_run
from flan_jax.checkpoints import places
from flan_jax.data import access as access_lib
from flan_jax.data import few_shot
from flan_jax.inference import infer_settings
from flan_jax.inference import output as output_lib
from flan_jax.inference import settings as decoding_lib
from flan_jax.inference import shards
from flan_jax.inference import writer
from flan_jax.models import config as model_config

_SAMPLES = 3


def main(args: argparse.Namespace) -> int:
  """Predicts every task of a mixture, or a file; returns the exit code.

  Raises:
    UserError: Something in the configuration, the names, the data or the
      checkpoint is wrong.
  """
  if args.join is not None:
    shards.join(args.join, args.overwrite)
    return 0
  for configurable in (
      *model_config.FAMILIES,
      partitioning.MeshConfig,
      decoding_lib.Decoding,
  ):
    configuration.register(configurable)
  configuration.register(few_shot.Layout, 'FewShotLayout')
  with (
      library_log.LibraryLog() as log,
      hosts.Session(_hosts(args)) as session,
  ):
    run = session.together(lambda: _read(args))
    session.agree(run.common)
    compilation.use_cache(paths.cache_dir(args.cache_dir))
    work = prediction_run.open_work(run, session)
    log.keep(run.directory, session.index)
    done = work.predict(session)
    if session.first:
      _report(done, work)
  return 0


def _hosts(args: argparse.Namespace) -> host_flags.Flags:
  """Returns which hosts there are: none but this one, where it has a shard."""
  flags = host_flags.Flags.from_args(args)
  if args.num_shards is not None and not flags.given:
    return dataclasses.replace(flags, process_count=1)
  return flags


def _shard(args: argparse.Namespace) -> output_lib.Shard:
  """Returns which of several shards this is.

  Raises:
    UserError: It is none of them.
  """
  index, count = args.shard, args.num_shards
  if index is None and count is None:
    return output_lib.Shard()
  if index is None or count is None:
    given, missing = '--num_shards', '--shard'
    if count is None:
      given, missing = missing, given
    raise errors.UserError(f'{given}: needs {missing} beside it')
  configuration.whole_number('--num_shards', count, 1)
  if not 0 <= index < count:
    raise errors.UserError(
        f'--shard: must be 0 to {count - 1} of {count} shards, not {index}'
    )
  return output_lib.Shard(index, count)


def _read(args: argparse.Namespace) -> prediction_run.Run:
  """Looks everything up that can be wrong; imports nothing slow."""
  shard = _shard(args)
  settings = configuration.load(
      args.gin_file,
      args.gin_bindings,
      args.gin_search_paths,
      entry=infer_settings.Infer,
  ).settings
  place = places.locate(settings.checkpoint_path)
  facts = place.run
  rendering = prediction_jobs.Rendering(
      place.vocabulary(),
      settings.task_feature_lengths or facts['lengths'],
      settings.few_shot_layout
      or few_shot.Layout(**facts.get('few_shot_layout', {})),
  )
  run = prediction_run.Run(
      settings=settings,
      checkpoints=place.candidates(settings.checkpoint_path),
      rendering=rendering,
      jobs=_jobs(settings, rendering, args),
      shard=shard,
      overwrite=args.overwrite,
  )
  run.check()
  return run


def _jobs(
    settings: infer_settings.Infer,
    rendering: prediction_jobs.Rendering,
    args: argparse.Namespace,
) -> Sequence[prediction_jobs.Job]:
  """Returns what the name or the file stands for, with rows stored."""
  if settings.input_file is not None:
    return [prediction_jobs.of_file(settings.input_file, settings.max_examples)]
  assert settings.mixture_or_task_name is not None
  return prediction_jobs.of_name(
      settings.mixture_or_task_name,
      settings.split,
      access_lib.Access.from_args(args),
      rendering,
      limit=settings.max_examples,
      skip_missing=getattr(args, 'skip_missing', False),
  )


def _report(
    done: Sequence[prediction_run.Done], work: prediction_run.Work
) -> None:
  """Prints the summary and a few predictions."""
  width = max(len(line.name) for line in done)
  print(f'{"task":<{width}}  examples  seconds  examples/s  file')
  for line in done:
    if line.predicted:
      rate = line.predicted / max(line.seconds, 1e-9)
      figures = f'{line.seconds:>7.1f}  {rate:>10.1f}'
    else:
      figures = f'{"found" * bool(line.contents.lines):>7}  {"":>10}'
    print(
        f'{line.name:<{width}}  {line.contents.lines:>8}  {figures}'
        f'  {line.path}'
    )
  for line in done:
    for remark in _remarks(line.contents):
      print(f'{line.name}: {remark}')
  if work.predictor is not None:
    # What is said above, the files show too, for all of their lines.
    remarks = dataclasses.replace(
        work.predictor.remarks, cut_inputs=0, not_numbers=[]
    )
    for remark in remarks.lines():
      print(remark)
  for sample in _samples(done):
    print()
    print(f'{sample["task"]} {sample["row_id"]}')
    print(_indented('inputs', sample['inputs']))
    print(_indented('prediction', sample['prediction']))
    if sample['targets']:
      print(_indented('targets', sample['targets']))


def _remarks(contents: writer.Contents) -> Iterator[str]:
  """Says what is odd about a file of predictions."""
  if contents.cut:
    yield (
        f'{contents.cut:,} of {contents.lines:,} inputs were too long and lost'
        f' their end (cut_tokens in the file), {contents.first_cut} first'
    )
  if contents.unscored:
    yield (
        f'{contents.unscored:,} of {contents.lines:,} predictions have a score'
        ' that is not a number (null in the file),'
        f' {contents.first_unscored} first: the model has overflowed, or its'
        ' training diverged'
    )


def _samples(done: Sequence[prediction_run.Done]) -> list[dict[str, Any]]:
  """Returns the first prediction of tasks spread over the list."""
  filled = [line for line in done if line.contents.lines]
  if not filled:
    return []
  count = min(_SAMPLES, len(filled))
  per_task = -(-_SAMPLES // count)
  chosen = [filled[i * len(filled) // count] for i in range(count)]
  lines = [
      line
      for task in chosen
      for line in itertools.islice(writer.lines(task.path), per_task)
  ]
  return lines[:_SAMPLES]


def _indented(name: str, text: str, most: int = 600) -> str:
  shown = text if len(text) <= most else text[:most] + ' ...'
  head = f'  {name + ":":<12}'
  return head + shown.replace('\n', '\n' + ' ' * len(head))
