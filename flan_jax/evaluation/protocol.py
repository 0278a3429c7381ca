"""The protocol: the same rows under every template, to every system.

Systems are tuned models, untuned ones, the majority class, and random choice.
What they say is scored here; `summary` averages it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
from typing import Any

from flan_jax import vocabularies
from flan_jax.data import blocks
from flan_jax.data import examples as examples_lib
from flan_jax.data import few_shot
from flan_jax.data import tasks
from flan_jax.data import templates
from flan_jax.evaluation import kept
from flan_jax.evaluation import metrics
from flan_jax.evaluation import plan
from flan_jax.evaluation import scoring
from flan_jax.evaluation import summary
from flan_jax.evaluation.metrics import bootstrap
import numpy as np

Progress = Callable[[int], Any]
# Answers examples in their order; True asks it to rank their options, False to
# write text.
Answering = Callable[
    [Sequence[examples_lib.Example], bool, Progress],
    Sequence[scoring.Answer],
]

# Answers of the training split are counted on at most this many rows.
_MAJORITY_ROWS = 10_000
# Random answers are drawn from this many of them.
_CHANCE_ROWS = 500
# Examples that are rendered or answered at once, over all tasks: enough to
# fill batches of like lengths, and few enough to do again after a kill.
_BLOCK = 2048


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rendering:
  """Which examples are asked, and how they are rendered.

  Attributes:
    split: The split that is evaluated.
    limit: The most rows of a dataset; None for all.
    seed: Chooses rows, exemplars and the order of random options.
    vocabulary: Counts tokens, for exemplars to fit.
    lengths: 'inputs' is what they have to fit.
    layout: How exemplars stand before the query.
  """

  split: str = 'test'
  limit: int | None = None
  seed: int = 0
  vocabulary: vocabularies.Vocabulary | None = None
  lengths: Mapping[str, int] | None = None
  layout: few_shot.Layout = few_shot.Layout()  # noqa: RUF009


@dataclasses.dataclass(frozen=True)
class Work:
  """One dataset under one template: what to ask, and what most answer."""

  item: plan.Item
  examples: list[examples_lib.Example]
  majority: scoring.Majority = scoring.Majority('')  # noqa: RUF009
  chance: scoring.Chance = scoring.Chance(())  # noqa: RUF009


def read(
    planned: Sequence[plan.Item],
    store: blocks.Store,
    rendering: Rendering,
    progress: Progress = lambda count: None,
    guesses: bool = True,
) -> list[Work]:
  """Renders what is to be asked, and counts the training split's answers.

  Args:
    planned: What to evaluate.
    store: Where rows are.
    rendering: Which rows, and how.
    progress: Called with the number of finished items.
    guesses: Whether the majority class and random choice will be asked too.

  Raises:
    UserError: Data is missing, a dataset has no such split, or a metric cannot
      be computed.
  """
  plan.check_metrics(planned)
  work = []
  for name, items in plan.by_dataset(planned).items():
    dataset = items[0].dataset
    asked = store.open(dataset, rendering.split)
    rows = plan.subset(
        name, len(asked), rendering.limit, rendering.seed, _groups(items, asked)
    )
    trained = None
    if guesses:
      # A dataset that only has a test split has no better majority than its
      # own.
      trained = store.open(
          dataset, 'train' if 'train' in dataset.splits else rendering.split
      )
    for item in items:
      renderer = blocks.renderer(
          item.task,
          asked,
          store,
          seed=rendering.seed,
          vocabulary=rendering.vocabulary,
          lengths=rendering.lengths,
          layout=rendering.layout,
      )
      asking = Work(item, list(_blocks(renderer, rows)))
      if trained is not None:
        majority, chance = _by_training(item, trained, rendering.seed)
        asking = dataclasses.replace(asking, majority=majority, chance=chance)
      work.append(asking)
      progress(1)
  return work


def _groups(
    items: Sequence[plan.Item], asked: templates.Rows
) -> list[object] | None:
  """The group of each row, if any metric scores groups."""
  dataset = items[0].dataset
  grouped = (metrics.METRICS[n].groups != 'never' for n in dataset.metrics)
  if not dataset.group_by or not any(grouped):
    return None
  rows = asked.fields(np.arange(len(asked)))
  return [row[dataset.group_by] for row in rows]


def _blocks(
    renderer: templates.Renderer, rows: np.ndarray
) -> Iterator[examples_lib.Example]:
  for start in range(0, len(rows), _BLOCK):
    block = rows[start : start + _BLOCK]
    yield from renderer.render(block, np.zeros_like(block))


def _by_training(
    item: plan.Item, trained: templates.Rows, seed: int
) -> tuple[scoring.Majority, scoring.Chance]:
  """What the training split's answers say of an item."""
  setting = dataclasses.replace(item.task.setting, shots=0)
  renderer = templates.Renderer(
      tasks.create(item.dataset, setting), trained, seed=seed
  )
  name = item.dataset.name
  rows = plan.subset(name, len(trained), _MAJORITY_ROWS, seed)
  some = set(plan.subset(name, len(trained), _CHANCE_ROWS, seed).tolist())
  targets: list[str] = []

  def noted() -> Iterator[examples_lib.Example]:
    for row, example in zip(rows, _blocks(renderer, rows), strict=True):
      if int(row) in some and not example.options:
        targets.append(example.targets)
      yield example

  majority = scoring.Majority.of(noted(), item.classes)
  return majority, scoring.Chance(tuple(targets))


