"""Scores checkpoints under every template, beside what they started from.

    flan-jax eval --checkpoint=runs/mini --output=runs/mini/evaluation
    flan-jax eval --checkpoint=small=runs/a --checkpoint=large=runs/b ...

The settings are those of `Eval`; gin/runs/eval.gin gives them their names.
"""

import argparse
from collections.abc import Sequence
import dataclasses
import os
import sys
import time
from typing import Any

from flan_jax import compilation
from flan_jax import configuration
from flan_jax import errors
from flan_jax import hosts
from flan_jax import library_log
from flan_jax import partitioning
from flan_jax import paths
from flan_jax import vocabularies
from flan_jax.data import access as access_lib
from flan_jax.data import catalogue as catalogue_lib
from flan_jax.data import few_shot
from flan_jax.data import listing
from flan_jax.data import presence
from flan_jax.data import tasks as tasks_lib
from flan_jax.evaluation import answering
from flan_jax.evaluation import kept
from flan_jax.evaluation import plan
from flan_jax.evaluation import protocol
from flan_jax.evaluation import published
from flan_jax.evaluation import results as results_lib
from flan_jax.evaluation import settings as settings_lib
from flan_jax.evaluation import systems
from flan_jax.evaluation import table
from flan_jax.inference import settings as decoding_lib
import tqdm

# So many inputs of each task tell what the vocabulary loses.
_SAMPLED = 8

Eval = settings_lib.Eval


@dataclasses.dataclass(frozen=True)
class _Scope:
  """What is evaluated.

  Attributes:
    names: As it was asked for.
    tasks: The tasks of that, by setting; '' is the main one.
    trained: The datasets that any of the runs trained on.
    clusters: By model, the clusters that it trained on.
    left_out: The datasets done without, since their rows are not here.
  """

  names: list[str]
  tasks: dict[str, list[tasks_lib.Task]]
  trained: set[str]
  clusters: dict[str, set[str]]
  left_out: tuple[str, ...] = ()


def main(args: argparse.Namespace) -> int:
  """Evaluates checkpoints; returns the exit code.

  Raises:
    UserError: Something in the configuration, the names, the data or the
      checkpoints is wrong.
  """
  started = time.perf_counter()
  configuration.register(partitioning.MeshConfig)
  configuration.register(few_shot.Layout, 'FewShotLayout')
  configuration.register(decoding_lib.Decoding)
  with (
      library_log.LibraryLog() as log,
      hosts.Session.from_args(args) as session,
  ):
    subject = session.together(lambda: _read(args))
    session.agree(subject.common)
    compilation.use_cache(paths.cache_dir(args.cache_dir))
    log.keep(subject.output_dir, session.index)
    answerer = session.together(
        lambda: answering.Answerer(
            subject.settings, subject.output_dir, session.first
        )
    )
    said = {
        model.name: answerer.ask(model, subject.work, subject.validation)
        for model in systems.by_run(subject.models)
    }
    if session.first:
      _finish(subject, said)
      examples = sum(len(each.examples) for each in subject.work)
      seconds = time.perf_counter() - started
      compiled = '; '.join(['', *answerer.compilations])
      _say(f'evaluated {examples:,} examples in {seconds:.0f} s{compiled}')
      if answerer.reused:
        _say(
            f'{answerer.reused:,} answers were there from an evaluation that'
            ' was stopped'
        )
      for remark in answerer.remarks:
        _say(remark)
  return 0


@dataclasses.dataclass(frozen=True)
class _Subject:
  """What there is to do, with all of its rows read; making it needs no jax.

  Attributes:
    settings: Of the evaluation.
    models: Whom to ask.
    scope: What to ask them.
    rendering: Which rows, and how they read.
    work: The rows.
    validation: Rows that tell which templates are best.
    without_validation: Datasets whose best template cannot be told.
  """

  settings: Eval
  models: Sequence[systems.Model]
  scope: _Scope
  rendering: protocol.Rendering
  work: Sequence[protocol.Work]
  validation: Sequence[protocol.Work]
  without_validation: Sequence[str]

  @property
  def output_dir(self) -> str:
    return os.path.expanduser(self.settings.output_dir)

  def common(self) -> dict[str, Any]:
    """Returns what must be the same on all hosts."""
    vocabulary = self.rendering.vocabulary
    return {
        **configuration.by_name(self.settings),
        'the checkpoints': [
            (m.name, m.path, m.place.step) for m in self.models
        ],
        'VOCABULARY': vocabulary and vocabulary.describe()['sha256'],
        'the tasks': [each.item.task.name for each in self.work],
        'the numbers of their examples': [
            len(each.examples) for each in (*self.work, *self.validation)
        ],
    }


