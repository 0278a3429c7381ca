"""Scores a checkpoint under every template, beside the untuned model.

    flan-jax eval --checkpoint=runs/mini --output=runs/mini/evaluation

The settings are those of `Eval`; gin/runs/eval.gin gives them their names.
"""

import argparse
from collections.abc import Sequence
import dataclasses
import os
import pathlib
import sys
import time
from typing import Any, Literal

from flan_jax import compilation
from flan_jax import configuration
from flan_jax import errors
from flan_jax import hosts
from flan_jax import partitioning
from flan_jax import paths
from flan_jax.checkpoints import runs
from flan_jax.data import access as access_lib
from flan_jax.data import catalogue as catalogue_lib
from flan_jax.data import few_shot
from flan_jax.data import listing
from flan_jax.data import presence
from flan_jax.data import tasks as tasks_lib
from flan_jax.evaluation import plan
from flan_jax.evaluation import protocol
from flan_jax.evaluation import results as results_lib
from flan_jax.evaluation import scoring
from flan_jax.evaluation import table
import tqdm

# Says that there is no untuned model to compare with.
_NONE = 'none'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Eval:
  """The settings of `flan-jax eval`.

  Attributes:
    checkpoint_path: A run, or one of its checkpoints.
    output_dir: Where results.json, predictions.jsonl and report.html go.
    untuned_checkpoint_path: The model to compare with; by default the run's
      checkpoint_0, and 'none' for none.
    mixture_or_task_name: What to evaluate; by default the run's mixture and
      the datasets that it holds out.
    templates: 'all', 'trained' (those that training saw) or 'held_out' (those
      that it did not, those of held-out datasets included).
    split: 'train', 'validation' or 'test'.
    max_examples: At most this many rows of a dataset, a seeded choice.
    random_seed: Chooses rows, exemplars and the order of random options.
    batch_size: Examples a batch.
    task_feature_lengths: Tokens of 'inputs' and 'targets'; by default the
      run's.
    few_shot_layout: How exemplars stand before the query; by default the
      run's.
    normalisation: 'sum': options compare by log-likelihood. 'mean': by
      log-likelihood per token.
    use_ema: Whether to take the moving average of the parameters, which a run
      with EMA_DECAY keeps.
    mesh: The devices.
  """

  checkpoint_path: str
  output_dir: str
  untuned_checkpoint_path: str | None = None
  mixture_or_task_name: str | None = None
  templates: str = 'all'
  split: str = 'test'
  max_examples: int | None = 200
  random_seed: int = 0
  batch_size: int = 64
  task_feature_lengths: dict[str, int] | None = None
  few_shot_layout: few_shot.Layout | None = None
  normalisation: Literal['sum', 'mean'] = 'sum'
  use_ema: bool = False
  mesh: partitioning.MeshConfig = partitioning.MeshConfig()

  def __post_init__(self):
    configuration.text('CHECKPOINT_PATH', self.checkpoint_path)
    configuration.text('EVAL_OUTPUT_DIR', self.output_dir)
    configuration.text('SPLIT', self.split)
    configuration.instance('USE_EMA', self.use_ema, bool)
    configuration.text('TEMPLATES', self.templates)
    plan.check_selection(self.templates)
    for name, value in (
        ('UNTUNED_CHECKPOINT_PATH', self.untuned_checkpoint_path),
        ('MIXTURE_OR_TASK_NAME', self.mixture_or_task_name),
    ):
      if value is not None:
        configuration.text(name, value)
    configuration.whole_number('BATCH_SIZE', self.batch_size, 1)
    configuration.whole_number('RANDOM_SEED', self.random_seed)
    if self.max_examples is not None:
      configuration.whole_number('MAX_EXAMPLES', self.max_examples, 1)
    if self.task_feature_lengths is not None:
      configuration.feature_lengths(self.task_feature_lengths)
    if self.few_shot_layout is not None:
      configuration.instance(
          'FEW_SHOT_LAYOUT', self.few_shot_layout, few_shot.Layout
      )
    configuration.one_of(
        'Eval.normalisation', self.normalisation, ('sum', 'mean')
    )


@dataclasses.dataclass(frozen=True)
class _Scope:
  """What is evaluated.

  Attributes:
    names: As it was asked for.
    tasks: The tasks of that.
    trained: The datasets that the run trained on.
    left_out: The datasets done without, since their rows are not here.
  """

  names: list[str]
  tasks: list[tasks_lib.Task]
  trained: set[str]
  left_out: tuple[str, ...] = ()


