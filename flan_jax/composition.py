"""What a mixture is made of: `flan-jax mixture`.

flan-jax mixture flan2021_no_sentiment --steps=30000 --batch_size=128
flan-jax mixture --run=runs/mini
"""

import argparse
from collections.abc import Sequence
import dataclasses
import json
from typing import Any

from flan_jax import errors
from flan_jax import vocabularies
from flan_jax.checkpoints import runs
from flan_jax.data import access as access_lib
from flan_jax.data import blocks
from flan_jax.data import few_shot
from flan_jax.data import mixtures
from flan_jax.data import pipeline
from flan_jax.data import presence
from flan_jax.data import shares as shares_lib
from flan_jax.data import tasks as tasks_lib
import numpy as np
import tqdm

_BAR = 12


@dataclasses.dataclass
class _Line:
  """What is known of a task; None where it is not known.

  Attributes:
    task: Its name.
    dataset: The dataset.
    cluster: The dataset's cluster.
    state: As `rows.RowStore.status` says it.
    rows: Examples that there are.
    examples: Those in use: at most the cap.
    rate: How often it is drawn, relative to the others.
    share_of_examples: Its expected share of the examples drawn.
    input_tokens: Mean tokens of inputs, ends included, after cutting.
    target_tokens: The same of targets.
    share_of_tokens: Its expected share of the tokens drawn.
    epochs: How often its examples are gone through.
    drawn: How often it was drawn in a run.
    share_drawn: Its share of all that was drawn in a run.
  """

  task: str
  dataset: str
  cluster: str
  state: str
  rows: int | None = None
  examples: int | None = None
  rate: float | None = None
  share_of_examples: float | None = None
  input_tokens: float | None = None
  target_tokens: float | None = None
  share_of_tokens: float | None = None
  epochs: float | None = None
  drawn: int | None = None
  share_drawn: float | None = None


def mixture(args: argparse.Namespace) -> int:
  """Prints what a mixture is made of; returns the exit code.

  Raises:
    UserError: A name is unknown, or rows are missing: what is known without
      them has been printed then.
  """
  _check(args)
  access = access_lib.Access.from_args(args)
  subject = (
      _Subject.of_run(args, access) if args.run_dir else _Subject(args, access)
  )
  try:
    subject.measure()
  finally:
    if subject.lines:
      print(subject.as_json() if args.json else subject.as_text())
  return 0


def _check(args: argparse.Namespace) -> None:
  if not args.name and not args.run_dir:
    raise errors.UserError('a mixture or task, or --run=MODEL_DIR, is needed')
  for flag in ('steps', 'batch_size', 'sample'):
    if getattr(args, flag) is not None and getattr(args, flag) < 1:
      raise errors.UserError(f'--{flag}: must be at least 1')