def _read(args: argparse.Namespace) -> _Subject:
  """Looks up what to evaluate and reads its rows; imports nothing slow.

  Raises:
    UserError: As `main`.
  """
  settings = configuration.load(
      args.gin_file, args.gin_bindings, args.gin_search_paths, entry=Eval
  ).settings
  models, notes = systems.find(settings)
  for note in notes:
    _say(note)
  access = access_lib.Access.from_args(args)
  scope = _here(
      _scope(settings, models, access.catalogue),
      settings.split,
      access,
      getattr(args, 'skip_missing', False),
  )
  planned = plan.all_items(scope.tasks, scope.trained, settings.templates)
  _check_writes(models, planned)
  judging, without = _judging(planned, settings, access)
  rendering = _rendering(settings, models[0])
  with tqdm.tqdm(
      total=len(planned) + len(judging),
      desc='reading',
      unit='task',
      leave=False,
      disable=None,  # Off where nobody watches.
  ) as bar:
    work = protocol.read(planned, access.store, rendering, bar.update)
    validation = protocol.read(
        judging,
        access.store,
        dataclasses.replace(
            rendering,
            split='validation',
            limit=settings.best_template_examples,
        ),
        bar.update,
        guesses=False,
    )
  validation, shared = protocol.apart(validation, work)
  without = sorted([*without, *shared])
  if without:
    _say(
        'no best template, for want of validation rows apart:'
        f' {", ".join(without)}'
    )
  if rendering.vocabulary is not None:
    line = vocabularies.losses_notice(
        rendering.vocabulary,
        'the inputs',
        (e.inputs for each in work for e in each.examples[:_SAMPLED]),
    )
    if line is not None:
      _say(line)
  return _Subject(settings, models, scope, rendering, work, validation, without)


def _check_writes(
    models: Sequence[systems.Model], planned: Sequence[plan.Item]
) -> None:
  """Raises a UserError if a model that only ranks would have to write."""
  written = [item.task.name for item in planned if item.how != 'rank']
  for model in models:
    if written and not model.place.config().writes:
      raise errors.UserError(
          f'{model.path}: an encoder-only model ranks options and cannot write'
          f' an answer; evaluate tasks that have options, not {written[0]}'
          + (f' and {len(written) - 1} more' if len(written) > 1 else '')
      )


def _scope(
    settings: Eval,
    models: Sequence[systems.Model],
    catalogue: catalogue_lib.Catalogue,
) -> _Scope:
  """Looks up what to evaluate, and what the runs trained on.

  Raises:
    UserError: A name is unknown.
  """
  names: list[str] = []
  trained: set[str] = set()
  clusters: dict[str, set[str]] = {}
  for model in models:
    if model.kind != 'tuned':
      continue
    mixture = model.run.get('mixture')
    # A run may have done without some of its mixture.
    without = set(model.run.get('left_out', ()))
    found = [
        task.dataset
        for task in listing.members(catalogue, [mixture] if mixture else [])
        if task.dataset.name not in without
    ]
    trained |= {dataset.name for dataset in found}
    clusters[model.name] = {dataset.cluster for dataset in found}
    if settings.mixture_or_task_name is None:
      names += _names(model, catalogue)
  names = list(dict.fromkeys(names)) or [str(settings.mixture_or_task_name)]
  tasks, notes = plan.settings(
      listing.members(catalogue, names),
      settings.all_shots,
      settings.all_baselines,
  )
  for note in notes:
    _say(note)
  return _Scope(names, tasks, trained, clusters)


def _names(
    model: systems.Model, catalogue: catalogue_lib.Catalogue
) -> list[str]:
  """Returns a run's mixture, and the name of what that holds out."""
  mixture = model.run.get('mixture')
  if not mixture:
    raise errors.UserError(
        f'{model.path}: does not say what it was trained on; set'
        ' MIXTURE_OR_TASK_NAME'
    )
  held_out = listing.held_out_name(catalogue, mixture)
  return [mixture, held_out] if held_out else [mixture]


