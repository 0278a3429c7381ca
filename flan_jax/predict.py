"""Writes zero-shot predictions: one JSON Lines file a task.

    flan-jax infer --checkpoint=runs/mini --mixture=rte:template_3 \\
        --output=runs/mini/predictions

An example with options is answered by ranking them, unless its task's name says
`:generate`; other examples are answered by greedy decoding.
"""

import argparse
from collections.abc import Sequence
import dataclasses
import pathlib
import time
from typing import Any, Literal, TYPE_CHECKING

from flan_jax import compilation
from flan_jax import configuration
from flan_jax import hosts
from flan_jax import partitioning
from flan_jax import paths
from flan_jax import vocabularies
from flan_jax.checkpoints import runs
from flan_jax.data import access as access_lib
from flan_jax.data import examples as examples_lib
from flan_jax.data import few_shot
from flan_jax.data import mixtures
from flan_jax.data import presence
from flan_jax.data import tasks as tasks_lib
from flan_jax.models import config as model_config
import tqdm

if TYPE_CHECKING:
  from flan_jax.inference import predictor as predictor_lib
  from flan_jax.inference import writer as writer_lib

_SAMPLES = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Infer:
  """The settings of `flan-jax infer`.

  Attributes:
    checkpoint_path: A run, or one of its checkpoints.
    output_dir: Where the predictions go.
    mixture_or_task_name: What to predict; a mixture means each of its tasks.
    split: 'train', 'validation' or 'test'.
    batch_size: Examples a batch.
    max_examples: At most this many examples a task, the first ones.
    task_feature_lengths: Tokens of 'inputs' and 'targets'; by default the
      run's.
    few_shot_layout: How exemplars stand before the query; by default the
      run's.
    normalisation: 'sum': options compare by log-likelihood. 'mean': by
      log-likelihood per token.
    use_ema: Whether to take the moving average of the parameters, which a run
      with EMA_DECAY keeps.
    model: The model; by default the checkpoint's own.
    mesh: The devices.
  """

  checkpoint_path: str
  output_dir: str
  mixture_or_task_name: str
  split: str = 'test'
  batch_size: int = 32
  max_examples: int | None = None
  task_feature_lengths: dict[str, int] | None = None
  few_shot_layout: few_shot.Layout | None = None
  normalisation: Literal['sum', 'mean'] = 'sum'
  use_ema: bool = False
  model: model_config.ModelConfig | None = None
  mesh: partitioning.MeshConfig = partitioning.MeshConfig()

  def __post_init__(self):
    configuration.text('CHECKPOINT_PATH', self.checkpoint_path)
    configuration.text('INFER_OUTPUT_DIR', self.output_dir)
    configuration.text('MIXTURE_OR_TASK_NAME', self.mixture_or_task_name)
    configuration.text('SPLIT', self.split)
    configuration.instance('USE_EMA', self.use_ema, bool)
    configuration.whole_number('BATCH_SIZE', self.batch_size, 1)
    if self.max_examples is not None:
      configuration.whole_number('MAX_EXAMPLES', self.max_examples, 1)
    if self.task_feature_lengths is not None:
      configuration.feature_lengths(self.task_feature_lengths)
    if self.model is not None:
      configuration.instance('MODEL', self.model, model_config.FAMILIES)
    if self.few_shot_layout is not None:
      configuration.instance(
          'FEW_SHOT_LAYOUT', self.few_shot_layout, few_shot.Layout
      )
    configuration.one_of(
        'Infer.normalisation', self.normalisation, ('sum', 'mean')
    )


@dataclasses.dataclass(frozen=True)
class Done:
  """One line of the summary; `seconds` is None for a file found finished."""

  task: str
  examples: int
  seconds: float | None
  path: str


def main(args: argparse.Namespace) -> int:
  """Predicts every task of a mixture; returns the exit code.

  Raises:
    UserError: Something in the configuration, the names, the data or the
      checkpoint is wrong.
  """
  for configurable in (*model_config.FAMILIES, partitioning.MeshConfig):
    configuration.register(configurable)
  configuration.register(few_shot.Layout, 'FewShotLayout')
  with hosts.Session.from_args(args) as session:
    run, tasks = session.together(lambda: _read(args))
    return _predict_all(run, tasks, session, args)