class _Subject:
  """A mixture, or that of a run, and what is found out about it."""

  def __init__(self, args: argparse.Namespace, access: access_lib.Access):
    """Looks up the name.

    Raises:
      UserError: It is unknown, or nothing of it has the split.
    """
    self._args = args
    self._access = access
    self._lengths = {
        'inputs': args.inputs_length,
        'targets': args.targets_length,
    }
    self._vocabulary = vocabularies.load(args.vocabulary)
    self._layout = few_shot.Layout()
    self._seed = args.seed
    self._steps, self._batch_size = args.steps, args.batch_size
    self._run: dict[str, Any] | None = None
    self._notes: list[str] = []
    self._left_out: list[str] = []
    self._per_row: float | None = None
    self.lines: list[_Line] = []
    self._look_up(args.name, args.split)

  @classmethod
  def of_run(
      cls, args: argparse.Namespace, access: access_lib.Access
  ) -> '_Subject':
    """Takes mixture, vocabulary, lengths and seed from a run.

    Raises:
      UserError: There is no such run, or another mixture was asked for.
    """
    directory, step = runs.locate(args.run_dir)
    facts = runs.read(directory)
    if args.name not in (None, facts['mixture']):
      raise errors.UserError(
          f"--run: {directory} was trained on '{facts['mixture']}', not on"
          f" '{args.name}'"
      )
    own = argparse.Namespace(
        **vars(args)
        | {
            'name': facts['mixture'],
            'split': 'train',
            'seed': facts['seed'],
            'steps': step,
            'batch_size': facts['settings']['BATCH_SIZE'],
            'inputs_length': facts['lengths']['inputs'],
            'targets_length': facts['lengths']['targets'],
        }
    )
    subject = cls(own, access)
    subject._vocabulary = runs.read_vocabulary(directory)
    subject._layout = few_shot.Layout(**facts.get('few_shot_layout', {}))
    subject._run = {'directory': str(directory), 'step': step, 'facts': facts}
    subject._do_without(facts.get('left_out', []))
    return subject

  def _look_up(self, name: str, split: str | None) -> None:
    found = mixtures.resolve(self._access.catalogue, name)
    _, setting = mixtures.parse_name(self._access.catalogue, name)
    self._split = split or ('test' if setting.held_out else 'train')
    self._mixture = mixtures.as_mixture(found)
    tasks = [task for task, _ in self._mixture.members]
    kept, without = presence.with_split(tasks, self._split)
    self._notes += filter(None, [without])
    names = {task.name for task in kept}
    self._mixture = self._mixture.only(lambda task: task.name in names)

  def _do_without(self, datasets: Sequence[str]) -> None:
    """Leaves datasets out of the mixture."""
    self._left_out += datasets
    self._mixture = self._mixture.only(
        lambda task: task.dataset.name not in datasets
    )
    if not self._mixture.parts:
      raise errors.UserError(f'nothing is left of {self._mixture.name}')

  @property
  def _tasks(self) -> list[tasks_lib.Task]:
    return [task for task, _ in self._mixture.members]

  def measure(self) -> None:
    """Finds out all that the rows which are here can tell.

    Raises:
      UserError: Rows are missing, and the user does not want to do without.
    """
    wanted = presence.needs(self._tasks, self._split)
    missing: frozenset[str] = frozenset()
    trouble: errors.UserError | None = None
    try:
      missing = presence.require(
          self._access, wanted, self._mixture.name, self._args.skip_missing
      )
    except errors.UserError as error:
      trouble = error
    if missing:
      self._notes.append(presence.left_out(missing))
      self._do_without(sorted(missing))
    self._prepare()
    self.lines = [self._line(task) for task in self._tasks]
    if all(line.rows is not None for line in self.lines):
      self._fill_in()
    if trouble:
      raise trouble
    waiting = [line.dataset for line in self.lines if line.state == 'here']
    if waiting:
      self._notes.append(
          f'{len(waiting)} of the datasets are here, but their rows are not'
          ' prepared, and shares depend on them; --prepare reads them now:'
          f' {", ".join(dict.fromkeys(waiting))}'
      )

  def _prepare(self) -> None:
    """Reads rows that are quick to read, or all that are here if told to."""
    store = self._access.store
    wanted = [
        (dataset, names)
        for dataset, names in presence.needs(self._tasks, self._split)
        if store.status(dataset, names).state == 'here'
        and (self._args.prepare or dataset.source.kind != 'tfds')
    ]
    with tqdm.tqdm(wanted, desc='rows', disable=None, leave=False) as bar:
      for dataset, names in bar:
        bar.set_postfix_str(dataset.name, refresh=False)
        store.prepare(dataset, names)

  def _line(self, task: tasks_lib.Task) -> _Line:
    store, dataset = self._access.store, task.dataset
    needed = presence.splits(task, self._split)
    state = store.status(dataset, needed).state
    line = _Line(task.name, dataset.name, dataset.cluster, state)
    if state == 'prepared':
      line.rows = len(store.open(dataset, self._split))
    return line

  def _fill_in(self) -> None:
    """Computes what needs the rows of all."""
    members = blocks.Members(
        self._mixture,
        self._split,
        self._vocabulary,
        self._access.store,
        self._lengths,
        self._seed,
        self._layout,
    )
    found = shares_lib.measure(members, self._args.sample)
    for number, line in enumerate(self.lines):
      line.examples = int(found.examples[number])
      line.rate = float(found.rates[number])
      line.share_of_examples = float(found.of_examples[number])
      line.input_tokens = float(found.input_tokens[number])
      line.target_tokens = float(found.target_tokens[number])
      line.share_of_tokens = float(found.of_tokens[number])
    if self._run is not None:
      drawn = self._drawn(self._run)
      for line, count in zip(self.lines, drawn.tolist(), strict=True):
        line.drawn = round(count)
        line.share_drawn = count / drawn.sum()
        line.epochs = count / (line.examples or 1)
    elif self._steps is not None:
      self._per_row = shares_lib.examples_per_row(members, found)
      total = self._steps * self._batch_size * self._per_row
      for line, share in zip(self.lines, found.of_examples, strict=True):
        line.epochs = float(total * share / (line.examples or 1))

  def _drawn(self, run: dict[str, Any]) -> np.ndarray:
    """Returns how often each member was drawn in a run, float64 [members].

    Raises:
      UserError: The data are not those of the run any more.
    """
    from flan_jax.checkpoints import native  # It imports jax.

    settings = run['facts']['settings']
    position = native.read_position(run['directory'], run['step'])
    trained = pipeline.TrainPipeline(
        self._mixture,
        self._split,
        self._vocabulary,
        self._access.store,
        pipeline.PipelineConfig(
            lengths=self._lengths,
            row_format=runs.read_model(run['directory']).row_format,
            batch_size=self._batch_size,
            seed=self._seed,
            pack=settings['PACK'],
            few_shot=self._layout,
            block=position['data']['block'],
            shuffle=position['data']['shuffle'],
        ),
    )
    trained.set_state(position)
    return trained.drawn()

  def as_json(self) -> str:
    """Returns everything as JSON."""
    rule = self._mixture.rule
    examples = [line.examples for line in self.lines]
    found = {
        'mixture': self._mixture.name,
        'split': self._split,
        'rates': rule.kind,
        'temperature': rule.temperature,
        'cap': self._mixture.cap,
        'max_rate': self._mixture.max_rate,
        'examples': None if None in examples else sum(filter(None, examples)),
        'tasks': [dataclasses.asdict(line) for line in self.lines],
        'left_out': sorted(self._left_out),
        'lengths': self._lengths,
        'sample': self._args.sample,
        'seed': self._seed,
        'steps': self._steps,
        'batch_size': self._batch_size,
        'examples_a_packed_row': self._per_row,
        'run': self._run and {k: self._run[k] for k in ('directory', 'step')},
    }
    return json.dumps(found, indent=2, ensure_ascii=False)

  def as_text(self) -> str:
    """Returns a table, a block for each cluster, and a line that sums up."""
    columns = _columns(self.lines)
    width = max(len(line.task) for line in self.lines) + 2
    longest = max(line.share_of_examples or 0.0 for line in self.lines)
    by_cluster: dict[str, list[_Line]] = {}
    for line in self.lines:
      by_cluster.setdefault(line.cluster, []).append(line)
    width = max(width, *map(len, by_cluster))
    texts = [self._heading(len(by_cluster)), '']
    texts.append(
        f'{"":<{width}}' + ''.join(f'{name:>{w}}' for name, w, _ in columns)
    )
    for cluster, lines in by_cluster.items():
      texts.append(_row(cluster, _sum(lines), columns, width))
      for line in lines:
        share = line.share_of_examples
        bar = '' if share is None else '█' * round(_BAR * share / longest)
        known = bar if line.rows is not None else line.state
        text = _row(f'  {line.task}', line, columns, width)
        texts.append(f'{text}  {known}'.rstrip())
    texts.append(_row('all', _sum(self.lines), columns, width))
    return '\n'.join([*texts, '', *self._notes, *self._estimate()]).rstrip()

  def _heading(self, clusters: int) -> str:
    mixture = self._mixture
    rule = mixture.rule.kind
    if rule == 'temperature':
      rule += f' {mixture.rule.temperature:g}'
    parts = [f'rates {rule}']
    if mixture.max_rate is not None:
      parts.append(f'at most {mixture.max_rate:,}')
    if mixture.cap is not None:
      parts.append(f'cap {mixture.cap:,} examples')
    count = len(self.lines)
    return (
        f'{mixture.name}: {count} task{"" if count == 1 else "s"} of {clusters}'
        f' cluster{"" if clusters == 1 else "s"}, split {self._split};'
        f' {", ".join(parts)}'
    )

  def _estimate(self) -> list[str]:
    if self._run is not None:
      drawn = sum(line.drawn or 0 for line in self.lines)
      return [
          f'{self._run["directory"]}, step {self._steps:,}: {drawn:,} drawn'
      ]
    if self._per_row is None or self._steps is None:
      return []
    total = self._steps * self._batch_size * self._per_row
    return [
        f'{self._steps:,} steps of {self._batch_size:,} rows'
        f' ({self._lengths["inputs"]}/{self._lengths["targets"]}), about'
        f' {self._per_row:.1f} examples packed in each: about {total:,.0f}'
        ' examples'
    ]