def answer(
    work: Sequence[Work],
    answering: Answering,
    progress: Progress,
    keeper: kept.Keeper | None = None,
) -> list[list[scoring.Answer]]:
  """Puts everything to one system.

  Tasks are mixed, ranked ones and others apart, so that batches are full
  however small the tasks are.

  Args:
    work: What to ask.
    answering: The system.
    progress: Called with numbers of finished examples.
    keeper: Keeps the answers of finished blocks, and has those of blocks that
      were finished before a kill.

  Returns:
    The answers of each task, in the order of its examples.
  """
  answers: list[list[scoring.Answer]] = [[] for _ in work]
  for ranked in (True, False):
    places = [
        (place, example)
        for place, each in enumerate(work)
        if (each.item.how == 'rank') == ranked
        for example in each.examples
    ]
    for start in range(0, len(places), _BLOCK):
      block = places[start : start + _BLOCK]
      asked = [example for _, example in block]
      there = keeper.find(asked, ranked) if keeper else None
      if there is not None:
        said: Sequence[scoring.Answer] = there
        progress(len(said))
      else:
        said = answering(asked, ranked, progress)
        if keeper:
          keeper.keep(asked, ranked, said)
      for (place, _), each_said in zip(block, said, strict=True):
        answers[place].append(each_said)
  return answers


def majority_answers(work: Sequence[Work]) -> list[list[scoring.Answer]]:
  """Returns what the majority class says to everything."""
  return [
      [each.majority.answer(example) for example in each.examples]
      for each in work
  ]


def random_answers(
    work: Sequence[Work], seed: int
) -> list[list[scoring.Answer]]:
  """Returns what random choice says to everything."""
  return [
      [each.chance.answer(example, seed) for example in each.examples]
      for each in work
  ]


def apart(
    validation: Sequence[Work], work: Sequence[Work]
) -> tuple[list[Work], list[str]]:
  """Returns the validation work whose rows are not evaluated, and the rest.

  A row that is evaluated must not choose the template; a declaration may name
  the same rows twice.

  Returns:
    What is left, and the datasets of which nothing is.
  """
  evaluated: dict[str, set[str]] = {}
  for each in work:
    ids = evaluated.setdefault(each.item.dataset.name, set())
    ids.update(example.row_id for example in each.examples)
  kept_work, shared = [], []
  for each in validation:
    name = each.item.dataset.name
    if evaluated[name].isdisjoint(e.row_id for e in each.examples):
      kept_work.append(each)
    else:
      shared.append(name)
  return kept_work, list(dict.fromkeys(shared))