def _read(args: argparse.Namespace) -> tuple['_Run', list[tasks_lib.Task]]:
  """Looks everything up that can be wrong; imports nothing slow."""
  settings = configuration.load(
      args.gin_file, args.gin_bindings, args.gin_search_paths, entry=Infer
  ).settings
  directory, step = runs.locate(settings.checkpoint_path)
  facts = runs.read(directory)
  run = _Run(
      settings=settings,
      access=access_lib.Access.from_args(args),
      checkpoint=runs.step_path(directory, step),
      vocabulary=runs.read_vocabulary(directory),
      lengths=settings.task_feature_lengths or facts['lengths'],
      layout=settings.few_shot_layout
      or few_shot.Layout(**facts.get('few_shot_layout', {})),
  )
  return run, run.tasks(getattr(args, 'skip_missing', False))


def _predict_all(
    run: '_Run',
    tasks: Sequence[tasks_lib.Task],
    session: hosts.Session,
    args: argparse.Namespace,
) -> int:
  """Predicts what is not there yet, with jax from here on."""
  session.agree(lambda: run.common(tasks))
  from flan_jax.inference import writer

  settings = run.settings
  cache = args.cache_dir or paths.cache_dir()
  compilation.use_cache(pathlib.Path(cache).expanduser())
  output = writer.Output(
      settings.output_dir,
      {
          'checkpoint': str(run.checkpoint.resolve()),
          'split': settings.split,
          'max_examples': settings.max_examples,
          'task_feature_lengths': dict(run.lengths),
          'normalisation': settings.normalisation,
          **run.layout_record(),
      },
  )
  waiting = _unfinished(output, tasks, args.overwrite)
  predictor = session.together(run.predictor) if waiting else None
  done = [
      _predict(task, run, predictor, output)
      if task.name in waiting
      else _found(task, output)
      for task in tasks
  ]
  _report(done, predictor)
  return 0


@dataclasses.dataclass(frozen=True)
class _Run:
  """What the settings lead to; making it needs no jax."""

  settings: Infer
  access: access_lib.Access
  checkpoint: pathlib.Path
  vocabulary: vocabularies.Vocabulary
  lengths: dict[str, int]
  layout: few_shot.Layout

  def layout_record(self) -> dict[str, Any]:
    """Returns what predictions depend on, where it is not the usual."""
    if self.layout == few_shot.Layout():
      return {}
    return {'few_shot_layout': dataclasses.asdict(self.layout)}

  def tasks(self, skip_missing: bool) -> list[tasks_lib.Task]:
    """Returns the tasks that the name stands for, with their rows stored.

    Tasks whose datasets have no such split are left out, with a word.

    Args:
      skip_missing: Whether to leave those out as well whose rows are not here.

    Raises:
      UserError: The name is unknown, or rows cannot be had.
    """
    split = self.settings.split
    found = mixtures.resolve(
        self.access.catalogue, self.settings.mixture_or_task_name
    )
    named = [task for task, _ in mixtures.as_mixture(found).members]
    tasks, without = presence.with_split(named, split)
    if without:
      print(without)
    wanted = presence.needs(tasks, split)
    missing = presence.require(self.access, wanted, found.name, skip_missing)
    if missing:
      print(presence.left_out(missing))
      tasks = [task for task in tasks if task.dataset.name not in missing]
    with tqdm.tqdm(
        presence.needs(tasks, split), desc='rows', disable=None, leave=False
    ) as bar:
      for dataset, names in bar:
        self.access.store.prepare(dataset, names)
    return tasks

  def common(self, tasks: Sequence[tasks_lib.Task]) -> dict[str, Any]:
    """Returns what must be the same on all hosts."""
    return {
        **configuration.by_name(self.settings),
        'the checkpoint': self.checkpoint.name,
        'VOCABULARY.sha256': self.vocabulary.describe()['sha256'],
        **{
            f'the number of examples of {task.name}': len(
                self.access.store.open(task.dataset, self.settings.split)
            )
            for task in tasks
        },
    }

  def predictor(self) -> 'predictor_lib.Predictor':
    """Loads the model."""
    from flan_jax.checkpoints import native
    from flan_jax.inference import predictor as predictor_lib

    settings = self.settings
    mesh = partitioning.make_mesh(settings.mesh)
    hosts.meet(mesh)
    loaded = native.load_model(
        self.checkpoint,
        mesh=mesh,
        model_config=settings.model,
        use_ema=settings.use_ema,
    )
    return predictor_lib.Predictor(
        loaded.model,
        loaded.params,
        self.vocabulary,
        mesh=mesh,
        lengths=self.lengths,
        batch_size=settings.batch_size,
        normalisation=settings.normalisation,
    )

  def examples(self, task: tasks_lib.Task) -> list[examples_lib.Example]:
    """Renders a task's examples."""
    from flan_jax.data import pipeline

    return pipeline.examples(
        task,
        self.settings.split,
        self.access.store,
        limit=self.settings.max_examples,
        vocabulary=self.vocabulary,
        lengths=self.lengths,
        layout=self.layout,
    )