def main(args: argparse.Namespace) -> int:
  """Evaluates a checkpoint; returns the exit code.

  Raises:
    UserError: Something in the configuration, the names, the data or the
      checkpoint is wrong.
  """
  started = time.perf_counter()
  configuration.register(partitioning.MeshConfig)
  configuration.register(few_shot.Layout, 'FewShotLayout')
  with hosts.Session.from_args(args) as session:
    subject = session.together(lambda: _read(args))
    session.agree(subject.common)
    cache = args.cache_dir or paths.cache_dir()
    compilation.use_cache(pathlib.Path(cache).expanduser())
    examples = sum(len(each.examples) for each in subject.work)
    models = session.together(lambda: _Models(subject.settings, examples))
    answers = subject.answers(models)
    if session.first:
      _finish(
          subject.settings,
          subject.scope,
          subject.rendering,
          models,
          subject.work,
          answers,
      )
      seconds = time.perf_counter() - started
      _say(f'evaluated {examples:,} examples in {seconds:.0f} s{models.cut()}')
  return 0


@dataclasses.dataclass(frozen=True)
class _Subject:
  """What there is to do, with all of its rows read; making it needs no jax."""

  settings: Eval
  step: int
  untuned: str | None
  scope: _Scope
  rendering: protocol.Rendering
  work: Sequence[protocol.Work]

  def common(self) -> dict[str, Any]:
    """Returns what must be the same on all hosts."""
    vocabulary = self.rendering.vocabulary
    return {
        **configuration.by_name(self.settings),
        'the step of the checkpoint': self.step,
        'the untuned checkpoint': self.untuned,
        'VOCABULARY': vocabulary and vocabulary.describe()['sha256'],
        'the tasks': [task.name for task in self.scope.tasks],
        'the numbers of their examples': [len(w.examples) for w in self.work],
    }

  def answers(self, models: '_Models') -> dict[str, list[list[scoring.Answer]]]:
    """Returns what each system says, by system."""
    work = self.work
    answers = {
        'tuned': models.answers('tuned', self.settings.checkpoint_path, work)
    }
    if self.untuned is not None:
      answers['untuned'] = models.answers('untuned', self.untuned, work)
    answers['majority'] = protocol.majority_answers(work)
    return answers


def _read(args: argparse.Namespace) -> _Subject:
  """Looks up what to evaluate and reads its rows; imports nothing slow.

  Raises:
    UserError: As `main`.
  """
  settings = configuration.load(
      args.gin_file, args.gin_bindings, args.gin_search_paths, entry=Eval
  ).settings
  directory, step = runs.locate(settings.checkpoint_path)
  untuned = _untuned(settings, directory, step)
  access = access_lib.Access.from_args(args)
  run = runs.read(directory)
  scope = _here(
      _scope(settings, run, access.catalogue),
      settings.split,
      access,
      getattr(args, 'skip_missing', False),
  )
  planned = plan.items(
      scope.tasks,
      scope.trained,
      settings.templates,
  )
  rendering = _rendering(settings, directory, run)
  with tqdm.tqdm(
      total=len(planned),
      desc='reading',
      unit='task',
      leave=False,
      disable=None,  # Off where nobody watches.
  ) as bar:
    work = protocol.read(planned, access.store, rendering, bar.update)
  return _Subject(settings, step, untuned, scope, rendering, work)


def _untuned(settings: Eval, directory: pathlib.Path, step: int) -> str | None:
  """Returns the checkpoint to compare with, or None."""
  given = settings.untuned_checkpoint_path
  if given == _NONE:
    return None
  if given is not None:
    runs.locate(given)
    return given
  if step == 0 or 0 not in runs.steps(directory):
    why = 'is the untuned model itself' if step == 0 else 'has no checkpoint_0'
    _say(
        f'{settings.checkpoint_path} {why}, so there is none to compare with;'
        ' UNTUNED_CHECKPOINT_PATH can name one'
    )
    return None
  return str(runs.step_path(directory, 0))


def _scope(
    settings: Eval, run: dict[str, Any], catalogue: catalogue_lib.Catalogue
) -> _Scope:
  """Looks up what to evaluate, and what the run trained on.

  Raises:
    UserError: A name is unknown.
  """
  trained_on = run.get('mixture')
  trained = listing.members(catalogue, [trained_on] if trained_on else [])
  if settings.mixture_or_task_name is not None:
    names = [settings.mixture_or_task_name]
  elif trained_on:
    held_out = listing.held_out_name(catalogue, trained_on)
    names = [trained_on, held_out] if held_out else [trained_on]
  else:
    raise errors.UserError(
        f'{settings.checkpoint_path}: does not say what it was trained on; set'
        ' MIXTURE_OR_TASK_NAME'
    )
  return _Scope(
      names,
      listing.members(catalogue, names),
      # A run may have done without some of its mixture.
      {task.dataset.name for task in trained} - set(run.get('left_out', ())),
  )


