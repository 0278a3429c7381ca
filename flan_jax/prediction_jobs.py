"""What `flan-jax infer` predicts: tasks and files of prompts, in blocks.

All examples of a command are cut into blocks, which are predicted and written
at once; a shard has an equal run of the blocks. A block is the same whatever
the number of shards, so shards together write what one program would.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import hashlib
import json
from typing import Any, Protocol, TYPE_CHECKING

from flan_jax import vocabularies
from flan_jax.data import access as access_lib
from flan_jax.data import blocks
from flan_jax.data import examples as examples_lib
from flan_jax.data import few_shot
from flan_jax.data import mixtures
from flan_jax.data import presence
from flan_jax.data import prompt_files
from flan_jax.data import tasks as tasks_lib
from flan_jax.inference import batching
import numpy as np
import tqdm

if TYPE_CHECKING:
  from flan_jax.data import rows as rows_lib

# Gives the examples of some places, int [N].
Examples = Callable[[np.ndarray], Sequence[examples_lib.Example]]
_SAMPLE = 4096
_LEAST_SAMPLE = 16


class Job(Protocol):
  """Examples whose predictions go into one file.

  Attributes:
    name: What the file is called.
    evaluation: How they are answered: '', 'rank' or 'generate'.
    size: How many there are.
  """

  @property
  def name(self) -> str:
    ...

  @property
  def evaluation(self) -> str:
    ...

  @property
  def size(self) -> int:
    ...

  def facts(self) -> Mapping[str, Any]:
    """Returns what the examples depend on, fit for JSON."""

  def open(self) -> Examples:
    """Makes the examples ready to be read."""


@dataclasses.dataclass(frozen=True)
class Rendering:
  """How rows become examples.

  Attributes:
    vocabulary: Counts tokens, for exemplars to fit.
    lengths: 'inputs' is what they have to fit.
    layout: How exemplars stand before the query.
  """

  vocabulary: vocabularies.Vocabulary
  lengths: dict[str, int]
  layout: few_shot.Layout


class TaskJob:
  """The examples of a task."""

  def __init__(
      self,
      task: tasks_lib.Task,
      split: str,
      store: 'rows_lib.RowStore',
      rendering: Rendering,
      limit: int | None,
  ):
    """Opens the task's rows.

    Args:
      task: The task.
      split: Which of its rows.
      store: Where they are.
      rendering: How they become examples.
      limit: At most this many, the first ones.

    Raises:
      UserError: The rows cannot be had.
    """
    self.name = task.name
    self.evaluation = task.setting.evaluation
    self._task = task
    self._split = split
    self._store = store
    self._rendering = rendering
    self._rows = store.open(task.dataset, split)
    self.size = len(self._rows)
    if limit is not None:
      self.size = min(self.size, limit)

  def facts(self) -> dict[str, Any]:
    declared = dataclasses.asdict(self._task.dataset)
    del declared['path']  # The same declaration may lie elsewhere.
    rows = [
        self._store.open(self._task.dataset, split).manifest.sha256
        for split in presence.splits(self._task, self._split)
    ]
    text = json.dumps([declared, rows], default=str, sort_keys=True)
    return {'examples': hashlib.sha256(text.encode()).hexdigest()[:16]}

  def open(self) -> Examples:
    renderer = blocks.renderer(
        self._task,
        self._rows,
        self._store,
        seed=0,
        vocabulary=self._rendering.vocabulary,
        lengths=self._rendering.lengths,
        layout=self._rendering.layout,
    )

    def examples(indices: np.ndarray) -> list[examples_lib.Example]:
      return renderer.render(indices, np.zeros_like(indices))

    return examples


class FileJob:
  """The prompts of a file."""

  evaluation = ''

  def __init__(self, file: prompt_files.PromptFile, limit: int | None):
    self.name = file.name
    self.size = len(file) if limit is None else min(len(file), limit)
    self._file = file

  def facts(self) -> dict[str, Any]:
    return {'examples': self._file.sha256[:16]}

  def open(self) -> Examples:
    return self._file.examples


def of_file(path: str, limit: int | None) -> FileJob:
  """Reads and checks a file of prompts.

  Args:
    path: The file.
    limit: At most this many, the first ones.

  Raises:
    UserError: It cannot be read, or a line of it is broken.
  """
  file = prompt_files.PromptFile(path)
  if file.unused:
    print(f'{file.path}: fields that are not used: {", ".join(file.unused)}')
  return FileJob(file, limit)


def of_name(
    name: str,
    split: str,
    access: access_lib.Access,
    rendering: Rendering,
    *,
    limit: int | None = None,
    skip_missing: bool = False,
) -> list[TaskJob]:
  """Looks up the tasks that a name stands for, and stores their rows.

  Tasks whose datasets have no such split are left out, with a word.

  Args:
    name: A mixture or task.
    split: Which rows.
    access: The declarations and rows.
    rendering: How rows become examples.
    limit: At most this many of each task, the first ones.
    skip_missing: Whether to leave those out as well whose rows are not here.

  Raises:
    UserError: The name is unknown, or rows cannot be had.
  """
  found = mixtures.resolve(access.catalogue, name)
  named = [task for task, _ in mixtures.as_mixture(found).members]
  tasks, without = presence.with_split(named, split)
  if without:
    print(without)
  wanted = presence.needs(tasks, split)
  missing = presence.require(access, wanted, found.name, skip_missing)
  if missing:
    print(presence.left_out(missing))
    tasks = [task for task in tasks if task.dataset.name not in missing]
  with tqdm.tqdm(
      presence.needs(tasks, split), desc='rows', disable=None, leave=False
  ) as bar:
    for dataset, names in bar:
      access.store.prepare(dataset, names)
  return [
      TaskJob(task, split, access.store, rendering, limit) for task in tasks
  ]


def sample(
    jobs: Sequence[Job],
) -> list[tuple[Sequence[examples_lib.Example], str, int]]:
  """Returns examples from all over the jobs, for `Predictor.settle`.

  They depend on the jobs alone, and not on shards or on what is done already.
  """
  each = max(_SAMPLE // max(len(jobs), 1), _LEAST_SAMPLE)
  chosen = batching.evenly([job.size for job in jobs], each)
  return [
      (job.open()(places), job.evaluation, times)
      for job, (places, times) in zip(jobs, chosen, strict=True)
  ]


@dataclasses.dataclass(frozen=True)
class Share:
  """What a shard has of a job: the examples from `first` until `last`."""

  job: Job
  first: int
  last: int

  def __len__(self) -> int:
    return self.last - self.first


def shares(
    jobs: Sequence[Job], block: int, share: Callable[[int], tuple[int, int]]
) -> list[Share]:
  """Returns what a shard has of each job, which may be nothing.

  Args:
    jobs: All jobs of the command.
    block: Examples of a block; the last one of a job may have fewer.
    share: Of a number of blocks, the first and the end of the shard's.
  """
  counts = [-(-job.size // block) for job in jobs]
  begin, end = share(sum(counts))
  found = []
  for job, count in zip(jobs, counts, strict=True):
    first, last = (min(max(place, 0), count) for place in (begin, end))
    found.append(
        Share(job, min(first * block, job.size), min(last * block, job.size))
    )
    begin, end = begin - count, end - count
  return found