def _here(
    scope: _Scope, split: str, access: access_lib.Access, skip: bool
) -> _Scope:
  """Returns what of it can be evaluated here.

  Tasks whose datasets have no such split are left out, with a word.

  Raises:
    UserError: There are none, or rows are not here and that may not be.
  """
  everything = [task for tasks in scope.tasks.values() for task in tasks]
  kept_tasks, without = presence.with_split(everything, split)
  if without:
    _say(without)
  wanted = presence.needs(kept_tasks, split)
  missing = presence.require(access, wanted, ', '.join(scope.names), skip)
  if missing:
    _say(presence.left_out(missing))
  names = {task.name for task in kept_tasks if task.dataset.name not in missing}
  return dataclasses.replace(
      scope,
      tasks={
          setting: [task for task in tasks if task.name in names]
          for setting, tasks in scope.tasks.items()
      },
      left_out=tuple(sorted(missing)),
  )


def _judging(
    planned: Sequence[plan.Item], settings: Eval, access: access_lib.Access
) -> tuple[list[plan.Item], list[str]]:
  """Returns what to ask on validation rows, to know the best templates.

  Returns:
    Items; and the datasets of several templates that have no such rows.
  """
  if not settings.best_template:
    return [], []
  several = plan.of_several_templates(planned)
  datasets = {item.dataset.name: item.dataset for item in several}
  lacking = {
      name
      for name, dataset in datasets.items()
      if settings.split == 'validation' or 'validation' not in dataset.splits
      # The rows that are evaluated must not choose.
      or dataset.splits['validation'] == dataset.splits.get(settings.split)
  }
  rest = [each for name, each in datasets.items() if name not in lacking]
  lacking |= {
      dataset.name for dataset, _ in access.store.missing(rest, ('validation',))
  }
  return [i for i in several if i.dataset.name not in lacking], sorted(lacking)


def _rendering(settings: Eval, model: systems.Model) -> protocol.Rendering:
  """Rows read as for the first model; all are asked the same texts."""
  return protocol.Rendering(
      split=settings.split,
      limit=settings.max_examples,
      seed=settings.random_seed,
      vocabulary=model.place.vocabulary(),
      lengths=settings.task_feature_lengths or model.run['lengths'],
      layout=settings.few_shot_layout
      or few_shot.Layout(**model.run.get('few_shot_layout', {})),
  )


def _finish(subject: _Subject, said: dict[str, answering.Answers]) -> None:
  """Scores, writes the files, and prints table, samples and paths."""
  settings, work = subject.settings, subject.work
  # The tuned models come first, whoever was asked first.
  answers = {each.name: said[each.name].main for each in subject.models}
  answers['majority'] = protocol.majority_answers(work)
  answers['random'] = protocol.random_answers(work, settings.random_seed)
  validated = {e.name: said[e.name].validation for e in subject.models}
  described = {
      each.name: each.facts(
          subject.scope.clusters.get(each.name, ()), said[each.name].parameters
      )
      for each in subject.models
  }
  described |= {name: {'kind': name} for name in systems.GUESSES}
  results = results_lib.assemble(
      protocol.score(
          work,
          answers,
          settings.random_seed,
          protocol.validate(subject.validation, validated),
      ),
      systems=described,
      mixtures=subject.scope.names,
      left_out=subject.scope.left_out,
      templates=settings.templates,
      shots=settings.all_shots,
      best_template=settings.best_template,
      best_template_examples=settings.best_template_examples,
      without_validation=subject.without_validation,
      rendering=subject.rendering,
      normalisation=settings.normalisation,
      decoding=dataclasses.asdict(settings.decoding),
      use_ema=settings.use_ema,
      published=published.beside(each.item.dataset.name for each in work),
  )
  report = results_lib.write(
      subject.output_dir,
      results,
      protocol.lines(work, answers),
      protocol.lines(subject.validation, validated),
  )
  kept.forget(subject.output_dir)
  print(table.render(results))
  print(f'\nSample predictions\n\n{table.samples(work, answers)}\n')
  print(f'{table.headline(results)}\n')
  print(f'results: {report.parent / results_lib.RESULTS}')
  print(f'report:  {report}')
  for line in table.warnings(results):
    _say(line)


def _say(text: str) -> None:
  print(text, file=sys.stderr, flush=True)