# A column: its name, width, and what it shows of a line.
_Column = tuple[str, int, Any]


def _columns(lines: Sequence[_Line]) -> list[_Column]:
  """Returns the columns that have something to show."""
  columns: list[_Column] = [
      ('examples', 10, lambda x: _whole(x.examples or x.rows)),
      ('rate', 9, lambda x: _rate(x.rate)),
      ('share', 8, lambda x: _percent(x.share_of_examples)),
      ('in+out', 12, _mean_tokens),
      ('of tokens', 11, lambda x: _percent(x.share_of_tokens)),
  ]
  if any(line.epochs is not None for line in lines):
    columns.append(('epochs', 8, lambda x: _rate(x.epochs)))
  if any(line.drawn is not None for line in lines):
    columns.append(('drawn', 10, lambda x: _whole(x.drawn)))
    columns.append(('of drawn', 10, lambda x: _percent(x.share_drawn)))
  return columns


def _row(name: str, line: _Line, columns: Sequence[_Column], width: int) -> str:
  cells = ''.join(f'{show(line):>{w}}' for _, w, show in columns)
  return f'{name:<{width}}{cells}'


def _sum(lines: Sequence[_Line]) -> _Line:
  """Returns what several tasks are together."""

  def total(name: str) -> Any:
    values = [getattr(line, name) for line in lines]
    return None if None in values else sum(values)

  found = _Line('', '', '', '')
  for name in (
      *('rows', 'examples', 'rate', 'share_of_examples', 'share_of_tokens'),
      *('drawn', 'share_drawn'),
  ):
    setattr(found, name, total(name))
  if found.share_of_examples:
    for name in ('input_tokens', 'target_tokens'):
      mean = sum(getattr(line, name) * line.share_of_examples for line in lines)
      setattr(found, name, mean / found.share_of_examples)
  return found


def _whole(value: int | None) -> str:
  return '-' if value is None else f'{value:,}'


def _rate(value: float | None) -> str:
  if value is None:
    return ''
  return f'{value:,.0f}' if value >= 100 else f'{value:.3g}'


def _percent(value: float | None) -> str:
  return '-' if value is None else f'{value:.2%}'


def _mean_tokens(line: _Line) -> str:
  if line.input_tokens is None or line.target_tokens is None:
    return '-'
  return f'{line.input_tokens:.0f}+{line.target_tokens:.0f}'