@dataclasses.dataclass(frozen=True)
class Validation:
  """A task on validation rows.

  Attributes:
    examples: How many rows.
    scores: The main value by system.
  """

  examples: int
  scores: dict[str, float]


def validate(
    work: Sequence[Work],
    answers: Mapping[str, Sequence[Sequence[scoring.Answer]]],
) -> dict[str, Validation]:
  """Scores what was said to validation rows.

  Returns:
    By the name of the task.
  """
  found = {}
  for place, each in enumerate(work):
    item = each.item
    metrics_of_it = item.dataset.metrics
    main = scoring.main_value(metrics_of_it, item.how)
    found[item.task.name] = Validation(
        len(each.examples),
        {
            system: scoring.score(
                each.examples,
                said[place],
                metrics_of_it,
                item.how,
                item.classes,
            )[main]
            for system, said in answers.items()
        },
    )
  return found


def score(
    work: Sequence[Work],
    answers: Mapping[str, Sequence[Sequence[scoring.Answer]]],
    seed: int = 0,
    validation: Mapping[str, Validation] | None = None,
) -> list[summary.TaskScores]:
  """Scores every system on every task, with 95% intervals.

  Args:
    work: What was asked.
    answers: By system, what `answer` returned; 'random' is random choice.
    seed: Of the bootstrap. Templates of a dataset are resampled together, and
      systems too, since all have answered the same rows.
    validation: What `validate` returned.
  """
  scored = []
  for place, each in enumerate(work):
    item = each.item
    values: dict[str, dict[str, float]] = {}
    replicates: dict[str, dict[str, np.ndarray]] = {}
    for system, said in answers.items():
      values[system], replicates[system] = {}, {}
      tallies = (
          scoring.chance_tallies if system == 'random' else scoring.tallies
      )
      for tally in tallies(
          each.examples,
          said[place],
          item.dataset.metrics,
          item.how,
          item.classes,
      ):
        values[system] |= tally.once()
        replicates[system] |= bootstrap.replicates(
            tally, seed, item.dataset.name
        )
    judged = (validation or {}).get(item.task.name)
    scored.append(
        summary.TaskScores(
            task=item.task.name,
            dataset=item.dataset.name,
            cluster=item.dataset.cluster,
            collection=item.dataset.collection,
            template=item.template,
            group=item.group,
            how=item.how,
            setting=item.setting,
            metric=scoring.main_value(item.dataset.metrics, item.how),
            headline=scoring.HEADLINE[item.how],
            examples=len(each.examples),
            classes=item.classes,
            metrics=tuple(item.dataset.metrics),
            scores=values,
            replicates=replicates,
            validation=judged.scores if judged else None,
            validation_examples=judged.examples if judged else 0,
            no_number={
                system: count
                for system, said in answers.items()
                if (count := sum(a.no_number for a in said[place]))
            },
        )
    )
  return scored


def lines(
    work: Sequence[Work],
    answers: Mapping[str, Sequence[Sequence[scoring.Answer]]],
) -> Iterator[dict[str, Any]]:
  """Yields the lines of the predictions file: all that scoring needs.

  A line holds task, dataset, template, setting, group, row_id, inputs, targets,
  references, options, answer_index, example_group (what examples that are
  scored together share), and by system in 'answers': text, option_index,
  score, option_scores, no_number and right.
  """
  for place, each in enumerate(work):
    for number, example in enumerate(each.examples):
      yield {
          'task': example.task,
          'dataset': each.item.dataset.name,
          'template': example.template,
          'setting': each.item.setting,
          'group': each.item.group,
          'row_id': example.row_id,
          'inputs': example.inputs,
          'targets': example.targets,
          'references': list(scoring.accepted(example)),
          'options': None if example.options is None else list(example.options),
          'answer_index': example.answer_index,
          'example_group': example.group,
          'answers': {
              system: {
                  **dataclasses.asdict(said[place][number]),
                  'right': scoring.is_right(example, said[place][number]),
              }
              for system, said in answers.items()
          },
      }
