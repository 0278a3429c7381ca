"""Declarations: what a dataset and a mixture are, and what can be wrong.

`mixtures/BLANK.yaml` explains every key; `spec_files` reads the files.
"""

from collections.abc import Iterator, Mapping
import dataclasses
import pathlib

SPLITS = ('train', 'validation', 'test')
METRICS = (
    'accuracy',
    'exact_match',
    'f1',
    'macro_f1',
    'matthews',
    'pearson',
    'spearman',
    'squad',
    'trivia_qa',
    'multirc',
    'record',
    'rouge',
    'bleu',
    'edit_distance',
)
# Kind of source -> the options that may stand beside it.
SOURCES: Mapping[str, tuple[str, ...]] = {
    'tfds': ('download', 'manual'),
    'parquet': ('obtain',),
    'jsonl': ('rows', 'obtain'),
    'csv': ('columns', 'quoting', 'obtain'),
    'tsv': ('columns', 'quoting', 'obtain'),
    'sni': (),
    'generated': (),
    'seqio': (),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Template:
  """An instruction: two texts with `{field}` slots.

  Attributes:
    name: Letters, digits and '_'; unique in its dataset.
    inputs: What the model reads. Literal braces are `{{` and `}}`.
    targets: What the model is to write.
    inverted: It asks for something else than the dataset's answer.
    held_out: It is used in evaluation only, never in training.
  """

  name: str
  inputs: str
  targets: str
  inverted: bool = False
  held_out: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choices:
  """The answers to choose from; one of `names`, `fields` and `list` is given.

  Attributes:
    label: The field (or path into the row) that holds the class id, counted
      from 0, or the right answer's own text.
    names: The same answers for every example, in class order.
    fields: Answers that differ by example: one field each, in class order.
    list: Answers that differ by example: one field with a list of texts.
  """

  label: str
  names: tuple[str, ...] = ()
  fields: tuple[str, ...] = ()
  list: str = ''


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
  """Where rows come from.

  Attributes:
    kind: A key of `SOURCES`.
    where: A TFDS name, a file or folder, or 'module:function'.
    options: What else the kind of source wants to know.
  """

  kind: str
  where: str
  options: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Alternative:
  """A second place for a dataset's rows, used where the first one is missing.

  What is not given is as the dataset declares it.

  Attributes:
    source: Where the rows come from.
    splits: As `Dataset.splits`.
    fields: As `Dataset.fields`.
    keep: As `Dataset.keep`.
    note: One line: how its rows differ from the first source's.
  """

  source: Source
  splits: Mapping[str, str] = dataclasses.field(default_factory=dict)
  fields: Mapping[str, str] | str = ''
  keep: str = ''
  note: str = ''


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
  """One dataset's declaration.

  Attributes:
    name: The file's name without '.yaml'.
    cluster: The type of task; the unit that is held out.
    subcluster: A finer type of task within the cluster, or ''.
    family: Datasets of one family are held out together; '' for one alone.
    source: Where rows come from.
    alternatives: Other places for the same rows, in order of preference.
    splits: train, validation, test -> a slice of the source ('train[:-200]'),
      another of these names, or a path for sources made of files.
    fields: Field -> path into the row ('answers.text.0'); or a function from
      row to fields, 'module:function'.
    metrics: Names from `METRICS`.
    constants: Slot -> a text that is the same for every row.
    keep: A function from row to whether it is one of the dataset's examples,
      'module:function'; '' for all rows.
    group_by: The field that tells which examples a metric scores together.
    sample: A row made up for documentation and tests, as the source gives it.
    templates: In the order of the file; a number in a task's name counts them
      from 0.
    field_names: The fields that templates may use; taken from `fields` unless
      that is a function.
    choices: None for generation.
    references: The field (or path) with the list of accepted answers; '' when
      there is but one.
    limits: Split -> the most rows to keep, a seeded sample.
    collection: The collection it belongs to.
    path: The file; empty for a dataset declared in Python.
    version: Raised when a change makes scores incomparable.
    description: One line.
    licence: Of the data.
  """

  name: str
  cluster: str
  source: Source
  splits: Mapping[str, str]
  fields: Mapping[str, str] | str
  metrics: tuple[str, ...]
  templates: tuple[Template, ...]
  field_names: tuple[str, ...] = ()
  choices: Choices | None = None
  references: str = ''
  limits: Mapping[str, int] = dataclasses.field(default_factory=dict)
  collection: str = ''
  path: pathlib.Path = pathlib.Path()
  version: int = 1
  description: str = ''
  licence: str = ''
  subcluster: str = ''
  family: str = ''
  alternatives: tuple[Alternative, ...] = ()
  constants: Mapping[str, str] = dataclasses.field(default_factory=dict)
  keep: str = ''
  group_by: str = ''
  sample: Mapping[str, object] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    if not self.field_names and not isinstance(self.fields, str):
      object.__setattr__(self, 'field_names', tuple(self.fields))

  @property
  def slot_names(self) -> tuple[str, ...]:
    """What templates may use: fields, constants, options and answer."""
    extra = ('options', 'answer') if self.choices else ()
    return (*self.field_names, *self.constants, *extra)

  @property
  def row_paths(self) -> dict[str, str]:
    """Name -> path into the row, for all that rendering needs of a row.

    These are the fields, and under their own path what only `choices`,
    `references` and `group_by` name. Empty when `fields` is a function, which
    gives all.
    """
    if isinstance(self.fields, str):
      return {}
    extra = dict.fromkeys(name for _, name in named_fields(self))
    return {**{name: name for name in extra}, **self.fields}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Member:
  """A line of a mixture's members, or of what it holds out.

  Attributes:
    name: A dataset, task or mixture; '' when something else selects.
    weight: Multiplies the member's mixing rate; None if none is given.
    cluster: Selects all datasets of a cluster.
    subcluster: Selects all datasets of a subcluster.
    collection: Selects all datasets of a collection; with `cluster` or
      `subcluster`, those of them within the collection.
    names: Several names in one line.
    turn: One of `names`, counted from 0; after the last comes the first again.
      None for all of them.
  """

  name: str = ''
  weight: float | None = None
  cluster: str = ''
  subcluster: str = ''
  collection: str = ''
  names: tuple[str, ...] = ()
  turn: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rates:
  """How a mixture's rates come about.

  Attributes:
    kind: 'proportional' to the number of examples; the same with a
      'temperature'; 'equal'; or 'explicit', the weights alone.
    temperature: T in examples ** (1 / T).
  """

  kind: str = 'proportional'
  temperature: float = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
  """Which of a mixture's members are used, in the order of its lines.

  Larger numbers only ever add datasets to those of smaller ones.

  Attributes:
    lines: The first so many lines of `members`.
    per_line: Of each line the first so many datasets.
    datasets: So many datasets, the lines taking turns.
    seed: Puts the datasets of each line in an order of its own; without it
      they come as the line has them.
  """

  lines: int | None = None
  per_line: int | None = None
  datasets: int | None = None
  seed: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeaveOut:
  """What a mixture's leave-outs, `<mixture>_no_<name>`, keep to.

  Attributes:
    overlaps: Cluster -> the clusters that are no part of training either when
      it is left out.
  """

  overlaps: Mapping[str, tuple[str, ...]] = dataclasses.field(
      default_factory=dict
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixtureSpec:
  """One mixture's declaration.

  Attributes:
    name: The file's name without '.yaml', or one of its series.
    members: What is mixed.
    held_out: Datasets that are taken out of the mixture, their families with
      them; the name followed by ':held_out' means them.
    without: Datasets that are taken out and not held out for evaluation.
    cap: The most training examples of a dataset that are used.
    max_rate: The number of examples from which a dataset's mixing rate stops
      growing.
    rates: How rates come about.
    sample: Which of the members are used; None for all.
    leave_out: Given if there are leave-outs of this mixture.
    series: The name pattern of the series that it is one of, or ''.
    path: The file; a folder of task files for Super-NaturalInstructions.
    version: Raised when a change makes scores incomparable.
    description: One line.
  """

  name: str
  members: tuple[Member, ...]
  held_out: tuple[Member, ...] = ()
  without: tuple[Member, ...] = ()
  cap: int | None = None
  max_rate: int | None = None
  rates: Rates = Rates()
  sample: Sample | None = None
  leave_out: LeaveOut | None = None
  series: str = ''
  path: pathlib.Path = pathlib.Path()
  version: int = 1
  description: str = ''


def named_fields(dataset: Dataset) -> Iterator[tuple[str, str]]:
  """Yields key and value where choices, references, group_by name a field."""
  choices = dataset.choices
  if choices:
    yield 'choices.label', choices.label
    for place, name in enumerate(choices.fields):
      yield f'choices.fields[{place}]', name
    if choices.list:
      yield 'choices.list', choices.list
  if dataset.references:
    yield 'references', dataset.references
  if dataset.group_by:
    yield 'group_by', dataset.group_by