def _unfinished(
    output: 'writer_lib.Output',
    tasks: Sequence[tasks_lib.Task],
    overwrite: bool,
) -> set[str]:
  """Returns the names to predict: those that host 0 finds unfinished."""
  import jax
  from jax.experimental import multihost_utils
  import numpy as np

  missing = np.asarray(
      [overwrite or not output.finished(task.name) for task in tasks]
  )
  if jax.process_count() > 1:
    missing = multihost_utils.broadcast_one_to_all(missing)
  return {
      task.name for task, wanted in zip(tasks, missing, strict=True) if wanted
  }


def _predict(
    task: tasks_lib.Task,
    run: _Run,
    predictor: 'predictor_lib.Predictor | None',
    output: 'writer_lib.Output',
) -> Done:
  """Predicts one task and writes its file."""
  from flan_jax.inference import writer
  import jax

  assert predictor is not None
  start = time.perf_counter()
  examples = run.examples(task)
  host = jax.process_index()
  with tqdm.tqdm(
      total=len(examples),
      desc=task.name,
      unit=' examples',
      leave=False,
      # None: off where the output is not a terminal.
      disable=True if host else None,
  ) as bar:
    predictions = predictor.predict(
        examples, task.setting.evaluation, bar.update
    )
  if host == 0:
    output.write(task.name, writer.records(examples, predictions))
  return Done(
      task.name,
      len(examples),
      time.perf_counter() - start,
      str(output.path(task.name)),
  )


def _found(task: tasks_lib.Task, output: 'writer_lib.Output') -> Done:
  from flan_jax.inference import writer
  import jax

  path = output.path(task.name)
  if jax.process_index() == 0:
    print(f'{task.name}: {path} is finished; --overwrite predicts it again')
  return Done(task.name, len(writer.read(path)), None, str(path))


def _report(
    done: Sequence[Done], predictor: 'predictor_lib.Predictor | None'
) -> None:
  """Prints the summary and a few predictions, on host 0."""
  import jax

  if jax.process_index():
    return
  width = max(len(line.task) for line in done)
  print(f'{"task":<{width}}  examples  seconds  examples/s  file')
  for line in done:
    if line.seconds is None:
      figures = f'{"found":>7}  {"":>10}'
    else:
      rate = line.examples / max(line.seconds, 1e-9)
      figures = f'{line.seconds:>7.1f}  {rate:>10.1f}'
    print(f'{line.task:<{width}}  {line.examples:>8}  {figures}  {line.path}')
  if predictor is not None and predictor.cut_inputs:
    print(f'{predictor.cut_inputs} inputs were too long and lost their end.')
  for sample in _samples(done):
    print()
    print(f'{sample["task"]} {sample["row_id"]}')
    print(_indented('inputs', sample['inputs']))
    print(_indented('prediction', sample['prediction']))
    print(_indented('targets', sample['targets']))


def _samples(done: Sequence[Done]) -> list[dict[str, Any]]:
  """Returns the first prediction of tasks spread over the list."""
  from flan_jax.inference import writer

  count = min(_SAMPLES, len(done))
  per_task = -(-_SAMPLES // count)
  chosen = [done[i * len(done) // count] for i in range(count)]
  lines = [
      line for task in chosen for line in writer.read(task.path)[:per_task]
  ]
  return lines[:_SAMPLES]


def _indented(name: str, text: str, most: int = 600) -> str:
  shown = text if len(text) <= most else text[:most] + ' ...'
  head = f'  {name + ":":<12}'
  return head + shown.replace('\n', '\n' + ' ' * len(head))