def _here(
    scope: _Scope, split: str, access: access_lib.Access, skip: bool
) -> _Scope:
  """Returns what of it can be evaluated here.

  Tasks whose datasets have no such split are left out, with a word.

  Raises:
    UserError: There are none, or rows are not here and that may not be.
  """
  tasks, without = presence.with_split(scope.tasks, split)
  if without:
    _say(without)
  wanted = presence.needs(tasks, split)
  missing = presence.require(access, wanted, ', '.join(scope.names), skip)
  if missing:
    _say(presence.left_out(missing))
    tasks = [task for task in tasks if task.dataset.name not in missing]
  return dataclasses.replace(
      scope, tasks=tasks, left_out=tuple(sorted(missing))
  )


def _rendering(
    settings: Eval, directory: pathlib.Path, run: dict[str, Any]
) -> protocol.Rendering:
  return protocol.Rendering(
      split=settings.split,
      limit=settings.max_examples,
      seed=settings.random_seed,
      vocabulary=runs.read_vocabulary(directory),
      lengths=settings.task_feature_lengths or run['lengths'],
      layout=settings.few_shot_layout
      or few_shot.Layout(**run.get('few_shot_layout', {})),
  )


class _Models:
  """Loads models, one at a time, and lets them answer.

  Attributes:
    systems: By system, its checkpoint and step.
  """

  def __init__(self, settings: Eval, examples: int):
    self.systems: dict[str, dict[str, Any]] = {}
    self._settings = settings
    self._examples = examples
    self._mesh = partitioning.make_mesh(settings.mesh)
    hosts.meet(self._mesh)
    self._predictor: Any = None
    self._loaded: Any = None
    self._cut = 0

  def answers(
      self, system: str, path: str, work: Sequence[protocol.Work]
  ) -> list[list[scoring.Answer]]:
    """Puts everything to the model at `path`, with a progress bar."""
    import jax

    with tqdm.tqdm(
        total=self._examples,
        desc=system,
        unit='ex',
        disable=True if jax.process_index() else None,
    ) as bar:
      self._load(system, path)
      answers = protocol.answer(work, self._answer, bar.update)
    self._cut = max(self._cut, self._predictor.cut_inputs)
    return answers

  def cut(self) -> str:
    """Says how many inputs were cut."""
    if not self._cut:
      return ''
    return f'; {self._cut:,} inputs were too long and lost their end'

  def _load(self, system: str, path: str) -> None:
    """Makes the predictor of a checkpoint.

    Another checkpoint of the same run goes into the same compiled programs.
    """
    from flan_jax.checkpoints import native
    from flan_jax.inference import predictor

    directory, step = runs.locate(path)
    before = self._loaded
    self.systems[system] = {'checkpoint': str(path), 'step': step}
    # An untuned model may have no average, and is its own.
    use_ema = self._settings.use_ema and system == 'tuned'
    if use_ema:
      self.systems[system]['use_ema'] = True
    if before and before.run == runs.read(directory):
      self._predictor.params = None  # Two models may not fit.
      self._predictor.params = native.load_params(
          path, before.model, self._mesh, use_ema
      )
      self._predictor.cut_inputs = 0
      return
    self._predictor = self._loaded = before = None
    loaded = native.load_model(path, mesh=self._mesh, use_ema=use_ema)
    self._predictor = predictor.Predictor(
        loaded.model,
        loaded.params,
        loaded.vocabulary,
        mesh=self._mesh,
        lengths=self._settings.task_feature_lengths or loaded.lengths,
        batch_size=self._settings.batch_size,
        normalisation=self._settings.normalisation,
    )
    # The predictor alone holds the parameters, so that they can go.
    self._loaded = dataclasses.replace(loaded, params=None)

  def _answer(
      self,
      examples: Sequence[Any],
      ranked: bool,
      progress: protocol.Progress,
  ) -> list[scoring.Answer]:
    method = self._predictor.rank if ranked else self._predictor.generate
    return [
        scoring.Answer(
            said.text, said.option_index, said.score, said.option_scores
        )
        for said in method(examples, progress)
    ]


def _finish(
    settings: Eval,
    scope: _Scope,
    rendering: protocol.Rendering,
    models: _Models,
    work: Sequence[protocol.Work],
    answers: dict[str, list[list[scoring.Answer]]],
) -> None:
  """Scores, writes the files, and prints table, samples and paths."""
  results = results_lib.assemble(
      protocol.score(work, answers, settings.random_seed),
      systems={**models.systems, 'majority': {}},
      mixtures=scope.names,
      left_out=scope.left_out,
      templates=settings.templates,
      rendering=rendering,
      normalisation=settings.normalisation,
  )
  report = results_lib.write(
      os.path.expanduser(settings.output_dir),
      results,
      protocol.lines(work, answers),
  )
  print(table.render(results))
  print(f'\nSample predictions\n\n{table.samples(work, answers)}\n')
  print(f'{table.headline(results)}\n')
  print(f'results: {report.parent / results_lib.RESULTS}')
  print(f'report:  {report}')


def _say(text: str) -> None:
  print(text, file=sys.stderr, flush=True)
